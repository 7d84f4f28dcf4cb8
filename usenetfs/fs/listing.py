"""Listing a directory for somebody who asks again and again.

The kernel takes some two dozen entries at a time. Reading just as many from the index would look
the place up anew each time, and reading more and throwing them away cost ten times as much; so what
was read ahead is kept for the next call, as long as nothing at all has changed meanwhile
(``LiveInodes.changes``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.fs.namespace import Namespace
from usenetfs.index.inodes import Inode
from usenetfs.types import InodeId

BATCH: Final = 256
"""Entries read at once: a millisecond."""

Entry = tuple[int, bytes, Inode]
"""Cookie, name, inode."""


class Listing:
    """One open directory."""

    __slots__ = ("_ahead", "_changes", "_directory", "_inodes", "_names", "_taken")

    def __init__(self, names: Namespace, inodes: LiveInodes, directory: InodeId) -> None:
        self._names = names
        self._inodes = inodes
        self._directory = directory
        self._ahead: deque[Entry] = deque()
        self._taken = 0
        """The cookie before the first of them."""
        self._changes = -1

    def __repr__(self) -> str:
        return f"<Listing of {self._directory}, {len(self._ahead)} ahead>"

    def behind(self, cookie: int) -> Iterator[Entry]:
        """The entries behind ``cookie``. Where the caller stops, that entry was not taken."""
        if cookie != self._taken or self._changes != self._inodes.changes:
            self._ahead.clear()
        while True:
            if not self._ahead:
                self._ahead.extend(self._names.list(self._directory, cookie, BATCH))
                self._taken, self._changes = cookie, self._inodes.changes
                if not self._ahead:
                    return
            entry = self._ahead[0]
            yield entry
            self._ahead.popleft()
            self._taken = cookie = entry[0]
