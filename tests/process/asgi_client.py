"""Asks the application of http_application.py, and reads what it noted."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from typing import Any

from tests.process.server import RawClient, wait_until

Answer = tuple[int, dict[bytes, bytes], bytes]


def request(path: str, *lines: str, method: str = "GET", version: str = "1.1", body: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    head = [f"{method} {path} HTTP/{version}", "Host: localhost", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def ask(client: RawClient, path: str, *lines: str, method: str = "GET", version: str = "1.1") -> Answer:
    """Send a request without content and return its answer."""
    client.send(request(path, *lines, method=method, version=version))
    return client.receive_response()


def seen(client: RawClient, key: str) -> list[Any]:
    """Return what the application noted under a key."""
    noted: list[Any] = json.loads(ask(client, f"/seen/{key}")[2])
    return noted


def wait_seen(client: RawClient, key: str, count: int) -> list[Any]:
    """Return what the application noted under a key, as soon as it is that much."""
    wait_until(lambda: len(seen(client, key)) >= count, f"the application notes {count} things under {key!r}")
    return seen(client, key)


def send_until_stuck(client: RawClient, block: bytes) -> int:
    """Send a block over and over until nobody takes it any more; return how many bytes went out."""
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 60 * len(block):
            sent += client.sock.send(block[sent % len(block) :])
    return sent


def leave(client: RawClient) -> None:
    """Go away as a client that crashed: with RST."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()
