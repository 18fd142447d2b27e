"""One WebSocket as ASGI sees it, over a link in memory, against the client's side of the same core."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from edge_backend import websocket, wire
from edge_backend.errors import ApplicationError, ClientDisconnected
from edge_backend.scope import build_scope
from edge_backend.settings import WorkerSettings
from edge_backend.websocket import WebSocketExchange, websocket_scope
from tests.backend.test_asgi import PARTS, STREAM, MemoryLink
from tests.backend.test_settings import SETTINGS
from tests.ends import in_loop, turn

WITHOUT_PINGS = replace(SETTINGS, ws_ping_interval=0.0, ws_per_message_deflate=True)


class Case:
    """An exchange, its link, and a client that speaks the frames."""

    def __init__(self, *fields: bytes, flags: int = 0, settings: WorkerSettings = WITHOUT_PINGS) -> None:
        self.link = MemoryLink()
        scope = websocket_scope(build_scope([*PARTS, *fields], "", {}))
        self.exchange = WebSocketExchange(self.link, STREAM, flags, scope, settings)
        self.client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
        self.ended = False

    async def accept(self, **more: Any) -> None:
        assert await self.exchange.receive() == {"type": "websocket.connect"}
        await self.exchange.send({"type": "websocket.accept", **more})
        assert self.link.take()[0][0] == wire.RESPONSE

    def send(self, *, ended: bool = False) -> None:
        """Pass on what the client wants to send."""
        self.exchange.feed_data(b"".join(self.client.data_to_send()), ended)

    def receive(self) -> list[Frame]:
        """Return the WebSocket frames that came for the client."""
        for kind, flags, _, _, body in self.link.take():
            assert kind in (wire.DATA, wire.WINDOW)
            self.ended = self.ended or bool(flags & wire.END)
            if kind == wire.DATA:
                self.client.receive_data(body)
        return [event for event in self.client.events_received() if isinstance(event, Frame)]

    def close_code(self) -> int | None:
        """Return the code of the Close frame that came for the client."""
        self.receive()
        close = self.client.close_rcvd
        return close.code if close is not None else None


async def accepted(*, settings: WorkerSettings = WITHOUT_PINGS) -> Case:
    case = Case(settings=settings)
    await case.accept()
    return case


def test_scope_is_that_of_a_websocket() -> None:
    fields = [b"sec-websocket-protocol", b"one, two", b"sec-websocket-protocol", b" three,,"]
    scope = websocket_scope(build_scope([*PARTS, *fields], "", {}))
    assert (scope["type"], scope["scheme"], scope["subprotocols"]) == ("websocket", "wss", ["one", "two", "three"])
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert scope["headers"][-2:] == [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]
    assert "method" not in scope
    assert websocket_scope(build_scope([*PARTS[:3], b"http", *PARTS[4:]], "", {}))["scheme"] == "ws"


# The handshake


@in_loop
async def test_accept_is_a_101_with_the_applications_fields_but_not_the_handshakes() -> None:
    case = Case(b"sec-websocket-extensions", b"permessage-deflate")
    await case.exchange.receive()
    headers = [(b"X-A", b"1"), (b"Upgrade", b"x"), (b"Sec-WebSocket-Accept", b"x")]
    await case.exchange.send({"type": "websocket.accept", "subprotocol": "chat", "headers": headers})
    [(kind, flags, _, head, _)] = case.link.take()
    parts = head.split(b"\n")
    assert (kind, flags, parts[:2]) == (wire.RESPONSE, 0, [b"101", b""])
    assert parts[2:6] == [b"x-a", b"1", b"sec-websocket-protocol", b"chat"]
    assert parts[6] == b"sec-websocket-extensions"
    assert parts[7].startswith(b"permessage-deflate")


@pytest.mark.parametrize("headers", [[(b"x", b"\n")], [(b"x y", b"1")], [(b"sec-websocket-protocol", b"chat")]])
@in_loop
async def test_accept_with_a_field_that_may_not_be_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    case = Case()
    with pytest.raises(ApplicationError):
        await case.exchange.send({"type": "websocket.accept", "headers": headers})
    assert case.link.take() == []


@in_loop
async def test_close_before_accept_refuses_and_is_a_disconnect() -> None:
    case = Case()
    await case.exchange.receive()
    await case.exchange.send({"type": "websocket.close"})
    assert case.link.take() == [(wire.RESET, 0, STREAM, b"denied", b"")]
    assert await case.exchange.receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    assert case.exchange.finish() is None


@in_loop
async def test_end_before_accept_has_a_reason() -> None:
    case = Case()
    assert case.exchange.finish() == b"no-response"
    case.exchange.fail(b"no-response")
    case.exchange.fail(b"app-error")
    assert case.link.take() == [(wire.RESET, 0, STREAM, b"no-response", b"")]


@in_loop
async def test_denial_response_is_an_answer_of_its_own() -> None:
    case = Case()
    send = case.exchange.send
    await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
    case.exchange.tick()
    case.exchange.tick()
    case.exchange.feed_credit(10)
    with pytest.raises(ApplicationError, match="after the handshake was refused"):
        await send({"type": "websocket.accept"})
    assert case.exchange.finish() == b"incomplete"
    await send({"type": "websocket.http.response.body", "body": b"no"})
    assert [(frame[0], frame[3], frame[4]) for frame in case.link.take()] == [
        (wire.RESPONSE, b"401\n", b""),
        (wire.DATA, b"", b"no"),
    ]
    assert case.exchange.finish() is None
    await case.exchange.wait_closed()


@in_loop
async def test_denial_response_ends_with_the_client_or_the_application() -> None:
    case = Case()
    await case.exchange.send({"type": "websocket.http.response.start", "status": 401})
    case.exchange.fail(b"app-error")
    assert case.link.take() == [(wire.RESET, 0, STREAM, b"app-error", b"")]
    case = Case()
    await case.exchange.send({"type": "websocket.http.response.start", "status": 401})
    case.exchange.disconnect()
    with pytest.raises(ClientDisconnected):
        await case.exchange.send({"type": "websocket.http.response.body"})


@in_loop
async def test_messages_in_the_wrong_order_are_refused() -> None:
    case = Case()
    for kind in ("websocket.send", "http.response.start", "websocket.receive"):
        with pytest.raises(ApplicationError):
            await case.exchange.send({"type": kind, "text": "x"})
    await case.accept()
    refused: list[dict[str, Any]] = [
        {"type": "websocket.accept"},
        {"type": "websocket.http.response.start", "status": 200},
        {"type": "websocket.send"},
        {"type": "websocket.close", "code": 1005},
        {"type": "websocket.close", "reason": "x" * 124},
    ]
    for message in refused:
        with pytest.raises(ApplicationError):
            await case.exchange.send(message)
    assert case.link.take() == []


# Messages


@in_loop
async def test_messages_of_the_client_reach_the_application() -> None:
    case = await accepted()
    case.client.send_text("é".encode())
    case.client.send_binary(b"")
    case.client.send_text(b"one ", fin=False)
    case.client.send_ping(b"now")
    case.client.send_continuation(b"two", fin=True)
    case.send()
    messages = [await case.exchange.receive() for _ in range(3)]
    assert [message.get("text", message.get("bytes")) for message in messages] == ["é", b"", "one two"]
    assert [frame.opcode for frame in case.receive()] == [Opcode.PONG]


@in_loop
async def test_messages_of_the_application_reach_the_client() -> None:
    case = await accepted()
    await case.exchange.send({"type": "websocket.send", "text": "é"})
    await case.exchange.send({"type": "websocket.send", "bytes": b"", "text": None})
    assert [(frame.opcode, frame.data) for frame in case.receive()] == [
        (Opcode.TEXT, "é".encode()),
        (Opcode.BINARY, b""),
    ]


@in_loop
async def test_invalid_utf8_is_closed_with_1007() -> None:
    case = await accepted()
    case.client.send_text(b"\xff")
    case.send()
    assert case.close_code() == 1007
    assert case.ended
    assert (await case.exchange.receive())["code"] == 1007


@in_loop
async def test_message_above_the_limit_is_closed_with_1009() -> None:
    case = await accepted(settings=replace(WITHOUT_PINGS, ws_max_size=100))
    case.client.send_binary(bytes(101))
    case.send()
    assert case.close_code() == 1009
    assert case.ended


# Closing


@in_loop
async def test_close_of_the_client_is_answered_and_ends_the_stream() -> None:
    case = await accepted()
    case.client.send_close(4002, "why")
    case.send()
    assert case.close_code() == 4002
    assert case.ended
    assert await case.exchange.receive() == {"type": "websocket.disconnect", "code": 4002, "reason": "why"}
    assert (await case.exchange.receive())["type"] == "websocket.disconnect"
    for kind in ("websocket.send", "websocket.close"):
        with pytest.raises(ClientDisconnected):
            await case.exchange.send({"type": kind, "text": "late"})
    await case.exchange.wait_closed()
    case.exchange.feed_data(b"late", True)


@in_loop
async def test_close_of_the_application_waits_for_the_clients() -> None:
    case = await accepted()
    await case.exchange.send({"type": "websocket.close", "code": 4001, "reason": "bye"})
    assert case.exchange.is_gone
    assert await case.exchange.receive() == {"type": "websocket.disconnect", "code": 4001, "reason": "bye"}
    waiting = asyncio.ensure_future(case.exchange.wait_closed())
    assert case.close_code() is not None
    assert not case.ended
    case.send()
    await waiting
    case.receive()
    assert case.ended


@pytest.mark.parametrize(("how", "code"), [("finish", 1000), ("fail", 1011), ("drain", 1012)])
@in_loop
async def test_end_has_its_code(how: str, code: int) -> None:
    case = await accepted()
    match how:
        case "finish":
            assert case.exchange.finish() is None
        case "fail":
            case.exchange.fail(b"app-error")
        case _:
            case.exchange.drain()
    assert case.close_code() == code
    # Closing once is enough.
    assert case.exchange.finish() is None
    case.exchange.fail(b"app-error")
    case.exchange.drain()
    assert case.link.take() == []


@in_loop
async def test_end_that_comes_before_the_application_accepts_is_not_forgotten() -> None:
    case = Case(settings=WITHOUT_PINGS)
    case.exchange.drain()
    assert await case.exchange.receive() == {"type": "websocket.connect"}
    await case.exchange.send({"type": "websocket.accept"})
    head, close = case.link.take()
    assert (head[0], close[0]) == (wire.RESPONSE, wire.DATA)
    case.client.receive_data(close[4])
    assert case.close_code() == 1012
    assert await case.exchange.receive() == {"type": "websocket.disconnect", "code": 1012, "reason": ""}


@in_loop
async def test_client_that_never_answers_the_close_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT", 0.01)
    case = await accepted()
    await case.exchange.send({"type": "websocket.close"})
    await case.exchange.wait_closed()
    case.receive()
    assert case.ended


@pytest.mark.parametrize("how", ["reset", "end"])
@in_loop
async def test_lost_connection_is_1006(how: str) -> None:
    case = await accepted()
    waiting = asyncio.ensure_future(case.exchange.receive())
    await turn()
    if how == "reset":
        case.exchange.disconnect()
    else:
        case.exchange.feed_data(b"", True)
    assert await waiting == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    case.exchange.disconnect()
    assert (await case.exchange.receive())["code"] == 1006
    with pytest.raises(ClientDisconnected):
        await case.exchange.send({"type": "websocket.accept"})


# Credit


@in_loop
async def test_send_keeps_to_the_credit() -> None:
    case = await accepted()
    size = wire.INITIAL_WINDOW + 1000
    sending = asyncio.ensure_future(case.exchange.send({"type": "websocket.send", "bytes": bytes(size)}))
    await turn()
    frames = case.link.take()
    assert sum(len(frame[4]) for frame in frames) == wire.INITIAL_WINDOW
    assert max(len(frame[4]) for frame in frames) == wire.MAX_DATA
    assert not sending.done()
    case.exchange.feed_credit(wire.MAX_DATA)
    await sending
    assert sum(len(frame[4]) for frame in case.link.take()) == 1000 + 10  # and the header of its frame


@in_loop
async def test_close_that_waits_for_credit_comes_when_there_is_some() -> None:
    case = await accepted()
    sending = asyncio.ensure_future(case.exchange.send({"type": "websocket.send", "bytes": bytes(wire.INITIAL_WINDOW)}))
    await turn()
    case.client.send_close(1001, "")
    case.send()
    case.receive()
    assert not case.ended
    assert (await case.exchange.receive())["code"] == 1001
    with pytest.raises(ClientDisconnected):
        await case.exchange.send({"type": "websocket.send", "text": "late"})
    case.exchange.feed_credit(1000)
    case.receive()
    assert case.ended
    await sending


@in_loop
async def test_what_waits_for_the_application_is_bounded_however_well_it_packs() -> None:
    case = Case(b"sec-websocket-extensions", b"permessage-deflate; client_no_context_takeover")
    await case.accept()
    factory = ClientPerMessageDeflateFactory(client_no_context_takeover=True)
    case.client.extensions = [factory.process_response_params([("client_no_context_takeover", None)], [])]
    for _ in range(200):
        case.client.send_binary(bytes(1_000_000))
    case.send()
    waiting = sum(len(message["bytes"]) for message in case.exchange._messages)
    assert waiting < 20_000_000
    case.client.send_close(1000, "")
    case.send()
    count = 0
    while (message := await case.exchange.receive())["type"] == "websocket.receive":
        count += 1
    assert (count, message["code"]) == (200, 1000)


@in_loop
async def test_credit_goes_back_as_the_application_reads() -> None:
    case = await accepted()
    for _ in range(4):
        case.client.send_binary(bytes(wire.WINDOW_STEP))
    case.send()
    first = sum(wire.decode_window(frame[4]) for frame in case.link.take())
    assert first < 2.5 * wire.WINDOW_STEP
    for _ in range(4):
        await case.exchange.receive()
    given = first + sum(wire.decode_window(frame[4]) for frame in case.link.take())
    assert given >= 3 * wire.WINDOW_STEP


# Pings


@in_loop
async def test_silent_client_is_closed_with_1011() -> None:
    case = await accepted(settings=replace(SETTINGS, ws_ping_interval=0.01, ws_ping_timeout=0.01))
    assert (await case.exchange.receive())["code"] == 1011
    assert [frame.opcode for frame in case.receive()] == [Opcode.PING, Opcode.CLOSE]
    assert case.ended


async def take_pings(case: Case, number: int) -> None:
    """Wait for so many pings; the last of them is not answered yet."""
    while number > 0:
        case.send()
        await asyncio.sleep(0.001)
        number -= sum(frame.opcode is Opcode.PING for frame in case.receive())


@pytest.mark.parametrize("wait", [0.0, 0.01])
@in_loop
async def test_client_that_answers_is_pinged_again(wait: float) -> None:
    case = await accepted(settings=replace(SETTINGS, ws_ping_interval=0.01, ws_ping_timeout=wait))
    await take_pings(case, 3)
    case.exchange.disconnect()
    assert (await case.exchange.receive())["code"] == 1006


@in_loop
async def test_client_does_not_pay_for_an_event_loop_that_stood_still() -> None:
    case = await accepted(settings=replace(SETTINGS, ws_ping_interval=0.01, ws_ping_timeout=0.01))
    await take_pings(case, 1)
    time.sleep(0.02)  # noqa: ASYNC251
    for _ in range(2):
        await asyncio.sleep(0)  # what is due by now is done in the first turn
    await take_pings(case, 1)
    case.exchange.disconnect()
    assert (await case.exchange.receive())["code"] == 1006
