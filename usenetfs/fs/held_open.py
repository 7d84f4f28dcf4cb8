"""Files that are open keep what they had, while the index changes behind them.

For a mount that follows another writer. Whoever is about to change the index says which inodes will
be touched (:meth:`HeldOpen.expect`); those that are open then, or are opened before the change is
through, stay as they are, attributes and content, for everybody, until the last one that has
them open closes them. Nothing else is held: what nobody has open is new at once.

Owns which inodes are held. Runs on the event-loop thread. Must not know why the index changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.index.index import Index
from usenetfs.transfer.content import BlockContent
from usenetfs.types import InodeId


class HeldOpen:
    """``released`` is called with an inode that was held and may be new again."""

    def __init__(
        self,
        index: Index,
        inodes: LiveInodes,
        content: BlockContent,
        released: Callable[[InodeId], None],
    ) -> None:
        self._index = index
        self._inodes = inodes
        self._content = content
        self._released = released
        self._expected: Collection[InodeId] = frozenset()
        self._held: set[InodeId] = set()
        inodes.on_open = self._opened
        inodes.on_last_close = self._closed

    def __repr__(self) -> str:
        return f"<HeldOpen {len(self._held)} held, {len(self._expected)} expected to change>"

    def __contains__(self, inode: InodeId) -> bool:
        return inode in self._held

    def expect(self, inodes: Collection[InodeId]) -> None:
        """These are about to change; until :meth:`settled`."""
        self._expected = inodes
        for inode in self._inodes.opened_inodes():
            if inode in inodes:
                self._hold(inode)

    def settled(self) -> None:
        """They have changed, or will not."""
        self._expected = frozenset()

    def _opened(self, inode: InodeId) -> None:
        if inode in self._expected:
            self._hold(inode)

    def _hold(self, inode: InodeId) -> None:
        if inode in self._held:
            return
        row, blocks = self._index.file_as_it_is(inode)
        if row is None:
            return
        self._held.add(inode)
        self._inodes.hold(row)
        self._content.hold(inode, blocks)

    def _closed(self, inode: InodeId) -> None:
        if inode in self._held:
            self._held.discard(inode)
            self._inodes.let_go(inode)
            self._content.let_go(inode)
            self._released(inode)
