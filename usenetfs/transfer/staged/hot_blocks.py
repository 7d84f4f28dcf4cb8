"""Staged blocks in memory: as they are (:class:`HotBlock`), as an upload took them
(:class:`Claim`), and as a truncation leaves them (:class:`CutBlocks`). Values of ``blocks.py``,
which explains them and alone changes them.
"""

from __future__ import annotations

from collections.abc import Iterator
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


@dataclass(frozen=True, slots=True)
class CutBlocks:
    """A file was shortened. ``kept``: blocks before its end, saved with that. ``gone``: blocks
    behind it."""

    kept: list[HotBlock]
    gone: list[Key]


class HotTable:
    """Blocks by their key, and those of one file without looking at all."""

    def __init__(self) -> None:
        self._blocks: dict[Key, HotBlock] = {}
        self._numbers: dict[InodeId, set[BlockNumber]] = {}
        self.get = self._blocks.get

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[HotBlock]:
        return iter(self._blocks.values())

    def put(self, hot: HotBlock) -> None:
        """Keep it, in place of any that has its key."""
        self._blocks[hot.inode, hot.number] = hot
        numbers = self._numbers.get(hot.inode)
        if numbers is None:
            self._numbers[hot.inode] = {hot.number}
        else:
            numbers.add(hot.number)

    def drop(self, key: Key) -> None:
        """Forget it, if it is there."""
        if self._blocks.pop(key, None) is None:
            return
        inode, number = key
        numbers = self._numbers[inode]
        numbers.discard(number)
        if not numbers:
            del self._numbers[inode]

    def of_inode(self, inode: InodeId) -> list[HotBlock]:
        """The blocks of one file, in no order."""
        numbers = self._numbers.get(inode)
        return [self._blocks[inode, number] for number in numbers] if numbers else []
