"""The head of an HTTP/1.1 request: request line and fields, checked strictly (RFC 9112 sections 2 to 6).

Theory of operation
-------------------
A head comes here whole. `httptools` tokenizes its field lines, and what the tokenizer leaves open is closed here; each
rule is a row of the corpus in tests/corpus/http1.

Field lines repeat: a client sends the same User-Agent, Accept and Cookie with each request, which is what HPACK lives
on. So a line that has been tokenized is remembered, byte for byte, with its name in lower case and its value, and a
head of known lines costs a dictionary look-up a line. Request lines are remembered in the same way. What is remembered
passed the same checks in the same state, so the result is the same. Three rules keep that honest:

- framing (Content-Length, Transfer-Encoding) is never remembered: the tokenizer sees those lines together, each time;
- a line that is new is tokenized together with all other new lines of its head;
- memory is bounded by MAX_LINES lines of MAX_LINE bytes, and `forget()`, which the sweep calls, bounds how long a
  credential that was sent once stays in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import httptools

from edge.http import fields as names
from edge.http.events import UNKNOWN_LENGTH, ProtocolError, RequestHead
from edge.http.fields import field_name, parse_list
from edge.http.rules import (
    METHODS,
    ORIGIN_FORM,
    check_expectations,
    check_host,
    is_known_host,
    parse_length,
    refuse_method,
    refuse_target,
)
from edge.http.websocket import check_handshake

MAX_LINES = 2048
MAX_LINE = 1024

# RFC 9112 section 3.2.2: absolute-form. Other schemes ask for a forward proxy, which this is not.
_ABSOLUTE_FORM = re.compile(rb'https?://([^/?#@\\]*)((?:[/?][!"$-\[\]-~]*)?)', re.IGNORECASE)
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_VERSIONS = {b"HTTP/1.1": b"1.1", b"HTTP/1.0": b"1.0"}
# Of the tokens in `Connection`, those that name no field to delete.
_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade", b"te"))
_FRAMING = names.LENGTH | names.CODING
# What does not go on: hop-by-hop fields, and names that CGI and WSGI would mistake for others.
_DROPPED = names.HOP | names.UNDERSCORE
_OWS = b" \t"


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """What a head may have. Sizes in bytes."""

    max_request_line: int
    max_header_size: int
    max_headers: int


class _Special:
    """The fields of one head that mean something to the edge."""

    __slots__ = ("codings", "connection", "expect", "flags", "lengths", "te", "upgrade")

    def __init__(self) -> None:
        self.flags = 0
        self.lengths: list[bytes] = []
        self.codings: list[bytes] = []
        self.connection: list[bytes] = []
        self.expect: list[bytes] = []
        self.upgrade: list[bytes] = []
        self.te: list[bytes] = []

    def take(self, flags: int, value: bytes) -> None:
        """Note a field."""
        self.flags |= flags
        if flags & names.CONNECTION:
            self.connection += parse_list(value.lower())
        elif flags & names.LENGTH:
            self.lengths.append(value)
        elif flags & names.CODING:
            self.codings.append(value.lower())
        elif flags & names.EXPECT:
            self.expect.append(value.lower())
        elif flags & names.UPGRADE:
            self.upgrade.append(value.lower())
        elif flags & names.TE:
            self.te += parse_list(value.lower())


class HeadParser:
    """Parses the heads of all connections of a process; between two calls it holds nothing but remembered lines."""

    __slots__ = ("_hosts", "_limits", "_plain", "_requests", "_special", "_tokenizer", "_tokens", "_unchecked_size")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        # A head of this size breaks no limit of size, wherever its request line ends.
        self._unchecked_size = min(limits.max_request_line, limits.max_header_size)
        self._plain: dict[bytes, bytes] = {}
        self._special: dict[bytes, tuple[bytes, int]] = {}
        self._hosts: dict[bytes, tuple[bytes, bytes]] = {}
        self._requests: dict[bytes, tuple[bytes, bytes, bytes]] = {}
        self._tokens: list[tuple[bytes, bytes]] = []
        self._tokenizer = httptools.HttpRequestParser(self)

    def forget(self) -> None:
        """Drop the remembered lines."""
        self._plain.clear()
        self._special.clear()
        self._hosts.clear()
        self._requests.clear()

    def check_partial(self, data: bytes) -> None:
        """Refuse what can become no head within the limits, without waiting for its end.

        Raises ProtocolError: 414, 431, or 400 for a line that ends with a bare LF.
        """
        limits = self._limits
        line = data.find(b"\n")
        if line > limits.max_request_line + 1 or (line < 0 and len(data) > limits.max_request_line + 1):
            raise ProtocolError(414, f"request line of more than {limits.max_request_line} bytes")
        if data.count(b"\n") != data.count(b"\r\n"):
            raise ProtocolError(400, "a line ends with a bare LF (RFC 9112 section 2.2)")
        if line >= 0 and len(data) - line > limits.max_header_size:
            raise ProtocolError(431, f"header section of more than {limits.max_header_size} bytes")

    def parse(self, raw: bytes, stream: int) -> RequestHead:
        """Return the request that `raw`, up to and with its empty line, begins.

        Raises ProtocolError with the status that the client gets: 400, 405, 414, 417, 426, 431, 501 or 505.
        """
        lines = raw.split(b"\r\n")
        request_line = lines[0]
        if len(raw) > self._unchecked_size or len(lines) - 3 > self._limits.max_headers:
            self._check_sizes(raw, request_line, len(lines) - 3)
        method, target, version = self._requests.get(request_line) or self._parse_request_line(request_line)
        lines = lines[1:-2]
        known = list(map(self._plain.get, lines))
        host, special = None, None
        first = self._hosts.get(lines[0]) if lines else None
        if first is not None:
            known[0], host = first  # nearly every client sends Host first
        if None in known:
            host, special = self._take_special(lines, known, host)
        if not host or target[:1] != b"/" or not is_known_host(host):
            named = host
            target, host = _check_target(method, target, version, host)
            if named is None and host:
                known.insert(0, b"host\n" + host)  # RFC 9112 section 3.2.2: the target's authority becomes the field
        head = RequestHead(stream, method, target, version, host or b"")
        head.keep_alive = version == b"1.1"
        head.lines = known  # type: ignore[assignment]  # what is None still is dropped by _apply
        if special is not None:
            _apply(head, special)
        return head

    def _parse_request_line(self, line: bytes) -> tuple[bytes, bytes, bytes]:
        """Return method, target and version; remember those of a request for a path."""
        method, target, version = _parse_request_line(line)
        if target[:1] == b"/" and len(line) <= MAX_LINE:
            if len(self._requests) >= MAX_LINES:
                self._requests.clear()
            self._requests[line] = (method, target, version)
        return method, target, version

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called back by the tokenizer."""
        self._tokens.append((name, value.rstrip(_OWS)))

    def _check_sizes(self, raw: bytes, request_line: bytes, count: int) -> None:
        limits = self._limits
        size = len(request_line)
        if size > limits.max_request_line:
            raise ProtocolError(414, f"request line of more than {limits.max_request_line} bytes")
        size = len(raw) - size
        if size > limits.max_header_size:
            raise ProtocolError(431, f"header section of more than {limits.max_header_size} bytes")
        if count > limits.max_headers:
            raise ProtocolError(431, f"{count} header fields, at most {limits.max_headers} allowed")

    def _take_special(
        self, lines: list[bytes], known: list[bytes | None], host: bytes | None
    ) -> tuple[bytes | None, _Special | None]:
        """Fill in the fields that are not remembered as plain ones; what must not go on stays None.

        Return the value of Host, None without one, and the other fields that mean something, None without any.

        Raises ProtocolError if there is more than one Host.
        """
        special: _Special | None = None
        learnt: dict[bytes, tuple[bytes, int]] = {}
        index = -1
        for _ in range(known.count(None)):
            index = known.index(None, index + 1)
            line = lines[index]
            entry = self._special.get(line) or learnt.get(line)
            if entry is None:
                learnt = self._learn([line for line, field in zip(lines, known, strict=True) if field is None])
                entry = learnt[line]
            field, flags = entry
            if flags & names.HOST:
                if host is not None:
                    # What the tokenizer refuses comes first, as it does for a head of new lines.
                    self._learn([line for line, field in zip(lines, known, strict=True) if field is None])
                    raise ProtocolError(400, "more than one Host field (RFC 9112 section 3.2)")
                host = field[5:]
                if index == 0 and line in self._special:
                    self._hosts[line] = (field, host)
            elif flags & names.ACTION:
                special = special or _Special()
                special.take(flags, field.partition(b"\n")[2])
                if flags & _DROPPED:
                    continue
            known[index] = field
        return host, special

    def _learn(self, lines: list[bytes]) -> dict[bytes, tuple[bytes, int]]:
        """Tokenize field lines, all those of a head that are not remembered as plain, and remember what may be."""
        self._tokenize(lines)
        if len(self._plain) + len(self._special) + len(lines) > MAX_LINES:
            self.forget()
        learnt: dict[bytes, tuple[bytes, int]] = {}
        for line, (raw_name, value) in zip(lines, self._tokens, strict=True):
            name, flags = field_name(raw_name)
            field = b"%b\n%b" % (name, value)
            learnt[line] = (field, flags)
            if len(line) <= MAX_LINE and not flags & _FRAMING:
                if flags & names.ACTION:
                    self._special[line] = (field, flags)
                else:
                    self._plain[line] = field
        return learnt

    def _tokenize(self, lines: list[bytes]) -> None:
        self._tokens = []
        try:
            # PUT, as it may have content: the tokenizer refuses some framings by method.
            self._tokenizer.feed_data(b"PUT / HTTP/1.1\r\n%b\r\n\r\n" % b"\r\n".join(lines))
        except httptools.HttpParserUpgrade:
            pass  # a field named Upgrade: the connection goes on as HTTP, or as what the edge makes of it
        except httptools.HttpParserError as error:
            coding = _find_coding(self._tokens)
            if coding is not None:
                raise coding from None
            # The tokenizer has two names for it, by the line before.
            if any(line.startswith((b" ", b"\t")) for line in lines):
                raise ProtocolError(400, "a field line begins with a space (RFC 9112 section 5.2)") from None
            raise ProtocolError(400, f"{str(error).lower()} (RFC 9112 section 5)") from None
        finally:
            # It may wait for content now, or for nothing more: its part is over with the fields.
            self._tokenizer = httptools.HttpRequestParser(self)


def _parse_request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    parts = line.split(b" ")
    if len(parts) != 3:
        raise ProtocolError(400, f"request line {line[:60]!r} is not method, target and version")
    method, target, version_text = parts
    version = _VERSIONS.get(version_text)
    if version is None:
        if _VERSION.fullmatch(version_text):
            raise ProtocolError(505, f"version {version_text!r}, HTTP/1.1 and HTTP/1.0 are spoken here")
        raise ProtocolError(400, f"version {version_text[:20]!r} is not HTTP's (RFC 9112 section 2.3)")
    if method not in METHODS:
        raise refuse_method(method)
    if target[:1] == b"/" and not ORIGIN_FORM.fullmatch(target):
        raise refuse_target(target)
    return method, target, version


def _check_target(method: bytes, target: bytes, version: bytes, host: bytes | None) -> tuple[bytes, bytes]:
    """Return the target in origin-form and the authority, which a target in absolute-form brings along."""
    if host is None and version == b"1.1":
        raise ProtocolError(400, "no Host field (RFC 9112 section 3.2)")
    if host is not None:
        check_host(host)
    if target[:1] == b"/" or (target == b"*" and method == b"OPTIONS"):
        return target, host or b""
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None or not is_known_host(match[1]):
        raise refuse_target(target)
    authority, path = match[1], match[2]
    if host is not None and authority.lower() != host.lower():
        raise ProtocolError(400, f"request target names {authority[:60]!r}, Host names {host[:60]!r}")
    return (path if path[:1] == b"/" else b"/" + path), authority


def _apply(head: RequestHead, special: _Special) -> None:
    """Act on the fields that concern framing and the connection."""
    head.flags = special.flags
    if special.flags & _DROPPED:
        head.lines = [line for line in head.lines if line is not None]
    if special.lengths or special.codings:
        _apply_framing(head, special)
    if special.expect:
        check_expectations(special.expect)
        head.expect = head.version == b"1.1" and head.length != 0
    if special.te:
        head.trailers = b"trailers" in special.te
    if special.connection:
        _apply_connection(head, special)


def _apply_framing(head: RequestHead, special: _Special) -> None:
    if special.codings:
        if special.lengths:
            raise ProtocolError(400, "both Content-Length and Transfer-Encoding (RFC 9112 section 6.1)")
        refusal = _check_codings(special.codings)
        if refusal is not None:
            raise refusal
        if head.version != b"1.1":
            raise ProtocolError(400, "Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1)")
        head.length = UNKNOWN_LENGTH
        return
    head.length = parse_length(special.lengths)


def _check_codings(codings: list[bytes]) -> ProtocolError | None:
    """Refuse every transfer coding but one `chunked` (RFC 9112 section 6.1)."""
    if codings == [b"chunked"]:
        return None
    elements = parse_list(b",".join(codings))
    found = b", ".join(elements)[:40]
    if elements.count(b"chunked") > 1:
        return ProtocolError(400, f"Transfer-Encoding {found!r}: chunked more than once (RFC 9112 section 6.1)")
    return ProtocolError(501, f"Transfer-Encoding {found!r}, only chunked is understood (RFC 9112 section 6.1)")


def _find_coding(tokens: list[tuple[bytes, bytes]]) -> ProtocolError | None:
    """The tokenizer stops at a coding that it does not know, with a status of its own mind: say ours."""
    codings = [value.lower() for name, value in tokens if name.lower() == b"transfer-encoding"]
    return _check_codings(codings) if codings else None


def _apply_connection(head: RequestHead, special: _Special) -> None:
    options = set(special.connection)
    if b"close" in options:
        head.keep_alive = False
    elif b"keep-alive" in options:
        head.keep_alive = True
    named = options - _OPTIONS
    if named:
        # RFC 9110 section 7.6.1: an intermediary removes what Connection names - but never what protects the
        # application: naming X-Forwarded-For there would make the edge delete its own word (CVE-2024-45410).
        head.lines = [line for line in head.lines if not _is_deleted(line.partition(b"\n")[0], named)]
    if b"upgrade" in options and special.upgrade == [b"websocket"] and _may_upgrade(head):
        head.upgrade = check_handshake(head.fields)


def _may_upgrade(head: RequestHead) -> bool:
    """RFC 6455 section 4.1 asks for these; content would be taken for the first bytes of the WebSocket."""
    return head.method == b"GET" and head.version == b"1.1" and head.length == 0


def _is_deleted(name: bytes, named: set[bytes]) -> bool:
    return name in named and not names.classify(name) & names.PROTECTED
