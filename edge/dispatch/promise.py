"""An answer that names a file: nothing is sent before the application has ended, and then the file, if all was well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.http.fields import without_hop

if TYPE_CHECKING:
    from edge.dispatch.exchange import Exchange
    from edge.dispatch.sides import FileSender


class FilePromise:
    """The file, and the status and fields that the application gave with it."""

    __slots__ = ("_fields", "_files", "_named", "_status")

    def __init__(self, files: FileSender, status: int, fields: list[bytes], named: tuple[bytes, bytes]) -> None:
        """`named` is the field that names the file, `fields` are all that may leave."""
        self._files = files
        self._status = status
        self._fields = fields
        self._named = named

    def keep(self, exchange: Exchange) -> None:
        """Answer with the file."""
        self._files.send(exchange, self._status, self._fields, self._named)


def find_promise(files: FileSender | None, status: int, fields: list[bytes]) -> FilePromise | None:
    """Return what an application's answer promises; None if it names no file, or nobody sends any."""
    named = files.find_named(fields) if files is not None else None
    if files is None or named is None:
        return None
    return FilePromise(files, status, without_hop(fields), named)
