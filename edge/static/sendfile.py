"""Files that an application names in its answer, and the edge sends: X-Sendfile, X-Accel-Redirect, ASGI's pathsend.

They lie below one folder, and nothing else is sent: the edge may read more than the application, the keys of its
certificates for one.
"""

from __future__ import annotations

import os
import time
from urllib.parse import unquote_to_bytes

from edge.dispatch.exchange import Exchange
from edge.static.answer import Facts, Plan
from edge.static.catalog import Catalog
from edge.static.forms import FolderFoundError, Rules
from edge.static.mime import media_type
from edge.static.paths import PathRefused, parse_path
from edge.static.root import NotServedError, Root
from edge.static.transfer import send_asked, send_form

# What a worker says when the application sends a path (edge_backend/asgi.py): relative to the folder, quoted.
_PATHSEND = b"x-edge-file"
_REDIRECT = b"x-accel-redirect"
_NAMES = frozenset((b"x-sendfile", _REDIRECT, _PATHSEND))
# The edge makes these for each answer, and those of the file itself.
_ANSWERS = frozenset((b"date", b"server"))
_OWN = _ANSWERS | {b"etag", b"last-modified", b"accept-ranges", b"content-range", b"content-type"}
# What a 304 has no use for (RFC 9110 section 15.4.5).
_CONTENT = frozenset((b"content-disposition", b"content-encoding", b"content-language", b"content-type"))


class SentFiles:
    """Sends the files of one folder for applications that name them."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.abspath(folder)
        self._catalog = Catalog(Root(self._folder), Rules(precompressed=False))

    def sweep(self, now: float) -> None:
        """Let go of what nobody has asked for lately; `now` is monotonic."""
        self._catalog.sweep(now)

    def close(self) -> None:
        """Let go of every file that is not on its way."""
        self._catalog.close()

    def find_named(self, fields: list[bytes]) -> tuple[bytes, bytes] | None:
        """Return the first field that names a file."""
        for name, value in zip(fields[::2], fields[1::2], strict=True):
            if name in _NAMES:
                return name, value
        return None

    def send(self, exchange: Exchange, status: int, fields: list[bytes], named: tuple[bytes, bytes]) -> None:
        """Answer with the file; 404, and a line in the log, if it is none of the folder's."""
        name, value = named
        try:
            names = self._find_names(name, value)
            form = self._catalog.find(names, time.monotonic()).plain
        except (NotServedError, FolderFoundError, PathRefused) as error:
            why = getattr(error, "reason", "") or "no such file"
            exchange.refuse(404, f"{name.decode()}: {value[:200]!r}: {why}; it has to lie below --sendfile-root")
            return
        form.hold()
        facts = _merge(form.facts, fields, names[-1])
        if name != _PATHSEND and status == 200:
            send_asked(exchange, form, facts, b"")
        else:
            kept = facts.fields if name != _PATHSEND else _without(fields, _ANSWERS)
            send_form(exchange, form, b"", Plan(status, facts.size, kept, form.whole.pieces))
        form.release()

    def _find_names(self, name: bytes, value: bytes) -> tuple[str, ...]:
        """Return the names of the file below the folder. Raises NotServedError, PathRefused."""
        if name == _REDIRECT:
            return parse_path(value).names
        if name == _PATHSEND:
            value = unquote_to_bytes(value)
        try:
            path = value.decode()
        except UnicodeDecodeError:
            raise NotServedError("not UTF-8") from None
        if path.startswith("/"):
            if not path.startswith(self._folder.rstrip("/") + "/"):
                raise NotServedError("outside the folder")
            path = path[len(self._folder.rstrip("/")) + 1 :]
        names = tuple(path.split("/"))
        if not {"", ".", ".."}.isdisjoint(names) or "\0" in path:
            raise NotServedError("not a plain path")
        return names


def _merge(facts: Facts, fields: list[bytes], name: str) -> Facts:
    """Return the facts of a file with what the application says of it: its type, and every field but the file's own."""
    pairs = zip(fields[::2], fields[1::2], strict=True)
    kind = next((value for key, value in pairs if key == b"content-type"), media_type(name))
    kept = _without(fields, _OWN)
    validators = facts.kept_fields[:4]
    return Facts(
        facts.size,
        facts.validators,
        kind,
        [*validators, *_without(kept, _CONTENT)],
        [b"content-type", kind, *validators, b"accept-ranges", b"bytes", *kept],
    )


def _without(fields: list[bytes], names: frozenset[bytes]) -> list[bytes]:
    """Return the fields, names and values in turn, that have none of these names."""
    kept: list[bytes] = []
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name not in names:
            kept += (name, value)
    return kept
