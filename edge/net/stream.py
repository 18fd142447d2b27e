"""A client's byte stream, plain or TLS: reading, writing, back-pressure, its one deadline, and its end.

Theory of operation
-------------------
The stream turns what the socket brings into plaintext for its driver, and what the driver sends into what the socket
takes. It always has one deadline, named by its phase, which the driver moves on; the process's sweep calls `expire()`
when it has passed, so no request costs a timer. While more is written than the client takes, the phase is WRITE, and
the phase from before comes back when the client has caught up.

It ends in one of three ways: `close()` when there is nothing more to say; `linger()` after an answer behind which input
may be unread; `abort()` when nothing more can be said.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Callable
from enum import IntEnum
from time import monotonic
from typing import Protocol, cast

from edge.config_limits import TimeoutSettings
from edge.http.client_cert import Identity
from edge.net.proxy_protocol import ProxyProtocolError, parse_proxy_header
from edge.tls.channel import PlainHttpError, State, TlsChannel, TlsError
from edge.tls.contexts import TlsServer
from edge_backend import wire

logger = logging.getLogger("edge.net")

NEVER = float("inf")
# Before a connection is closed with input unread: read and drop that much, or that long, so that the answer is not
# lost in the RST that unread input provokes (RFC 9112 section 9.6; nginx's lingering_close is 5 s).
LINGER_SIZE = 256 * 1024
LINGER_TIME = 5.0
# What a proxy may take to send its PROXY header. Its specification asks for three seconds, a lost segment, or more.
PROXY_TIME = 5.0
# The write buffer above which the application waits, and the socket's share of an answer in memory.
HIGH_WATER = 128 * 1024
# A frame of the wire with a head before it goes through TLS in one piece; what is larger is no honest worker's.
_PIECE = 2 * wire.MAX_DATA


class Phase(IntEnum):
    """What the deadline is about."""

    HANDSHAKE = 1
    HEAD = 2
    IDLE = 3
    CONTENT = 4
    ANSWER = 5
    WRITE = 6
    LINGER = 7
    CLOSED = 8
    PROXY = 9


# Looking a member up in its enum costs as much as comparing it twice; these are compared for each request.
_IDLE, _ANSWER, _LINGER, _CLOSED = Phase.IDLE, Phase.ANSWER, Phase.LINGER, Phase.CLOSED
_TLS_OPEN = State.OPEN


class Driver(Protocol):
    """What drives the stream's connection."""

    def receive(self, data: bytes) -> None:
        """Take what the client sent, in plaintext."""

    def receive_plain_http(self) -> None:
        """The client speaks plain HTTP where TLS is due; the stream is plain now."""

    def receive_end(self) -> None:
        """The client has closed its side; the stream is closing."""

    def forget(self) -> None:
        """The connection is lost, or closed: this is the last call."""

    def identify(self, identity: Identity | None) -> None:
        """It is known who the client is: its address, by a proxy; what it has proven, if it was asked to."""

    def to_http2(self) -> Driver:
        """The peer agreed on HTTP/2: return who drives the connection from here on."""

    def resume(self) -> None:
        """The client takes bytes again."""

    def expire(self, phase: Phase) -> None:
        """A head or content did not come in time."""


class ClientStream(asyncio.Protocol):
    """The bytes of one client connection, from accept to close.

    `announces` tells of which peers a PROXY header is due before anything else; it is not looked for of others.
    """

    __slots__ = (
        "_announced",
        "_announces",
        "_driver",
        "_header",
        "_lingered",
        "_open",
        "_phase_before",
        "_stalled_at",
        "_timeouts",
        "_tls",
        "_transport",
        "_write",
        "deadline",
        "is_congested",
        "is_paused",
        "phase",
        "tls_version",
    )

    def __init__(
        self,
        tls: TlsServer | None,
        timeouts: TimeoutSettings,
        open_driver: Callable[[ClientStream], Driver],
        announces: Callable[[tuple[str, int] | None], bool] | None = None,
    ) -> None:
        self._announces = announces
        self._announced: tuple[str, int] | None = None
        self._header = b""  # of the PROXY protocol, while it is not whole
        self._tls = TlsChannel(tls) if tls is not None else None
        self._timeouts = timeouts
        self._open = open_driver
        self._driver: Driver
        self._transport: asyncio.Transport
        self._write: Callable[[bytes], None]
        self._lingered = 0
        self._stalled_at = 0
        self._phase_before = Phase.IDLE
        self.is_congested = False  # more has been written than the client takes
        self.is_paused = False  # nothing is read
        self.tls_version = b""
        self.phase = Phase.HEAD if tls is None else Phase.HANDSHAKE
        self.deadline = monotonic() + (timeouts.header if tls is None else timeouts.tls_handshake)

    # The transport's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface without the base class.
        self._transport = cast(asyncio.Transport, transport)
        self._write = self._transport.write
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._driver = self._open(self)
        if self._announces is not None and self._announces(self.peer):
            self.phase = Phase.PROXY
            self.deadline = monotonic() + PROXY_TIME

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(NEVER)
        self._driver.forget()
        # The two hold each other: parted here, they and their TLS memory go at once, and not when the collector comes.
        del self._driver

    def data_received(self, data: bytes) -> None:
        if self.phase >= _LINGER:
            self._receive_rare(data)
            return
        tls = self._tls
        if tls is None:
            self._driver.receive(data)
            return
        try:
            data = tls.receive(data) if tls.state is _TLS_OPEN else self._handshake(tls, data)
        except TlsError as error:
            self._fail(tls, error)
            return
        if data:
            self._driver.receive(data)
        else:
            # What came was for TLS alone, and may want an answer: a renegotiation refused, a key update.
            self._write_some(tls.data_to_send())
        if tls.peer_closed:
            self.eof_received()

    def eof_received(self) -> bool:
        self.close()
        self._driver.receive_end()
        return False

    def pause_writing(self) -> None:
        self.is_congested = True
        self._stalled_at = self._transport.get_write_buffer_size()
        if self.phase < Phase.WRITE:
            self._phase_before = self.phase
            self.phase = Phase.WRITE
            self.deadline = monotonic() + self._timeouts.write_stall

    def resume_writing(self) -> None:
        self.is_congested = False
        if self.phase is Phase.WRITE:
            self.enter(self._phase_before)
        self._driver.resume()

    # The driver's calls.

    @property
    def peer(self) -> tuple[str, int] | None:
        """The address of the socket's other end, or of whom a PROXY header names; None for that of a Unix socket."""
        if self._announced is not None:
            return self._announced
        address = self._transport.get_extra_info("peername")
        return (address[0], address[1]) if isinstance(address, tuple) else None

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the socket has not taken."""
        return self._transport.get_write_buffer_size()

    def send(self, data: bytes) -> None:
        """Send `data`."""
        tls = self._tls
        if self.phase is _CLOSED:
            return
        if tls is None:
            self._write(data)
        elif len(data) <= _PIECE:
            self._write(tls.write(data))
        else:
            self._transport.writelines(tls.write_large(data))

    def wait_answer(self) -> None:
        """The client has done its part: no deadline until there is an answer."""
        self.phase = _ANSWER
        self.deadline = NEVER

    def wait_request(self, now: float) -> None:
        """An answer is written: the client may send its next request within the keep-alive time."""
        self.phase = _IDLE
        self.deadline = now + self._timeouts.keep_alive

    def idle_for(self, now: float) -> float:
        """Return the seconds since the last answer; the phase is IDLE."""
        return now - self.deadline + self._timeouts.keep_alive

    @property
    def has_unread(self) -> bool:
        """True if the client has sent what was not read yet, as when this process stood still: ask before a close."""
        sock = self._transport.get_extra_info("socket")
        if sock is None or self.is_paused:
            return False
        waiting = select.poll()
        waiting.register(sock.fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    def enter(self, phase: Phase) -> None:
        """Start the deadline of a phase."""
        self.phase = phase
        if phase is Phase.CONTENT:
            self.deadline = monotonic() + self._timeouts.body_idle
        elif phase is Phase.HEAD:
            self.deadline = monotonic() + self._timeouts.header
        elif phase is Phase.IDLE:
            self.deadline = monotonic() + self._timeouts.keep_alive
        else:
            self.deadline = NEVER

    def pause(self) -> None:
        """Read nothing; if content was coming, it is not the client that is slow now."""
        if not self.is_paused:
            self.is_paused = True
            self._transport.pause_reading()
            if self.phase is Phase.CONTENT:
                self.wait_answer()

    def read_on(self) -> None:
        """Read again."""
        if self.is_paused:
            self.is_paused = False
            self._transport.resume_reading()

    def expire(self, now: float) -> None:
        """The deadline has passed: the sweep calls this."""
        match self.phase:
            case Phase.HANDSHAKE:
                if self._tls is not None:
                    self._tls.count(failed=True)
                self._log("no TLS handshake in time")
                self.abort()
            case Phase.PROXY:
                self._refuse_proxy("no PROXY header in time")
            case Phase.IDLE if self.has_unread:
                pass  # the next request has come in time, and is read in one of the next turns
            case Phase.HEAD | Phase.CONTENT | Phase.IDLE:
                self._driver.expire(self.phase)
            case Phase.WRITE:
                self._check_stall(now)
            case _ if not self._still_takes(now):
                self.abort()

    def close(self) -> None:
        """Close once what was written has left, or soon."""
        if self.phase is not Phase.CLOSED:
            self._say_goodbye()
            self._end(monotonic() + LINGER_TIME)
            self._transport.close()

    def linger(self) -> None:
        """Close our side and read on for a while, so that the client gets the answer before the connection breaks."""
        if self.phase >= Phase.LINGER or self._transport.is_closing():
            return
        self._say_goodbye()
        self.phase = Phase.LINGER
        self.deadline = monotonic() + LINGER_TIME
        self.read_on()
        self._transport.write_eof()

    def abort(self) -> None:
        """Close without a word."""
        self._end(NEVER)
        self._transport.abort()

    # Below: how.

    def _handshake(self, tls: TlsChannel, data: bytes) -> bytes:
        data = tls.receive(data)
        self._write_some(tls.data_to_send())
        if tls.state is State.OPEN:
            self.tls_version = tls.version.encode()
            tls.count()
            if tls.identity is not None:
                self._driver.identify(tls.identity)
            self.enter(Phase.HEAD)
            if tls.protocol == "h2":
                self._driver = self._driver.to_http2()
        return data

    def _fail(self, tls: TlsChannel, error: TlsError) -> None:
        if isinstance(error, PlainHttpError):
            self._tls = None
            self._driver.receive_plain_http()
            return
        if self.phase is Phase.HANDSHAKE:
            tls.count(failed=True)
        self._log(str(error))
        self._write_some(tls.data_to_send())
        self._end(monotonic() + LINGER_TIME)
        self._transport.close()
        self._driver.receive_end()

    def _write_some(self, data: bytes) -> None:
        if data:
            self._write(data)

    def _say_goodbye(self) -> None:
        if self._tls is not None:
            self._write_some(self._tls.close())

    def _still_takes(self, now: float) -> bool:
        """True while a client takes what was written before the close: it has the time of any other answer for that."""
        left = self._transport.get_write_buffer_size()
        if not left or left == self._stalled_at:
            return False
        self._stalled_at = left
        self.deadline = now + self._timeouts.write_stall
        return True

    def _check_stall(self, now: float) -> None:
        left = self._transport.get_write_buffer_size()
        if left < self._stalled_at:
            self._stalled_at = left
            self.deadline = now + self._timeouts.write_stall
            return
        self._log("the client takes no bytes of its answer")
        self.abort()

    def _receive_rare(self, data: bytes) -> None:
        if self.phase is Phase.PROXY:
            self._receive_header(data)
        else:
            self._drop(len(data))

    def _receive_header(self, data: bytes) -> None:
        """Take what a proxy says of the client; what comes behind it is the client's."""
        self._header += data
        try:
            announced = parse_proxy_header(self._header)
        except ProxyProtocolError as error:
            self._refuse_proxy(f"PROXY header: {error}")
            return
        if announced is None:
            return
        rest, self._header = self._header[announced.size :], b""
        self._announced = announced.client
        self.phase = Phase.HEAD if self._tls is None else Phase.HANDSHAKE
        timeouts = self._timeouts
        self.deadline = monotonic() + (timeouts.header if self._tls is None else timeouts.tls_handshake)
        self._driver.identify(None)
        if rest:
            self.data_received(rest)

    def _refuse_proxy(self, reason: str) -> None:
        logger.warning("%s: connection closed: %s", self._peer_name(), reason)
        self.abort()

    def _drop(self, size: int) -> None:
        self._lingered += size
        if self._lingered > LINGER_SIZE:
            self.abort()

    def _end(self, deadline: float) -> None:
        self.phase = Phase.CLOSED
        self.deadline = deadline

    def _log(self, reason: str) -> None:
        logger.info("%s: connection closed: %s", self._peer_name(), reason)

    def _peer_name(self) -> str:
        peer = self.peer
        return peer[0] if peer else "unix"
