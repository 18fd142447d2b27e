"""A stack that runs: started in a folder of its own, checked over TLS, measured, ended by process id."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import procfs, sampler
from tests.bench.stacks import Command, Site, Stack

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
LOG_TIMEOUT = 5.0
# Longer than any stack keeps lines back.
LOG_QUIET = 0.5
POLL = 0.02
EXPECTED = {b"/scope": b"https 127.0.0.1", b"/small": b"Hello, world!\n"}


class BenchError(Exception):
    """A stack that does not start, answer or end as it must; the message is for the one who measures."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes of a stack have used: processor seconds since they started, and bytes now."""

    cpu: float
    cpu_front: float
    memory: float
    memory_front: float


@dataclass(frozen=True, slots=True)
class Running:
    """A started stack."""

    stack: Stack
    site: Site
    started: tuple[tuple[Command, subprocess.Popen[bytes]], ...]

    def read_usage(self, *, memory: bool = False) -> Usage:
        """Return what all processes and those of the front alone have used; memory only when it is asked for."""
        tree = self._tree()
        front = [process for process in tree if self._is_front(process)]
        pss, pss_front = 0, 0
        if memory:
            pss, pss_front = (procfs.read_pss(p.pid for p in group) for group in (tree, front))
        return Usage(sum(p.cpu for p in tree), sum(p.cpu for p in front), pss, pss_front)

    def count_lines(self, token: bytes) -> int:
        """Return the number of lines that hold `token` in the access log."""
        return sum(_count(self.site.folder / name, token) for name in self.stack.logs)

    def wait_lines(self, token: bytes, wanted: int) -> int:
        """Return the number of lines that hold `token`, as soon as it is `wanted` or the time for it is over."""
        deadline = time.monotonic() + (LOG_TIMEOUT if self.site.log else 0)
        while (lines := self.count_lines(token)) < wanted and time.monotonic() < deadline:
            time.sleep(POLL)
        return lines

    def settle_lines(self, token: bytes) -> int:
        """Return the number of lines that hold `token` once no more come: some stacks gather lines for a while."""
        lines, since = -1, time.monotonic()
        deadline = since + (LOG_TIMEOUT if self.site.log else 0)
        while (now := time.monotonic()) < deadline and now - since < LOG_QUIET:
            if (found := self.count_lines(token)) != lines:
                lines, since = found, now
            time.sleep(POLL)
        return max(lines, 0)

    def failures(self) -> list[str]:
        """Name the processes that have ended by themselves, with the end of what they wrote."""
        ended = [(command.name, code) for command, p in self.started if (code := p.poll()) is not None]
        return [f"{name} ended with {code}: {self._last_lines()}" for name, code in ended]

    def _tree(self) -> list[procfs.Process]:
        return procfs.select_tree(procfs.read_processes(), [p.pid for _, p in self.started])

    def _is_front(self, process: procfs.Process) -> bool:
        if process.session in {p.pid for command, p in self.started if not command.front}:
            return False
        return "edge_backend" not in procfs.read_command(process.pid)

    def _last_lines(self) -> str:
        texts = [path.read_text(errors="replace") for path in sorted(self.site.folder.glob("*.err"))]
        return " / ".join(line for text in texts for line in text.splitlines()[-3:]) or "it wrote nothing"


@contextmanager
def run_stack(stack: Stack, site: Site, *, profile: bool = False) -> Iterator[Running]:
    """Start a stack, check that it answers rightly, and end all of its processes in the end.

    With `profile` its interpreters leave `profile.PID` in the site's folder.

    Raises BenchError when it does not come up or answers wrongly.
    """
    shutil.copy(Path(__file__).with_name("app.py"), site.folder / "app.py")
    environment = clean_environment(site.folder)
    if profile:
        shutil.copy(Path(sampler.__file__), site.folder / "sitecustomize.py")
        environment[sampler.VARIABLE] = str(site.folder)
    started: list[tuple[Command, subprocess.Popen[bytes]]] = []
    try:
        for command in stack.commands(site):
            with _hold_signals():
                started.append((command, _start(command, site.folder, environment)))
        running = Running(stack, site, tuple(started))
        _wait_ready(running)
        yield running
    finally:
        with _hold_signals():
            _stop([process for _, process in started])


@contextmanager
def open_tls(site: Site) -> Iterator[ssl.SSLSocket]:
    """Connect to a site, with its certificate and the name in it verified."""
    context = ssl.create_default_context(cafile=str(site.cert.with_name("ca.pem")))
    with (
        socket.create_connection(("127.0.0.1", site.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        yield secure


def find_free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def clean_environment(folder: Path) -> dict[str, str]:
    """Return the environment of every process that is started: nothing of the caller's but PATH."""
    path = [folder, ROOT, ROOT / "backend", ROOT / "certs"]
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "EDGE_HOME": str(folder / "edge"),
        "PYTHONPATH": os.pathsep.join(map(str, path)),
    }


@contextmanager
def _hold_signals() -> Iterator[None]:
    """Put Ctrl-C off to the end of the block, so that no process is forgotten in the middle of it.

    By handlers and not by a mask: those that we start would inherit a mask.
    """
    held: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: held.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if held:
        raise KeyboardInterrupt


def _start(command: Command, folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (
        (folder / f"{command.name}.out").open("wb") as out,
        (folder / f"{command.name}.err").open("wb") as err,
    ):
        return subprocess.Popen(
            command.argv,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            # A session of its own: Ctrl-C reaches us only, we end the rest, and orphans are still found.
            start_new_session=True,
        )


def _wait_ready(running: Running) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    for target, body in EXPECTED.items():
        while (fault := _fault(running.site, target, body)) and time.monotonic() < deadline:
            if failures := running.failures():
                raise BenchError(failures[0])
            time.sleep(POLL)
        if fault:
            raise BenchError(fault)


def _fault(site: Site, target: bytes, body: bytes) -> str:
    try:
        with open_tls(site) as connection:
            version = connection.version()
            connection.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % target)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    except OSError as error:
        return f"no answer on port {site.port}: {error}"
    if version != "TLSv1.3":
        return f"{version} on port {site.port}, TLS 1.3 wanted"
    if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"\r\n\r\n" + body):
        return f"{target!r} answered with {answer[:60]!r} ... {answer[-60:]!r}, 200 and {body!r} wanted"
    return ""


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    tree = procfs.select_tree(procfs.read_processes(), [p.pid for p in processes])
    for process in reversed(processes):
        _end(process)
    # Whatever a master left behind, unless its number belongs to another process by now.
    now = procfs.read_processes()
    for old in tree:
        if (new := now.get(old.pid)) and new.started == old.started:
            _kill(old.pid)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _count(path: Path, token: bytes) -> int:
    if not path.exists():
        return 0
    with path.open("rb") as lines:
        return sum(token in line for line in lines)
