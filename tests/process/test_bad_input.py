"""What is wrong with the command is said in one line, with exit code 2, and nothing is left of the attempt."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.process.server import DEADLINE, Authority, clean_environment, wait_until

HELLO = "async def app(scope, receive, send): ...\nnumber = 7\n"


@dataclass
class Attempt:
    """How an attempt to serve ended."""

    code: int
    errors: list[str]
    output: str
    left: list[str]


@dataclass
class Place:
    """Where an attempt is made: its own folders for what it may write."""

    folder: Path
    run_folder: Path

    def attempt(self, *arguments: str, **environ: str) -> Attempt:
        """Run `edge serve` until it ends, and look for what it left: files, and processes of its session."""
        writable = [self.folder / "tmp", self.folder / "home", self.run_folder]
        for path in writable:
            path.mkdir(exist_ok=True)
        tmp, home, run = map(str, writable)
        environment = clean_environment(TMPDIR=tmp, EDGE_HOME=home, XDG_RUNTIME_DIR=run, EDGE_WORKERS="2", **environ)
        process = subprocess.Popen(
            [sys.executable, "-m", "edge", "serve", *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=DEADLINE)
        finally:
            left = _end_group(process.pid)
        left += [str(path) for folder in writable for path in folder.rglob("*")]
        return Attempt(process.returncode, errors.splitlines(), output, left)


def _end_group(pid: int) -> list[str]:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return []
    return [f"a process of group {pid}"]


@pytest.fixture
def place(tmp_path: Path, short_folder: Path) -> Place:
    (tmp_path / "application.py").write_text(HELLO)
    (tmp_path / "broken.py").write_text("import nosuchlibrary\n")
    return Place(tmp_path, short_folder)


def assert_refused(attempt: Attempt, message: str) -> None:
    assert attempt.errors == [f"edge: {message}"]
    assert (attempt.code, attempt.output, attempt.left) == (2, "", [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param((), "no application: give MODULE:ATTR, such as app:app, or set EDGE_APP", id="none"),
        pytest.param(
            ("nosuch:app",),
            "application 'nosuch:app': no module named 'nosuch' in {folder!r}; check the name, or set --app-dir",
            id="no-module",
        ),
        pytest.param(
            ("application:nosuch",),
            "application 'application:nosuch': module 'application' has no attribute 'nosuch'; "
            "name it as MODULE:ATTRIBUTE",
            id="no-attribute",
        ),
        pytest.param(
            ("application:number",),
            "application 'application:number': 'int' cannot be called; name an ASGI or WSGI application",
            id="not-callable",
        ),
        pytest.param(("application.py",), "'application.py': a file, not a module; use application:app", id="file"),
    ],
)
def test_missing_application_is_refused(place: Place, arguments: Sequence[str], message: str) -> None:
    attempt = place.attempt("--port", "0", *arguments)
    assert_refused(attempt, message.format(folder=str(place.folder)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-bdy", "1"), "--max-bdy: unknown option; did you mean --max-body"),
        (("--port", "70000"), "--port '70000': out of range; use 0 to 65535"),
        (("--max-body", "10mb"), "--max-body '10mb': unknown unit 'mb'; use KiB, MiB, GiB or a number of bytes"),
        (("--workers", "none"), "--workers 'none': not a whole number; use 1 to 1024 or auto"),
        (("--log-format", "xml"), "--log-format 'xml': unknown; use auto, json or console"),
        (("--trusted-proxy", "10.0.0.1/8"), None),
        (("--bind", "127.0.0.1:0", "--port", "1"), "--port: --bind is given too; put host and port into it"),
        (("--key", "a.key"), "--key: 1 given for 0 --cert; give each its --cert"),
        (("--app-dir", "nosuch"), "--app-dir 'nosuch': no such directory; use one that exists"),
    ],
)
def test_wrong_option_is_refused(place: Place, arguments: Sequence[str], message: str | None) -> None:
    attempt = place.attempt(*arguments, "application:app")
    expected = "--trusted-proxy '10.0.0.1/8': host bits are set; use 10.0.0.0/8 or the single address 10.0.0.1"
    assert_refused(attempt, message or expected)


def test_wrong_value_in_the_environment_names_the_variable(place: Place) -> None:
    attempt = place.attempt("application:app", EDGE_HEADER_TIMEOUT="soon")
    message = "EDGE_HEADER_TIMEOUT='soon': not a duration; use a number of seconds, or one such as 500ms, 10s, 2m"
    assert_refused(attempt, message)


def test_missing_certificate_is_refused(place: Place) -> None:
    attempt = place.attempt("--cert", "nosuch.pem", "--port", "0", "application:app")
    assert_refused(attempt, "certificate nosuch.pem: no such file; name a PEM file with the certificate")


def test_missing_key_is_refused_with_the_places_that_were_looked_at(place: Place, authority: Authority) -> None:
    (place.folder / "site.pem").write_bytes(authority.cert.read_bytes())
    attempt = place.attempt("--cert", "site.pem", "--port", "0", "application:app")
    message = "certificate site.pem: no private key inside it, and no file site.key and site-key.pem; "
    assert_refused(attempt, message + "name the key file with --key")


def test_key_that_does_not_match_is_refused(place: Place, authority: Authority) -> None:
    other = Authority(place.folder)
    attempt = place.attempt("--cert", str(authority.cert), "--key", str(other.key), "--port", "0", "application:app")
    message = f"certificate {authority.cert}: the key in {other.key} does not belong to it; "
    assert_refused(attempt, message + "name the key it was made with by --key")


def test_expired_certificate_is_refused(place: Place) -> None:
    expired = trustme.CA().issue_cert("localhost", not_after=datetime.now(UTC) - timedelta(days=1))
    expired.private_key_and_cert_chain_pem.write_to_path(str(place.folder / "old.pem"))
    attempt = place.attempt("--cert", "old.pem", "--port", "0", "application:app")
    assert re.fullmatch(
        r"edge: certificate old\.pem: expired at [0-9-]+T[0-9:]+Z, now is [0-9-]+T[0-9:]+Z; renew it", attempt.errors[0]
    )
    assert (len(attempt.errors), attempt.code, attempt.left) == (1, 2, [])


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def test_port_in_use_is_refused(place: Place) -> None:
    with taken_port() as port:
        attempt = place.attempt("--port", str(port), "application:app")
    message = f"cannot listen on 127.0.0.1:{port}: the port is in use; stop what listens there or choose another"
    assert_refused(attempt, message)


def test_second_of_two_binds_in_use_leaves_nothing_of_the_first(place: Place) -> None:
    unix = place.run_folder / "run.sock"
    with taken_port() as port:
        attempt = place.attempt("--bind", f"unix:{unix}", "--bind", f"127.0.0.1:{port}", "application:app")
    assert attempt.code == 2
    assert len(attempt.errors) == 1
    assert not unix.exists()


def test_application_that_fails_to_import_shows_its_own_traceback_once(place: Place) -> None:
    attempt = place.attempt("--port", "0", "broken:app")
    assert attempt.errors == [
        "Traceback (most recent call last):",
        f'  File "{place.folder}/broken.py", line 1, in <module>',
        "    import nosuchlibrary",
        "ModuleNotFoundError: No module named 'nosuchlibrary'",
        "edge: application 'broken:app' failed to start: ModuleNotFoundError: No module named 'nosuchlibrary'; "
        f"install it for {sys.executable}, or say where it is with --pythonpath",
    ]
    assert (attempt.code, attempt.left) == (1, [])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        pytest.param("import os\nos._exit(3)\n", "worker 0 ended before it was ready: exit code 3", id="exits"),
        pytest.param(
            "async def app(scope, receive, send):\n"
            "    await receive()\n"
            "    await send({'type': 'lifespan.startup.failed', 'message': 'Traceback\\nno database at all'})\n",
            "application 'failing:app' failed to start: no database at all",
            id="lifespan",
        ),
        pytest.param(
            "raise SystemExit('no')\n", "application 'failing:app' failed to start: SystemExit: no", id="quits"
        ),
    ],
)
def test_application_that_fails_to_start_ends_it_with_1(place: Place, source: str, reason: str) -> None:
    (place.folder / "failing.py").write_text(source)
    attempt = place.attempt("--port", "0", "failing:app")
    assert attempt.errors[-1] == f"edge: {reason}"
    assert [line for line in attempt.errors if line.startswith("edge: ")] == [attempt.errors[-1]]
    assert (attempt.code, attempt.left) == (1, [])


def test_failed_start_frees_its_port(place: Place) -> None:
    with taken_port() as port:
        pass
    assert place.attempt("--port", str(port), "nosuch:app").code == 2

    def is_free() -> bool:
        with contextlib.closing(socket.socket()) as sock:
            return sock.connect_ex(("127.0.0.1", port)) != 0

    assert wait_until(is_free, "the port is free")
