"""The scope that a request's head amounts to."""

from __future__ import annotations

from typing import Any

import pytest

from edge_backend.scope import build_scope

PARTS = [b"GET", b"/a?b=c", b"1.1", b"https", b"192.0.2.1", b"51234", b"shop.example", b"443", b"host", b"shop.example"]


def test_scope_is_made_of_the_parts() -> None:
    state: dict[str, Any] = {"shared": []}
    scope = build_scope(PARTS, "", state)
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/a",
        "raw_path": b"/a",
        "query_string": b"b=c",
        "root_path": "",
        "headers": [(b"host", b"shop.example")],
        "client": ("192.0.2.1", 51234),
        "server": ("shop.example", 443),
        "state": state,
        "extensions": {"http.response.trailers": {}},
    }
    assert scope["state"] is not state
    assert scope["state"]["shared"] is state["shared"]


def test_peer_without_an_address_and_unix_socket_have_none() -> None:
    scope = build_scope([*PARTS[:4], b"", b"0", b"/run/edge.sock", b""], "", {})
    assert scope["client"] is None
    assert scope["server"] == ("/run/edge.sock", None)


@pytest.mark.parametrize(
    ("target", "root_path", "path", "raw_path"),
    [
        (b"/%41%2f%C3%BC", "", "/A/ü", b"/%41%2f%C3%BC"),
        (b"/%ff", "", "/�", b"/%ff"),
        (b"/x", "/api", "/api/x", b"/api/x"),
        (b"/api/x", "/api", "/api/x", b"/api/x"),
        (b"/api", "/api", "/api", b"/api"),
        (b"/apix", "/api", "/api/apix", b"/api/apix"),
        (b"*", "/api", "*", b"*"),  # no path (RFC 9112 section 3.2.4)
    ],
)
def test_path_is_decoded_and_mounted_once(target: bytes, root_path: str, path: str, raw_path: bytes) -> None:
    scope = build_scope([b"GET", target, *PARTS[2:]], root_path, {})
    assert (scope["path"], scope["raw_path"]) == (path, raw_path)


@pytest.mark.parametrize("parts", [PARTS[:5], [*PARTS[:5], b"x", *PARTS[6:]]])
def test_head_with_missing_parts_is_an_error(parts: list[bytes]) -> None:
    with pytest.raises((IndexError, ValueError)):
        build_scope(parts, "", {})
