"""The settings of WebSockets."""

from dataclasses import dataclass

from edge.options import GIB, MIB, seconds, setting, size, switch


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
        True, switch(), "--ws-per-message-deflate", help="compress messages when the client offers it"
    )
