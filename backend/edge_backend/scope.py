"""One HTTP request as ASGI sees it: its connection scope (HTTP specification 2.5)."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from .wire import REQUEST_PARTS

Scope = dict[str, Any]

_SCHEMES = {b"http": "http", b"https": "https"}


def build_scope(parts: list[bytes], root_path: str, state: dict[str, Any]) -> Scope:
    """Return the connection scope of an HTTP request out of the parts of a REQUEST head."""
    target, _, query = parts[1].partition(b"?")
    path = target.decode("latin-1") if b"%" not in target else unquote_to_bytes(target).decode("utf-8", "replace")
    if root_path and target[:1] == b"/" and not (path == root_path or path.startswith(root_path + "/")):
        # A front end that strips the prefix, and one that does not, must look alike to the application.
        path = root_path + path
        target = root_path.encode() + target
    scheme = _SCHEMES.get(parts[3])
    extensions: dict[str, Any] = {"http.response.trailers": {}}
    if scheme is None:
        scheme, extensions["tls"] = parse_secure_scheme(parts[3])
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": parts[2].decode(),
        "method": parts[0].decode(),
        "scheme": scheme,
        "path": path,
        "raw_path": target,
        "query_string": query,
        "root_path": root_path,
        "headers": list(zip(parts[REQUEST_PARTS::2], parts[REQUEST_PARTS + 1 :: 2])),  # noqa: B905 # as many by the wire's count
        "client": _address(parts[4], parts[5]),
        "server": _server(parts[6], parts[7]),
        "state": state.copy(),
        "extensions": extensions,
    }


def parse_secure_scheme(part: bytes) -> tuple[str, dict[str, Any]]:
    """Return the scheme of a request, and ASGI's TLS extension: its client was asked for a certificate."""
    scheme, _, extension = part.partition(b" ")
    return scheme.decode(), json.loads(extension)


@lru_cache(maxsize=256)
def _address(host: bytes, port: bytes) -> tuple[str, int] | None:
    return (host.decode(), int(port)) if host else None


@lru_cache(maxsize=256)
def _server(host: bytes, port: bytes) -> tuple[str, int | None]:
    return host.decode(), int(port) if port else None
