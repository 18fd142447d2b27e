"""`edge.Config` and `edge.Server`: a server in a program of one's own, by uvicorn's names."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from types import FrameType, TracebackType
from typing import Any, Self

from edge.config import ServeSettings, all_options
from edge.embedded import Embedded, embed
from edge.envfile import read_settings
from edge.errors import ConfigError, StartError
from edge.keywords import options_of_keywords, wants_several
from edge.net.address import TcpAddress
from edge.net.listener import Listener, open_listeners
from edge.observe import say
from edge.status import describe
from edge_backend.errors import LoadError
from edge_backend.loader import Loaded, application_traceback, load_application, make_application
from edge_backend.log_config import apply_log_table
from edge_backend.loops import LoopFactory, loop_factory
from edge_certs.errors import CertificateError

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000
# uvicorn's exit code for what cannot start, and its words for this.
STARTUP_FAILURE = 3
NEEDS_IMPORT_STRING = "You must pass the application as an import string to enable 'reload' or 'workers'."
# Files of certificates are looked at, and requests counted, this often.
PACE = 0.5
# What is of a server of its own: a program is its own master.
_OF_PROCESSES = ("acme", "config", "metrics", "pid", "chdir", "user", "group", "outbound_ca", "strict")
# What says where to listen, without or with a default of its own.
_ADDRESSES = ("bind", "uds", "fd", "http_bind", "dev")
_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Config:
    """What a `Server` serves, and how: an application or its import string, with the options of `edge serve`.

    The names of uvicorn's keywords are understood too. Without an address it listens on 127.0.0.1:8000; `port=0` is any
    free port. `EDGE_*` variables count for what is not given. `log_config=None` leaves logging to the program, which
    gets the access log from the logger `edge.access`; a dictionary is one for `logging.config.dictConfig`.

    Raises ConfigError if an option is wrong, or is one of a server with processes of its own.
    """

    def __init__(self, app: str | Callable[..., Any], host: str | None = None, port: int | None = None, **options: Any):
        self.app = app
        self.loaded = False
        self.loaded_app: Callable[..., Any]
        # The logger of the access log, where logging is the program's own.
        self.access_logger: str | None = None
        log_config = options.get("log_config", "")
        if not isinstance(log_config, str | os.PathLike):
            del options["log_config"]
            self.access_logger = "edge.access" if log_config is None else apply_log_table(log_config)
        self._values = options_of_keywords({"host": host, "port": port, **options})
        self.settings = _read(app, self._values)

    @property
    def host(self) -> str | None:
        """The host that was asked for; None where sockets or addresses say it."""
        return self.settings.listen.host

    @property
    def port(self) -> int | None:
        """The port that was asked for; see `Server.port` for the one that it became."""
        return self.settings.listen.port

    @property
    def is_ssl(self) -> bool:
        """True if clients are served over TLS."""
        return bool(self.settings.tls.certificates or self.settings.tls.dev)

    def load(self) -> Loaded:
        """Import the application, or make it, unless that was done; what its own code raises comes through.

        Raises LoadError if the name leads nowhere, or what is there cannot be called.
        """
        application = self.settings.application
        if not isinstance(self.app, str):
            loaded = make_application(self.app, "application", factory=application.factory)
        else:
            sys.path[:0] = [path for path in application.python_path if path not in sys.path]
            loaded = load_application(self.app, app_dir=application.app_dir, factory=application.factory)
        self.loaded, self.loaded_app = True, loaded.app
        return loaded

    def bind_socket(self) -> socket.socket:
        """Return a socket bound to the first address, for `Server.run(sockets=[...])`; the caller closes it.

        Raises ConfigError if that cannot be.
        """
        tls = self.settings.tls
        listeners, _ = open_listeners(self.settings.listen, has_certificate=bool(tls.certificates), dev=tls.dev)
        for listener in listeners[1:]:
            listener.sock.close()
        return listeners[0].sock


class Server:
    """A server in this process: the application runs in the event loop that serves its clients.

    `run()` makes an event loop, `await serve()` uses the one that runs; both return when `should_exit` is set, from any
    thread or by SIGINT or SIGTERM in the main one. `with server:` serves from a thread of its own, `async with server:`
    from the running loop; neither touches a signal handler.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.started = False
        self.running: Embedded
        self._should_exit = False
        self._force_exit = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._exit: asyncio.Event
        self._forced: asyncio.Event
        self._stack = contextlib.AsyncExitStack()
        self._captured: list[int] = []
        self._raises_again = True
        self._handlers: dict[int, Any] = {}
        self._watching: asyncio.Task[None]
        self._thread: threading.Thread

    # What it is told, from any thread.

    @property
    def should_exit(self) -> bool:
        """Set it to have the server finish what runs, and end."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        self._wake()

    @property
    def force_exit(self) -> bool:
        """Set it, besides `should_exit`, to have the server end at once: without the application's shutdown."""
        return self._force_exit

    @force_exit.setter
    def force_exit(self, value: bool) -> None:
        self._force_exit = value
        self._wake()

    # Where it is.

    @property
    def port(self) -> int:
        """The port that it listens on, the first of several. Raises RuntimeError before it has started."""
        ports = [listener.public_port for listener in self._listeners() if listener.public_port is not None]
        if not ports:
            raise RuntimeError("the server listens on no port, but on a Unix socket; see urls")
        return ports[0]

    @property
    def urls(self) -> list[str]:
        """Where clients of this machine reach it, such as http://127.0.0.1:8000. RuntimeError before it has started."""
        return [
            describe(item).replace("://0.0.0.0:", "://127.0.0.1:").replace("://[::]:", "://[::1]:")
            for item in self._listeners()
        ]

    @property
    def servers(self) -> list[asyncio.AbstractServer]:
        """The listening servers, with their `sockets`."""
        return self.running.edge.servers

    # How it runs.

    def run(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Serve in an event loop of its own until told to stop; `--loop` says which kind.

        Raises ConfigError if what was asked for cannot be done, StartError if the application does not start: both are
        edge.errors.EdgeError.
        """
        with asyncio.Runner(loop_factory=self._loop_factory()) as runner:
            runner.run(self.serve(sockets))

    async def serve(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Serve in the running event loop until told to stop, or cancelled. Raises what `run` does.

        In the main thread, SIGINT and SIGTERM stop it; when it has ended, they are raised again for the program.
        """
        with self.capture_signals():
            await self.startup(sockets)
            try:
                await self.main_loop()
            finally:
                await self.shutdown()

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Start to serve in the running event loop; `shutdown` has to follow."""
        self._exit, self._forced = asyncio.Event(), asyncio.Event()
        config = self.config
        given = [_listener(sock, tls=config.is_ssl) for sock in sockets or ()]
        work = embed(config.settings, config.load, given, self._forced, access_logger=config.access_logger)
        try:
            self.running = await self._stack.enter_async_context(work)
        except CertificateError as error:
            raise ConfigError(str(error)) from None
        self._loop = asyncio.get_running_loop()
        self._heed()  # it may have been told already
        self.started = True

    async def main_loop(self) -> None:
        """Return when the server is to stop."""
        limit = self.config.settings.pool.max_requests
        while not self._should_exit:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PACE):
                    await self._exit.wait()
            self.running.look_after(time.monotonic())
            if limit and self.running.edge.requests >= limit:
                self._should_exit = True

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Finish what runs and stop; afterwards nothing of the server is left."""
        try:
            await self._stack.aclose()
        finally:
            self._loop = None

    # Signals.

    def install_signal_handlers(self) -> None:
        """Take SIGINT and SIGTERM, in the main thread only; a subclass that does nothing here leaves them alone."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self.handle_exit) for number in _STOPPING}

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have signals stop the server within the block, and raise them again after it."""
        self.install_signal_handlers()
        try:
            yield
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            self._handlers = {}
        captured, self._captured = self._captured, []
        for number in reversed(captured if self._raises_again else ()):
            signal.raise_signal(number)

    def handle_exit(self, number: int, frame: FrameType | None) -> None:
        """Stop, as a signal asks for; a second SIGINT ends it at once."""
        self._captured.append(number)
        if self._should_exit and number == signal.SIGINT:
            self.force_exit = True
        else:
            self.should_exit = True

    # As a block.

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run_in_thread, args=(started,), name="edge", daemon=True)
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.should_exit = True
        self._thread.join()

    async def __aenter__(self) -> Self:
        await self.startup()
        self._watching = asyncio.create_task(self.main_loop())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.should_exit = True
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await self.shutdown()

    def _run_in_thread(self, started: Future[None]) -> None:
        async def body() -> None:
            try:
                await self.startup()
            except BaseException as error:
                started.set_exception(error)
                return
            started.set_result(None)
            try:
                await self.main_loop()
            finally:
                await self.shutdown()

        try:
            with asyncio.Runner(loop_factory=self._loop_factory()) as runner:
                runner.run(body())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    # Below: how.

    def _loop_factory(self) -> LoopFactory:
        application = self.config.settings.application
        try:
            return loop_factory(application.loop, application.app_dir)
        except LoadError as error:
            raise ConfigError(str(error)) from None

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has been closed meanwhile
                loop.call_soon_threadsafe(self._heed)

    def _heed(self) -> None:
        if self._should_exit:
            self._exit.set()
        if self._force_exit:
            self._forced.set()

    def _listeners(self) -> Sequence[Listener]:
        if not self.started:
            raise RuntimeError("the server has not started yet; wait for started")
        return self.running.listeners


def run_application(app: Callable[..., Any], options: dict[str, Any]) -> int:
    """Serve an application object until a signal ends it: what `edge.run` does with one. Return the exit code.

    Raises ConfigError or StartError.
    """
    if wants_several(options):
        say(NEEDS_IMPORT_STRING)
        return STARTUP_FAILURE
    server = Server(Config(app, **options))
    server._raises_again = False  # nothing follows: whoever told it to stop wants a clean end, as of `edge serve`
    server.run()
    return 0


def print_cause(error: BaseException) -> None:
    """Print the traceback of what the application raised, if it was that, without the server's frames."""
    cause = error.__cause__
    if isinstance(error, StartError) and cause is not None and not isinstance(cause, TimeoutError):
        sys.excepthook(type(cause), cause, application_traceback(cause.__traceback__))


def _read(app: str | Callable[..., Any], values: dict[str, Any]) -> ServeSettings:
    given = {name: value for name, value in values.items() if value is not None}
    said = {
        option.key
        for option in all_options()
        if not given.keys().isdisjoint(option.keys) or any(os.environ.get(variable) for variable in option.variables)
    }
    for key in _OF_PROCESSES:
        if key in said:
            raise ConfigError(f"{key}: a server inside a program has none; use edge serve, or an import string")
    defaults: dict[str, Any] = {"edges": 1}
    if said.isdisjoint((*_ADDRESSES, "host")):
        defaults["host"] = DEFAULT_HOST
    if said.isdisjoint((*_ADDRESSES, "port")):
        defaults["port"] = DEFAULT_PORT
    name = app if isinstance(app, str) else "application"
    return read_settings({"app": name, **defaults, **given}, os.environ)


def _listener(sock: socket.socket, *, tls: bool) -> Listener:
    sock.setblocking(False)
    name = sock.getsockname()
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        return Listener(sock, tls, str(TcpAddress(name[0], name[1])), name[1])
    return Listener(sock, tls, f"unix:{os.fsdecode(name)}", None)
