"""Opens the sockets that take connections, and decides where they are when nobody says so.

Nothing takes a connection before `start_listening`: the master binds first (a wrong address ends the start
before anything runs), starts the workers, and only then lets clients in.
"""

import contextlib
import errno
import grp
import os
import pwd
import socket
import stat
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from typing import Any

from edge.config_listen import ListenSettings
from edge.errors import ConfigError
from edge.net.address import Address, FdAddress, TcpAddress, UnixAddress
from edge.net.stored import StoredSockets, tcp_name, tcp_name_of, unix_name

HTTPS_PORT, HTTP_PORT, DEV_PORT, PLAIN_PORT = 443, 80, 8443, 8000
# Where a default port goes that is not permitted.
UNPRIVILEGED = {HTTPS_PORT: 8443, HTTP_PORT: 8080}
LOOPBACK = ("127.0.0.1", "::1")

# Any free port on several addresses: the one that the first address got may be taken on the next.
PORT_ATTEMPTS = 20

# What bind() and socket() say where the machine has no IPv6, or not this address.
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket. `public_port` is its TCP port, None on a Unix socket.

    `owned_path` is the file that the socket made and that `close_listeners` removes. `store_name` is what a service
    manager that keeps sockets may keep it as (edge/net/stored.py); empty if it was not opened here.
    """

    sock: socket.socket
    tls: bool
    address: str
    public_port: int | None
    owned_path: str | None = None
    is_metrics: bool = False  # for `--metrics`, and for no client
    store_name: str = ""


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """What a socket is bound to; `rest` is the flow and the scope of an IPv6 address."""

    family: int
    host: str
    port: int
    rest: tuple[Any, ...] = ()
    dual: bool = False


@dataclass(frozen=True, slots=True)
class _Tcp:
    """Hosts that share a port. `movable`: it is our default, so a port that is not permitted is exchanged.

    `dual`: `::` takes IPv4 as well.
    """

    hosts: tuple[str, ...]
    port: int
    tls: bool
    movable: bool = False
    dual: bool = True


@dataclass(frozen=True, slots=True)
class _Other:
    """A Unix socket or an open file."""

    address: UnixAddress | FdAddress
    tls: bool


def open_listeners(
    settings: ListenSettings, *, has_certificate: bool, dev: bool, stored: StoredSockets | None = None
) -> tuple[list[Listener], list[str]]:
    """Return bound sockets, and remarks of one line each for the operator. `start_listening` is next.

    Without `binds`: with a certificate every interface on 443, and on 80 for plain HTTP unless `port` was
    chosen (8443 and 8080 where those are not permitted); with `dev` the loopback addresses on 8443; else plain
    HTTP on 127.0.0.1:8000. `http_binds` take the place of the plain listener. An empty host is IPv4 and IPv6 in
    one socket, and so is `::` unless IPv4 addresses are bound to the same port. What is among `stored` is taken there.

    Raises ConfigError if an address cannot be bound; everything bound before is closed again.
    """
    stored = stored or StoredSockets((), lambda name: None)
    opened: list[Listener] = []
    moved: list[tuple[int, int]] = []
    with contextlib.ExitStack() as undo:
        undo.callback(lambda: close_listeners(opened))
        for wanted in _plan(settings, has_certificate=has_certificate, dev=dev):
            if isinstance(wanted, _Other):
                opened.append(_open_other(wanted, settings, stored))
                continue
            listeners, port = _open_tcp(wanted, stored)
            opened += listeners
            if port != wanted.port:
                moved.append((wanted.port, port))
        undo.pop_all()
    return opened, _remarks(opened, moved, wants_https=not (settings.binds or settings.http_binds))


def planned_addresses(settings: ListenSettings, *, has_certificate: bool, dev: bool) -> list[str]:
    """Return what `open_listeners` is to bind; of 443 and 80, where those are not permitted, it takes others."""
    found = []
    for wanted in _plan(settings, has_certificate=has_certificate, dev=dev):
        if isinstance(wanted, _Other):
            found.append(str(wanted.address))
        else:
            scheme = "https" if wanted.tls else "http"
            found += [f"{scheme}://{TcpAddress(host or '::', wanted.port)}" for host in wanted.hosts]
    return found


def start_listening(listeners: Iterable[Listener], backlog: int) -> None:
    """Let clients connect; up to `backlog` of them wait to be accepted.

    Raises ConfigError if another process took the port after it was bound here.
    """
    for listener in listeners:
        try:
            listener.sock.listen(backlog)
        except OSError as error:
            raise _refusal(listener.address, error) from error


def close_listeners(listeners: Iterable[Listener], stored: Container[str] = ()) -> None:
    """Close the sockets and remove the files of the Unix sockets made here: for the process that opened them.

    The files of those whose `store_name` is among `stored` stay: they are open still, and who connects waits.
    """
    for listener in listeners:
        listener.sock.close()
        if listener.owned_path is not None and listener.store_name not in stored:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(listener.owned_path)


def _plan(settings: ListenSettings, *, has_certificate: bool, dev: bool) -> list[_Tcp | _Other]:
    tls = has_certificate or dev
    ipv4 = _ipv4_ports((*settings.binds, *settings.http_binds))
    plain = [_wanted(address, False, ipv4) for address in settings.http_binds]
    if settings.binds:
        return [*(_wanted(address, tls, ipv4) for address in settings.binds), *plain]
    if dev:
        return [_default(settings, LOOPBACK, DEV_PORT, tls), *plain]
    if has_certificate:
        if settings.port is None and not plain:
            plain = [_default(settings, ("",), HTTP_PORT, tls=False)]
        return [_default(settings, ("",), HTTPS_PORT, tls), *plain]
    if plain and settings.host is None and settings.port is None:
        return plain
    return [_default(settings, ("127.0.0.1",), PLAIN_PORT, tls=False), *plain]


def _default(settings: ListenSettings, hosts: tuple[str, ...], port: int, tls: bool) -> _Tcp:
    chosen = hosts if settings.host is None else (settings.host,)
    if settings.port is not None:
        return _Tcp(chosen, settings.port, tls)
    return _Tcp(chosen, port, tls, movable=port in UNPRIVILEGED)


def _wanted(address: Address, tls: bool, ipv4_ports: set[int]) -> _Tcp | _Other:
    if isinstance(address, TcpAddress):
        return _Tcp((address.host,), address.port, tls, dual=address.port not in ipv4_ports)
    return _Other(address, tls)


def _ipv4_ports(addresses: Iterable[Address]) -> set[int]:
    """Return the ports that are taken by IPv4 addresses, or by names, which may have some."""
    tcp = [address for address in addresses if isinstance(address, TcpAddress) and address.port]
    return {address.port for address in tcp if ":" not in address.host}


def _remarks(opened: list[Listener], moved: list[tuple[int, int]], *, wants_https: bool) -> list[str]:
    remarks = [
        f"{listener.address}: {_who_may_connect(listener.owned_path)}"
        for listener in opened
        if listener.owned_path is not None
    ]
    if moved:
        wanted, got = (" and ".join(str(pair[i]) for pair in moved) for i in (0, 1))
        remarks.append(
            f"no permission for port {wanted}: listening on {got}; grant CAP_NET_BIND_SERVICE to change that"
        )
    if wants_https and not any(listener.tls for listener in opened):
        address = opened[0].address
        remarks.append(f"plain HTTP on http://{address}; for HTTPS add --dev (on localhost) or --cert FILE")
    return remarks


def _who_may_connect(path: str) -> str:
    mode = stat.S_IMODE(os.stat(path).st_mode)
    # Linux wants leave to write of whoever connects (unix(7)).
    names = ("its owner", "its group", "everyone else")
    may = [name for name, bit in zip(names, (0o200, 0o020, 0o002), strict=True) if mode & bit]
    return f"{' and '.join(may) or 'nobody but root'} may connect (mode {mode:04o})"


def _open_tcp(wanted: _Tcp, stored: StoredSockets) -> tuple[list[Listener], int]:
    """Bind the hosts to the port, or to its unprivileged counterpart where it is movable and not permitted.

    Returns the port that was asked for in the end as well.
    """
    try:
        socks = _bind_hosts(wanted, stored)
    except PermissionError as error:
        if wanted.movable:
            return _open_tcp(replace(wanted, port=UNPRIVILEGED[wanted.port], movable=False), stored)
        raise _refusal(error.filename, error) from error
    except OSError as error:
        raise _refusal(error.filename, error) from error
    return [replace(_tcp_listener(sock, wanted.tls), store_name=tcp_name_of(sock)) for sock in socks], wanted.port


def _tcp_listener(sock: socket.socket, tls: bool) -> Listener:
    host, port = sock.getsockname()[:2]
    return Listener(sock, tls, str(TcpAddress(host, port)), port)


def _bind_hosts(wanted: _Tcp, stored: StoredSockets) -> list[socket.socket]:
    """Return a bound socket for each address of the hosts. An OSError names the address as its `filename`."""
    endpoints = [endpoint for host in wanted.hosts for endpoint in _resolve(host, wanted.port, wanted.dual)]
    attempts = 1 if wanted.port else PORT_ATTEMPTS
    while True:
        attempts -= 1
        try:
            return _bind_all(list(dict.fromkeys(endpoints)), stored)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not attempts:
                raise


def _bind_all(endpoints: list[_Endpoint], stored: StoredSockets) -> list[socket.socket]:
    """Bind them all to one port. Of several, those that this machine does not have are left out."""
    missing: OSError | None = None
    with contextlib.ExitStack() as undo:
        bound: list[socket.socket] = []
        for endpoint in endpoints:
            port = bound[0].getsockname()[1] if bound else endpoint.port
            try:
                bound.append(undo.enter_context(_take_or_bind(replace(endpoint, port=port), stored)))
            except OSError as error:
                if error.errno not in _NO_SUCH_ADDRESS:
                    raise
                missing = error
        if missing is not None and not bound:
            raise missing
        undo.pop_all()
    return bound


def _take_or_bind(endpoint: _Endpoint, stored: StoredSockets) -> socket.socket:
    kept = stored.take(tcp_name(endpoint.host, endpoint.port, dual=endpoint.dual))
    if kept is not None:
        return kept
    try:
        return _bind(endpoint)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not stored.release(endpoint.port):
            raise
    return _bind(endpoint)


def _bind(endpoint: _Endpoint) -> socket.socket:
    try:
        sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
        try:
            _prepare(sock, endpoint)
            sock.bind((endpoint.host, endpoint.port, *endpoint.rest))
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        error.filename = str(TcpAddress(endpoint.host, endpoint.port))
        raise
    return sock


def _prepare(sock: socket.socket, endpoint: _Endpoint) -> None:
    sock.setblocking(False)
    # A restart must not wait for the TIME_WAIT of the connections that the last run closed.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if endpoint.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if endpoint.dual else 1)


def _resolve(host: str, port: int, dual: bool) -> list[_Endpoint]:
    if not host:
        if _has_ipv6():
            return [_Endpoint(socket.AF_INET6, "::", port, dual=True)]
        return [_Endpoint(socket.AF_INET, "0.0.0.0", port)]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot listen on {host}: no address is known for that name; use an IP address") from error
    return [
        _Endpoint(family, str(address[0]), port, address[2:], dual=dual and host == "::")
        for family, _, _, _, address in found
    ]


def _has_ipv6() -> bool:
    """False where the kernel was built or started without IPv6; an interface without an address is no obstacle."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def _open_other(wanted: _Other, settings: ListenSettings, stored: StoredSockets) -> Listener:
    try:
        if isinstance(wanted.address, UnixAddress):
            return _open_unix(wanted.address, wanted.tls, settings, stored)
        return open_fd(wanted.address, wanted.tls)
    except OSError as error:
        raise _refusal(str(wanted.address), error) from error


def _open_unix(address: UnixAddress, tls: bool, settings: ListenSettings, stored: StoredSockets) -> Listener:
    owner, group = account_number(settings.unix_owner, pwd.getpwnam), account_number(settings.unix_group, grp.getgrnam)
    path = os.path.abspath(address.path)
    sock = stored.take(unix_name(path)) or _bind_unix(address)
    try:
        # Nobody can have connected before this, unless it was there before: the socket does not listen yet.
        if owner != -1 or group != -1:
            _give(address, owner, group)
        os.chmod(address.path, settings.unix_mode)
    except BaseException:
        sock.close()
        raise
    return Listener(sock, tls, str(address), None, path, store_name=unix_name(path))


def _bind_unix(address: UnixAddress) -> socket.socket:
    _clear(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(address.path)
    except BaseException:
        sock.close()
        raise
    return sock


def account_number(name: str, find: Callable[[str], Any]) -> int:
    """Return the number of a user or a group, -1 for an empty name; `find` is `getpwnam` or `getgrnam`.

    Raises ConfigError: there is none.
    """
    if not name or name.isdigit():
        return int(name or -1)
    try:
        return int(find(name)[2])
    except KeyError:
        raise ConfigError(f"{name!r}: no such user or group here; use one that exists, or its number") from None


def _give(address: UnixAddress, owner: int, group: int) -> None:
    try:
        os.chown(address.path, owner, group)
    except PermissionError as error:
        os.unlink(address.path)
        found = "only root gives files away, and a user only to groups that it is in"
        raise ConfigError(f"cannot listen on {address}: its owner cannot be changed; {found}") from error


def _clear(address: UnixAddress) -> None:
    """Remove the socket that a run which was killed left behind; anything else at that path stays."""
    try:
        mode = os.lstat(address.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"cannot listen on {address}: a file that is not a socket is there; use another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        # A full backlog (EAGAIN) is an answer as well; only a refusal says that nobody is there.
        if probe.connect_ex(address.path) != errno.ECONNREFUSED:
            raise ConfigError(f"cannot listen on {address}: another process does; stop it or use another path")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(address.path)


def open_fd(address: FdAddress, tls: bool) -> Listener:
    """Return the listener on a socket that the parent process has bound.

    Raises ConfigError: it is no stream socket, or has no address; OSError: there is no such file, or it is no socket.
    """
    sock = socket.socket(fileno=address.fd)
    name = sock.getsockname()
    tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
    fault = ""
    if sock.type != socket.SOCK_STREAM or not (tcp or sock.family == socket.AF_UNIX):
        fault = "not a stream socket; hand on one of TCP or Unix"
    elif not (name[1] if tcp else name):
        fault = "a socket without an address; bind it before it is handed on"
    if fault:
        sock.close()
        raise ConfigError(f"cannot listen on {address}: {fault}")
    # It was inherited by us, and workers would inherit it in turn.
    sock.set_inheritable(False)
    sock.setblocking(False)
    if tcp:
        return _tcp_listener(sock, tls)
    return Listener(sock, tls, f"unix:{os.fsdecode(name)}".replace("\0", "@"), None)


def _refusal(address: str, error: OSError) -> ConfigError:
    unix = address.startswith("unix:")
    folder = os.path.dirname(address.removeprefix("unix:")) or "."
    reasons = {
        errno.EADDRINUSE: "the port is in use; stop what listens there or choose another",
        errno.EADDRNOTAVAIL: "this machine does not have that address; use one of its own",
        errno.EAFNOSUPPORT: "this machine has no IPv6; use an IPv4 address",
        errno.EACCES: f"permission denied; let this user write to {folder!r}"
        if unix
        else "permission denied; grant CAP_NET_BIND_SERVICE or choose a port above 1023",
        errno.ENOENT: f"there is no directory {folder!r}; make it first",
        errno.ENOTDIR: f"{folder!r} is not a directory; use another path",
        errno.EBADF: "no such file is open; have the parent process hand it on",
        errno.ENOTSOCK: "not a socket; have the parent process hand on one",
    }
    reason = reasons.get(error.errno or 0, f"{os.strerror(error.errno or 0).lower()}; use another address")
    return ConfigError(f"cannot listen on {address}: {reason}")
