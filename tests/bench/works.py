"""What is measured: kinds of work, each a function from a running stack to its figures."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import clients
from tests.bench.report import Column, Goal
from tests.bench.serving import Running

CONNECTIONS = 32
LARGE_CONNECTIONS = 8
HTTP2_CONNECTIONS = {16: 16, 100: 8}  # by streams: beside what runs, 1,024 requests may wait in edge before it says 503
IDLE_CONNECTIONS = 1000
WARM_UP = 1
MIB = 1024 * 1024
FILES = {"1k.bin": 1024, "100k.bin": 100 * 1024, "10m.bin": 10 * MIB}
# What is asked for: a name for it, the file, fields, connections.
STATIC: tuple[tuple[str, str, tuple[str, ...], int], ...] = (
    ("1k", "1k.bin", (), CONNECTIONS),
    ("304", "1k.bin", (), CONNECTIONS),
    ("range", "10m.bin", ("Range: bytes=1000000-1001023",), CONNECTIONS),
    ("100k", "100k.bin", (), CONNECTIONS),
    ("10m", "10m.bin", (), LARGE_CONNECTIONS),
)

Figures = tuple[dict[str, float], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of work: `measure(running, seconds)` gives the figures of `columns` and the faults.

    `ratios` are the columns that are compared; `timed` is whether the seconds matter; `http2`: only stacks that speak
    HTTP/2 can be measured; `static`: only those that serve files; `proxy`: only those with uvicorn behind them.
    """

    name: str
    title: str
    measure: Callable[[Running, int], Figures]
    columns: tuple[Column, ...]
    ratios: tuple[str, ...]
    goals: tuple[Goal, ...] = ()
    timed: bool = True
    http2: bool = False
    static: bool = False
    proxy: bool = False


def all_works() -> dict[str, Work]:
    """Return the kinds of work by name."""
    works = (_small(), _handshake(), _idle(), _large(), _http2(16), _http2(100), _http2_large(), _static(), _proxy())
    return {work.name: work for work in works}


def measure_small(running: Running, seconds: int) -> Figures:
    """Measure keep-alive requests for a small answer; each has to be in the access log."""
    port, token = running.site.port, b"/small"
    clients.run_wrk(port, "/small", seconds=WARM_UP, connections=CONNECTIONS)
    lines, before = running.settle_lines(token), running.read_usage()
    load = clients.run_wrk(port, "/small", seconds=seconds, connections=CONNECTIONS)
    logged = running.wait_lines(token, lines + load.requests) - lines
    after = running.read_usage(memory=True)
    values = {
        "rate": load.requests / load.seconds,
        "cpu": _micro(after.cpu - before.cpu, load.requests),
        "front": _micro(after.cpu_front - before.cpu_front, load.requests),
        "p50": load.p50 * 1e3,
        "p99": load.p99 * 1e3,
        "memory": after.memory / MIB,
    }
    # wrk leaves what is under way at the end, one request a connection.
    return values, load.faults + _check_log(running, load.requests, logged, CONNECTIONS)


def measure_http2(running: Running, seconds: int, *, streams: int) -> Figures:
    """Measure requests for a small answer, `streams` at a time on each connection; each is in the access log."""
    port, token = running.site.port, b"/small"
    shape = {"connections": HTTP2_CONNECTIONS[streams], "streams": streams}
    clients.run_h2load(port, "/small", seconds=WARM_UP, **shape)
    lines, before = running.settle_lines(token), running.read_usage()
    load = clients.run_h2load(port, "/small", seconds=seconds, **shape)
    logged = running.wait_lines(token, lines + load.requests) - lines
    after = running.read_usage(memory=True)
    values = {
        "rate": load.requests / load.seconds,
        "cpu": _micro(after.cpu - before.cpu, load.requests),
        "front": _micro(after.cpu_front - before.cpu_front, load.requests),
        "mean": load.p50 * 1e3,
        "memory": after.memory / MIB,
    }
    # h2load leaves what is under way at the end, on each stream one request.
    return values, load.faults + _check_log(running, load.requests, logged, HTTP2_CONNECTIONS[streams] * streams)


def measure_http2_large(running: Running, seconds: int) -> Figures:
    """Measure the bytes of answers of 1 MiB that one second of processor time carries, 16 streams a connection."""
    port = running.site.port
    shape = {"connections": 2, "streams": 16}
    clients.run_h2load(port, "/large-1", seconds=WARM_UP, **shape)
    before = running.read_usage()
    load = clients.run_h2load(port, "/large-1", seconds=seconds, **shape)
    after = running.read_usage(memory=True)
    values = {
        "carried": load.size / 1e6 / max(after.cpu - before.cpu, 1e-9),
        "carried_front": load.size / 1e6 / max(after.cpu_front - before.cpu_front, 1e-9),
        "rate": load.size / 1e6 / load.seconds,
        "memory": after.memory / MIB,
    }
    return values, load.faults


def measure_handshake(running: Running, seconds: int) -> Figures:
    """Measure a new connection with one request each; less what a request alone costs the same client."""
    port = running.site.port
    clients.run_exchanges(port, seconds=WARM_UP, reconnect=True)
    first = running.read_usage()
    kept = clients.run_exchanges(port, seconds=seconds, reconnect=False)
    lines, second = running.settle_lines(clients.SMALL), running.read_usage()
    opened = clients.run_exchanges(port, seconds=seconds, reconnect=True)
    logged = running.wait_lines(clients.SMALL, lines + opened.done) - lines
    third = running.read_usage(memory=True)
    connection = _micro(third.cpu - second.cpu, opened.done)
    connection_front = _micro(third.cpu_front - second.cpu_front, opened.done)
    values = {
        "rate": opened.done / seconds,
        "connection": connection,
        "request": _micro(second.cpu - first.cpu, kept.done),
        "handshake": connection - _micro(second.cpu - first.cpu, kept.done),
        "handshake_front": connection_front - _micro(second.cpu_front - first.cpu_front, kept.done),
        "memory": third.memory / MIB,
    }
    return values, (*kept.faults, *opened.faults, *_check_log(running, opened.done, logged, 0))


def measure_idle(running: Running, seconds: int) -> Figures:
    """Measure the memory that idle connections add, after one request on each."""
    port = running.site.port
    # One at a time, so that the memory of many cannot be used again by those that count.
    for _ in range(64):
        clients.close_all(clients.open_idle(port, 1))
    before = running.read_usage(memory=True)
    connections = clients.open_idle(port, IDLE_CONNECTIONS)
    after = running.read_usage(memory=True)
    closed = clients.count_closed(connections)
    clients.close_all(connections)
    values = {
        "idle": (after.memory - before.memory) / 1024 / IDLE_CONNECTIONS,
        "idle_front": (after.memory_front - before.memory_front) / 1024 / IDLE_CONNECTIONS,
        "before": before.memory / MIB,
        "after": after.memory / MIB,
    }
    return values, (f"{closed} of {IDLE_CONNECTIONS} connections were closed too early",) if closed else ()


def measure_large(running: Running, seconds: int) -> Figures:
    """Measure the bytes of large answers that one second of processor time carries."""
    port, faults = running.site.port, list[str]()
    values: dict[str, float] = {}
    for size in (1, 10):
        target = f"/large-{size}"
        clients.run_wrk(port, target, seconds=WARM_UP, connections=LARGE_CONNECTIONS)
        before = running.read_usage()
        load = clients.run_wrk(port, target, seconds=seconds, connections=LARGE_CONNECTIONS)
        after = running.read_usage(memory=True)
        values[f"carried{size}"] = load.size / 1e6 / max(after.cpu - before.cpu, 1e-9)
        values[f"rate{size}"] = load.size / 1e6 / load.seconds
        faults += load.faults
        values["memory"] = after.memory / MIB
    return values, tuple(faults)


def write_files(folder: Path) -> None:
    """Make what is served as it lies there: bytes that nothing compresses."""
    folder.mkdir(mode=0o755)
    for name, size in FILES.items():
        (folder / name).write_bytes(os.urandom(size))
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))  # a site that was built some time ago


def measure_static(running: Running, seconds: int) -> Figures:
    """Measure what each kind of request for a file costs; each has to be in the access log."""
    port, faults, values = running.site.port, list[str](), dict[str, float]()
    for key, name, fields, connections in STATIC:
        target = f"/static/{name}?{key}"
        if key == "304":
            fields = (f"If-None-Match: {clients.find_tag(port, target)}",)
        clients.run_wrk(port, target, seconds=WARM_UP, connections=connections, fields=fields)
        token = target.encode()
        lines, before = running.settle_lines(token), running.read_usage()
        load = clients.run_wrk(port, target, seconds=seconds, connections=connections, fields=fields)
        logged = running.wait_lines(token, lines + load.requests) - lines
        after = running.read_usage(memory=True)
        values[key] = _micro(after.cpu - before.cpu, load.requests)
        values["memory"] = after.memory / MIB
        if key == "10m":  # by its bytes: what is under way at the end is many of them
            values["carried"] = load.size / 1e6 / max(after.cpu - before.cpu, 1e-9)
            values[key] = (after.cpu - before.cpu) * 1e6 * FILES[name] / max(load.size, 1)
        # What was under way when the warm-up ended may be logged late, as what is under way at the end is.
        faults += (*load.faults, *_check_size(key, load), *_check_log(running, load.requests, logged, 2 * connections))
    return values, tuple(faults)


def _check_size(key: str, load: clients.Load) -> tuple[str, ...]:
    """Hold the bytes of an answer against what was asked for: content, and a head of less than 1 KiB."""
    content = {"1k": 1024, "range": 1024, "304": 0, "100k": FILES["100k.bin"], "10m": FILES["10m.bin"]}[key]
    size = load.size / max(load.requests, 1)
    # What was under way at the end counts with its bytes and not as a request.
    slack = LARGE_CONNECTIONS * content / max(load.requests, 1)
    return () if content < size < content + 1024 + slack else (f"{key}: {size:.0f} bytes an answer",)


def _static() -> Work:
    columns = (
        Column("1k", "1 KiB: CPU us/request", 1),
        Column("304", "304", 1),
        Column("range", "1 KiB of 10 MiB", 1),
        Column("100k", "100 KiB", 1),
        Column("10m", "10 MiB", 0),
        Column("carried", "10 MiB: MB/CPU second"),
        Column("memory", "memory MiB", 1),
    )
    goals = (Goal("1k", "nginx", 1.2), Goal("10m", "nginx", 1.0))
    ratios = ("1k", "304", "range", "100k", "10m", "carried")
    title = f"files, {CONNECTIONS} connections, {LARGE_CONNECTIONS} for those of 10 MiB"
    return Work("static", title, measure_static, columns, ratios, goals, static=True)


def _small() -> Work:
    title = f"keep-alive GET, 11 fields, 14 bytes answered, {CONNECTIONS} connections"
    columns = (
        Column("rate", "requests/s"),
        Column("cpu", "CPU us/request", 1),
        Column("front", "of it the front", 1),
        Column("p50", "p50 ms", 2),
        Column("p99", "p99 ms", 2),
        Column("memory", "memory MiB", 1),
    )
    goals = (Goal("cpu", "nginx", 0.70), Goal("cpu", "granian", 1.0))
    return Work("small", title, measure_small, columns, ("rate", "cpu", "p99", "memory"), goals)


def _proxy() -> Work:
    title = f"keep-alive GET with browser fields, small answer of uvicorn behind a proxy, {CONNECTIONS} connections"
    columns = (
        Column("rate", "requests/s"),
        Column("front", "of the front, CPU us/request", 1),
        Column("cpu", "CPU us/request, all", 1),
        Column("p99", "p99 ms", 2),
    )
    return Work(
        "proxy", title, measure_small, columns, ("rate", "front", "cpu"), (Goal("front", "nginx", 1.3),), proxy=True
    )


def _handshake() -> Work:
    title = "a new connection, full TLS 1.3 handshake, one GET, close; 4 at a time"
    columns = (
        Column("rate", "connections/s"),
        Column("connection", "CPU us/connection"),
        Column("request", "us/kept-alive request"),
        Column("handshake", "us/handshake (difference)"),
        Column("handshake_front", "of it the front"),
        Column("memory", "memory MiB", 1),
    )
    goals = (Goal("handshake_front", "nginx", 1.15),)
    return Work("handshake", title, measure_handshake, columns, ("connection", "handshake", "handshake_front"), goals)


def _idle() -> Work:
    title = f"{IDLE_CONNECTIONS} idle TLS connections after one request each, memory of processes without the kernel's"
    columns = (
        Column("idle", "KiB/connection", 1),
        Column("idle_front", "of it the front", 1),
        Column("before", "MiB before", 1),
        Column("after", "MiB after", 1),
    )
    goals = (Goal("idle_front", "", 20.0),)
    return Work("idle", title, measure_idle, columns, ("idle", "idle_front"), goals, timed=False)


def _large() -> Work:
    title = f"answers of 1 MiB and of 10 MiB, {LARGE_CONNECTIONS} connections; MB are millions of bytes, more is better"
    columns = (
        Column("carried1", "1 MiB: MB/CPU second"),
        Column("carried10", "10 MiB: MB/CPU second"),
        Column("rate1", "1 MiB: MB/s"),
        Column("rate10", "10 MiB: MB/s"),
        Column("memory", "memory MiB", 1),
    )
    return Work("large", title, measure_large, columns, ("carried1", "carried10", "memory"))


def _http2(streams: int) -> Work:
    shape = f"{HTTP2_CONNECTIONS[streams]} connections with {streams} streams each"
    title = f"HTTP/2 GET, 11 fields, 14 bytes answered, {shape}"
    columns = (
        Column("rate", "requests/s"),
        Column("cpu", "CPU us/request", 1),
        Column("front", "of it the front", 1),
        Column("mean", "mean ms", 2),
        Column("memory", "memory MiB", 1),
    )
    goals = (Goal("cpu", "nginx", 0.45), Goal("cpu", "granian", 1.0))
    measure = partial(measure_http2, streams=streams)
    return Work(f"http2-{streams}", title, measure, columns, ("rate", "cpu", "memory"), goals, http2=True)


def _http2_large() -> Work:
    title = "HTTP/2 answers of 1 MiB, 2 connections with 16 streams each; MB are millions of bytes, more is better"
    columns = (
        Column("carried", "MB/CPU second"),
        Column("carried_front", "of the front alone"),
        Column("rate", "MB/s"),
        Column("memory", "memory MiB", 1),
    )
    return Work("http2-large", title, measure_http2_large, columns, ("carried", "carried_front", "memory"), http2=True)


def _micro(seconds: float, count: int) -> float:
    return seconds * 1e6 / max(count, 1)


def _check_log(running: Running, requests: int, lines: int, slack: int) -> tuple[str, ...]:
    least, most = (requests, requests + slack) if running.site.log else (0, 0)
    return () if least <= lines <= most else (f"access log: {lines} lines, {least} to {most} wanted",)
