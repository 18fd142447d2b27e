"""Connections made and ended in every way, as fast as Python can: what a server must forget all of.

`python -m tests.bench.storm` starts a server, storms it for 30 s (`--seconds`), and prints how many connections a
second were made, of each kind how many, and what is left behind. tests/process/test_storm.py is shorter.

A client that speaks TLS costs more than the server that it speaks to, so on two processors the figure is as much the
client's as the server's, and hangs on how often each kind has its turn: each says how many there were.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

HOST = b"Host: localhost\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
BODY = b"POST /upload HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n" + b"x" * 70_000
WEBSOCKET = (
    b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
# A text frame "hello", masked with zeros.
MESSAGE = b"\x81\x85\0\0\0\0hello"
# HTTP/2: the preface, SETTINGS, and HEADERS of GET https://localhost/ (static table, literal authority), end of stream.
_BLOCK = b"\x82\x87\x84\x01\x09localhost"
HTTP2 = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
    + struct.pack("!I", len(_BLOCK))[1:] + b"\1\5" + struct.pack("!I", 1) + _BLOCK
)  # fmt: skip
# Linux: the port is chosen at connect(), for the pair of addresses and not for the source alone.
IP_BIND_ADDRESS_NO_PORT = 24
TIMEOUT = 20.0
# So many connections in a turn are reset at once: that makes the rate, the other kinds make the mess.
RESETS = 1000


class Storm:
    """One client. `kinds` are what it does, and how many times in a turn: what costs a client much, once."""

    def __init__(self, port: int, plain_port: int, root: str, seed: int) -> None:
        self._port = port
        self._plain_port = plain_port
        self._source = seed * 7919
        self._http1 = ssl.create_default_context(cafile=root)
        self._http2 = ssl.create_default_context(cafile=root)
        self._http2.set_alpn_protocols(["h2"])
        self._hello = self._client_hello()
        tls, plain = self._with_tls, self._plain
        self.kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "fin": (5, lambda: plain(b"", reset=False)),
            "rst": (RESETS, lambda: plain(b"", reset=True)),
            "half a head": (5, lambda: plain(GET[:20], reset=False)),
            "half a head, rst": (5, lambda: plain(GET[:20], reset=True)),
            "plain request": (5, lambda: plain(GET, reset=False, answered=True)),
            "half a hello": (5, lambda: self._cut_handshake(100, reset=False)),
            "hello, rst": (5, lambda: self._cut_handshake(len(self._hello), reset=True)),
            "tls, nothing": (1, lambda: tls(b"", reset=False)),
            "tls, half a head": (1, lambda: tls(GET[:20], reset=True)),
            "tls, half a body": (1, lambda: tls(BODY, reset=True)),
            "tls, no answer read": (1, lambda: tls(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n", reset=True)),
            "tls, half an answer": (1, lambda: tls(GET.replace(b"/ ", b"/stream "), reset=True, read=10)),
            "tls, request": (1, lambda: tls(GET * 3, reset=False, read=10)),
            "websocket": (1, lambda: tls(WEBSOCKET + MESSAGE, reset=True, read=10)),
            "http2": (1, lambda: tls(HTTP2, reset=True, read=9, http2=True)),
            "http2, no answer read": (1, lambda: tls(HTTP2, reset=False, http2=True)),
        }

    def run(self, seconds: float) -> tuple[Counter[str], Counter[str]]:
        """Return how many connections of each kind were made, and what went wrong in those that nobody cut."""
        done, failed = Counter[str](), Counter[str]()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for kind, (times, act) in self.kinds.items():
                for _ in range(times):
                    try:
                        act()
                    except OSError as error:
                        failed[f"{kind}: {error}"] += 1
                done[kind] += times
        return done, failed

    # Below: how.

    def _connect(self, port: int, *, reset: bool) -> socket.socket:
        sock = socket.socket()
        sock.settimeout(TIMEOUT)
        # Each closed connection keeps its pair of ports for a minute: all of 127.0.0.0/8 is ours to come from.
        self._source += 1
        source = f"127.0.{self._source // 250 % 250}.{self._source % 250 + 1}"
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((source, 0))
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            sock.connect(("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        return sock

    def _plain(self, data: bytes, *, reset: bool, answered: bool = False) -> None:
        with self._connect(self._plain_port, reset=reset) as sock:
            if data:
                sock.sendall(data)
            if answered:
                sock.recv(4096)

    def _cut_handshake(self, size: int, *, reset: bool) -> None:
        with self._connect(self._port, reset=reset) as sock:
            sock.sendall(self._hello[:size])

    def _with_tls(self, data: bytes, *, reset: bool, read: int = 0, http2: bool = False) -> None:
        plain = self._connect(self._port, reset=reset)
        context = self._http2 if http2 else self._http1
        try:
            sock = context.wrap_socket(plain, server_hostname="localhost")
        except OSError:
            plain.close()
            raise
        with sock:
            if data:
                sock.sendall(data)
            while read > 0:
                piece = sock.recv(4096)
                if not piece:
                    raise OSError("closed before an answer")
                read -= len(piece)

    def _client_hello(self) -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._http1.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        return outgoing.read()


@contextlib.contextmanager
def storming(port: int, plain_port: int, root: Path, seconds: float, clients: int) -> Iterator[list[str]]:
    """Run so many clients as processes; afterwards the list holds what each of them printed."""
    command = [sys.executable, "-m", "tests.bench.storm", "--client", str(port), str(plain_port), str(root)]
    processes = [
        subprocess.Popen([*command, "--seconds", str(seconds), "--seed", str(seed)], stdout=subprocess.PIPE, text=True)
        for seed in range(1, clients + 1)
    ]
    printed: list[str] = []
    try:
        yield printed
        printed += [process.communicate(timeout=seconds + 60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def add_up(printed: list[str]) -> tuple[Counter[str], Counter[str]]:
    """Return what all clients have done, and what went wrong."""
    done, failed = Counter[str](), Counter[str]()
    for text in printed:
        found = json.loads(text)
        done.update(found["done"])
        failed.update(found["failed"])
    return done, failed


def _show(folder: Path, seconds: float, clients: int) -> None:
    from tests.process.load import APPLICATION
    from tests.process.server import Authority, RawClient, running, wait_until
    from tests.process.test_control import ready
    from tests.process.test_edges import left_behind, settled

    authority = Authority(folder)
    options = ["--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--cert", str(authority.cert), "--workers", "2"]
    with running(folder, APPLICATION, *options, "--no-access-log", "--log-level", "error") as server:
        wait_until(lambda: server.ports("https") and server.ports("http"), "both listen")
        wait_until(lambda: len(ready(folder)) == 2, "both workers are ready")
        with RawClient(server.ports("https")[0], authority.client_context()) as client:
            client.send(GET)
            client.receive_response()
        before = wait_until(lambda: settled(folder), "nothing is open")
        with storming(server.ports("https")[0], server.ports("http")[0], authority.root, seconds, clients) as printed:
            pass
        done, failed = add_up(printed)
        print(f"{sum(done.values()) / seconds:.0f} connections a second, {sum(done.values())} in all")
        for kind, number in done.most_common():
            print(f"{number / seconds:8.0f} {kind}")
        for kind, number in failed.most_common():
            print(f"{number:8} failed: {kind}")
        wait_until(lambda: left_behind(folder) == before, f"{before} again, not {left_behind(folder)}", 60)
        print("nothing is left behind")


def main() -> None:
    """Be a client, or start a server and clients."""
    parser = argparse.ArgumentParser(description="storm a server with connections")
    parser.add_argument("--client", nargs=3, metavar=("PORT", "PLAIN_PORT", "ROOT"))
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=2)
    given = parser.parse_args()
    if given.client is None:
        with tempfile.TemporaryDirectory() as folder:
            _show(Path(folder), given.seconds, given.clients)
        return
    port, plain_port, root = given.client
    done, failed = Storm(int(port), int(plain_port), root, given.seed).run(given.seconds)
    print(json.dumps({"done": done, "failed": failed}))


if __name__ == "__main__":
    main()
