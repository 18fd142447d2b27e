"""The limits, which refuse, and the timeouts, which end."""

import resource
from dataclasses import dataclass

from edge.options import GIB, KIB, MIB, computed, count, seconds, setting, size


def connection_limit(open_files: int) -> int:
    """Return the connections that an edge process takes by default, from its limit of open files.

    The other 30 % are for workers, files and logs.
    """
    return 10_000 if open_files == resource.RLIM_INFINITY else max(1, min(10_000, open_files * 7 // 10))


def _default_connections() -> int:
    return connection_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What is refused when it exceeds this. Sizes in bytes; `max_body` 0 is no limit."""

    max_request_line: int = setting(
        8 * KIB, size(64, MIB), "--max-request-line", "--limit-request-line", help="longest request line (414)"
    )
    max_header_size: int = setting(
        32 * KIB, size(256, MIB), "--max-header-size", "--h11-max-incomplete-event-size", help="all header fields (431)"
    )
    max_headers: int = setting(
        100, count(1, 10_000), "--max-headers", "--limit-request-fields", help="number of header fields (431)"
    )
    max_body: int = setting(
        100 * MIB, size(0, 2**50), "--max-body", "--limit-request-body", help="request body (413); 0 = no limit"
    )
    max_connections: int = computed(
        _default_connections,
        count(1, 1_000_000),
        "--max-connections",
        shown="10000, or 70 % of the open files allowed if that is less",
        help="connections of one edge process",
    )
    keepalive_requests: int = setting(
        10_000, count(1, 10**9), "--keepalive-requests", help="requests on one connection before it is closed"
    )
    worker_concurrency: int = setting(
        100,
        count(1, 100_000),
        "--worker-concurrency",
        "--limit-concurrency",
        help="requests that run in one worker at a time",
    )
    queue: int = setting(
        1024, count(0, 1_000_000), "--queue", "--queue-size", help="requests that wait for a worker (503)"
    )
    http2_streams: int = setting(
        100,
        count(1, 10_000),
        "--http2-max-streams",
        "--http2-max-concurrent-streams",
        help="requests at a time on one HTTP/2 connection",
    )


@dataclass(frozen=True, slots=True)
class TimeoutSettings:
    """What is ended when it takes longer. Seconds; `body_min_rate` in bytes per second, 0 is off."""

    tls_handshake: float = setting(10.0, seconds(), "--tls-handshake-timeout", help="to finish the TLS handshake")
    header: float = setting(
        10.0, seconds(), "--header-timeout", "--timeout-request-headers", help="to send a request head (408)"
    )
    body_idle: float = setting(
        30.0, seconds(), "--body-idle-timeout", "--timeout-request-body", help="between two pieces of a body (408)"
    )
    body_min_rate: int = setting(
        500, size(0, GIB), "--body-min-rate", help="bytes a second that a body must keep after 20 s (408); 0 = off"
    )
    write_stall: float = setting(60.0, seconds(), "--write-stall-timeout", help="without a byte taken by the client")
    keep_alive: float = setting(
        75.0,
        seconds(0),
        "--keepalive-timeout",
        "--timeout-keep-alive",
        "--keep-alive",
        help="between two requests of a connection; 0 = close after each",
    )
    queue: float = setting(10.0, seconds(0), "--queue-timeout", help="in the queue for a worker (503)")
    drain: float = setting(
        30.0,
        seconds(0),
        "--drain-timeout",
        "--timeout-graceful-shutdown",
        "--graceful-timeout",
        help="to finish what runs when the server stops",
    )
    startup: float = setting(
        60.0, seconds(), "--startup-timeout", "--timeout-startup", help="for a worker to become ready"
    )
    worker: float = setting(
        30.0,
        seconds(),
        "--worker-timeout",
        "--timeout-worker",
        "--timeout-worker-healthcheck",
        help="without a sign of life of a worker's event loop until it is replaced",
    )
    app: float = setting(
        0.0,
        seconds(0),
        "--app-timeout",
        "--timeout-request",
        shown="none",
        help="for the application to begin its answer (504); 0 = none",
    )
    disconnect_grace: float = setting(
        0.0,
        seconds(0),
        "--disconnect-grace",
        shown="for ever",
        help="that an application call may go on after its client left; 0 = for ever",
    )
    lifespan_shutdown: float = setting(
        0.0,
        seconds(0),
        "--lifespan-shutdown-timeout",
        "--timeout-lifespan-shutdown",
        shown="as long as the server's end takes",
        help="for the application's shutdown, after its last request; 0 = no limit of its own",
    )
