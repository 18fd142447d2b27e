"""One file as it can be sent: its content or the open file, and the compressed forms that lie beside it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import NamedTuple

from edge.static.answer import Facts, describe, plan_whole
from edge.static.caching import cache_control
from edge.static.conditional import make_validators
from edge.static.mime import is_compressible, is_page, media_type
from edge.static.negotiate import CODINGS, choose_coding
from edge.static.root import NotServedError, OpenFile, Root

# Files up to this size are read at once, and kept in memory.
MAX_KEPT_FILE = 128 * 1024
# A change shows in a file's time only at the next tick of a clock; on some file systems that is a whole second. Until
# then the same size and times are no proof of the same content.
_SETTLED = 2.0


class Rules(NamedTuple):
    """What is said of all files of a folder: Cache-Control, and whether compressed forms are looked for."""

    max_age: int | None = None
    immutable: bool = True
    precompressed: bool = True


class FolderFoundError(Exception):
    """The names lead to a folder."""


class Form:
    """One form of a file: as it is, or compressed. It has its content, or holds the file open."""

    __slots__ = ("content", "facts", "file", "identity", "is_settled", "length", "mark", "whole")

    def __init__(self, facts: Facts, file: OpenFile, content: bytes | None) -> None:
        self.facts = facts
        self.whole = plan_whole(facts)  # what most requests get
        self.length = b"%d" % facts.size
        self.mark = b"\nif-none-match\n" + facts.validators.tag  # in a request of who has it
        self.identity = file.identity
        self.content = content
        self.file = file if content is None else None
        self.is_settled = file.status.st_mtime + _SETTLED < time.time()
        self.hold()

    def hold(self) -> None:
        """Keep the file open until `release`, too."""
        if self.file is not None:
            self.file.hold()

    def release(self) -> None:
        """Let go of the file."""
        if self.file is not None:
            self.file.release()


class Entry:
    """A file in all its forms, which it holds until it is released; the compressed ones by their coding."""

    __slots__ = ("coded", "fresh_until", "plain", "used_at")

    def __init__(self, plain: Form, coded: dict[bytes, Form], now: float, fresh: float) -> None:
        """`coded` has the smallest form first. It is believed for `fresh` seconds from `now` on."""
        self.plain = plain
        self.coded = coded
        self.fresh_until = now + fresh
        self.used_at = now

    @property
    def forms(self) -> list[Form]:
        """All forms."""
        return [self.plain, *self.coded.values()]

    def choose(self, accepted: bytes) -> Form:
        """Return the form for a client with this Accept-Encoding."""
        return self.coded.get(choose_coding(accepted, self.coded), self.plain)

    def release(self) -> None:
        """Let go of its files; it is good for nothing from now on."""
        self.fresh_until = 0.0
        for form in self.forms:
            form.release()


def open_entry(
    root: Root, names: tuple[str, ...], rules: Rules, before: Entry | None, now: float, fresh: float
) -> Entry:
    """Return the file that the names lead to. `before` is what was found there the last time: what is the same in it
    is not read again.

    Raises NotServedError, FolderFoundError.
    """
    known = {form.identity: form.content for form in before.forms if form.is_settled} if before else {}
    kind = media_type(names[-1]) if names else b""
    with ExitStack() as opened:
        plain = _open(root, names, now, opened)
        if plain.is_folder:
            raise FolderFoundError
        coded = _open_coded(root, names, plain, now, opened) if rules.precompressed and is_compressible(kind) else {}
        files = {b"": plain, **coded}
        # First what may fail: a form holds its file from its making on.
        contents = [_read_small(file, known) for file in files.values()]
        forms = {
            coding: Form(_describe(file, names[-1], kind, rules, coding, bool(coded)), file, content)
            for (coding, file), content in zip(files.items(), contents, strict=True)
        }
    return Entry(forms.pop(b""), forms, now, fresh)


def _open(root: Root, names: tuple[str, ...], now: float, opened: ExitStack) -> OpenFile:
    file = root.open(names, now)
    opened.callback(file.release)
    return file


def _open_coded(
    root: Root, names: tuple[str, ...], plain: OpenFile, now: float, opened: ExitStack
) -> dict[bytes, OpenFile]:
    """Return the compressed forms beside a file, the smallest first: none that is older, or saves nothing."""
    found: dict[bytes, OpenFile] = {}
    for suffix, coding in CODINGS.items():
        try:
            file = _open(root, (*names[:-1], names[-1] + suffix), now, opened)
        except NotServedError:
            continue
        is_current = file.status.st_mtime_ns >= plain.status.st_mtime_ns
        if not file.is_folder and is_current and file.status.st_size < plain.status.st_size:
            found[coding] = file
    return dict(sorted(found.items(), key=lambda item: item[1].status.st_size))


def _read_small(file: OpenFile, known: dict[tuple[int, ...], bytes | None]) -> bytes | None:
    """Return the content of a file that is small enough to be kept, None for others.

    Raises NotServedError if it cannot be read.
    """
    size = file.status.st_size
    if size > MAX_KEPT_FILE:
        return None
    if (content := known.get(file.identity)) is not None:
        return content
    try:
        content = file.read(0, size)
    except OSError as error:
        raise NotServedError(str(error.strerror).lower()) from None
    if len(content) < size:
        raise NotServedError("it shrank while it was read")
    return content


def _describe(file: OpenFile, name: str, kind: bytes, rules: Rules, coding: bytes, is_varied: bool) -> Facts:
    status = file.status
    return describe(
        size=status.st_size,
        validators=make_validators(status.st_ino, status.st_size, status.st_mtime_ns),
        media_type=kind,
        cache=cache_control(name, is_page=is_page(kind), max_age=rules.max_age, immutable=rules.immutable),
        coding=coding,
        vary=b"accept-encoding" if is_varied else b"",
    )
