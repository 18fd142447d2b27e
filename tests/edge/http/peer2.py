"""A client of HTTP/2 that writes any frame, and what the server makes of it, as tests/corpus/http2 has it.

A line of a case is a frame: its type, its stream, its flags, and behind `|` its payload, with the escapes of cases.py.
END_HEADERS goes without saying; MORE leaves it out. Lines that are indented are fields of a HEADERS or CONTINUATION; a
`GET`, `POST` ... in the place of a type is a request's HEADERS with all pseudo-fields. `server` lines are what the
server does when it has read everything before them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from hpack import Decoder

from edge.http import frames
from edge.http.events import Data, Event, Failure, Refusal, RequestHead, Reset
from edge.http.field import FieldMemory
from edge.http.frames import Code, encode_frame
from edge.http.http2 import Http2Connection, Http2Limits
from edge.http.huffman import best_huffman
from tests.corpus.cases import decode_bytes, repeat

LIMITS = Http2Limits(max_streams=100, max_target=8192, max_header_size=32 * 1024, max_headers=100, max_body=100_000)
MEMORY = FieldMemory(best_huffman())
SETTINGS = frames.encode_settings({})
OPENING = frames.PREFACE + SETTINGS
_TYPE_NAMES = """
    DATA HEADERS PRIORITY RST_STREAM SETTINGS PUSH_PROMISE PING GOAWAY WINDOW_UPDATE CONTINUATION PRIORITY_UPDATE
"""
_SETTING_NAMES = """
    HEADER_TABLE_SIZE ENABLE_PUSH MAX_CONCURRENT_STREAMS INITIAL_WINDOW_SIZE MAX_FRAME_SIZE MAX_HEADER_LIST_SIZE
    ENABLE_CONNECT_PROTOCOL NO_RFC7540_PRIORITIES
"""
TYPES: dict[str, int] = {name: getattr(frames, name) for name in _TYPE_NAMES.split()}
NAMES = {number: name for name, number in TYPES.items()}
FLAGS = {"END_STREAM": 1, "ACK": 1, "PADDED": 8, "PRIORITY": 32}
SETTING: dict[str, int] = {name: getattr(frames, name) for name in _SETTING_NAMES.split()}
METHODS = ("GET", "POST", "HEAD", "OPTIONS")


# Frames as the client writes them.


def block(*fields: tuple[bytes, bytes]) -> bytes:
    """Return a block of literals that touch no table, whatever is in them."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)


def _string(text: bytes) -> bytes:
    size = len(text)
    if size < 0x7F:
        return bytes((size,)) + text
    size -= 0x7F
    return bytes((0x7F, size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14)) + text


def pseudo(method: str = "GET", path: str = "/", host: str = "shop.example") -> list[tuple[bytes, bytes]]:
    """Return the pseudo-fields of a request."""
    values = {":method": method, ":scheme": "https", ":path": path, ":authority": host}
    return [(name.encode(), value.encode()) for name, value in values.items()]


def request(stream: int, *fields: tuple[bytes, bytes], method: str = "GET", path: str = "/", end: bool = True) -> bytes:
    """Return the HEADERS of a request."""
    return headers(stream, [*pseudo(method, path), *fields], end=end)


def headers(stream: int, fields: Iterable[tuple[bytes, bytes]], *, end: bool = True) -> bytes:
    """Return a HEADERS frame."""
    return encode_frame(frames.HEADERS, frames.END_HEADERS | end, stream, block(*fields))


def data(stream: int, body: bytes, *, end: bool = False) -> bytes:
    """Return a DATA frame."""
    return encode_frame(frames.DATA, int(end), stream, body)


# What the server writes.


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def split_frames(written: bytes) -> Iterator[Frame]:
    """Cut what was written into frames."""
    position = 0
    while position < len(written):
        high, low, kind, flags, stream = frames.HEADER.unpack_from(written, position)
        start = position + frames.HEADER_SIZE
        position = start + (high << 8 | low)
        assert position <= len(written), "a frame that is cut off"
        yield Frame(kind, flags, stream, written[start:position])


class Conversation:
    """A connection to the core; `lines` is what came in and what went out, as the corpus writes it."""

    def __init__(self, limits: Http2Limits = LIMITS) -> None:
        self.core = Http2Connection(MEMORY, limits)
        self.heads: dict[int, RequestHead] = {}
        self.lines: list[str] = []
        self._decoder = Decoder()
        self.core.sender.take(1)  # the greeting: a test of its own

    def receive(self, pieces: Iterable[bytes], now: float = 0.0) -> list[Event]:
        """Take what several reads brought; what is written in between stays."""
        events: list[Event] = []
        for piece in pieces:
            events += self.core.receive(piece, now)
        for event in events:
            if isinstance(event, RequestHead):
                self.heads[event.stream] = event
            self.lines += describe_event(event)
        return events

    def take(self) -> list[Frame]:
        """Take all that may be written."""
        out = list(split_frames(self.core.sender.take(1 << 30)))
        self.lines += [line for frame in out for line in self._describe(frame)]
        return out

    def answer(
        self, stream: int, status: int = 200, body: bytes = b"", *, end: bool = True, length: bytes = b""
    ) -> None:
        """Answer a request, or what was refused."""
        head = self.heads.get(stream) or RequestHead(stream, b"-", b"-", b"2", b"")
        self.core.answers.send_response(head, status, length, [b"content-type", b"text/plain"], [], b"id", body, end)

    def act(self, words: list[str]) -> None:
        """Do what a `server` line says."""
        what, *numbers = words[:2]
        stream = int(numbers[0]) if numbers else 0
        core = self.core
        match what:
            case "answers":
                size = int(words[3]) if len(words) > 3 else 0
                self.answer(stream, int(words[2]), b"x" * size, length=b"%d" % size)
            case "begins":
                self.answer(stream, 200, b"x" * int(words[2]), end=False)
            case "sends":
                core.answers.send_content(stream, b"x" * int(words[2]))
            case "ends":
                core.answers.send_end(stream, [word.encode() for word in words[2:]])
            case "continues":
                core.answers.send_informational(stream, 100)
            case "sweeps":
                core.end_late()
                core.end_late()
            case "resets":
                core.reset(stream, Code.INTERNAL_ERROR)
            case "consumes":
                core.consumed(stream, int(words[2]))
            case "says":
                core.announce_end()
            case "refuses":
                core.refuse_more()
            case "waits":
                pass
            case _:
                raise ValueError(f"a server that {what}")

    def _describe(self, frame: Frame) -> Iterator[str]:
        words = [NAMES[frame.kind], str(frame.stream)] if frame.stream else [NAMES[frame.kind]]
        fields: list[tuple[bytes, bytes]] = []
        payload = frame.payload
        match frame.kind:
            case frames.HEADERS:
                fields = [(name, value) for name, value in self._decoder.decode(payload, raw=True)]
                words += ["END_STREAM"] * (frame.flags & 1)
            case frames.DATA:
                words += ["END_STREAM"] * (frame.flags & 1) + [f"of {len(payload)} bytes"]
            case frames.SETTINGS:
                words += ["ACK"] * (frame.flags & 1)
            case frames.PING:
                words += ["ACK"] * (frame.flags & 1) + [payload.decode()]
            case frames.WINDOW_UPDATE:
                words.append(str(struct.unpack("!I", payload)[0]))
            case frames.RST_STREAM:
                words.append(Code(struct.unpack("!I", payload)[0]).name)
            case frames.GOAWAY:
                last, code = struct.unpack_from("!II", payload)
                words += [f"last {last}", Code(code).name, payload[8:].decode()]
        yield " ".join(["<", *words]).rstrip()
        for name, value in fields:
            if name not in (b"content-type", b"x-request-id"):
                yield f"    {name.decode()}: {value.decode()}"


def describe_event(event: Event) -> Iterator[str]:
    """Return an event's lines."""
    match event:
        case RequestHead():
            method, target, host = event.method.decode(), event.target.decode(), event.host.decode()
            what = [f"request {event.stream} {method} {target} {host}"]
            what += [f"{event.length} bytes follow"] * (event.length > 0) + ["content follows"] * (event.length < 0)
            what += ["expects 100"] * event.expect + ["takes trailers"] * event.trailers
            what += [f"upgrades to {event.upgrade.decode()}"] * bool(event.upgrade)
            yield ", ".join(what)
            for (name, value), group in groupby(event.fields[1:]):
                count = len(list(group))
                text = f"  {name.decode()}: {value.decode('latin-1')}".rstrip()
                yield text + (f", {count} times" if count > 1 else "")
        case Data():
            shown = repr(event.body) if len(event.body) < 100 else f"of {len(event.body)} bytes"
            yield f"content {event.stream} {shown}" + (", the last" if event.complete else "")
        case Refusal():
            yield f"refused {event.stream} {event.status} {event.reason}"
        case Reset():
            yield f"given up {event.stream}"
        case Failure():
            yield f"failed {event.reason}"


# A case of the corpus.


@dataclass(frozen=True, slots=True)
class Step:
    """What the client sends, and what the server does then."""

    sent: bytes
    actions: list[list[str]]


def read_steps(text: str) -> list[Step]:
    """Return the steps of a case, the first with the client's preface unless the case begins with `raw`."""
    steps: list[Step] = []
    sent, actions = b"" if text.startswith("raw") else OPENING, list[list[str]]()
    for line, fields in _read_lines(repeat(text)):
        words = line.split()
        if words[0] == "server":
            actions.append(words[1:])
            continue
        if actions:
            steps.append(Step(sent, actions))
            sent, actions = b"", []
        if words[0] == "raw":
            sent += decode_bytes(line.partition("|")[2] + "\\\n")
        else:
            sent += encode_line(line, fields)
    return [*steps, Step(sent, actions)]


def _read_lines(text: str) -> Iterator[tuple[str, list[tuple[bytes, bytes]]]]:
    current, fields = "", list[tuple[bytes, bytes]]()
    for line in filter(None, text.splitlines()):
        if line.startswith("  "):
            name, colon, value = f"{line[2:]} ".partition(": ") if line.endswith(":") else line[2:].partition(": ")
            assert colon, f"no field: {line}"
            fields.append((decode_bytes(name + "\\\n"), decode_bytes(value + "\\\n")))
            continue
        if current:
            yield current, fields
        current, fields = line, []
    yield current, fields


def encode_line(line: str, fields: list[tuple[bytes, bytes]]) -> bytes:
    """Return the frame that a line stands for."""
    before, bar, after = line.partition("|")
    what, *words = before.split()
    payload = decode_bytes(after + "\\\n")
    if what in METHODS:
        kind, fields = frames.HEADERS, [*pseudo(what, words.pop(1)), *fields]
    else:
        kind = TYPES[what] if what in TYPES else int(what)
    stream = int(words.pop(0)) if words and words[0].isdigit() else 0
    flags = sum(FLAGS[word] for word in words if word in FLAGS)
    if kind in (frames.HEADERS, frames.CONTINUATION):
        flags |= frames.END_HEADERS * ("MORE" not in words)
        payload += block(*fields)
    if kind == frames.SETTINGS:
        settings = [word.split("=") for word in words if "=" in word]
        payload += b"".join(struct.pack("!HI", SETTING[name], int(value)) for name, value in settings)
    elif kind == frames.WINDOW_UPDATE and not bar:
        payload = struct.pack("!I", int(words.pop()))
    elif kind == frames.RST_STREAM and not bar:
        payload = struct.pack("!I", Code[words.pop()])
    assert all(word in FLAGS or word == "MORE" or "=" in word for word in words), f"not understood: {line}"
    return encode_frame(kind, flags, stream, payload)
