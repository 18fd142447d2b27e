"""The settings of the processes: how many run, whom a worker serves and until when, and how all stand among others."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.cpus import allowed_cpus
from edge.errors import ConfigError
from edge.net.address import Address
from edge.options import Kind, account, addresses, choice, computed, count, file, files, seconds, setting, size, switch

# A worker is 25 to 30 MB: more than this on one machine is a typing error.
MAX_PROCESSES = 1024


def edges_for(cpus: int) -> int:
    """Return how many edge processes `auto` is: one up to 4 CPUs, then one for every 4."""
    return max(1, cpus // 4)


def _auto_edges() -> int:
    return edges_for(allowed_cpus())


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How many processes run, whom a worker serves, and when it is replaced. Bytes and seconds; 0 is never."""

    workers: int = computed(
        allowed_cpus,
        count(1, MAX_PROCESSES, auto=allowed_cpus),
        "--workers",
        "-w",
        shown="auto, the CPUs allowed here",
        environment=("WEB_CONCURRENCY",),
        help="processes that run the application",
    )
    affinity: Literal["off", "ip", "cookie"] = setting(
        "off",
        choice("off", "ip", "cookie"),
        "--affinity",
        help="give a client, known by its address or a cookie, the same worker again while it can",
    )
    max_requests: int = setting(
        0,
        count(0, 10**12),
        "--max-requests",
        "--limit-max-requests",
        help="requests until a worker is replaced; 0 = never",
    )
    max_requests_jitter: int = setting(
        0,
        count(0, 10**12),
        "--max-requests-jitter",
        "--limit-max-requests-jitter",
        help="at most so many more, by chance, so that workers are not replaced all at once",
    )
    max_worker_lifetime: float = setting(
        0.0, seconds(0), "--max-worker-lifetime", "--workers-lifetime", help="until a worker is replaced; 0 = never"
    )
    max_worker_rss: int = setting(
        0, size(0, 2**50), "--max-worker-rss", help="memory of a worker above which it is replaced; 0 = any (Linux)"
    )
    max_crashes: int = setting(
        10, count(1, 1_000_000), "--max-crashes", help="deaths of workers in a minute that are called a crash loop"
    )
    edges: int = computed(
        _auto_edges,
        count(1, MAX_PROCESSES, auto=_auto_edges),
        "--edges",
        shown="auto, 1 up to 4 CPUs, then one for 4",
        help="processes that hold the client connections",
    )


def _pid_file() -> Kind:
    any_file = file()

    def parse(value: object) -> str:
        path: str = any_file.parse(value)
        # daphne's -p is the port: it would be served elsewhere, and a file called 8000 be all that is seen of it.
        if path.isdecimal():
            raise ConfigError(f"{value!r}: a number; use --port {path}, or ./{path} for a file of that name")
        return path

    return dataclasses.replace(any_file, parse=parse)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How the server stands among the other processes of the machine. An empty `pid_file` is none."""

    pid_file: str = setting(
        "", _pid_file(), "--pid", "--pid-file", "-p", shown="none", help="the process id is written there"
    )
    metrics: tuple[Address, ...] = setting(
        (),
        addresses(),
        "--metrics",
        shown="none",
        help="where Prometheus reads /metrics; not for clients",
    )
    user: str = setting(
        "",
        account(),
        "--user",
        "-u",
        shown="this user",
        help="what edges and workers are once the ports are bound and the keys read; for root",
    )
    group: str = setting(
        "", account(), "--group", "-g", shown="that of --user", help="their group, besides those of --user"
    )
    outbound_ca: tuple[Path, ...] = setting(
        (),
        files(),
        "--outbound-ca",
        shown="none",
        help="root that this server trusts when it or its workers call out, besides all others; repeatable",
    )
    strict: bool = setting(
        False, switch(), "--strict", help="refuse what edge check warns of, such as a key that others may read"
    )
    health: bool = setting(True, switch(), "--health", help="answer /.edge/health and /.edge/ready")
    folder: str = setting(
        "",
        file("DIR"),
        "--chdir",
        shown="current directory",
        help="go there first: paths count from it, and the application is imported from it",
    )
