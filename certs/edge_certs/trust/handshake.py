"""TLS handshakes with a server, direct or through a CONNECT proxy: what it presents, and whether given roots take it.

The proxy may itself be reached by TLS, and ssl sockets do not nest: TLS is therefore a memory BIO over any stream.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from edge_certs.errors import CertificateError, reason
from edge_certs.trust.target import Proxy, Target

# Seconds for each step: an intercepting proxy calls the site itself before it answers.
TIMEOUT = 15.0
# A proxy's answer to CONNECT is a status line and a few fields.
MAX_PROXY_HEAD = 65536
_PIECE = 65536
_DER = 2  # _ssl.ENCODING_DER

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Route:
    """The way to a server: directly when `proxy` is None."""

    target: Target
    proxy: Proxy | None


@dataclass(frozen=True, slots=True)
class Verified:
    """Whether roots take a certificate: `code` is OpenSSL's X509_V_ERR number, 0 when they do; `text` says why not."""

    code: int
    text: str


class Stream(Protocol):
    """What TLS runs over."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of `data`."""

    def recv(self, size: int, /) -> bytes:
        """Return what has arrived, at most `size` bytes; nothing at the end."""


def fetch_chain(route: Route, proxy_roots: Collection[bytes]) -> list[bytes]:
    """Return the certificates (DER) that the server presents, its own first, without any check.

    A proxy that is itself reached by TLS must be good by `proxy_roots` (DER): it may be sent a password.

    Raises CertificateError: it or the proxy cannot be reached, or there is no TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with _connected(route, context, proxy_roots) as tls:
        return tls.chain()


def verify(route: Route, roots: Iterable[bytes], proxy_roots: Collection[bytes], *, strict: bool) -> Verified:
    """Return whether the server's certificate, name and dates included, is good by these roots (DER).

    With `strict`, by the rules that Python 3.13 and later have by default; `proxy_roots` are as for `fetch_chain`.

    Raises CertificateError: as `fetch_chain`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, roots)
    # What Python 3.13 turned on: there, each root is good by itself, and RFC 5280 is held to.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if strict:
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        with _connected(route, context, proxy_roots):
            return Verified(0, "")
    except ssl.SSLCertVerificationError as error:
        return Verified(error.verify_code, error.verify_message.rstrip("."))


class _Tls:
    """A TLS client over `stream`; complete only after `handshake`."""

    def __init__(self, stream: Stream, context: ssl.SSLContext, name: str) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    def handshake(self) -> None:
        self._pump(self._object.do_handshake)

    def sendall(self, data: bytes, /) -> None:
        self._object.write(data)
        self._flush()

    def recv(self, size: int, /) -> bytes:
        try:
            return self._pump(lambda: self._object.read(size))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def chain(self) -> list[bytes]:
        if sys.version_info >= (3, 13):
            return [bytes(der) for der in self._object.get_unverified_chain()]
        # Public from 3.13 on (cpython#109109); to be dropped with 3.12.
        found = self._object._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
        return [certificate.public_bytes(_DER) for certificate in found or ()]

    def _pump(self, step: Callable[[], _Result]) -> _Result:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                data = self._stream.recv(_PIECE)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                # The alert that says why: a server's log is the better for it.
                with contextlib.suppress(OSError):
                    self._flush()
                raise
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._stream.sendall(data)


@contextlib.contextmanager
def _connected(route: Route, context: ssl.SSLContext, proxy_roots: Collection[bytes]) -> Iterator[_Tls]:
    """Raises ssl.SSLCertVerificationError as it is, of the server's certificate alone; all else as CertificateError."""
    target, proxy = route.target, route.proxy
    first = (proxy.host, proxy.port) if proxy else (target.host, target.port)
    subject = f"proxy {proxy}" if proxy else str(target)
    with _reached(first, subject) as plain:
        stream: Stream = plain
        if proxy:
            with _failing(subject):
                stream = _through(plain, target, proxy, proxy_roots)
        tls = _Tls(stream, context, target.host)
        with _failing(str(target), verification=False):
            tls.handshake()
        yield tls


def _through(plain: socket.socket, target: Target, proxy: Proxy, roots: Collection[bytes]) -> Stream:
    stream: Stream = plain
    if proxy.is_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        _load(context, roots)
        encrypted = _Tls(plain, context, proxy.host)
        encrypted.handshake()
        stream = encrypted
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    stream.sendall("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
    status = _status(stream)
    if status != "200":
        advice = "give its user and password in HTTPS_PROXY" if status == "407" else "ask whoever runs it"
        raise CertificateError(f"proxy {proxy}: answered {status} to CONNECT {target}", advice)
    return stream


def _status(stream: Stream) -> str:
    head = b""
    # One byte at a time: what follows is the server's.
    while not head.endswith(b"\r\n\r\n"):
        piece = stream.recv(1)
        if not piece or len(head) > MAX_PROXY_HEAD:
            break
        head += piece
    words = head.partition(b"\r\n")[0].split(b" ")
    is_http = words[0].startswith(b"HTTP/1.") and len(words) > 1
    return words[1].decode("latin-1") if is_http else "no HTTP"


@contextlib.contextmanager
def _reached(address: tuple[str, int], subject: str) -> Iterator[socket.socket]:
    with _failing(subject):
        plain = socket.create_connection(address, timeout=TIMEOUT)
    with plain:
        yield plain


@contextlib.contextmanager
def _failing(subject: str, *, verification: bool = True) -> Iterator[None]:
    """Name who failed; a certificate that is refused passes through unless `verification` is a failure too."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        if not verification:
            raise
        raise CertificateError(f"{subject}: its certificate is refused: {error.verify_message}") from error
    except ssl.SSLError as error:
        what = (error.reason or str(error)).lower().replace("_", " ")
        raise CertificateError(
            f"{subject}: no TLS: {what}", "name a port that speaks TLS from its first byte"
        ) from error
    except TimeoutError as error:
        raise CertificateError(
            f"{subject}: no answer within {TIMEOUT:g} s", "look at the network or the proxy"
        ) from error
    except OSError as error:
        raise CertificateError(
            f"{subject}: cannot connect: {reason(error)}", "look at the name and the port"
        ) from error


def _load(context: ssl.SSLContext, roots: Iterable[bytes]) -> None:
    """One by one: a root that OpenSSL cannot read is none for anybody, and the others still count."""
    for der in roots:
        with contextlib.suppress(ssl.SSLError):
            context.load_verify_locations(cadata=der)
