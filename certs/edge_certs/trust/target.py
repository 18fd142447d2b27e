"""Whom to call, and through which proxy: an argument and variables to values (pure)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import SplitResult, unquote, urlsplit

from edge_certs.errors import CertificateError

HTTPS_PORT = 443
# Lower case is stronger in curl, and the only one that some tools read.
PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
NO_PROXY_VARIABLES = ("no_proxy", "NO_PROXY")
PROXY_PORTS = {"http": 80, "https": HTTPS_PORT}

# Names that no public authority signs: reserved ones (RFC 6761, RFC 8375, RFC 6762, ICANN's .internal), and those that
# RFC 6762 appendix G finds in private networks. `.example` is not here: nothing has a certificate for it, either way.
PRIVATE_SUFFIXES = (
    "localhost",
    "test",
    "local",
    "internal",
    "home.arpa",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
)


@dataclass(frozen=True, slots=True)
class Target:
    """A server: `host` without brackets, and the URL to ask it for."""

    host: str
    port: int
    url: str

    @property
    def is_public(self) -> bool:
        """Whether a public authority could have signed a certificate for it."""
        try:
            return ip_address(self.host).is_global
        except ValueError:
            name = self.host.rstrip(".").lower()
            return "." in name and not name.endswith(tuple(f".{suffix}" for suffix in PRIVATE_SUFFIXES))

    def __str__(self) -> str:
        return f"{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A CONNECT proxy. `authorization` is the field's value or empty, `is_tls` that the way to it is encrypted.

    `url` is for children alone, as it may hold a password.
    """

    host: str
    port: int
    is_tls: bool
    authorization: str = field(repr=False)
    url: str = field(repr=False)

    def __str__(self) -> str:
        """Its URL without user and password: it goes into messages."""
        return f"{'https' if self.is_tls else 'http'}://{_bracketed(self.host)}:{self.port}"


def parse_target(text: str) -> Target:
    """Return the server that `text` names: an https URL, HOST, HOST:PORT or an IPv6 address.

    Raises CertificateError: it is none of these.
    """
    subject = f"target {text!r}"
    advice = "use https://HOST[:PORT]/PATH, HOST or HOST:PORT"
    if text.count(":") > 1 and "/" not in text and "[" not in text:
        text = f"[{text}]"
    url = text if "://" in text else f"https://{text}/"
    parts, port = _split(url, CertificateError(f"{subject}: neither a URL nor a host with a port", advice))
    if parts.scheme != "https":
        raise CertificateError(f"{subject}: scheme {parts.scheme!r}, and only https has a certificate", advice)
    host = parts.hostname or ""
    if not host or not url.isprintable() or any(character in url for character in " \"'\\<>"):
        raise CertificateError(f"{subject}: no host in it, or a character that no URL has", advice)
    return Target(host, port or HTTPS_PORT, url)


def choose_proxy(target: Target, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy that variables name for `target`; None when there is none, or it is excepted by NO_PROXY.

    Raises CertificateError: the variable has no URL of an HTTP proxy.
    """
    name = next((name for name in PROXY_VARIABLES if environ.get(name)), "")
    excepted = next((environ[name] for name in NO_PROXY_VARIABLES if environ.get(name)), "")
    if not name or any(_is_excepted(target, pattern.strip()) for pattern in excepted.split(",")):
        return None
    value = environ[name]
    # The value itself may hold a password, so no message shows it.
    wrong = CertificateError(f"{name}: not the URL of an HTTP proxy", "use http://[USER:PASSWORD@]HOST:PORT")
    url = value if "://" in value else f"http://{value}"
    parts, port = _split(url, wrong)
    if parts.scheme not in PROXY_PORTS or not parts.hostname:
        raise wrong
    is_tls = parts.scheme == "https"
    return Proxy(parts.hostname, port or PROXY_PORTS[parts.scheme], is_tls, _authorization(parts), url)


def _split(url: str, wrong: CertificateError) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:
        raise wrong from None


def _is_excepted(target: Target, pattern: str) -> bool:
    """As curl and Python read NO_PROXY: a name stands for all below it, with or without its dot."""
    name = pattern.lower().lstrip(".")
    host = target.host.lower()
    return pattern == "*" or (name != "" and (name in (host, str(target)) or host.endswith(f".{name}")))


def _authorization(parts: SplitResult) -> str:
    if parts.username is None:
        return ""
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(credentials.encode()).decode("ascii")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
