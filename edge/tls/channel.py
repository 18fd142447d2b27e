"""TLS for one connection, as bytes in and bytes out, over `ssl.MemoryBIO`.

Theory of operation
-------------------
HELLO -> HANDSHAKE -> OPEN -> CLOSED. In HELLO the first bytes are gathered until the ClientHello is whole; it is read
before an SSL object exists, because the policy of a connection cannot be changed once it does. What is no TLS at all
shows there too: a plain HTTP request on a TLS port gets an answer that a person can read. Who asks for the proof that a
name leads here (RFC 8737) shakes hands in CHALLENGE, sees it, and is sent away.

`receive()` takes ciphertext and returns plaintext; whatever it made for the peer (handshake, alerts) is fetched with
`data_to_send()`, which must be called after each `receive()` until the channel is open, and after it raised: a failed
handshake leaves an alert that tells the peer why.
"""

from __future__ import annotations

import contextlib
import ssl
from enum import Enum

from edge.http.client_cert import Identity
from edge.tls.client import identify
from edge.tls.clienthello import ClientHelloError, NotTlsError, encode_alert, is_whole_hello, parse_client_hello
from edge.tls.contexts import Choice, TlsServer

# The memory BIO keeps the largest piece it ever held as capacity: small pieces keep an idle connection small.
_FEED = 32 * 1024
_WRITE = 64 * 1024


class State(Enum):
    """Where a channel is."""

    HELLO = 1
    HANDSHAKE = 2
    CHALLENGE = 3
    OPEN = 4
    CLOSED = 5


_OPEN = State.OPEN  # looked up for each read


class TlsError(Exception):
    """The peer's TLS cannot go on; an alert may wait in `data_to_send()`."""


class PlainHttpError(TlsError):
    """The peer speaks plain HTTP; `data_to_send()` holds nothing, and the caller answers in plain text."""


class TlsChannel:
    """The server side of one TLS connection."""

    __slots__ = (
        "_choice",
        "_hello",
        "_incoming",
        "_object",
        "_outgoing",
        "_server",
        "identity",
        "peer_closed",
        "state",
    )

    def __init__(self, server: TlsServer) -> None:
        self.state = State.HELLO
        self.peer_closed = False  # the peer's close_notify came: no more data will
        self.identity: Identity | None = None  # of a client that was asked for a certificate, when open
        self._server = server
        self._hello = b""
        self._incoming: ssl.MemoryBIO
        self._outgoing: ssl.MemoryBIO
        self._object: ssl.SSLObject
        self._choice: Choice

    def receive(self, data: bytes) -> bytes:
        """Return the plaintext that `data` brings, perhaps none.

        Raises TlsError if the peer broke the protocol or cannot be served; PlainHttpError if it speaks HTTP.
        """
        if self.state is _OPEN:
            if len(data) > _FEED:
                return self._read_large(data)
            self._incoming.write(data)
            return self._read(len(data))
        if self.state is State.HELLO:
            return self._receive_hello(data)
        if self.state in (State.HANDSHAKE, State.CHALLENGE):
            self._incoming.write(data)
            return self._handshake()
        return b""

    def write(self, data: bytes) -> bytes:
        """Return the ciphertext of `data`; only when open."""
        self._object.write(data)
        return self._outgoing.read()

    def write_large(self, data: bytes) -> list[bytes]:
        """Return the ciphertext of `data` in pieces; only when open."""
        view = memoryview(data)
        pieces = []
        for start in range(0, len(data), _WRITE):
            self._object.write(view[start : start + _WRITE])
            pieces.append(self._outgoing.read())
        return pieces

    def data_to_send(self) -> bytes:
        """Return what the handshake, or its failure, has for the peer."""
        if self.state is State.HELLO:
            return b""
        return self._outgoing.read()

    def close(self) -> bytes:
        """End our side and return the close_notify alert (RFC 8446 section 6.1), which ends the data without doubt."""
        if self.state is not State.OPEN:
            self.state = State.CLOSED
            return b""
        self.state = State.CLOSED
        with contextlib.suppress(ssl.SSLError):  # it wants the peer's close_notify, for which nobody waits
            self._object.unwrap()
        return self._outgoing.read()

    @property
    def version(self) -> str:
        """The negotiated version as the logs have it, such as `TLSv1.3`."""
        return self._object.version() or ""

    @property
    def protocol(self) -> str:
        """What was agreed on by ALPN; empty: nothing, which means HTTP/1.1."""
        return self._object.selected_alpn_protocol() or ""

    @property
    def cipher(self) -> str:
        """The negotiated cipher suite's name."""
        cipher = self._object.cipher()
        return cipher[0] if cipher else ""

    @property
    def session_reused(self) -> bool:
        """True if the client resumed a session."""
        return bool(self._object.session_reused)

    def count(self, *, failed: bool = False) -> None:
        """Put down that the handshake is over."""
        resumed = "yes" if not failed and self.session_reused else "no"
        self._server.handshakes["failed - no" if failed else f"ok {self.version} {resumed}"] += 1

    def _receive_hello(self, data: bytes) -> bytes:
        self._hello += data
        try:
            if not is_whole_hello(self._hello) and parse_client_hello(self._hello) is None:
                return b""
            self._choice = self._server.choose(self._hello)
        except NotTlsError as error:
            self._outgoing = ssl.MemoryBIO()  # nothing to say in TLS to who does not speak it
            self.state = State.CLOSED
            if error.looks_like_http:
                raise PlainHttpError("plain HTTP on a TLS port") from None
            raise TlsError(str(error)) from None
        except ClientHelloError as error:
            self._fail_before_handshake(error.alert)
            raise TlsError(str(error)) from None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = self._choice.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(self._hello)
        self._hello = b""
        self.state = State.CHALLENGE if self._choice.is_challenge else State.HANDSHAKE
        return self._handshake()

    def _fail_before_handshake(self, alert: int) -> None:
        self._outgoing = ssl.MemoryBIO()
        self._outgoing.write(encode_alert(alert))
        self.state = State.CLOSED

    def _handshake(self) -> bytes:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError as error:
            self.state = State.CLOSED
            raise TlsError(f"TLS handshake failed: {_reason(error)}") from None
        if self.state is State.CHALLENGE:
            self.state = State.CLOSED
            raise TlsError("the proof for a certificate was shown (RFC 8737)")
        if self._choice.hello is not None:
            self.identity = self._identify(self._choice.hello.server_name)
        self.state = State.OPEN
        # The client's first request often comes with its Finished.
        return self._read(self._incoming.pending) if self._incoming.pending else b""

    def _identify(self, server_name: str | None) -> Identity:
        try:
            return identify(self._object, server_name)
        except ValueError as error:
            self.state = State.CLOSED
            raise TlsError(f"TLS handshake failed: client certificate: {error}") from None

    def _read(self, size: int) -> bytes:
        """Return the plaintext of what was fed, `size` bytes of ciphertext."""
        try:
            data = self._object.read(size)
        except ssl.SSLError as error:
            self._stop_reading(error)
            return b""
        # Plaintext is shorter than its ciphertext: `size` bytes of it means that the record began in an earlier feed
        # and that OpenSSL holds more.
        if self._incoming.pending or len(data) == size:
            return data + self._read_more()
        if not data:
            self.peer_closed = True
        return data

    def _read_more(self) -> bytes:
        """Read what follows the first record: `read()` gives one at a time."""
        pieces = []
        try:
            while size := self._incoming.pending + self._object.pending():
                piece = self._object.read(size)
                if not piece:  # close_notify: whatever follows it is not for us (RFC 8446 section 6.1)
                    self.peer_closed = True
                    break
                pieces.append(piece)
        except ssl.SSLError as error:
            self._stop_reading(error)
        return b"".join(pieces)

    def _stop_reading(self, error: ssl.SSLError) -> None:
        """Tell why there is no more plaintext for now: its record is not whole, or it is broken."""
        if isinstance(error, ssl.SSLWantReadError):
            return
        self.state = State.CLOSED
        raise TlsError(f"TLS broken by the peer: {_reason(error)}") from None

    def _read_large(self, data: bytes) -> bytes:
        pieces = []
        for start in range(0, len(data), _FEED):
            piece = data[start : start + _FEED]
            self._incoming.write(piece)
            pieces.append(self._read(len(piece)))
        return b"".join(pieces)


def _reason(error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).lower().replace("_", " ")
    # The certificate of a client: what is wrong with it.
    return f"{reason}: {error.verify_message}" if isinstance(error, ssl.SSLCertVerificationError) else reason
