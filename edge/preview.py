"""What would be served, and what is to be said of it: `edge check`, without anything that has to be looked up."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import assert_never

from edge.config import ServeSettings
from edge.config_forward import ForwardSettings
from edge.config_sites import AppPlan, RedirectPlan, RoutePlan, SitePlan, StaticPlan, UpstreamPlan
from edge.key_files import KeyFile
from edge.options import MIB, show_size
from edge.tls.sni import SiteNames
from edge_certs.trust.root_files import RootFile

# A certificate is renewed with a third of its time left: one with a week left is renewed by nobody.
SOON = 7
# Signing with a longer key takes about 13 times as long as with 2048 bits, for each full handshake.
LONG_RSA = 4096
# The first OpenSSL that takes part in the exchange of keys that a quantum computer does not break, X25519MLKEM768.
POST_QUANTUM = (3, 5)


class Level(Enum):
    """How bad it is: an error keeps the server from starting, a warning is better mended, a note is for information."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to be said: what was found, and what to do."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """A certificate that would be served, with its key's file; `remarks` are those of clients."""

    place: str
    names: tuple[str, ...]
    not_after: datetime
    key_type: str
    key_bits: int
    key: KeyFile
    remarks: tuple[str, ...]

    def days_left(self, now: datetime) -> int:
        """Return the whole days until it expires."""
        return (self.not_after - now).days


@dataclass(frozen=True, slots=True)
class Facts:
    """What was looked up. `problems` are what would keep it from starting; `listening` is where it would."""

    now: datetime
    listening: tuple[str, ...]
    certificates: tuple[CertificateFacts, ...]
    problems: tuple[str, ...]
    open_files: int  # 0 = no limit
    spool_room: int  # what the file system of the spool holds in all, in bytes
    openssl: tuple[int, int]
    file_senders: tuple[str, ...]  # files of applications that name a field by which the edge sends a file
    outbound: tuple[RootFile, ...]  # what is trusted besides all others when the server or its workers call out


def find_findings(settings: ServeSettings, facts: Facts) -> list[Finding]:
    """Return what is to be said, the worst first; with `--strict`, warnings keep the server from starting, too."""
    found = [
        *(Finding(Level.ERROR, text) for text in facts.problems),
        *(finding for each in facts.certificates for finding in _of_certificate(each, facts.now)),
        *(Finding(Level.WARNING, remark) for file in facts.outbound for remark in file.remarks),
        *_of_certificates(settings, facts),
        *_of_hosts(settings, facts),
        *_of_settings(settings, facts),
    ]
    if settings.run.strict:
        found = [Finding(Level.ERROR, each.text) if each.level is Level.WARNING else each for each in found]
    return sorted(found, key=lambda finding: list(Level).index(finding.level))


def describe_target(plan: RoutePlan) -> str:
    """Return what a route leads to, in one line."""
    target = plan.target
    match target:
        case AppPlan():
            workers = f"{target.pool.workers} worker{'' if target.pool.workers == 1 else 's'}"
            python = f", {target.python}" if target.python else ""
            root = f", root path {target.application.root_path}" if target.application.root_path else ""
            affinity = f", affinity by {target.pool.affinity}" if target.pool.affinity != "off" else ""
            return f"application {target.application.target}, {workers}{affinity}{python}{root}"
        case StaticPlan():
            return f"files of {target.folder}"
        case RedirectPlan():
            return f"redirect to {target.target} ({target.status}{', with the rest of the path' * target.keep_path})"
        case UpstreamPlan():
            balance = f", {target.balance}" if len(target.servers) > 1 else ""
            health = f", health at {target.health_path}" if target.health_path else ""
            return f"upstream {', '.join(map(str, target.servers))}{balance}{health}"
        case _:
            assert_never(target)


def name_of(site: SitePlan) -> str:
    """Return the hosts of a site, in one line."""
    names = site.names + site.settings.policy.server_names
    return ", ".join(names) or "names of the certificates, or every host"


def describe_limits(settings: ServeSettings) -> str:
    """Return the limits that are asked about most, in one line."""
    limits = settings.limits
    body = show_size(limits.max_body) if limits.max_body else "of any size"
    return (
        f"body {body}, header fields {show_size(limits.max_header_size)}; of each edge process "
        f"{limits.max_connections} connections, of each worker {limits.worker_concurrency} requests, "
        f"{limits.queue} that wait"
    )


def describe_trust(settings: ServeSettings) -> str:
    """Return whose word about clients is taken, in one line."""
    trusted = [*map(str, settings.forward.trusted_proxies), *["Unix sockets"] * settings.forward.trust_unix]
    style = ", by Forwarded" if settings.forward.style == "rfc7239" else ""
    return ", ".join(trusted) + style if trusted else "nobody"


def describe_roots(file: RootFile) -> str:
    """Return whose roots are in a file, in one line."""
    first, *others = file.subjects
    return f"{file.source.name}, {first}{f' and {len(others)} more' if others else ''}"


def hosts_of(sites: Sequence[SitePlan]) -> list[str]:
    """Return a line for each site and each of its routes."""
    lines = []
    for site in sites:
        lines.append(f"site {name_of(site)}")
        width = max(len(route.prefix) for route in site.routes)
        lines += [f"  {route.prefix:<{width}}  {describe_target(route)}" for route in site.routes]
    return lines


def _of_certificate(each: CertificateFacts, now: datetime) -> Iterator[Finding]:
    for remark in each.remarks:
        yield Finding(Level.WARNING, f"certificate {each.place}: {remark}")
    left = each.days_left(now)
    if left < SOON:
        days = f"in {left} day{'' if left == 1 else 's'}" if left else "today"
        yield Finding(Level.WARNING, f"certificate {each.place}: it expires {days}; renew it")
    if each.key.exposure:
        yield Finding(Level.WARNING, each.key.exposure)
    if each.key_type == "rsa" and each.key_bits >= LONG_RSA:
        yield Finding(
            Level.WARNING,
            f"certificate {each.place}: RSA of {each.key_bits} bits, which signs 13 times slower than 2048; use ECDSA",
        )


def _of_certificates(settings: ServeSettings, facts: Facts) -> Iterator[Finding]:
    has_tls = bool(facts.certificates or settings.acme.certificates or settings.tls.dev)
    is_rsa = facts.certificates and all(each.key_type == "rsa" for each in facts.certificates)
    if is_rsa and not settings.acme.certificates:
        yield Finding(Level.NOTE, "certificates: RSA alone; one with an ECDSA key makes handshakes cheaper")
    if has_tls and facts.openssl < POST_QUANTUM:
        version = ".".join(map(str, facts.openssl))
        yield Finding(
            Level.NOTE, f"OpenSSL {version}: no exchange of keys that withstands quantum computers; 3.5 has one"
        )
    if len({each.names for each in facts.certificates}) > 1:
        first = facts.certificates[0].place
        yield Finding(Level.NOTE, f"certificates: who asks for a name that none of them is for is shown {first}")
    plain_80 = any(text.startswith("http:") and text.endswith(":80") for text in facts.listening)
    if settings.acme.certificates and settings.acme.kinds == ("http-01",) and not plain_80:
        yield Finding(
            Level.WARNING,
            "acme: http-01 alone, and nothing listens on port 80, where authorities ask; add http_bind = ':80', "
            "or acme_challenge tls-alpn-01",
        )


def _of_hosts(settings: ServeSettings, facts: Facts) -> Iterator[Finding]:
    groups = [each.names for each in facts.certificates] + list(settings.acme.certificates)
    if not groups:
        return
    covered = SiteNames(groups)
    wildcards = {name.lower() for names in groups for name in names}
    for site in settings.sites:
        for name in site.names + site.settings.policy.server_names:
            if name != "*" and name not in wildcards and not covered.known(name):
                yield Finding(
                    Level.WARNING, f"host {name}: no certificate is for it, and clients refuse another; add one"
                )


def _of_forwarding(forward: ForwardSettings) -> Iterator[Finding]:
    everyone = [network for network in forward.trusted_proxies if network.prefixlen == 0]
    if everyone:
        mounted = ", and where the application is mounted" if forward.trust_prefix else ""
        yield Finding(
            Level.WARNING,
            f"forward: {', '.join(map(str, everyone))} is trusted, so every client says itself who it is{mounted}; "
            "name the addresses of your proxies",
        )
    wishes = {
        "forwarded_style": forward.style != "x",
        "trust_forwarded_host": forward.trust_host,
        "trust_forwarded_prefix": forward.trust_prefix,
    }
    idle = [key for key, is_wished in wishes.items() if is_wished]
    if idle and not forward.trusted_proxies and not forward.trust_unix:
        yield Finding(
            Level.WARNING, f"forward: {', '.join(idle)}: nobody is trusted, so it is for nothing; add trusted_proxy"
        )
    announcing = [network for network in forward.proxy_protocol if network and network.prefixlen == 0]
    if announcing:
        yield Finding(
            Level.WARNING,
            f"forward: {', '.join(map(str, announcing))} may announce clients with proxy_protocol, so everybody says "
            "who it is; name the addresses of your proxies",
        )


def _of_settings(settings: ServeSettings, facts: Facts) -> Iterator[Finding]:
    limits = settings.limits
    yield from _of_forwarding(settings.forward)
    if facts.file_senders and not settings.static.sendfile_root:
        yield Finding(
            Level.WARNING,
            f"application: {', '.join(facts.file_senders)} has files sent by X-Accel-Redirect or X-Sendfile, and "
            "nothing is sent without sendfile_root; add --sendfile-root DIR",
        )
    if not limits.max_body:
        yield Finding(Level.WARNING, "limits: max_body is 0, so one client may send without end; set one")
    if settings.buffer.request_buffering != "off" and facts.spool_room < settings.spool.max_size:
        yield Finding(
            Level.WARNING,
            f"spool: {settings.spool.folder} holds {facts.spool_room // MIB}MiB in all, and spool_max is "
            f"{show_size(settings.spool.max_size)}; lower that, or name a larger spool_dir",
        )
    if facts.open_files and facts.open_files < limits.max_connections:
        yield Finding(
            Level.WARNING,
            f"limits: {limits.max_connections} connections allowed, and {facts.open_files} open files; "
            "raise the limit of open files (ulimit -n, LimitNOFILE=)",
        )
    if any(address.startswith("https:") for address in facts.listening):
        return
    for address in facts.listening:
        host = address.removeprefix("http://").rpartition(":")[0].strip("[]")
        if address.startswith("http:") and not _is_local(host):
            yield Finding(Level.NOTE, f"{address}: plain HTTP for everybody who reaches it; give it a certificate")


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
