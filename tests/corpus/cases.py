"""Cases in Markdown: a heading, the bytes that are sent in a block, and the events that they make in the block below.

A block of bytes is written as it reads. Each line ends with CR LF, unless it ends with a backslash, which joins the
next line to it, or leaves the last line without an end. `\\r`, `\\n`, `\\t`, `\\0`, `\\\\` and `\\xNN` are single
bytes, and `{text*7}` is `text` seven times, in the events, too.

What is sent may also be the frames of HTTP/2, which tests/edge/http/peer2.py reads.

In the events `...` stands for any text: the tokenizer words some reasons, and may word them anew in its next version.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_CASE = re.compile(
    r"^#+ (?P<name>[^\n]+)\n(?:(?!```|#)[^\n]*\n)*"
    r"```(?:http|frames)\n(?P<sent>.*?)^```\n\n?```events\n(?P<events>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|([rnt0\\]))")
_REPEAT = re.compile(r"\{([^{}*]+)\*([0-9]+)\}")
_BYTES = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


@dataclass(frozen=True, slots=True)
class Case:
    """What a peer sends, as it is written, and the events that it makes, one line each."""

    name: str
    text: str
    events: str

    @property
    def sent(self) -> bytes:
        """The bytes that the text stands for."""
        return decode_bytes(self.text)

    def matches(self, events: str) -> bool:
        """Tell whether `events` are the case's."""
        pattern = ".*".join(map(re.escape, self.events.split("...")))
        return re.fullmatch(pattern, events) is not None


def load_cases(folder: Path) -> Sequence[Case]:
    """Return the cases of all Markdown files in a folder.

    Raises ValueError for a block that belongs to no case, so that a slip of the pen does not lose one.
    """
    cases: list[Case] = []
    for path in sorted(folder.glob("*.md")):
        text = path.read_text()
        found = [
            Case(f"{path.stem}: {match['name']}", match["sent"], repeat(match["events"]).rstrip("\n"))
            for match in _CASE.finditer(text)
        ]
        blocks = sum(line.startswith("```") for line in text.splitlines())
        if blocks != 4 * len(found):
            raise ValueError(f"{path.name}: {blocks} fences make no {len(found)} cases of two blocks each")
        cases += found
    return cases


def decode_bytes(text: str) -> bytes:
    """Return the bytes that a block stands for."""
    text = repeat(text).replace("\\\n", "").replace("\n", "\\r\\n")
    return _ESCAPE.sub(_decode_escape, text.encode())


def repeat(text: str) -> str:
    """Return the text with each `{text*7}` written out."""
    return _REPEAT.sub(lambda match: match[1] * int(match[2]), text)


def _decode_escape(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode()) if match[1] else _BYTES[match[2]]
