"""Where lines of the access log go besides standard output: a file, syslog, or the loggers of `--log-config`."""

from __future__ import annotations

import logging
import os
from logging.handlers import SysLogHandler

from edge.access_format import compile_format
from edge.config_logs import LogSettings
from edge.errors import ConfigError
from edge.observe import STDOUT, Finished, Form, Output, clean_target, write_lines
from edge_backend.identity import Identity

_SYSLOG = "syslog:"
# The name in front of each line of syslog.
_IDENT = "edge: "
# Where programs leave their lines on Linux, the BSDs and macOS.
_SYSLOG_SOCKETS = ("/dev/log", "/var/run/log", "/var/run/syslog")


def open_output(settings: LogSettings, logger_name: str = "") -> Output | None:
    """Return where the lines go; None: to standard output, in one of our two formats.

    `logger_name` is the logger of `--log-config` for them, empty if there is none.

    Raises ConfigError if that cannot be written to.
    """
    form = compile_format(settings.line) if settings.line not in ("", "json", "console") else None
    if settings.access_file.startswith(_SYSLOG):
        return _Syslog(settings.access_file, form)
    if settings.access_file not in ("", "-"):
        return _File(settings.access_file, form)
    if logger_name == "uvicorn.access" and not settings.access_file and not settings.line:
        return _UvicornLogger()
    if logger_name and not settings.access_file:
        return _Logger(logger_name, form if settings.line else compile_format())
    return _Descriptor(STDOUT, form) if form is not None else None


def give_file(settings: LogSettings, identity: Identity) -> None:
    """Have the file of the access log, if that is where it goes, belong to those who open it again: edges.

    Raises ConfigError if it cannot be given away.
    """
    path = settings.access_file
    if path in ("", "-") or path.startswith(_SYSLOG) or not os.path.isfile(path):
        return
    try:
        os.chown(path, identity.uid, identity.gid, follow_symlinks=False)
    except OSError as error:
        reason = str(error.strerror).lower()
        raise ConfigError(f"--access-logfile {path}: its owner cannot be changed: {reason}; use another file") from None


class _Descriptor:
    def __init__(self, descriptor: int, form: Form) -> None:
        self._descriptor = descriptor
        self._form = form

    def write(self, finished: Finished, _plain: Form) -> None:
        form = self._form
        write_lines(self._descriptor, b"".join([form(exchange, tls) for exchange, tls in finished]))

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass


class _File:
    """A file that several processes add to: O_APPEND keeps what each writes in one piece."""

    def __init__(self, path: str, form: Form | None) -> None:
        self._path = os.path.abspath(path)
        self._form = form
        self._descriptor = self._open()

    def write(self, finished: Finished, plain: Form) -> None:
        form = self._form or plain
        write_lines(self._descriptor, b"".join([form(exchange, tls) for exchange, tls in finished]))

    def reopen(self) -> None:
        try:
            descriptor = self._open()
        except ConfigError as error:
            logging.getLogger("edge.access").error("%s; the old file goes on", error)
            return
        os.dup2(descriptor, self._descriptor, inheritable=False)
        os.close(descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            reason = str(error.strerror).lower()
            raise ConfigError(f"--access-logfile {self._path}: {reason}; use a file that this user may write") from None


class _Syslog:
    def __init__(self, target: str, form: Form | None) -> None:
        self._form = form
        address = _syslog_address(target)
        try:
            if isinstance(address, str):
                os.stat(address)  # the handler would wait for it without a word
            self._handler = SysLogHandler(address, SysLogHandler.LOG_DAEMON)
        except OSError as error:
            reason = str(error.strerror or error).lower()
            raise ConfigError(f"--access-logfile {target}: {reason}; use syslog:PATH or syslog:HOST:PORT") from None
        self._handler.ident = _IDENT

    def write(self, finished: Finished, plain: Form) -> None:
        form = self._form or plain
        for exchange, tls in finished:
            line = form(exchange, tls).decode("latin-1").rstrip("\n")
            self._handler.emit(logging.makeLogRecord({"msg": line, "levelname": "INFO"}))

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        self._handler.close()


def _syslog_address(target: str) -> str | tuple[str, int]:
    address = target.removeprefix(_SYSLOG)
    if not address:
        return next((path for path in _SYSLOG_SOCKETS if os.path.exists(path)), _SYSLOG_SOCKETS[0])
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and int(port) < 65536:
        return host.strip("[]"), int(port)
    return address


class _Logger:
    def __init__(self, name: str, form: Form | None) -> None:
        self._logger = logging.getLogger(name)
        self._form = form

    def write(self, finished: Finished, plain: Form) -> None:
        form = self._form or plain
        for exchange, tls in finished:
            self._logger.info("%s", form(exchange, tls).decode("latin-1").rstrip("\n"))

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass


class _UvicornLogger:
    """uvicorn's logger, which gets the parts of a line: its formatter puts them together."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("uvicorn.access")

    def write(self, finished: Finished, _plain: Form) -> None:
        for exchange, _ in finished:
            head = exchange.head
            self._logger.info(
                '%s - "%s %s HTTP/%s" %d',
                exchange.client_address.decode(),
                head.method.decode("latin-1"),
                clean_target(head.target).decode("latin-1"),
                head.version.decode("latin-1"),
                exchange.status,
            )

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass
