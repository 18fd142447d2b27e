"""WSGI applications in threads: the environment, the answer piece by piece, and the end in every order."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_backend.errors import ApplicationError, ClientDisconnected
from edge_backend.scope import build_scope
from edge_backend.wsgi import FILE_BLOCK, MAX_MEMORY, FileWrapper, WsgiAdapter, build_environ
from tests.ends import in_loop

Message = dict[str, Any]

# The parts of a REQUEST head, see edge_backend.scope.
HEAD = [b"POST", b"/a%2Fb/\xc3\xa4?q=%20", b"1.1", b"https", b"192.0.2.1", b"4711", b"example.com", b"443"]


def scope_of(*parts: bytes, root_path: str = "", **changes: Any) -> Message:
    return build_scope([*HEAD, *parts], root_path, {}) | changes


class Peer:
    """A client of an adapter: content that it gives, messages that it got."""

    def __init__(self, *pieces: bytes, leaves: bool = False) -> None:
        self.messages: list[Message] = []
        self.on_send: Callable[[Message], Any] = lambda message: None
        self._pieces: list[Message] = [
            {"type": "http.request", "body": piece, "more_body": leaves or number < len(pieces)}
            for number, piece in enumerate(pieces or (b"",), 1)
        ]
        if leaves:
            self._pieces.append({"type": "http.disconnect"})
        self._error: Exception | None = None
        self.has_content = asyncio.Event()

    def leave_with(self, error: Exception) -> None:
        """Have `receive` fail where it would say that the client has left."""
        self._error = error

    async def receive(self) -> Message:
        if self._error is not None and len(self._pieces) == 1:
            raise self._error
        return self._pieces.pop(0)

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        if "body" in message:
            self.has_content.set()
        answer = self.on_send(message)
        if answer is not None:
            await answer

    async def call(self, app: Any, *parts: bytes, threads: int = 1) -> bytes:
        """Send a request and return the content of the answer."""
        adapter = WsgiAdapter(app, threads)
        try:
            await adapter(scope_of(*parts), self.receive, self.send)
        finally:
            adapter.close()
        return b"".join(message.get("body", b"") for message in self.messages)


def answering(*pieces: Any, **fields: str) -> Any:
    """An application that yields these pieces."""

    def app(environ: Any, start_response: Any) -> Iterator[Any]:
        start_response("200 OK", [(name.replace("_", "-"), value) for name, value in fields.items()])
        yield from pieces

    return app


# The environment.


def test_environment_says_what_the_request_is() -> None:
    environ = build_environ(scope_of(b"host", b"shop.example", b"content-type", b"text/plain"), io.BytesIO(b"content"))
    assert environ.pop("wsgi.input").read() == b"content"
    assert environ == {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a/b/\xc3\xa4",
        "QUERY_STRING": "q=%20",
        "REQUEST_URI": "/a%2Fb/\xc3\xa4?q=%20",
        "RAW_URI": "/a%2Fb/\xc3\xa4?q=%20",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "example.com",
        "SERVER_PORT": "443",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": "4711",
        "HTTPS": "on",
        "HTTP_HOST": "shop.example",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "7",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([b"x-a", b"1", b"x-a", b"2"], {"HTTP_X_A": "1,2"}),
        ([b"cookie", b"a=1", b"cookie", b"b=2"], {"HTTP_COOKIE": "a=1; b=2"}),
        ([b"x-real-user", b"me", b"x_real_user", b"root"], {"HTTP_X_REAL_USER": "me"}),
        ([b"proxy", b"http://attacker.test"], {}),
        ([b"content-length", b"3"], {"CONTENT_LENGTH": "3"}),
        ([b"x-a", b"\xe4"], {"HTTP_X_A": "\xe4"}),
    ],
)
def test_fields_are_variables(fields: list[bytes], expected: dict[str, str]) -> None:
    environ = build_environ(scope_of(*fields), io.BytesIO(b""))
    assert {key: value for key, value in environ.items() if key.startswith(("HTTP_", "CONTENT_"))} == expected


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({"scheme": "http"}, "HTTPS", None),
        ({"client": None}, "REMOTE_ADDR", None),
        ({"server": ("/run/edge.sock", None)}, "SERVER_PORT", ""),
        ({"http_version": "2"}, "SERVER_PROTOCOL", "HTTP/2.0"),
        ({"query_string": b""}, "REQUEST_URI", "/a%2Fb/\xc3\xa4"),
    ],
)
def test_environment_follows_the_connection(changes: Message, name: str, expected: object) -> None:
    assert build_environ(scope_of(**changes), io.BytesIO()).get(name) == expected


def test_mounted_application_sees_its_prefix_apart() -> None:
    environ = build_environ(scope_of(root_path="/shop"), io.BytesIO())
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/shop", "/a/b/\xc3\xa4")
    asterisk = build_environ(build_scope([b"OPTIONS", b"*", *HEAD[2:]], "/shop", {}), io.BytesIO())
    assert (asterisk["SCRIPT_NAME"], asterisk["PATH_INFO"]) == ("/shop", "*")


# Content.


@pytest.mark.parametrize("size", [0, 10, MAX_MEMORY + 1])
@in_loop
async def test_content_is_whole_before_the_call(size: int) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        file = environ["wsgi.input"]
        first, position = file.read(), file.seek(0)
        assert position == 0
        assert first == file.read()
        return [b"%d %b" % (len(first), environ.get("CONTENT_LENGTH", "none").encode())]

    half = b"x" * (size // 2)
    length = str(2 * len(half)) if half else "none"
    assert await Peer(half, half).call(app) == f"{2 * len(half)} {length}".encode()


@in_loop
async def test_client_that_leaves_early_costs_no_thread() -> None:
    called: list[Any] = []
    with pytest.raises(ClientDisconnected):
        await Peer(b"half", leaves=True).call(lambda environ, start_response: called.append(environ))
    assert called == []


@in_loop
async def test_failure_while_content_comes_leaves_no_file_open() -> None:
    peer = Peer(b"x" * (MAX_MEMORY + 1), leaves=True)
    peer.leave_with(OSError("broken"))
    with pytest.raises(OSError, match="broken"):  # an open file would be a ResourceWarning, and end the run
        await peer.call(answering())


# The answer.


@pytest.mark.parametrize(
    ("app", "messages"),
    [
        (answering(b"a", b"", b"b"), [("a", True), ("b", True), ("", False)]),
        (answering(), [("", False)]),
        (answering(b"ab", content_length="2"), [("ab", False)]),
        (answering(b"a", b"b", b"", content_length="2"), [("a", True), ("b", False)]),
        (answering(b"ab", content_length="x"), [("ab", True), ("", False)]),
    ],
    ids=["pieces", "nothing", "whole", "whole in pieces", "no number"],
)
@in_loop
async def test_each_piece_leaves_as_it_comes(app: Any, messages: list[tuple[str, bool]]) -> None:
    peer = Peer()
    await peer.call(app)
    assert [(m["body"].decode(), m["more_body"]) for m in peer.messages[1:]] == messages
    assert (peer.messages[0]["type"], peer.messages[0]["status"]) == ("http.response.start", 200)


@pytest.mark.parametrize("kind", [list, tuple])
@in_loop
async def test_list_is_one_piece(kind: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("201 Created", [("X-A", "\xe4")])
        return kind([b"a", b"b"])

    peer = Peer()
    assert await peer.call(app) == b"ab"
    assert peer.messages[0] == {"type": "http.response.start", "status": 201, "headers": [(b"X-A", b"\xe4")]}
    assert len(peer.messages) == 2


@in_loop
async def test_write_sends_before_what_is_returned() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"written ")
        return [b"returned"]

    assert await Peer().call(app) == b"written returned"


@in_loop
async def test_next_piece_is_asked_for_when_the_client_has_taken_the_last() -> None:
    made: list[int] = []
    taken = asyncio.Event()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for number in range(3):
            made.append(number)
            yield b"%d" % number

    peer = Peer()
    peer.on_send = lambda message: taken.wait() if message.get("body") == b"0" else None
    call = asyncio.create_task(peer.call(app))
    await peer.has_content.wait()
    assert made == [0]
    taken.set()
    assert await call == b"012"


@in_loop
async def test_as_many_calls_run_as_there_are_threads() -> None:
    meeting = threading.Barrier(3)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        meeting.wait(10)
        return [threading.current_thread().name.encode()]

    adapter = WsgiAdapter(app, 3)
    peers = [Peer() for _ in range(3)]
    await asyncio.gather(*(adapter(scope_of(), peer.receive, peer.send) for peer in peers))
    adapter.close()
    assert len({peer.messages[1]["body"] for peer in peers}) == 3


@in_loop
async def test_websocket_is_refused() -> None:
    peer = Peer()
    adapter = WsgiAdapter(answering(), 1)
    await adapter({"type": "websocket"}, peer.receive, peer.send)
    adapter.close()
    assert peer.messages == [{"type": "websocket.close"}]


@pytest.mark.parametrize("suggested", [1, 2 * FILE_BLOCK])
def test_file_comes_in_large_pieces_and_is_closed(suggested: int) -> None:
    file = io.BytesIO(b"x" * (2 * FILE_BLOCK + 1))
    wrapper = FileWrapper(file, suggested)
    block = max(suggested, FILE_BLOCK)
    assert [len(piece) for piece in wrapper] == [block] * (2 * FILE_BLOCK // block) + [1]
    wrapper.close()
    assert file.closed


def test_file_that_cannot_be_closed_is_left() -> None:
    FileWrapper(object()).close()  # type: ignore[arg-type]  # whatever an application has made


# Errors.


def twice(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []


def replaced(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "1000")])
    try:
        raise KeyError("gone")
    except KeyError:
        start_response("500 Oops", [], sys.exc_info())
    return [b"replaced"]


def too_late(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [])
    yield b"begun"
    try:
        raise KeyError("too late")
    except KeyError:
        start_response("500 Oops", [], sys.exc_info())


def raises_stop(environ: Any, start_response: Any) -> list[bytes]:
    raise StopIteration


@pytest.mark.parametrize(
    ("app", "error", "message"),
    [
        (twice, ApplicationError, "start_response was called twice without exc_info"),
        (too_late, KeyError, "too late"),
        (raises_stop, RuntimeError, "the application raised StopIteration"),
        (answering("text"), ApplicationError, "the application's content is 'str', not bytes"),
        (lambda environ, start_response: [], ApplicationError, "sent content before it called start_response"),
        (lambda e, start: start("OK", []), ApplicationError, "status 'OK' does not begin with three digits"),
        (lambda e, start: 1 / 0, ZeroDivisionError, "division by zero"),
    ],
)
@in_loop
async def test_error_of_the_application_comes_through(app: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        await Peer().call(app)


@in_loop
async def test_answer_that_has_not_begun_can_be_replaced() -> None:
    peer = Peer()
    assert await peer.call(replaced) == b"replaced"
    assert (peer.messages[0]["status"], peer.messages[0]["headers"]) == (500, [])


class Closing:
    """Content that notes when it is closed, and may fail then."""

    def __init__(self, pieces: Iterator[bytes], error: Exception | None = None) -> None:
        self._pieces = pieces
        self._error = error
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        self.closed.set()
        if self._error is not None:
            raise self._error


@in_loop
async def test_error_in_close_comes_after_the_whole_answer() -> None:
    def app(environ: Any, start_response: Any) -> Closing:
        start_response("200 OK", [])
        return Closing(iter([b"whole"]), OSError("closing"))

    peer = Peer()
    peer.on_send = lambda message: asyncio.sleep(0.01)
    with pytest.raises(OSError, match="closing"):
        await peer.call(app)
    assert peer.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def endless() -> Iterator[bytes]:
    while True:
        yield b"more"


@in_loop
async def test_content_is_closed_when_the_client_leaves() -> None:
    content = Closing(endless())

    def app(environ: Any, start_response: Any) -> Closing:
        start_response("200 OK", [])
        return content

    def leave(message: Message) -> None:
        if len(peer.messages) == 3:
            raise ClientDisconnected("gone")

    peer = Peer()
    peer.on_send = leave
    with pytest.raises(ClientDisconnected):
        await peer.call(app)
    assert content.closed.is_set()


@pytest.mark.parametrize("waits", [True, False], ids=["while it waits", "while it works"])
@in_loop
async def test_content_is_closed_when_the_call_is_cancelled(waits: bool) -> None:
    goes_on = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"first"
        goes_on.wait(10)
        yield b"second"

    content = Closing(pieces())

    def app(environ: Any, start_response: Any) -> Closing:
        start_response("200 OK", [])
        return content

    peer = Peer()
    peer.on_send = lambda message: asyncio.Event().wait() if waits and "body" in message else None
    call = asyncio.create_task(peer.call(app))
    await peer.has_content.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    goes_on.set()
    await asyncio.to_thread(content.closed.wait, 10)
    assert content.closed.is_set()
    assert [message.get("body") for message in peer.messages] == [None, b"first"]
