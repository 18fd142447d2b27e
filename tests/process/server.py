"""A real `edge serve` for tests: real processes, TLS and signals, on a port that the system chose."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import trustme

ROOT = Path(__file__).parents[2]
DEADLINE = 30.0
_LISTENING = re.compile(r"edge: listening on (\S+)")
# What says whom to trust, and through which proxy to call out.
_OUTBOUND_VARIABLES = re.compile(
    r"SSL_CERT|CA_BUNDLE|_CA_|CERTS?_|PIP_CERT|GIT_SSL|GRPC_DEFAULT|^(https?|all|no)_proxy$", re.IGNORECASE
)


def clean_environment(**extra: str) -> dict[str, str]:
    """Return an environment in which only `extra` says what to trust and how to serve."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not _OUTBOUND_VARIABLES.search(name) and not name.startswith(("EDGE_", "WEB_", "FORWARDED_"))
    }
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "backend", "certs"))
    return {**kept, "PYTHONPATH": paths, "PYTHONWARNINGS": "", **extra}


def wait_until(condition: Callable[[], Any], what: str, timeout: float = DEADLINE) -> Any:
    """Return the condition's first true value; fail, naming `what`, when there is none in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {timeout:g} s: {what}")


class Authority:
    """A certificate authority for tests, and the files of a certificate for localhost."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.folder = folder
        self.root = folder / "root.pem"
        self._authority.cert_pem.write_to_path(str(self.root))
        self.cert, self.key = self.issue("localhost", "localhost", "127.0.0.1", "::1")

    def issue(self, file_name: str, *names: str) -> tuple[Path, Path]:
        """Write NAME.pem and NAME.key for the names."""
        issued = self._authority.issue_cert(*names)
        cert, key = self.folder / f"{file_name}.pem", self.folder / f"{file_name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        return cert, key

    def client_context(self) -> ssl.SSLContext:
        """Return a context that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.root))


class Server:
    """A running `edge serve`. Standard output and error are kept as lines.

    `wrapper` is a command that starts it, `popen` are options of `subprocess.Popen`.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        environ: Mapping[str, str],
        wrapper: Sequence[str] = (),
        **popen: Any,
    ) -> None:
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "edge", "serve", *arguments],
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **popen,
        )
        self.output: list[str] = []
        self.errors: list[str] = []
        self._threads = [
            threading.Thread(target=_collect, args=(self.process.stdout, self.output)),
            threading.Thread(target=_collect, args=(self.process.stderr, self.errors)),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def wait_ready(self) -> Self:
        """Wait until it listens on everything that it announced."""
        wait_until(lambda: self.addresses or self.process.poll() is not None, "the server listens")
        assert self.process.poll() is None, "the server ended: " + "\n".join(self.errors)
        return self

    @property
    def addresses(self) -> list[str]:
        """What it says that it listens on."""
        return _LISTENING.findall("\n".join(self.errors))

    @property
    def port(self) -> int:
        """The TCP port of the first listener."""
        return int(self.addresses[0].rpartition(":")[2])

    def ports(self, scheme: str) -> list[int]:
        """The TCP ports of the listeners with this scheme."""
        return [int(item.rpartition(":")[2]) for item in self.addresses if item.startswith(scheme + "://")]

    def access_lines(self) -> list[dict[str, Any]]:
        """The access log so far, out of JSON."""
        return [json.loads(line) for line in list(self.output) if line.startswith("{")]

    def wait_access(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many access-log lines."""
        wait_until(lambda: len(self.access_lines()) >= count, f"{count} access-log lines")
        return self.access_lines()

    def wait_error(self, pattern: str) -> str:
        """Wait for a line on standard error that the pattern matches, and return it."""
        found: str = wait_until(
            lambda: next((line for line in list(self.errors) if re.search(pattern, line)), None),
            f"a line like {pattern!r} on standard error, which has: {self.errors}",
        )
        return found

    def children(self) -> list[int]:
        """The process ids of edges and workers."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        return [pid for pid, command in self._commands() if b"-m\0edge_backend" in command]

    def edges(self) -> list[int]:
        """The process ids of the edge processes."""
        return [pid for pid, command in self._commands() if b"-m\0edge_" not in command]

    def keepers(self) -> list[int]:
        """The process id of what renews certificates, if it runs."""
        return [pid for pid, command in self._commands() if b"-m\0edge_certs" in command]

    def _commands(self) -> Iterator[tuple[int, bytes]]:
        """The children and their commands, without those that have ended."""
        for pid in self.children():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if command:
                    yield pid, command

    def wait_end(self, timeout: float = DEADLINE) -> int:
        """Wait for it to end by itself, and return the exit code."""
        code = self.process.wait(timeout)
        for thread in self._threads:
            thread.join(timeout)
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it, by force when it does not obey; return the exit code."""
        try:
            if self.process.poll() is None:
                self.process.send_signal(number)
                self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._kill_all()
            raise AssertionError("the server did not end in time") from None
        finally:
            # Whatever went wrong here: a stream that is left open is what another test would fail of.
            self.wait_end()
            for stream in (self.process.stdout, self.process.stderr):
                if stream is not None:
                    stream.close()
        return self.process.returncode

    def _kill_all(self) -> None:
        for pid in (*self.children(), self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def _collect(stream: Any, lines: list[str]) -> None:
    for line in stream:
        lines.append(line.rstrip("\n"))


@contextlib.contextmanager
def serving(
    folder: Path, source: str, *arguments: str, authority: Authority | None = None, **environ: str
) -> Iterator[Server]:
    """Serve the application in `source` (it names it `app`), with TLS if there is an authority, on any free port."""
    (folder / "application.py").write_text(source)
    options = ["--port", "0", "--workers", "1", "--edges", "1", *arguments]
    if authority is not None:
        options += ["--cert", str(authority.cert), "--host", "127.0.0.1"]
    environment = clean_environment(EDGE_HOME=str(folder / "home"), **environ)
    with Server([*options, "application:app"], cwd=folder, environ=environment) as server:
        yield server.wait_ready()


@contextlib.contextmanager
def running(
    folder: Path,
    source: str,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    wrapper: Sequence[str] = (),
    **popen: Any,
) -> Iterator[Server]:
    """Serve the application in `source` with these arguments and no other but one worker and one edge."""
    (folder / "application.py").write_text(source)
    environment = clean_environment(EDGE_HOME=str(folder / "home"), EDGE_WORKERS="1", EDGE_EDGES="1")
    environment |= environ or {}
    command = [*arguments, "application:app"]
    with Server(command, cwd=folder, environ=environment, wrapper=wrapper, **popen) as server:
        yield server.wait_ready()


class RawClient:
    """A socket, with or without TLS, that sends exactly the bytes it is given."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None, *, server_name: str = "localhost") -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.sock = context.wrap_socket(plain, server_hostname=server_name) if context is not None else plain

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self.sock.sendall(data)

    def receive_until(self, end: bytes) -> bytes:
        """Receive until what came ends with, or holds, `end`."""
        data = b""
        while end not in data:
            piece = self.sock.recv(65536)
            assert piece, f"the connection ended before {end!r}: {data!r}"
            data += piece
        return data

    def receive_response(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """Receive one answer with Content-Length (or none): status, fields, content."""
        data = self.receive_until(b"\r\n\r\n")
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines[1:])}
        length = int(fields.get(b"content-length", b"0"))
        while len(body) < length:
            piece = self.sock.recv(65536)
            assert piece, f"the connection ended in the content: {body!r}"
            body += piece
        return int(lines[0].split(b" ")[1]), fields, body

    def receive_rest(self) -> bytes:
        """Receive until the peer closes."""
        pieces = []
        with contextlib.suppress(ConnectionResetError):
            while piece := self.sock.recv(65536):
                pieces.append(piece)
        return b"".join(pieces)
