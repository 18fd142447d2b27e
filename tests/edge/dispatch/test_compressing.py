"""Answers that are compressed on their way: what leaves can be read back, at once, and is as long as was announced."""

from __future__ import annotations

import gc
import random
import sys
import zlib
from dataclasses import replace
from typing import Any

import brotli
import pytest

from edge.config_buffer import CompressSettings
from edge.dispatch import compressing
from edge.dispatch.compressing import Compressing, CompressingClient, Encoders, rules_of
from edge.dispatch.encoding import CODINGS, open_encoder
from edge.policy.compress import Rules
from edge_backend import wire
from tests.edge.dispatch.ends import HEAD, MemoryClient, exchange
from tests.edge.dispatch.test_local import Local

TEXT = b"All work and no play makes Jack a dull boy. " * 100
if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RULES = Rules(CODINGS, 100)
PUBLIC = replace(RULES, secrets=True)
PLAIN = b"content-type\ntext/plain"
VARY = [b"content-type", b"text/plain", b"vary", b"Accept-Encoding"]


class Reader:
    """What a client reads out of what came so far."""

    def __init__(self, coding: bytes) -> None:
        self._reader: Any
        if coding == b"gzip":
            self._reader, self._read = zlib.decompressobj(31), "decompress"
        elif coding == b"br":
            self._reader, self._read = brotli.Decompressor(), "process"
        else:
            self._reader, self._read = zstd.ZstdDecompressor(), "decompress"

    def read(self, data: bytes) -> bytes:
        read = getattr(self._reader, self._read)
        found: bytes = read(data)
        while self._read == "process" and (more := read(b"")):
            found += more  # brotli gives what it has piece by piece
        return found


class Case:
    """A request that somebody serves with answers that are compressed."""

    def __init__(
        self,
        coding: bytes = b"gzip",
        *,
        method: bytes = b"GET",
        rules: Rules = RULES,
        encoders: Encoders | None = None,
        **of_head: Any,
    ) -> None:
        self.client, self.local = MemoryClient(), Local()
        self.encoders = encoders or Encoders()
        self.exchange = exchange(self.client, method, lines=[b"accept-encoding\n" + coding], **of_head)
        self.target = Compressing(self.local, self.encoders, rules)
        self.target.submit(self.exchange, HEAD)
        self.coding = coding

    def answer(self, head: bytes = b"200\n\n" + PLAIN, body: bytes = b"", *, end: bool = True) -> list[tuple[Any, ...]]:
        """Answer, and return what the client connection was told."""
        self.exchange.receive_response(wire.END if end else 0, head, body)
        return self.client.take()


@pytest.mark.parametrize("coding", CODINGS)
def test_encoder_gives_all_that_came_with_each_piece(coding: bytes) -> None:
    encoder, reader = open_encoder(coding), Reader(coding)
    for word in (b"one", b"two " * 1000, random.Random(1).randbytes(70_000)):
        assert reader.read(encoder.piece(word)) == word
    assert reader.read(encoder.last(b"end")) == b"end"


@pytest.mark.parametrize("coding", CODINGS)
def test_answer_that_is_whole_has_the_length_of_what_is_sent(coding: bytes) -> None:
    [(name, status, length, fields, flags, body), finished] = Case(coding).answer(b"200\n4400\n" + PLAIN, TEXT)
    assert (name, status, flags, finished) == ("response", 200, wire.END, ("finished",))
    assert fields == [*VARY, b"content-encoding", coding]
    assert int(length) == len(body) < len(TEXT)
    assert Reader(coding).read(body) == TEXT


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("length", [b"", b"4400"])
def test_stream_goes_on_as_it_comes_without_a_length(coding: bytes, length: bytes) -> None:
    case, reader = Case(coding), Reader(coding)
    [(_, _, sent, fields, flags, body)] = case.answer(b"200\n%b\n%b" % (length, PLAIN), TEXT[:1000], end=False)
    assert (sent, fields, flags) == (b"", [*VARY, b"content-encoding", coding], 0)
    assert reader.read(body) == TEXT[:1000]
    case.exchange.receive_data(0, TEXT[1000:2000])
    [(_, body)] = case.client.take()
    assert reader.read(body) == TEXT[1000:2000]
    case.exchange.receive_data(wire.END, TEXT[2000:])
    [(_, body), (_, last), end, finished] = case.client.take()
    assert (end, finished) == (("end", []), ("finished",))
    assert reader.read(body) + reader.read(last) == TEXT[2000:]


def test_head_alone_leaves_at_once_and_credit_comes_back_for_what_the_application_sent() -> None:
    case = Case()
    [(_, _, _, _, _, body)] = case.answer(end=False)
    assert body == b""
    case.exchange.receive_data(0, b"x" * wire.INITIAL_WINDOW)
    assert case.local.calls == [("window", wire.MAX_DATA)], "from here on, a piece at a time"


def test_trailers_follow_the_compressed_content() -> None:
    case = Case(trailers=True)
    case.answer(body=TEXT, end=False)
    case.exchange.receive_trailers(b"x-checksum\nabc")
    assert [call[0] for call in case.client.take()] == ["data", "end", "finished"]


def test_answer_that_does_not_get_smaller_goes_out_as_it_is() -> None:
    noise = random.Random(1).randbytes(200)
    [(_, _, length, fields, _, body), _] = Case().answer(b"200\n200\n" + PLAIN + b'\netag\n"x"', noise)
    assert (length, body) == (b"200", noise)
    assert fields == [b"content-type", b"text/plain", b"etag", b'"x"', b"vary", b"Accept-Encoding"]


@pytest.mark.parametrize("head", [b"200\n\ncontent-type\ntext/event-stream", b"200\n\ncontent-type\nimage/png"])
def test_other_answers_are_passed_on(head: bytes) -> None:
    case = Case()
    [(_, _, length, fields, _, body)] = case.answer(head, TEXT, end=False)
    assert (length, fields, body) == (b"", head.split(b"\n")[2:], TEXT)
    case.exchange.receive_data(wire.END, b"more")
    assert case.client.take() == [("data", b"more"), ("end", []), ("finished",)]


def test_client_that_takes_no_coding_gets_vary() -> None:
    [(_, _, length, fields, _, body), _] = Case(b"identity").answer(b"200\n4400\n" + PLAIN, TEXT)
    assert (length, fields, body) == (b"4400", VARY, TEXT)


def test_head_has_the_fields_of_a_get_and_no_length() -> None:
    [(_, _, length, fields, _, body), _] = Case(method=b"HEAD").answer(b"200\n4400\n" + PLAIN)
    assert (length, fields, body) == (b"", [*VARY, b"content-encoding", b"gzip"], b"")


def test_head_of_unknown_length_promises_nothing() -> None:
    [(_, _, length, fields, _, _), _] = Case(method=b"HEAD").answer()
    assert (length, fields) == (b"", [b"content-type", b"text/plain"])


@pytest.mark.parametrize("end", [b"", b"0123456789"])
def test_content_that_is_shorter_than_announced_breaks_the_answer_off(end: bytes) -> None:
    case = Case()
    case.answer(b"200\n4400\n" + PLAIN, TEXT[:1000], end=False)
    case.exchange.receive_data(wire.END, end)
    calls = case.client.take()
    assert calls[-1] == ("abort", f"the content is {3400 - len(end)} bytes shorter than announced")
    assert ("end", []) not in calls


@pytest.mark.parametrize("first", [1000, 5000])
def test_content_that_is_longer_than_announced_breaks_the_answer_off(first: int) -> None:
    case = Case()
    calls = case.answer(b"200\n4400\n" + PLAIN, b"x" * first, end=False)
    if first == 1000:
        case.exchange.receive_data(0, b"x" * 3401)
        calls = case.client.take()
    assert calls == [("abort", "the application's content is longer than its content-length")]


def test_whole_answer_of_another_length_than_announced_is_the_connections_to_refuse() -> None:
    [(_, _, length, fields, _, body), _] = Case().answer(b"200\n4401\n" + PLAIN, TEXT)
    assert (length, fields, body) == (b"4401", VARY, TEXT)


def test_worker_that_fails_within_the_answer_breaks_it_off() -> None:
    case = Case()
    case.answer(body=TEXT, end=False)
    case.exchange.receive_reset(b"app-error")
    assert case.client.take() == [("abort", "the application raised an exception")]


def test_last_target_that_compresses_has_the_word() -> None:
    case = Case()
    case.exchange.head.lines.append(b"cookie\na=b")
    folder = Compressing(case.target, case.encoders, PUBLIC)
    folder.submit(case.exchange, HEAD)
    assert isinstance(case.exchange._client, CompressingClient)
    assert case.exchange._client.connection is case.client
    assert case.answer(body=TEXT)[0][3] == VARY


def test_client_that_leaves_is_told_of_at_the_target() -> None:
    case = Case()
    case.exchange.target = case.target
    case.exchange.withdraw()
    assert case.local.calls == [("cancel",), ("withdraw",)]


def test_websocket_is_not_touched() -> None:
    case = Case(upgrade=b"key", complete=False)
    assert case.exchange._client is case.client


def test_window_is_the_clients() -> None:
    case = Case()
    case.client.answer_window = 16384
    assert case.exchange._client.answer_window == 16384


def test_only_so_many_answers_are_compressed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressing, "MAX_ENCODERS", 1)
    encoders = Encoders()
    first, second = Case(encoders=encoders), Case(encoders=encoders)
    assert first.answer(body=TEXT, end=False)[0][3][-1] == b"gzip"
    assert second.answer(body=TEXT, end=False)[0][3] == VARY
    del first
    gc.collect()
    third = Case(encoders=encoders)
    assert third.answer(body=TEXT, end=False)[0][3][-1] == b"gzip"


@pytest.mark.parametrize(
    ("settings", "rules"),
    [
        (CompressSettings("off"), None),
        (CompressSettings("auto"), Rules(CODINGS, 1024)),
        (CompressSettings("gzip", 10, "always"), Rules((b"gzip",), 10, secrets=True)),
    ],
)
def test_rules_are_those_of_the_settings(settings: CompressSettings, rules: Rules | None) -> None:
    assert rules_of(settings) == rules
