"""Inodes as they are now: the index's rows, and newer attributes not yet written to it.

Attributes change with every write, so they are kept here and saved together with the staged rows
(see ``files.py``); changes of names are written at once, in the transaction that makes them.

:class:`LiveInodes` also counts who needs an inode beyond its names: the kernel's lookups and open
files. When the last link is gone and nobody needs it, it may be deleted.

Everything here is synchronous and runs on the event-loop thread.
"""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable
from dataclasses import replace

from cachetools import LRUCache

from usenetfs.errors import PosixError
from usenetfs.fs.lookup_counts import LookupCounts
from usenetfs.index.index import Index
from usenetfs.index.inodes import Inode
from usenetfs.types import ROOT_INODE, InodeId

RELATIME_NS = 24 * 3600 * 1_000_000_000
"""Under relatime an access time older than this is renewed in any case, as the kernel does."""


def _nothing(inode: InodeId) -> None:
    """Nobody wants to know."""


class LiveInodes:
    """``capacity``: rows kept in memory that need no saving."""

    def __init__(self, index: Index, *, capacity: int = 16_384, read_only: bool = False) -> None:
        self._index = index
        self._read_only = read_only
        self._held: dict[InodeId, Inode] = {}
        self.on_open: Callable[[InodeId], None] = _nothing
        """Told of each opening; and when nobody has an inode open any more:"""
        self.on_last_close: Callable[[InodeId], None] = _nothing
        self._rows: LRUCache[InodeId, Inode] = LRUCache(capacity)
        self._unsaved: dict[InodeId, Inode] = {}
        self.changes = 0
        """Grows with everything that changes here or in the index."""
        self._lookups = LookupCounts()
        self._open: Counter[InodeId] = Counter()

    def __repr__(self) -> str:
        return (
            f"<LiveInodes cached={len(self._rows)} unsaved={len(self._unsaved)} "
            f"known to the kernel={len(self._lookups)} open={len(self._open)}>"
        )

    # --- rows ------------------------------------------------------------------------------------

    def get(self, inode: InodeId) -> Inode:
        """The inode as it is now; PosixError(ENOENT) if there is none."""
        row = self._unsaved.get(inode) or self._held.get(inode) or self._rows.get(inode)
        if row is None:
            row = self._index.inodes.get(inode)
            if row is None:
                raise PosixError(errno.ENOENT)
            self._rows[inode] = row
        return row

    def change(self, row: Inode) -> None:
        """These are the inode's attributes from now on; saved later."""
        self.changes += 1
        self._unsaved[row.id] = row

    def wrote(self, inode: InodeId, end: int) -> None:
        """Content was written up to byte ``end``: the size grows, the times are now.

        Once a request of the kernel, so without ``replace``, which takes ten times as long."""
        old = self._unsaved.get(inode) or self.get(inode)
        now = time.time_ns()
        self.changes += 1
        self._unsaved[inode] = Inode(
            inode,
            old.mode,
            old.uid,
            old.gid,
            old.nlink,
            max(old.size, end),
            old.rdev,
            old.atime_ns,
            now,
            now,
        )

    def written(self, *rows: Inode) -> None:
        """These rows are committed: they are what the index says."""
        self.changes += 1
        for row in rows:
            self._unsaved.pop(row.id, None)
            self._rows[row.id] = row

    def current(self, row: Inode) -> Inode:
        """The inode of a row just read from the index, as it is now."""
        return self._unsaved.get(row.id) or self._held.get(row.id) or row

    @property
    def unsaved(self) -> int:
        return len(self._unsaved)

    def save(
        self, inode: InodeId | None = None, *, besides: Container[InodeId] = ()
    ) -> list[Inode]:
        """Write unsaved attributes (of one inode, or all but ``besides``) inside the caller's
        transaction.

        Returns the rows, for :meth:`written` once it is committed.
        """
        if inode is None:
            rows = [row for row in self._unsaved.values() if row.id not in besides]
        else:
            row = self._unsaved.get(inode)
            rows = [] if row is None else [row]
        for row in rows:
            self._index.inodes.update(row)
        return rows

    def is_unsaved(self, inode: InodeId) -> bool:
        return inode in self._unsaved

    def gone(self, inode: InodeId) -> None:
        """The inode is deleted."""
        self.changes += 1
        self._unsaved.pop(inode, None)
        self._rows.pop(inode, None)

    def accessed(self, inode: InodeId) -> None:
        """Somebody read it: renew the access time under relatime."""
        if self._read_only:
            return
        row = self.get(inode)
        now = time.time_ns()
        if (
            row.atime_ns <= row.mtime_ns
            or row.atime_ns <= row.ctime_ns
            or (now - row.atime_ns > RELATIME_NS)
        ):
            self.change(replace(row, atime_ns=now))

    # --- when the index changes behind it (a mount that follows)

    def hold(self, row: Inode) -> None:
        """The inode stays like this whatever the index says, until :meth:`let_go`."""
        self.changes += 1
        self._held[row.id] = row

    def let_go(self, inode: InodeId) -> None:
        """The inode is again what the index says."""
        self.changes += 1
        self._held.pop(inode, None)
        self._rows.pop(inode, None)

    def reread(self, inodes: Iterable[InodeId] | None) -> None:
        """Forget what is remembered of ``inodes`` (None: of all), but for those held."""
        self.changes += 1
        if inodes is None:
            self._rows.clear()
            return
        for inode in inodes:
            self._rows.pop(inode, None)

    def opened_inodes(self) -> list[InodeId]:
        """All that are open."""
        return list(self._open)

    # --- who needs it ----------------------------------------------------------------------------

    def looked_up(self, inode: InodeId) -> None:
        """The kernel was told of the inode once more."""
        self._lookups.add(inode)

    def forgotten(self, inode: InodeId, count: int) -> None:
        """The kernel forgets ``count`` of its lookups."""
        self._lookups.subtract(inode, count)

    def known(self, inode: InodeId) -> bool:
        """Whether the kernel may have something about the inode in its memory."""
        return inode == ROOT_INODE or inode in self._lookups

    def opened(self, inode: InodeId) -> None:
        self._open[inode] += 1
        self.on_open(inode)

    def closed(self, inode: InodeId) -> None:
        self._open[inode] -= 1
        if not self._open[inode]:
            del self._open[inode]
            self.on_last_close(inode)

    def needed(self, inode: InodeId) -> bool:
        """Whether the kernel or an open file still refers to it."""
        return inode in self._lookups or inode in self._open
