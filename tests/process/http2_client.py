"""A client of HTTP/2 for tests: `h2` keeps its state, and frames of any kind can be sent beside it."""

from __future__ import annotations

import json
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

from tests.process.server import DEADLINE, Authority, Server

APPLICATION = (Path(__file__).parent / "http2_application.py").read_text()
Fields = list[tuple[bytes, bytes]]
Settled = dict[SettingCodes | int, int]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 5, 6, 7, 8, 11


def connect(server: Server, authority: Authority, *, protocols: tuple[str, ...] = ("h2",)) -> ssl.SSLSocket:
    """Return a connection over TLS on which one of `protocols` was agreed on."""
    context = authority.client_context()
    context.set_alpn_protocols(list(protocols))
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname="localhost")


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Return the bytes of a frame, right or wrong."""
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def resident(pid: int) -> int:
    """Return the memory of a process, in bytes."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def used_cpu(pid: int) -> float:
    """Return the CPU time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


class Answer:
    """What came on a stream so far."""

    def __init__(self) -> None:
        self.informational: list[int] = []
        self.fields: dict[bytes, bytes] = {}
        self.body = b""
        self.trailers: Fields = []
        self.is_whole = False
        self.reset: int | None = None

    @property
    def status(self) -> int:
        """The status; 0 while there is none."""
        return int(self.fields.get(b":status", b"0"))

    def json(self) -> Any:
        """Return the content out of JSON."""
        return json.loads(self.body)


class Http2Client:
    """A connection with `h2`'s state machine, that waits for what it is asked to.

    It takes all that comes, and opens its windows for it, but for the streams of `unread`.
    """

    def __init__(self, server: Server, authority: Authority, **settings: int) -> None:
        self.sock = connect(server, authority)
        assert self.sock.selected_alpn_protocol() == "h2"
        config = H2Configuration(
            client_side=True,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = H2Connection(config)
        values: Settled = {SettingCodes.ENABLE_PUSH: 0}
        values |= {SettingCodes[name.upper()]: value for name, value in settings.items()}
        self.h2.local_settings = Settings(client=True, initial_values=values)  # type: ignore[arg-type]
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(2**24)
        self.answers: dict[int, Answer] = {}
        self.unread: set[int] = set()
        self.goaways: list[tuple[int, int]] = []  # last stream, code
        self.is_closed = False
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sock.close()

    # Sending.

    def begin(self, path: str, *fields: tuple[bytes, bytes], method: str = "GET", end: bool = True) -> int:
        """Send the head of a request; return its stream."""
        pseudo = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", path.encode()),
        ]
        return self.begin_with([*pseudo, *fields], end=end)

    def begin_with(self, fields: Fields, *, end: bool = True) -> int:
        """Send exactly these fields as a head; return its stream."""
        number = self.h2.get_next_available_stream_id()
        self.answers[number] = Answer()
        self.h2.send_headers(number, fields, end_stream=end)
        self.flush()
        return number

    def send(self, number: int, data: bytes, *, end: bool = False, padding: int | None = None) -> None:
        """Send content, as the server's windows open, until it wants no more."""
        view, answer = memoryview(data), self.answers[number]
        reserved = 0 if padding is None else padding + 1
        while view and not answer.is_whole and answer.reset is None:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size) - reserved
            if room < min(len(view), 1024):
                assert self.pump(), "the connection ended within content"
                continue
            self.h2.send_data(number, bytes(view[:room]), pad_length=padding)
            view = view[room:]
            self.flush()
        if end and not answer.is_whole and answer.reset is None:
            self.h2.end_stream(number)
        self.flush()

    def fill(self, number: int) -> int:
        """Send as much content as the windows take now; return how much that was."""
        total = 0
        while room := min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size):
            self.h2.send_data(number, bytes(room))
            total += room
        self.flush()
        return total

    def reset(self, number: int, code: int = CANCEL) -> None:
        """Give a request up."""
        self.h2.reset_stream(number, code)
        self.flush()

    def flush(self) -> None:
        """Send what `h2` has to send."""
        self.sock.sendall(self.h2.data_to_send())

    # Receiving.

    def pump(self, timeout: float = DEADLINE) -> bool:
        """Take what comes next; False when the server has closed."""
        self.sock.settimeout(timeout)
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        finally:
            self.sock.settimeout(DEADLINE)
        if not data:
            self.is_closed = True
            return False
        for event in self.h2.receive_data(data):
            self._take(event)
        self.flush()
        return True

    def pump_for(self, seconds: float) -> None:
        """Take what comes within so many seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                if not self.pump(left):
                    return
            except TimeoutError:
                return

    def wait(self, number: int) -> Answer:
        """Wait for the end of an answer, whole or not."""
        answer = self.answers[number]
        while not answer.is_whole and answer.reset is None:
            assert self.pump(), f"the connection ended before the answer: {self.goaways}"
        return answer

    def wait_head(self, number: int) -> Answer:
        """Wait for the head of an answer."""
        answer = self.answers[number]
        while not answer.status and answer.reset is None:
            assert self.pump(), f"the connection ended before the answer: {self.goaways}"
        return answer

    def wait_end(self) -> None:
        """Wait until the server closes."""
        while self.pump():
            pass

    def ask(self, path: str, *fields: tuple[bytes, bytes], method: str = "GET", body: bytes = b"") -> Answer:
        """Send a request and wait for its answer."""
        number = self.begin(path, *fields, method=method, end=not body)
        if body:
            self.send(number, body, end=True)
        return self.wait(number)

    def _take(self, event: Any) -> None:
        if isinstance(event, events.ConnectionTerminated):
            self.goaways.append((int(event.last_stream_id or 0), int(event.error_code or 0)))
            return
        answer = self.answers.get(getattr(event, "stream_id", None) or 0)
        if answer is None:
            return
        if isinstance(event, events.ResponseReceived):
            answer.fields = dict(event.headers)
        elif isinstance(event, events.InformationalResponseReceived):
            answer.informational.append(int(dict(event.headers)[b":status"]))
        elif isinstance(event, events.DataReceived):
            answer.body += event.data
            if event.stream_id not in self.unread:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.TrailersReceived):
            answer.trailers = list(event.headers)
        elif isinstance(event, events.StreamEnded):
            answer.is_whole = True
        elif isinstance(event, events.StreamReset):
            # RFC 9113 section 8.1: behind a whole answer it says that the rest of the request is not needed.
            answer.reset = int(event.error_code)


class Attacker:
    """A connection that sends any bytes, and keeps the frames that come back."""

    def __init__(self, server: Server, authority: Authority, settings: bytes = b"") -> None:
        self.sock = connect(server, authority)
        self.frames: list[tuple[int, int, int, bytes]] = []  # type, flags, stream, payload
        self.is_closed = False
        self._buffer = b""
        self.send(PREFACE + frame(SETTINGS, payload=settings) + frame(SETTINGS, ACK))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> bool:
        """Send `data`, taking what comes meanwhile; False when the server has closed before all was sent."""
        for start in range(0, len(data), 16384):
            self.look()
            if self.is_closed or self.goaway:
                return False
            try:
                self.sock.sendall(data[start : start + 16384])
            except (ConnectionError, ssl.SSLError):
                self._end()
                return False
        return True

    def look(self, timeout: float = 0.0) -> None:
        """Take what has come, or comes within so many seconds."""
        while not self.is_closed and (self.sock.pending() or select.select([self.sock], [], [], timeout)[0]):
            self._receive()
            timeout = 0.0

    def wait_goaway(self) -> tuple[int, str]:
        """Wait for the end; return the code and the reason of GOAWAY."""
        self.wait_for(GOAWAY, 1)
        payload = self.goaway[-1]
        return struct.unpack("!I", payload[4:8])[0], payload[8:].decode()

    def wait_for(self, kind: int, count: int) -> None:
        """Wait for so many frames of a type."""
        deadline = time.monotonic() + DEADLINE
        while len(list(self.of_kind(kind))) < count:
            assert time.monotonic() < deadline, f"{count} frames of type {kind}"
            assert not self.is_closed, f"closed before {count} frames of type {kind}; GOAWAY: {self.goaway}"
            self.look(0.1)

    def of_kind(self, kind: int) -> Iterator[tuple[int, int, bytes]]:
        """The frames of a type so far: flags, stream and payload."""
        return ((flags, stream, payload) for found, flags, stream, payload in self.frames if found == kind)

    @property
    def goaway(self) -> list[bytes]:
        """The payloads of the GOAWAY frames so far."""
        return [payload for _, _, payload in self.of_kind(GOAWAY)]

    def resets(self, code: int) -> list[int]:
        """The streams that were reset with a code."""
        return [stream for _, stream, payload in self.of_kind(RST_STREAM) if payload == struct.pack("!I", code)]

    def _receive(self) -> None:
        try:
            data = self.sock.recv(65536)
        except (ConnectionError, ssl.SSLError):
            data = b""
        if not data:
            self._end()
        self._buffer += data
        while len(self._buffer) >= 9:
            size = int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < 9 + size:
                return
            head, payload = self._buffer[:9], self._buffer[9 : 9 + size]
            self._buffer = self._buffer[9 + size :]
            self.frames.append((head[3], head[4], struct.unpack("!I", head[5:])[0], payload))

    def _end(self) -> None:
        self.is_closed = True
