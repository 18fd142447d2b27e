"""The settings of the listeners: where connections are taken."""

from dataclasses import dataclass

from edge.net.address import MAX_PORT, Address
from edge.options import addresses, count, host, setting


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where connections are taken. Empty `binds` stand for the defaults, see edge.net.listener."""

    binds: tuple[Address, ...] = setting(
        (),
        addresses(),
        "--bind",
        "-b",
        shown="[::]:443 with a certificate, 127.0.0.1:8000 without",
        help="HOST:PORT, :PORT, unix:PATH or fd://N; TLS when there is a certificate; repeatable",
    )
    http_binds: tuple[Address, ...] = setting(
        (),
        addresses(),
        "--http-bind",
        shown="[::]:80 with a certificate",
        help="plain HTTP listener beside it; repeatable",
    )
    host: str | None = setting(None, host(), "--host", shown="see --bind", help="host of the default listener")
    port: int | None = setting(
        None, count(0, MAX_PORT), "--port", shown="see --bind", help="port of the default listener; 0 = any free one"
    )
    backlog: int = setting(2048, count(1, MAX_PORT), "--backlog", help="connections that wait to be accepted")
