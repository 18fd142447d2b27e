# edge serve --dev --app-dir examples clock:app
"""Server-sent events with Litestar (pip install litestar): https://localhost:8443 shows the server's time, each second.

Nothing has to be switched off for a stream: edge passes on what the application sends when it sends it.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from litestar import Litestar, MediaType, get
from litestar.params import Parameter
from litestar.response import ServerSentEvent

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Clock</title>
<h1 id="time">--:--:--</h1>
<script>
  new EventSource("/ticks").onmessage = (event) => { document.getElementById("time").textContent = event.data; };
</script>
"""


@get("/", media_type=MediaType.HTML)
async def page() -> str:
    """Return the page that listens."""
    return PAGE


@get("/ticks")
async def ticks(pause: Annotated[float, Parameter(ge=0.01, le=60)] = 1.0) -> ServerSentEvent:
    """Tell the time every `pause` seconds until the client leaves."""

    async def times() -> AsyncIterator[str]:
        while True:
            yield datetime.now(UTC).strftime("%H:%M:%S")
            await asyncio.sleep(pause)

    return ServerSentEvent(times())


app = Litestar([page, ticks], openapi_config=None)
