"""A WSGI application (PEP 3333) as an ASGI application: each request is a call in a thread.

Theory of operation
-------------------
A call takes a thread only when its request is whole: the content is gathered first, in memory and from `MAX_MEMORY` on
in a file without a name, so a slow client costs no thread, and `wsgi.input` is a file that can be sought in.

Each piece that the application yields is sent before the next is asked for, and the thread waits until the server takes
it: a slow client holds up its own call. The end of an answer needs no waiting: `close()` of what the application
returned is called as soon as everything is on its way, and not before.

When the client has gone, or the call is cancelled at the end of the server, the next piece raises in the thread, and
`close()` is called. The lock makes that certain: after `cut_off` no thread waits for an event loop that may be gone.
"""

from __future__ import annotations

import asyncio
import contextvars
import io
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from .errors import ApplicationError, ClientDisconnected
from .loader import Application

# Content of a request beyond this is kept in a file; forms and JSON stay below.
MAX_MEMORY = 256 * 1024
# A piece of a file costs a change of threads: the blocks of 4 to 8 KiB that frameworks suggest are too small for that.
FILE_BLOCK = 128 * 1024

Environ = dict[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class WsgiAdapter:
    """The ASGI application; up to `threads` calls run at a time, more wait for their turn."""

    def __init__(self, app: Application, threads: int) -> None:
        self._app = app
        self._is_multithreaded = threads > 1
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="wsgi")

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one request; a WebSocket is refused, as WSGI has none."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        with await _gather(receive) as content:
            environ = build_environ(scope, content)
            environ["wsgi.multithread"] = self._is_multithreaded
            call = _Call(environ, send)
            # Each call has a context of its own, as a task has.
            run = contextvars.copy_context().run
            loop = asyncio.get_running_loop()
            try:
                try:
                    await loop.run_in_executor(self._threads, run, call.run, self._app)
                except Exception:
                    await call.sent()  # it was whole, and close() has raised: the client still gets it
                    raise
                await call.sent()
            finally:
                call.cut_off()

    def close(self) -> None:
        """Call nothing any more. Threads end with the calls that they run."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class FileWrapper:
    """`wsgi.file_wrapper`: a file in pieces. The size that the application suggests is a minimum."""

    def __init__(self, file: IO[bytes], block_size: int = FILE_BLOCK) -> None:
        self._file = file
        self._block_size = max(block_size, FILE_BLOCK)

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._file.read(self._block_size):
            yield piece

    def close(self) -> None:
        """Close the file, if it can be closed."""
        if hasattr(self._file, "close"):
            self._file.close()


def build_environ(scope: dict[str, Any], content: IO[bytes]) -> Environ:
    """Return the environment of a call (PEP 3333) for an ASGI scope and the request's whole content."""
    prefix = scope["root_path"].encode()
    path = unquote_to_bytes(scope["raw_path"])
    query = scope["query_string"].decode("latin-1")
    # What no decoding has touched: frameworks tell %2F from a slash by it.
    target = scope["raw_path"].decode("latin-1") + ("?" + query if query else "")
    host, port = scope["server"]
    version = scope["http_version"]
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": prefix.decode("latin-1"),
        "PATH_INFO": path.removeprefix(prefix).decode("latin-1"),
        "QUERY_STRING": query,
        "REQUEST_URI": target,
        "RAW_URI": target,  # gunicorn's name for it
        # RFC 3875 section 4.1.16 wants a minor version.
        "SERVER_PROTOCOL": f"HTTP/{version}" if "." in version else f"HTTP/{version}.0",
        "SERVER_NAME": host,
        "SERVER_PORT": "" if port is None else str(port),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": content,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    if scope["scheme"] == "https":
        environ["HTTPS"] = "on"
    if scope["client"] is not None:
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = scope["client"][0], str(scope["client"][1])
    _add_fields(environ, scope["headers"])
    if "CONTENT_LENGTH" not in environ and (size := content.seek(0, io.SEEK_END)):
        environ["CONTENT_LENGTH"] = str(size)  # it came in chunks, and is whole now
    content.seek(0)
    return environ


def _add_fields(environ: Environ, fields: Iterable[tuple[bytes, bytes]]) -> None:
    for name, value in fields:
        # X_A and X-A would be the same variable: whoever checks one could be given the other. HTTP_PROXY is a variable
        # of its own for what calls out (CVE-2016-5385).
        if b"_" in name or name == b"proxy":
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_LENGTH", "CONTENT_TYPE"):
            key = f"HTTP_{key}"
        text = value.decode("latin-1")
        if key in environ:
            text = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + text
        environ[key] = text


async def _gather(receive: Any) -> IO[bytes]:
    """Return the whole content of a request, at its beginning.

    Raises ClientDisconnected if the client leaves before it is there.
    """
    message = await receive()
    if message["type"] == "http.request" and not message["more_body"]:
        return io.BytesIO(message["body"])
    content = tempfile.SpooledTemporaryFile(MAX_MEMORY)  # noqa: SIM115 # the caller closes it
    try:
        while message["type"] == "http.request":
            content.write(message["body"])
            if not message["more_body"]:
                return content
            message = await receive()
    except BaseException:
        content.close()
        raise
    content.close()
    raise ClientDisconnected("the client has disconnected before the request was whole")


class _Call:
    """One call of the application: made in the event loop, run in a thread."""

    def __init__(self, environ: Environ, send: Any) -> None:
        self._environ = environ
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._is_cut_off = False
        self._sending: Future[None] | None = None
        self._start: dict[str, Any] | None = None  # what start_response was told
        self._has_started = False
        self._left = -1  # bytes that Content-Length still announces; -1: not announced
        self._is_ended = False

    # In the event loop.

    async def sent(self) -> None:
        """Wait until the end of the answer is sent."""
        if self._sending is not None:
            await asyncio.wrap_future(self._sending)

    def cut_off(self) -> None:
        """The call is over for the server: the thread, if it is not, hears so when it sends the next time."""
        with self._lock:
            self._is_cut_off = True
            if self._sending is not None:
                self._sending.cancel()

    # In the thread.

    def run(self, app: Application) -> None:
        """Call the application and send what it answers."""
        try:
            content = app(self._environ, self._start_response)
            try:
                self._send_content(content)
            finally:
                if hasattr(content, "close"):
                    content.close()
        except StopIteration as error:
            # No future can carry it: the request would never end.
            raise RuntimeError("the application raised StopIteration") from error

    def _send_content(self, content: Iterable[bytes]) -> None:
        if isinstance(content, list | tuple):
            self._send_piece(b"".join(content), is_last=True)
            return
        for piece in content:
            if piece:
                self._write(piece)
            if self._is_ended:
                return
        self._send_piece(b"", is_last=True)

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None) -> Any:
        if exc_info is not None and self._has_started:
            try:
                raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # its traceback holds this frame, which would be a cycle
        if exc_info is None and self._start is not None:
            raise ApplicationError("start_response was called twice without exc_info")
        if not status[:3].isdecimal():
            raise ApplicationError(f"status {status!r} does not begin with three digits, such as '200 OK'")
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        self._left = int(lengths[0]) if lengths and lengths[0].isdecimal() else -1
        self._start = {"type": "http.response.start", "status": int(status[:3]), "headers": fields}
        return self._write

    def _write(self, piece: bytes) -> None:
        if not isinstance(piece, bytes):
            raise ApplicationError(f"the application's content is {type(piece).__name__!r}, not bytes")
        size = len(piece)
        self._send_piece(piece, is_last=size > 0 and size == self._left)
        if self._left >= 0:
            self._left -= size

    def _send_piece(self, piece: bytes, *, is_last: bool) -> None:
        messages = [{"type": "http.response.body", "body": piece, "more_body": not is_last}]
        if not self._has_started:
            if self._start is None:
                raise ApplicationError("the application sent content before it called start_response")
            messages.insert(0, self._start)
            self._has_started = True
        self._is_ended = is_last
        with self._lock:
            if self._is_cut_off:
                raise ClientDisconnected("the client has disconnected, or the server has ended")
            self._sending = asyncio.run_coroutine_threadsafe(self._send_all(messages), self._loop)
        if not is_last:
            self._sending.result()

    async def _send_all(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            await self._send(message)
