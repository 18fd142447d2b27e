"""The settings of what the edge adds to every answer."""

import re
from dataclasses import dataclass

from edge.errors import ConfigError
from edge.options import Kind, setting, switch, text_of

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
# RFC 9110 section 5.5, without what Latin-1 has beyond ASCII: readers do not agree on it.
_VALUE = re.compile(rb"[!-~](?:[ \t!-~]*[!-~])?")
# What belongs to the connection or to the content, and what the edge makes anew for each answer.
_OWNED = frozenset(
    b"connection content-length date keep-alive proxy-connection te trailer transfer-encoding upgrade "
    b"x-request-id".split()
)


def header_fields() -> Kind:
    """Fields of answers: NAME:VALUE, or in Python also pairs of a name and a value."""

    def parse(value: object) -> tuple[tuple[bytes, bytes], ...]:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_field(item) for item in items)

    return Kind("NAME:VALUE", parse, repeat=True, has_commas=True)


def _field(item: object) -> tuple[bytes, bytes]:
    name, value = item if isinstance(item, list | tuple) and len(item) == 2 else (*text_of(item).split(":", 1), "")[:2]
    name, value = str(name).strip().lower().encode(), str(value).strip().encode()
    if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ConfigError(f"{item!r}: not a field; use NAME:VALUE, such as 'X-Frame-Options: DENY'")
    if name in _OWNED:
        raise ConfigError(f"{item!r}: {name.decode()} is the server's own; leave it out")
    return name, value


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """Fields of every answer. A Date or Server that the application sends takes the place of ours."""

    fields: tuple[tuple[bytes, bytes], ...] = setting(
        (),
        header_fields(),
        "--header",
        "--headers",
        shown="none",
        help="field of every answer; one named Server takes the place of ours; repeatable",
    )
    server: bool = setting(True, switch(), "--server-header", help="say Server: edge")
    date: bool = setting(True, switch(), "--date-header", help="say when, in Date")
