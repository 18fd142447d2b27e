"""The options of a site: the host names that it serves, and what is particular to it."""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from edge.errors import ConfigError
from edge.options import KIB, Kind, choice, count, directory, file, items_of, setting, show_size, switch, text_of

YEAR: Final = 31_536_000
_MOST_YEARS: Final = 10

# Labels as certificates and browsers have them: underscores are no host names by RFC 952, and are served every day.
_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*+")


def _host_name(word: str) -> str:
    """Return a name or an address in the one spelling that hosts are compared in."""
    name = word.lower().removesuffix(".")
    try:
        return str(ipaddress.ip_address(name[1:-1] if name[:1] == "[" and name[-1:] == "]" else name))
    except ValueError:
        pass
    if not name.isascii():
        raise ConfigError(f"{word!r}: not in ASCII; use its A-label, which begins with xn--")
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise ConfigError(f"{word!r}: not a host name; use one such as example.com, without scheme, port and path")
    return name


def _site_name(word: str) -> str:
    """Like `_host_name`; also `*` for every host, and `*.` with a name for one label before it."""
    if word == "*":
        return word
    return f"*.{_host_name(word[2:])}" if word.startswith("*.") else _host_name(word)


def site_names() -> Kind:
    """Hosts that are served: names, addresses, `*.` with a name, `*`; each item may be a comma list."""

    def parse(value: object) -> tuple[str, ...]:
        words = [word.strip() for item in items_of(value) for word in text_of(item).split(",")]
        return tuple(dict.fromkeys(_site_name(word) for word in words if word))

    return Kind("NAME", parse, repeat=True)


def _one_host_name() -> Kind:
    return Kind("NAME", lambda value: _host_name(text_of(value)))


# Pages are in the memory of each edge.
MAX_PAGE: Final = 256 * KIB
_PAGE: Final = re.compile(r"(?:[45][0-9]{2}|[45]xx|error)\.html")


def _error_pages() -> Kind:
    """A directory of pages: the value is its path, then names and texts in turn."""
    folder = directory()

    def parse(value: object) -> tuple[str, ...]:
        path = folder.parse(value)
        found: list[str] = [path]
        for name in sorted(os.listdir(path)):
            if _PAGE.fullmatch(name):
                found += (name, _read_page(os.path.join(path, name)))
        if len(found) == 1:
            raise ConfigError(f"{value!r}: no page in it; name them 404.html, 4xx.html, 5xx.html or error.html")
        return tuple(found)

    return Kind(folder.metavar, parse, lambda value: value[0] if value else "", anchor=folder.anchor)


def _read_page(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MAX_PAGE + 1)
    except OSError as error:
        raise ConfigError(f"{path!r}: cannot be read: {str(error.strerror).lower()}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path!r}: not UTF-8; save it as UTF-8") from error
    if len(text) > MAX_PAGE:
        raise ConfigError(f"{path!r}: more than {show_size(MAX_PAGE)}, which is allowed; use a smaller page")
    return text


_RATE: Final = re.compile("([1-9][0-9]{0,8})/([smh])")
_PERIODS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
_FIELD: Final = re.compile(r"header:([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128})")


def _rate() -> Kind:
    """So many requests in so many seconds."""

    def parse(value: object) -> tuple[int, float]:
        match = _RATE.fullmatch(str(value))
        if match is None:
            raise ConfigError(f"{value!r}: not a rate; use one such as 10/s, 300/m or 1000/h")
        return int(match[1]), _PERIODS[match[2]]

    return Kind("N/s|m|h", parse)


def _rate_key() -> Kind:
    def parse(value: object) -> str:
        text = str(value).lower()
        if text != "client" and not _FIELD.fullmatch(text):
            raise ConfigError(f"{value!r}: unknown; use client, or header:NAME such as header:authorization")
        return text

    return Kind("client|header:NAME", parse)


# Also the numbers and names of Python's `ssl.VerifyMode`.
_CLIENT_AUTH = {"0": "off", "none": "off", "cert_none": "off", "1": "optional", "cert_optional": "optional"}
_CLIENT_AUTH |= {"2": "require", "required": "require", "cert_required": "require"}


def _client_auth() -> Kind:
    known = choice("off", "optional", "require")

    def parse(value: object) -> Any:
        word = str(int(value) if isinstance(value, int) else value).lower().rpartition(".")[2]
        return _CLIENT_AUTH.get(word) or known.parse(value)

    return Kind(known.metavar, parse)


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """What one site serves, and how. Seconds; empty `server_names` are those of the certificates."""

    server_names: tuple[str, ...] = setting(
        (),
        site_names(),
        "--server-name",
        shown="names of the certificates; * without any",
        help="host that is served: a name, *.NAME, an address, or * for every one (421 and 400); repeatable",
    )
    canonical_host: str = setting(
        "",
        _one_host_name(),
        "--canonical-host",
        shown="none",
        help="host that requests for the others are sent to (308)",
    )
    hsts: bool = setting(False, switch(), "--hsts", help="tell browsers to use nothing but HTTPS from now on")
    hsts_max_age: int = setting(
        2 * YEAR,
        count(0, _MOST_YEARS * YEAR),
        "--hsts-max-age",
        help="seconds for which they remember it; 0 = forget it",
    )
    hsts_subdomains: bool = setting(False, switch(), "--hsts-subdomains", help="for all names below the host, too")
    hsts_preload: bool = setting(False, switch(), "--hsts-preload", help="agree to be built into browsers")

    client_ca: str = setting(
        "",
        file(),
        "--client-ca",
        "--ssl-ca-certs",
        "--ca-certs",
        "--ssl-ca",
        shown="none",
        help="authorities in PEM that sign the certificates of clients",
    )
    client_auth: Literal["off", "optional", "require"] = setting(
        "require",
        _client_auth(),
        "--client-auth",
        "--ssl-cert-reqs",
        "--cert-reqs",
        "--verify-mode",
        shown="require with --client-ca",
        help="ask clients for a certificate; optional = who has none may come, too",
    )
    client_crl: str = setting(
        "", file(), "--client-crl", shown="none", help="revocation lists in PEM, one of each of these authorities"
    )

    rate: tuple[int, float] | None = setting(
        None, _rate(), "--rate", shown="none", help="requests that a client may make in a second, minute or hour (429)"
    )
    rate_burst: int = setting(
        0, count(0, 10**9), "--rate-burst", shown="the number in --rate", help="requests that it may make at a time"
    )
    rate_key: str = setting(
        "client", _rate_key(), "--rate-key", help="what tells clients apart: their address, or a field that they send"
    )

    error_pages: tuple[str, ...] = setting(
        (),
        _error_pages(),
        "--error-pages",
        shown="none",
        help="directory with 404.html, 5xx.html, error.html and their like for the edge's own answers",
    )

    @property
    def pages(self) -> dict[str, str]:
        """The pages for the edge's own answers by the names of their files."""
        _, *rest = self.error_pages
        return dict(zip(rest[::2], rest[1::2], strict=True))

    @property
    def rate_field(self) -> str:
        """The name of the field that tells clients apart; empty: their address does."""
        return self.rate_key.removeprefix("client").removeprefix("header:")

    @property
    def guard(self) -> str:
        """The name of what clients' certificates are verified by; empty: none are asked for."""
        if not self.client_ca or self.client_auth == "off":
            return ""
        return f"{self.client_auth} {self.client_ca} {self.client_crl}"

    @property
    def hsts_value(self) -> bytes:
        """The value of Strict-Transport-Security (RFC 6797 section 6.1); empty: none is sent."""
        if not self.hsts:
            return b""
        directives = [f"max-age={self.hsts_max_age}"]
        directives += ["includeSubDomains"] if self.hsts_subdomains else []
        directives += ["preload"] if self.hsts_preload else []
        return "; ".join(directives).encode()


def refuse_site_contradictions(names: Mapping[str, str], parsed: Mapping[str, Any], settings: SiteSettings) -> None:
    """Accept `settings` that make sense together; `names` is how the user spelled each option that was given.

    Raises ConfigError: they do not.
    """
    for key in ("hsts_max_age", "hsts_subdomains", "hsts_preload"):
        if key in names and not settings.hsts:
            raise ConfigError(f"{names[key]}: without --hsts it is for nothing; add --hsts")
    if settings.hsts and parsed.get("dev"):
        name = names["hsts"]
        raise ConfigError(f"{name}: browsers would keep it for all servers on localhost; leave it out with --dev")
    if settings.hsts and not {"cert", "acme"} & names.keys():
        raise ConfigError(f"{names['hsts']}: nothing is served over TLS here; add --cert or --acme")
    if settings.hsts_preload and not (settings.hsts_subdomains and settings.hsts_max_age >= YEAR):
        raise ConfigError(
            f"{names['hsts_preload']}: browsers take a host with all names below it and for a year or more; "
            f"add --hsts-subdomains, with --hsts-max-age of at least {YEAR}"
        )
    for key in ("rate_burst", "rate_key"):
        if key in names and settings.rate is None:
            raise ConfigError(f"{names[key]}: without --rate it is for nothing; add --rate 10/s")
    for key in ("client_auth", "client_crl"):
        if key in names and not settings.client_ca and settings.client_auth != "off":
            raise ConfigError(f"{names[key]}: there is nothing to verify certificates by; add --client-ca")
    if settings.client_ca and not ({"cert", "acme"} & names.keys() or parsed.get("dev")):
        raise ConfigError(f"{names['client_ca']}: nothing is served over TLS here; add --cert or --acme")
    canonical, served = settings.canonical_host, settings.server_names
    if canonical and served and not is_named(canonical, served):
        raise ConfigError(
            f"{names['canonical_host']}: {canonical!r} is no --server-name; add --server-name {canonical}"
        )


def is_named(host: str, served: tuple[str, ...]) -> bool:
    """Tell whether one of the names, as `--server-name` has them, stands for `host`."""
    return not {"*", host, "*." + host.partition(".")[2]}.isdisjoint(served)
