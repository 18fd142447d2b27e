"""What the figures were taken on: versions, processors, and how busy the rest of the machine is."""

import os
import platform
import resource
import ssl
import subprocess
import time
import timeit
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tests.bench import procfs
from tests.bench.stacks import find_program

PACKAGES = ("uvloop", "httptools", "uvicorn", "granian")
VERSION_FLAGS = {"nginx": "-v", "haproxy": "-v", "caddy": "version", "wrk": "-v"}


@dataclass(frozen=True, slots=True)
class Clock:
    """A moment: what the whole machine has used of its processors, and what we and those we waited for have."""

    at: float
    busy: float
    ours: float


def read_clock() -> Clock:
    """Return the present moment."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return Clock(time.monotonic(), procfs.read_busy(), sum(u.ru_utime + u.ru_stime for u in used))


def find_others(before: Clock, after: Clock) -> float:
    """Return the share, 0 to 1, of all processors that others took; what we started has ended by `after`."""
    processors = os.cpu_count() or 1
    others = (after.busy - before.busy) - (after.ours - before.ours)
    return max(0.0, others / ((after.at - before.at) * processors))


def describe_machine() -> dict[str, str]:
    """Return names and versions of what the figures depend on."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "python": f"{platform.python_version()}, {_speed()}, {ssl.OPENSSL_VERSION}",
        **{name: _package(name) for name in PACKAGES},
        **{name: _program(name, flag) for name, flag in VERSION_FLAGS.items()},
    }


def _speed() -> str:
    """How fast this interpreter is: whether it was built with profiles moves edge and uvicorn by a third, not nginx."""
    count = 200_000
    least = min(timeit.repeat("int('7'); f([], b={})", "def f(a, *, b): return (a, b)", number=count, repeat=5))
    return f"{least / count * 1e9:.0f} ns for a small call"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _program(name: str, flag: str) -> str:
    path = find_program(name)
    if path is None:
        return "not installed"
    # wrk prints its version, then its usage with exit code 1.
    done = subprocess.run((path, flag), capture_output=True, text=True, check=False, timeout=10)
    words = (done.stdout + done.stderr).replace("/", " ").split()
    return next((word for word in words if any(c.isdigit() for c in word) and "." in word), "unknown")
