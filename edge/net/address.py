"""Where a listener binds, read from text: `HOST:PORT`, `[::1]:443`, `:8000`, `unix:PATH` and `fd://N`."""

import ipaddress
import re
from dataclasses import dataclass

from edge.errors import ConfigError

FORMS = "HOST:PORT, [IPV6]:PORT, :PORT, unix:PATH or fd://N"

MAX_PORT = 65_535
# sockaddr_un.sun_path holds 108 bytes on Linux and 104 on the BSDs and macOS, the last of them zero.
MAX_UNIX_PATH = 103

_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_PORT = re.compile("0|[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port; an empty host is every interface, port 0 any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A path in the file system at which a Unix socket is made."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class FdAddress:
    """A socket that the parent process (systemd, Circus, Supervisor) opened and handed on by its number."""

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"


Address = TcpAddress | UnixAddress | FdAddress


def parse_address(text: str) -> Address:
    """Return the address that `text` spells; `str()` of it gives `text` back.

    Raises ConfigError if it is none of the five forms.
    """
    if text.startswith("unix:"):
        return _parse_unix(text)
    if text.startswith("fd://"):
        return _parse_fd(text)
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ConfigError(f"{text!r}: no colon in it; use {FORMS}")
    if not _PORT.fullmatch(port) or int(port) > MAX_PORT:
        raise ConfigError(f"{text!r}: port {port!r} is not a number from 0 to {MAX_PORT}; use {FORMS}")
    if host.startswith("[") and host.endswith("]"):
        return TcpAddress(_ipv6(text, host[1:-1]), int(port))
    if re.fullmatch("[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*", host):
        raise ConfigError(f"{text!r}: an IPv6 address without brackets; use [{host}]:{port}")
    if ":" in host:
        raise ConfigError(f"{text!r}: {host!r} is not a host; use {FORMS}")
    return TcpAddress(parse_host(host) if host else "", int(port))


def parse_host(text: str) -> str:
    """Return the host that `text` names: a host name, an IPv4 address, or an IPv6 address without its brackets.

    Raises ConfigError if it is none of them, or brings its port with it.
    """
    if text.startswith("[") and text.endswith("]"):
        return _ipv6(text, text[1:-1])
    if text.count(":") > 1:
        return _ipv6(text, text)
    if ":" in text:
        raise ConfigError(f"{text!r}: a host with its port; give the port by itself")
    if re.fullmatch("[0-9.]+", text):
        return _ipv4(text)
    if len(text) > 253 or not _NAME.fullmatch(text):
        raise ConfigError(f"{text!r}: not a host name; use a name, an IPv4 or an IPv6 address")
    return text


def _parse_unix(text: str) -> UnixAddress:
    path = text.removeprefix("unix:")
    if not path or "\0" in path:
        raise ConfigError(f"{text!r}: no path in it; use unix:PATH")
    size = len(path.encode("utf-8", "surrogateescape"))
    if size > MAX_UNIX_PATH:
        raise ConfigError(f"{text!r}: path of {size} bytes, at most {MAX_UNIX_PATH} allowed; use a shorter one")
    return UnixAddress(path)


def _parse_fd(text: str) -> FdAddress:
    digits = text.removeprefix("fd://")
    if not re.fullmatch("0|[1-9][0-9]{0,6}", digits):
        raise ConfigError(f"{text!r}: {digits!r} is not the number of an open file; use fd://3")
    return FdAddress(int(digits))


def _ipv4(text: str) -> str:
    try:
        ipaddress.IPv4Address(text)
    except ValueError as error:
        raise ConfigError(f"{text!r}: not an IPv4 address; use four numbers from 0 to 255") from error
    return text


def _ipv6(text: str, host: str) -> str:
    try:
        ipaddress.IPv6Address(host)
    except ValueError as error:
        raise ConfigError(f"{text!r}: {host!r} is not an IPv6 address; use one such as [::1]") from error
    return host
