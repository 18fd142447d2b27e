"""uvicorn's command line and its variables, and what they amount to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge.cli_compat.rules import (
    Flag,
    Left,
    Step,
    Takes,
    Translation,
    apply,
    client_certificates,
    each,
    nothing,
    number,
    parse,
    same,
    switch,
    without,
)
from edge.errors import ConfigError

# Who may connect to a socket of uvicorn's.
_UNIX_MODE = "666"
_ON = ("1", "true", "t", "yes", "y", "on")


def _loop(value: str) -> Step:
    return ("--loop", "zuvloop:new_event_loop") if value == "zuvloop" else ("--loop", value)


def _http(value: str) -> Step:
    if value in ("auto", "httptools"):
        return ()
    return Left("HTTP/1.1 is read in one way only, with every check")


FLAGS = (
    Flag(("--host",), nothing),
    Flag(("--port",), nothing),
    Flag(("--uds",), lambda value: ("--uds", value, "--uds-permissions", _UNIX_MODE)),
    Flag(("--fd",), same("--fd")),
    Flag(("--reload",), switch("--reload"), Takes.NOTHING),
    Flag(("--reload-dir",), each("--reload-dir"), Takes.MANY),
    Flag(("--reload-include",), each("--reload-include"), Takes.MANY),
    Flag(("--reload-exclude",), each("--reload-exclude"), Takes.MANY),
    Flag(("--reload-delay",), number("--reload-delay")),
    Flag(("--workers",), same("--workers")),
    Flag(("--loop",), _loop),
    Flag(("--http",), _http),
    Flag(("--http2",), lambda value: ("--http2", "on") if value else (), Takes.NOTHING),
    Flag(("--ws",), same("--ws")),
    Flag(("--ws-max-size",), same("--ws-max-size")),
    Flag(("--ws-max-queue",), same("--ws-max-queue")),
    Flag(("--ws-ping-interval",), same("--ws-ping-interval")),
    Flag(("--ws-ping-timeout",), same("--ws-ping-timeout")),
    Flag(("--ws-per-message-deflate",), same("--ws-per-message-deflate")),
    Flag(("--lifespan",), same("--lifespan")),
    Flag(("--interface",), same("--interface")),
    Flag(("--env-file",), same("--env-file")),
    Flag(("--log-config",), same("--log-config")),
    Flag(("--log-level",), same("--log-level")),
    Flag(("--access-log",), switch("", "--no-access-log"), Takes.SWITCH),
    Flag(("--use-colors",), switch("--use-colors", "--no-use-colors"), Takes.SWITCH),
    Flag(("--proxy-headers",), switch("--proxy-headers", "--no-proxy-headers"), Takes.SWITCH),
    Flag(("--server-header",), switch("", "--no-server-header"), Takes.SWITCH),
    Flag(("--date-header",), switch("", "--no-date-header"), Takes.SWITCH),
    Flag(("--forwarded-allow-ips",), same("--forwarded-allow-ips")),
    Flag(("--root-path",), same("--root-path")),
    Flag(("--limit-concurrency",), same("--limit-concurrency")),
    Flag(("--backlog",), same("--backlog")),
    Flag(("--limit-max-requests",), same("--limit-max-requests")),
    Flag(("--limit-max-requests-jitter",), number("--limit-max-requests-jitter")),
    Flag(("--timeout-keep-alive",), same("--timeout-keep-alive")),
    Flag(("--timeout-graceful-shutdown",), same("--timeout-graceful-shutdown")),
    Flag(("--timeout-worker-healthcheck",), same("--timeout-worker-healthcheck")),
    Flag(("--ssl-keyfile",), same("--ssl-keyfile")),
    Flag(("--ssl-certfile",), same("--ssl-certfile")),
    Flag(("--ssl-keyfile-password",), nothing),
    Flag(("--ssl-version",), lambda value: () if value in ("2", "17") else ("--ssl-version", value)),
    Flag(("--ssl-cert-reqs",), nothing),
    Flag(("--ssl-ca-certs",), nothing),
    Flag(("--ssl-ciphers",), same("--ssl-ciphers")),
    Flag(("--header",), each("--header"), Takes.MANY),
    Flag(("--app-dir",), same("--app-dir")),
    Flag(("--h11-max-incomplete-event-size",), same("--h11-max-incomplete-event-size")),
    Flag(("--reset-contextvars",), without("each request runs in a context of its own anyway"), Takes.NOTHING),
    Flag(("--factory",), switch("--factory"), Takes.NOTHING),
)


def translate(arguments: Sequence[str], environ: Mapping[str, str]) -> Translation:
    """Return what uvicorn's arguments amount to, and its variables where the arguments say nothing.

    Raises ConfigError for what uvicorn does not know.
    """
    values = _from_environment(environ) | parse("uvicorn", FLAGS, arguments, abbreviated=False)
    translation = Translation()
    translation.arguments += _listening(values)
    if "workers" not in values and "reload" not in values and not environ.get("WEB_CONCURRENCY"):
        values["workers"] = 1
    # Nobody's word counts, where nobody is named.
    trusted = values.get("forwarded_allow_ips", environ.get("FORWARDED_ALLOW_IPS"))
    values["proxy_headers"] = values.get("proxy_headers", True) and trusted != ""
    apply({flag.key: (flag.names[0], flag.rule) for flag in FLAGS}, values, translation)
    clients = client_certificates("uvicorn --ssl-cert-reqs", values.get("ssl_cert_reqs"), values.get("ssl_ca_certs"))
    translation.add("--ssl-ca-certs", clients)
    if values.get("ssl_keyfile_password"):
        translation.environ["EDGE_KEY_PASSWORD"] = values["ssl_keyfile_password"]
    app: list[str] = values.get("app") or [name for name in (environ.get("UVICORN_APP"),) if name]
    if len(app) > 1:
        raise ConfigError(f"uvicorn {app[1]}: one application too many; name one")
    translation.arguments += app
    return translation


def _listening(values: Mapping[str, Any]) -> list[str]:
    if values.get("uds") or values.get("fd") is not None:
        return []
    host, port = values.get("host", "127.0.0.1"), values.get("port", "8000")
    return ["--bind", f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for flag in FLAGS:
        text = environ.get(f"UVICORN_{flag.key.upper()}")
        if text and flag.takes is Takes.MANY:
            found[flag.key] = text.split(":" if flag.key == "reload_dir" else None)
        elif text and flag.takes is not Takes.ONE:
            found[flag.key] = text.lower() in _ON
        elif text:
            found[flag.key] = text
    return found
