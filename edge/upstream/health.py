"""An active check of an upstream's server: one GET on a connection of its own."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Final

from edge.net.address import UnixAddress
from edge.options_sites import UpstreamAddress

_WELL: Final = re.compile(rb"HTTP/1\.[01] 2[0-9]{2}[ \r\n]")


async def is_well(server: UpstreamAddress, path: str, context: ssl.SSLContext | None, tls_name: str) -> bool:
    """Tell whether the server answers a GET of `path` with 2xx. The caller limits the time.

    Raises OSError if it cannot be reached.
    """
    address = server.address
    if isinstance(address, UnixAddress):
        host = "localhost"
        reader, writer = await asyncio.open_unix_connection(address.path)
    else:
        host = str(address)
        name = (tls_name or address.host) if context is not None else None
        reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context, server_hostname=name)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: edge-health\r\nconnection: close\r\n\r\n".encode()
        )
        return _WELL.match(await reader.readline()) is not None
    except ValueError:
        return False  # a line longer than any status line is
    finally:
        writer.transport.abort()
