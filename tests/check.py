"""The one command: format, lint, import rules, types, all tests; cheapest first, one line each.

    python tests/check.py               everything, as CI runs it
    python tests/check.py --coverage    the tests measured besides, which takes half as long again

It stops at the first failure with that step's output and exit code 1.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = (ROOT, ROOT / "backend", ROOT / "certs")
PACKAGES = ("edge", "edge_backend", "edge_certs")

# Percent of lines and branches over all three rooms, subprocesses included.
FLOOR = 97

# Seconds. A suite that hangs is ended and shows where it was, before CI ends it after 20 minutes and shows nothing.
LONGEST = 1080

# import-linter has no `python -m`; its console script need not be on the PATH.
LINT_IMPORTS = "import importlinter.cli as cli; cli.lint_imports_command()"

STATIC: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("format", ("-m", "ruff", "format", "--check", ".")),
    ("lint", ("-m", "ruff", "check", ".")),
    ("imports", ("-c", LINT_IMPORTS, "--no-logo")),
    ("types", ("-m", "mypy")),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps in turn; return 0 if all passed, 1 at the first that did not."""
    parser = argparse.ArgumentParser(description="format, lint, import rules, types, all tests")
    parser.add_argument("--coverage", action="store_true", help=f"measure the tests; at least {FLOOR} %% are wanted")
    coverage = parser.parse_args(arguments).coverage
    for name, command in (*STATIC, ("tests", tests(coverage=coverage))):
        passed, output = run(name, command, longest=2 * LONGEST if coverage else LONGEST)
        if not passed:
            print(output)
            return 1
    print(summary(output))
    return 0


def tests(*, coverage: bool) -> tuple[str, ...]:
    """Return the arguments that run the tests, on three processes: on two CPUs, one of them waits at any time."""
    command = ("-m", "pytest", "-n", "3")
    if not coverage:
        return command
    measured = tuple(f"--cov={package}" for package in PACKAGES)
    return (*command, *measured, "--cov-branch", "--cov-report=term:skip-covered", f"--cov-fail-under={FLOOR}")


def run(name: str, command: tuple[str, ...], *, longest: float) -> tuple[bool, str]:
    """Run one step for at most `longest` seconds, and print its line; return whether it passed, and its output."""
    path = os.pathsep.join([*map(str, ROOMS), *filter(None, [os.environ.get("PYTHONPATH")])])
    # mypy takes what is on PYTHONPATH for installed packages and wants their py.typed; it has its own path.
    environ = dict(os.environ) if name == "types" else {**os.environ, "PYTHONPATH": path}
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        try:
            command = (sys.executable, *command)
            done = subprocess.run(
                command, cwd=ROOT, env=environ, stdout=output, stderr=subprocess.STDOUT, timeout=longest, check=False
            )
            verdict = "ok" if done.returncode == 0 else f"failed with exit code {done.returncode}"
        except subprocess.TimeoutExpired:
            verdict = f"ended after {longest} s"
        output.seek(0)
        text = output.read().decode(errors="replace").rstrip()
    print(f"{name:8} {time.monotonic() - started:6.1f} s  {verdict}", flush=True)
    return verdict == "ok", text


def summary(output: str) -> str:
    """Return the coverage's total, if there is one, and pytest's closing line."""
    lines = output.splitlines()
    return "\n".join([*(line for line in lines if line.startswith("TOTAL ")), *lines[-1:]])


if __name__ == "__main__":
    sys.exit(main())
