"""What a proxy in front took off the targets is outermost in the root path, and is never there twice."""

from __future__ import annotations

import io
from typing import Any

import pytest

from edge_backend.forwarded_prefix import build_prefixed_scope
from edge_backend.scope import build_scope
from edge_backend.websocket import websocket_scope
from edge_backend.wsgi import build_environ
from tests.backend.test_asgi import PARTS


def scope_of(target: bytes, *prefix: bytes, root_path: str = "") -> dict[str, Any]:
    fields = [part for value in prefix for part in (b"x-forwarded-prefix", value)]
    return build_prefixed_scope([b"GET", target, *PARTS[2:], *fields], root_path, {})


@pytest.mark.parametrize(
    ("target", "prefix", "root_path", "seen"),
    [
        # The proxy's alone: stripped, and not.
        (b"/x?q", b"/shop", "", ("/shop", "/shop/x", b"/shop/x")),
        (b"/", b"/shop", "", ("/shop", "/shop/", b"/shop/")),
        (b"/shop/x", b"/shop", "", ("/shop", "/shop/x", b"/shop/x")),
        (b"/shop", b"/shop", "", ("/shop", "/shop", b"/shop")),
        (b"/shop?/shop/", b"/shop", "", ("/shop", "/shop", b"/shop")),
        (b"/shopping", b"/shop", "", ("/shop", "/shop/shopping", b"/shop/shopping")),
        (b"/x?/shop/", b"/shop", "", ("/shop", "/shop/x", b"/shop/x")),
        # Both: what lacks of the two is added, the proxy's outermost.
        (b"/x", b"/shop", "/api", ("/shop/api", "/shop/api/x", b"/shop/api/x")),
        (b"/api/x", b"/shop", "/api", ("/shop/api", "/shop/api/x", b"/shop/api/x")),
        (b"/api", b"/shop", "/api", ("/shop/api", "/shop/api", b"/shop/api")),
        (b"/shop/api/x", b"/shop", "/api", ("/shop/api", "/shop/api/x", b"/shop/api/x")),
        (b"/apix", b"/shop", "/api", ("/shop/api", "/shop/api/apix", b"/shop/api/apix")),
        (b"/api/x", b"/api", "/api", ("/api/api", "/api/api/x", b"/api/api/x")),
        # As it was written in raw_path, as it reads elsewhere.
        (b"/%41", b"/%C3%A4", "", ("/ä", "/ä/A", b"/%C3%A4/%41")),
        (b"/%c3%a4/x", b"/%C3%A4", "", ("/ä", "/ä/x", b"/%c3%a4/x")),
        (b"/x", b"/a%20b", "/api", ("/a b/api", "/a b/api/x", b"/a%20b/api/x")),
        (b"/%61pi/x", b"/shop", "/api", ("/shop/api", "/shop/api/x", b"/shop/%61pi/x")),
        (b"/%ff", b"/shop", "", ("/shop", "/shop/\ufffd", b"/shop/%ff")),
        (b"*", b"/shop", "/api", ("/shop/api", "*", b"*")),
    ],
)
def test_target_gets_what_it_lacks_of_the_root_path(
    target: bytes, prefix: bytes, root_path: str, seen: tuple[str, str, bytes]
) -> None:
    scope = scope_of(target, prefix, root_path=root_path)
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == seen
    assert scope["query_string"] == target.partition(b"?")[2]
    assert (b"x-forwarded-prefix", prefix) in scope["headers"]


@pytest.mark.parametrize("root_path", ["", "/api"])
def test_without_a_prefix_the_scope_is_as_it_would_be(root_path: str) -> None:
    parts = [*PARTS, b"x-any", b"x-forwarded-prefix"]  # as a value it is none
    assert build_prefixed_scope(parts, root_path, {}) == build_scope(parts, root_path, {})


def test_value_that_reads_as_the_name_is_no_prefix() -> None:
    parts = [*PARTS, b"x-any", b"x-forwarded-prefix", b"x-forwarded-prefix", b"/shop", b"x-request-id", b"1"]
    assert build_prefixed_scope(parts, "", {})["path"] == "/shop/a"
    assert parts[1] == PARTS[1]


def test_websocket_is_mounted_as_well() -> None:
    scope = websocket_scope(scope_of(b"/x", b"/shop", root_path="/api"))
    assert (scope["type"], scope["root_path"], scope["path"]) == ("websocket", "/shop/api", "/shop/api/x")


@pytest.mark.parametrize("target", [b"/caf%C3%A9/x?q", b"/x?q", b"/api/x?q"])
def test_wsgi_application_gets_both_as_its_script_name(target: bytes) -> None:
    environ = build_environ(scope_of(target, b"/caf%C3%A9", root_path="/api"), io.BytesIO())
    assert environ["SCRIPT_NAME"] == "/caf\xc3\xa9/api"  # bytes of UTF-8, as PEP 3333 has them
    path = "/caf\xc3\xa9/x" if target.startswith(b"/caf") else "/x"
    assert environ["PATH_INFO"] == path
    assert environ["REQUEST_URI"].startswith("/caf%C3%A9/api/")
    assert environ["HTTP_X_FORWARDED_PREFIX"] == "/caf%C3%A9"
