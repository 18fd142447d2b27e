"""The settings of WebSockets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edge.options import GIB, MIB, Kind, Option, choice, count, seconds, setting, size, switch

# Not a switch: uvicorn's takes a value.
_NO_DEFLATE = Option(("--no-ws-per-message-deflate",), switch(), "the same as --ws-per-message-deflate false", "off")


def boolean() -> Kind:
    """On or off, in words."""
    return Kind("true|false", switch().parse, lambda value: "true" if value else "false")


@dataclass(frozen=True, slots=True)
class WebSocketSettings:
    """WebSocket connections. Bytes and seconds; a `ping_interval` or `ping_timeout` of 0 is off."""

    max_size: int = setting(
        16 * MIB,
        size(1, GIB),
        "--ws-max-size",
        "--websocket-max-message-size",
        help="largest message (close code 1009)",
    )
    ping_interval: float = setting(
        20.0, seconds(0), "--ws-ping-interval", "--websocket-ping-interval", help="between two pings; 0 = none"
    )
    ping_timeout: float = setting(20.0, seconds(0), "--ws-ping-timeout", help="for the pong; 0 = for ever")
    per_message_deflate: bool = setting(
        True,
        boolean(),
        "--ws-per-message-deflate",
        help="compress messages when the client offers it",
        beside=(_NO_DEFLATE,),
    )
    max_queue: int = setting(
        0,
        count(0, 1_000_000),
        "--ws-max-queue",
        shown="as many as 64KiB hold",
        help="messages that wait for the application before the client has to",
    )
    implementation: Literal["auto", "none", "websockets", "websockets-sansio", "wsproto"] = setting(
        "auto",
        choice("auto", "none", "websockets", "websockets-sansio", "wsproto"),
        "--ws",
        help="none = refuse WebSockets; all others are one",
    )

    def remarks(self) -> list[str]:
        """Return what to say about what is ignored, one line each."""
        return (
            ["--ws wsproto: ignored, WebSockets are spoken in one way only"] if self.implementation == "wsproto" else []
        )


def without_deflate(parsed: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parsed values of the options with what `--no-ws-per-message-deflate` says in its place."""
    if parsed.get("no_ws_per_message_deflate"):
        return {**parsed, "ws_per_message_deflate": False}
    return parsed
