"""The load: wrk and h2load for requests, and small clients of our own for new connections and idle ones."""

import json
import re
import resource
import select
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.app import BODY
from tests.bench.stacks import find_program

SMALL = b"/small"
REQUEST = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
    b"Accept: text/html,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.9\r\nConnection: %s\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk did: requests that were answered, seconds, bytes read, latencies in seconds, faults by name.

    h2load tells no percentiles: both are its mean.
    """

    requests: int
    seconds: float
    size: int
    p50: float
    p99: float
    faults: tuple[str, ...]


@dataclass(slots=True)
class Exchanges:
    """What the client for new connections did so far; its threads count under the lock."""

    done: int = 0
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def run_wrk(port: int, target: str, *, seconds: int, connections: int, fields: tuple[str, ...] = ()) -> Load:
    """Load `target` with keep-alive connections of one thread; raises when wrk itself fails."""
    script = str(Path(__file__).with_name("load.lua"))
    more = tuple(f"-H{field}" for field in fields)
    shape = ("-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", *more, "-s", script)
    argv = (find_program("wrk") or "wrk", *shape, f"https://localhost:{port}{target}")
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=seconds + 30)
    return parse_wrk(done.stdout)


def parse_wrk(text: str) -> Load:
    """Read the line that load.lua writes at the end.

    Raises ValueError when it is not there.
    """
    lines = [line for line in text.splitlines() if line.startswith("result ")]
    if len(lines) != 1:
        raise ValueError(f"wrk's output: {len(lines)} result lines, 1 wanted: {text[-200:]!r}")
    figures = json.loads(lines[0].removeprefix("result "))
    names = ("connect_errors", "read_errors", "write_errors", "timeouts", "bad_status")
    faults = tuple(f"{figures[name]} {name.replace('_', ' ')}" for name in names if figures[name])
    if not figures["requests"]:
        faults += ("no request was answered",)
    return Load(figures["requests"], figures["seconds"], figures["bytes"], figures["p50"], figures["p99"], faults)


def run_h2load(port: int, target: str, *, seconds: int, connections: int, streams: int) -> Load:
    """Load `target` over HTTP/2 with the fields of wrk; raises when h2load itself fails."""
    script = Path(__file__).with_name("load.lua").read_text()
    fields = [f"-H{name}: {value}" for name, value in re.findall(r'wrk\.headers\["(.+?)"\] = "(.+)"', script)]
    shape = ("-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", "--npn-list=h2", "-w20", "-W24")
    argv = (find_program("h2load") or "h2load", *shape, *fields, f"https://localhost:{port}{target}")
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=seconds + 30)
    return parse_h2load(done.stdout)


def parse_h2load(text: str) -> Load:
    """Read what h2load writes at the end.

    Raises ValueError when it is not there.
    """
    seconds = re.search(r"^finished in ([\d.]+)(ms|s),", text, re.MULTILINE)
    counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    size = re.search(r"^traffic: \S+ \((\d+)\) total", text, re.MULTILINE)
    mean = re.search(r"^time for request: +\S+ +\S+ +([\d.]+)(us|ms|s)", text, re.MULTILINE)
    if not (seconds and counts and size and mean):
        raise ValueError(f"h2load's output has no figures: {text[-200:]!r}")
    succeeded, *bad = (int(count) for count in counts.groups()[1:])
    faults = tuple(
        f"{count} {name}" for count, name in zip(bad, ("failed", "errored", "timeouts"), strict=True) if count
    )
    if not succeeded:
        faults += ("no request was answered",)
    if not re.search(r"^Application protocol: h2$", text, re.MULTILINE):
        faults += ("HTTP/2 was not agreed on",)
    unit = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
    elapsed, latency = (float(match[1]) * unit[match[2]] for match in (seconds, mean))
    return Load(succeeded, elapsed, int(size[1]), latency, latency, faults)


def run_exchanges(port: int, *, seconds: float, reconnect: bool, threads: int = 4) -> Exchanges:
    """Send one small request after another on `threads` connections, each on a new one when `reconnect`.

    No session is ever resumed: each connection has a full TLS 1.3 handshake.
    """
    exchanges, deadline = Exchanges(), time.monotonic() + seconds
    arguments = (exchanges, port, deadline, reconnect)
    # Daemons, so that Ctrl-C does not wait for them.
    workers = [threading.Thread(target=_exchange, args=arguments, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return exchanges


def open_idle(port: int, count: int) -> list[ssl.SSLSocket]:
    """Return `count` connections over each of which one request was answered."""
    context = _context()
    connections = [_connect(port, context) for _ in range(count)]
    for connection in connections:
        _ask(connection, b"keep-alive")
    return connections


def count_closed(connections: list[ssl.SSLSocket]) -> int:
    """Return how many of the idle `connections` their server has closed by now."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN)
    return len(poll.poll(0))


def close_all(connections: list[ssl.SSLSocket]) -> None:
    """Close the connections."""
    for connection in connections:
        connection.close()


def allow_files(count: int) -> None:
    """Raise the soft limit of open files to `count` for us and those we start, as far as the hard one permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, top), hard))


def find_tag(port: int, target: str) -> str:
    """Return the entity tag of a file."""
    with _connect(port, _context()) as connection:
        connection.sendall(REQUEST % (target.encode(), b"close"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    tags = re.findall(rb"^etag: (\S+)\r$", answer, re.IGNORECASE | re.MULTILINE)
    if len(tags) != 1:
        raise ValueError(f"answer {answer[:200]!r}, one ETag wanted")
    return str(tags[0].decode())


def _exchange(exchanges: Exchanges, port: int, deadline: float, reconnect: bool) -> None:
    context, how = _context(), b"close" if reconnect else b"keep-alive"
    while time.monotonic() < deadline:
        try:
            with _connect(port, context) as connection:
                _repeat(exchanges, connection, deadline, how)
        except (OSError, ValueError) as error:
            with exchanges.lock:
                exchanges.faults.append(f"{type(error).__name__}: {error}")
            return


def _repeat(exchanges: Exchanges, connection: ssl.SSLSocket, deadline: float, how: bytes) -> None:
    more = True
    while more:
        more = _ask(connection, how) and time.monotonic() < deadline
        with exchanges.lock:
            exchanges.done += 1
    if how == b"close" and connection.recv(1):
        raise ValueError("more than the answer came on a connection that closes")


def _ask(connection: ssl.SSLSocket, how: bytes) -> bool:
    """Send a request, read its answer, return whether the connection stays open."""
    connection.sendall(REQUEST % (SMALL, how))
    answer = connection.recv(65536)
    while not answer.endswith(BODY):
        more = connection.recv(65536)
        if not more:
            raise ValueError(f"connection closed in the answer {answer!r}")
        answer += more
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise ValueError(f"answer {answer[:40]!r}, 200 wanted")
    return b"connection: close" not in answer.lower()


def _connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = context.wrap_socket(plain, server_hostname="localhost")
    if connection.version() != "TLSv1.3" or connection.session_reused:
        raise ValueError(f"{connection.version()}, resumed {connection.session_reused}: full TLS 1.3 wanted")
    return connection


def _context() -> ssl.SSLContext:
    # Verified once at the start of each stack; here it would only cost the client's time.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
