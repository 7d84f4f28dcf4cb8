"""Staged blocks in memory: as they are (:class:`HotBlock`), and as an upload took them
(:class:`Claim`). Values of ``staged.py``, which explains them and alone changes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from usenetfs.store.extents import Extents
from usenetfs.types import BlockNumber, InodeId

Key = tuple[InodeId, BlockNumber]


@dataclass(slots=True, eq=False)
class HotBlock:
    """A staged block in memory. Only :class:`StagedBlocks` changes it."""

    inode: InodeId
    number: BlockNumber
    whole: bool
    extents: Extents
    generation: int
    since: int
    dirtied_ns: int
    """Its place in the queue: the time of the change ``since``."""
    changed_at: float
    """Monotonic time of the last change, in seconds."""
    saved: bool

    @property
    def key(self) -> Key:
        return self.inode, self.number

    @property
    def staged_end(self) -> int:
        """Where the last staged byte of the block ends."""
        return self.extents.end


@dataclass(slots=True, eq=False)
class Claim:
    """A block taken for upload as it was at ``generation``."""

    inode: InodeId
    number: BlockNumber
    generation: int
    since: int
    whole: bool
    extents: tuple[tuple[int, int], ...]
    dirtied_ns: int
    """When the block was first changed since the last upload, Unix time."""
    cancelled: bool = False
    """The block was cut off or its file deleted: nothing is to be recorded."""

    @property
    def key(self) -> Key:
        return self.inode, self.number

    @property
    def staged_end(self) -> int:
        """Where the last staged byte of the block ends."""
        return self.extents[-1][1] if self.extents else 0
