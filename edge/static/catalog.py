"""The files that were asked for lately: what they are, small ones with their content, large ones open.

Theory of operation
-------------------
An entry is believed for FRESH seconds; when it is asked for after that, every name is walked again, and what is
unchanged (inode, size, times) keeps its content. So a file that is replaced is served within that time, and a thousand
requests a second for it cost a handful of system calls. What nobody asks for is dropped, so that no deleted file is
held open for long. Entries, memory and descriptors are bounded; the one that was looked at longest ago goes first.
"""

from __future__ import annotations

from edge.static.forms import Entry, Rules, open_entry
from edge.static.root import Root

# How long an entry is believed, in seconds: nobody saves a file and looks at it in the browser faster.
FRESH = 0.2
# After so long without a request, an entry goes.
IDLE = 5.0
# Of one folder: entries, bytes of content in memory, and files that are open. --max-connections leaves 30 % of a
# process's files for everything else: 300 of the usual 1,024.
MAX_ENTRIES = 1024
MAX_KEPT = 32 * 1024 * 1024
MAX_OPEN = 64


class Catalog:
    """The files of one root, by the names that lead to them."""

    def __init__(self, root: Root, rules: Rules) -> None:
        self._root = root
        self._rules = rules
        self._entries: dict[tuple[str, ...], Entry] = {}
        self._kept = 0
        self._open = 0

    def close(self) -> None:
        """Let go of everything."""
        for names in list(self._entries):
            self._drop(names)
        self._root.close()

    def sweep(self, now: float) -> None:
        """Drop what nobody has asked for lately."""
        for names in [names for names, entry in self._entries.items() if entry.used_at + IDLE < now]:
            self._drop(names)

    def find(self, names: tuple[str, ...], now: float) -> Entry:
        """Return the file that the names lead to; `now` is monotonic.

        A form of it is good until the next call: who goes on using one holds it.

        Raises NotServedError, FolderFoundError.
        """
        before = self._entries.get(names)
        if before is not None and now < before.fresh_until:
            before.used_at = now
            return before
        try:
            entry = open_entry(self._root, names, self._rules, before, now, FRESH)
        finally:
            self._drop(names)
        self._keep(names, entry)
        return entry

    def _keep(self, names: tuple[str, ...], entry: Entry) -> None:
        self._count(entry, 1)
        while self._entries and self._is_full():
            self._drop(next(iter(self._entries)))
        self._entries[names] = entry

    def _is_full(self) -> bool:
        return len(self._entries) >= MAX_ENTRIES or self._kept > MAX_KEPT or self._open > MAX_OPEN

    def _drop(self, names: tuple[str, ...]) -> None:
        entry = self._entries.pop(names, None)
        if entry is not None:
            self._count(entry, -1)
            entry.release()

    def _count(self, entry: Entry, sign: int) -> None:
        for form in entry.forms:
            self._kept += sign * len(form.content or b"")
            self._open += sign * (form.file is not None)
