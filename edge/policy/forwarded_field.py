"""`Forwarded` (RFC 7239 section 4): the elements that proxies wrote, the nearest first.

Theory of operation
-------------------
Each proxy adds its element behind those that came, and whoever sends the first request writes what he likes: an open
quote at the end of his would swallow, read from the left, the element that a proxy puts behind it. So the field is read
from the right, where the neighbour wrote. That this gives the same elements, where all is well-formed, is due to two
rules: within a quoted string every quote has a backslash before it, and before an opening quote there is a `=`. What
cannot be read ends the reading; nothing of what was written before that element counts.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_OWS: Final = b" \t"
# Of the field from right to left: a quoted string or a token, `=`, and the name. A quote with a backslash before it is
# within the string. Possessive, so that a long near-miss costs one pass.
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_PAIR: Final = re.compile(rb'(?:"((?:[^"]|"(?=\\))*+)"|(%b))=(%b)' % (_TOKEN, _TOKEN))
# What stands before a pair: another pair of its element, another element, or nothing more.
_MARK: Final = re.compile(rb";|[ \t]*+(?:,[ \t]*+|\Z)")
# RFC 9110 section 5.6.4, from left to right: only so is it known which backslash is itself behind one.
_QUOTED: Final = re.compile(rb"(?:[\t \x21\x23-\x5B\x5D-\x7E\x80-\xFF]|\\[\t \x21-\x7E\x80-\xFF])*+")
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
# RFC 7239 section 6: an address, that of IPv6 in brackets, and a port that may be hidden.
_NODE: Final = re.compile(rb"([0-9.]++|\[[0-9A-Fa-f:.]++\])(?:(:[0-9]{1,5})|:_[A-Za-z0-9._-]++)?")


class Element(NamedTuple):
    """What one proxy wrote of the request that it got. What it does not say is empty."""

    node: bytes
    """`for=` as an entry of X-Forwarded-For; empty, too, for `unknown`, an obfuscated name, and what is no node."""
    proto: bytes
    host: bytes


def read_elements(value: bytes, max_size: int) -> Iterator[Element]:
    """Yield the elements of the joined field lines, the nearest first, until one is malformed.

    Not more than `max_size` bytes are looked at, and an element that is not whole within them is malformed.
    """
    is_cut = len(value) > max_size
    back = (value[-max_size:] if is_cut else value).strip(_OWS)[::-1]
    pairs: dict[bytes, bytes] = {}
    start = position = 0
    while True:
        pair = _PAIR.match(back, position)
        if pair is not None:
            name, content = pair[3][::-1].lower(), _content(pair)
            if content is None or name in pairs:  # RFC 7239 section 4: a parameter must not occur twice
                return
            pairs[name] = content
            position = pair.end()
        mark = _MARK.match(back, position)
        if mark is None:
            return
        position = mark.end()
        if mark[0] == b";":
            continue
        is_last = b"," not in mark[0]
        if is_last and is_cut:
            return
        # An empty element is none (RFC 9110 section 5.6.1.2).
        if mark.start() > start:
            yield Element(_node(pairs.get(b"for", b"")), pairs.get(b"proto", b""), pairs.get(b"host", b""))
        if is_last:
            return
        pairs, start = {}, position


def _content(pair: re.Match[bytes]) -> bytes | None:
    """Return the value of a pair, None if it is a quoted string that is none."""
    if pair[2] is not None:
        return pair[2][::-1]
    quoted = pair[1][::-1]
    return _ESCAPE.sub(rb"\1", quoted) if _QUOTED.fullmatch(quoted) else None


def _node(value: bytes) -> bytes:
    node = _NODE.fullmatch(value)
    return node[1] + (node[2] or b"") if node is not None else b""
