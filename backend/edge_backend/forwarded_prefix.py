"""The path that a proxy in front took off each target, as a part of the application's root path."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

from .scope import Scope, build_scope
from .wire import REQUEST_PARTS

_NAME = b"x-forwarded-prefix"


def find_prefix(parts: list[bytes]) -> bytes:
    """Return what a trusted proxy took off the path, out of the parts of a REQUEST head; empty: nothing."""
    fields = parts[REQUEST_PARTS:]
    names = fields[::2]
    return fields[2 * names.index(_NAME) + 1] if _NAME in names else b""


def build_prefixed_scope(parts: list[bytes], root_path: str, state: dict[str, Any]) -> Scope:
    """Return the scope that `build_scope` gives, below the prefix of a trusted proxy as well, if there is one.

    The edge passes on no other X-Forwarded-Prefix, and has checked that it is a path. Clients ask the proxy, and the
    proxy asks the server: its prefix is outermost, and `root_path` follows.
    """
    prefix = find_prefix(parts)
    if not prefix:
        return build_scope(parts, root_path, state)
    root = unquote_to_bytes(prefix).decode() + root_path
    return build_scope([parts[0], _mount(parts[1], prefix, root_path, root), *parts[2:]], root, state)


def _mount(target: bytes, prefix: bytes, root_path: str, root: str) -> bytes:
    """Return the target with what it lacks of `root`, which is the prefix as it reads and `root_path`.

    It lacks nothing, the prefix, or both: front ends that strip and those that do not must look alike.
    """
    path = unquote_to_bytes(target.partition(b"?")[0]).decode("utf-8", "replace") + "/"
    if path.startswith(root + "/") or target[:1] != b"/":
        return target
    if root_path and path.startswith(root_path + "/"):
        return prefix + target
    return prefix + root_path.encode() + target
