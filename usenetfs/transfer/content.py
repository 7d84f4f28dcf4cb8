"""The content of a file's blocks, wherever its bytes are.

A block's bytes come from staging, from the segment that the block map names, or from nowhere
(zeros). :class:`BlockContent` puts them together, and after each wait looks again: while an
article was on its way the block may have been written, cut, or moved to another segment. That the
article could not be had is an error only if the block is still in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from usenetfs.errors import DataUnavailableError, IntegrityError
from usenetfs.index.blocks import BlockLocation
from usenetfs.index.index import Index
from usenetfs.transfer.fetch.fetcher import Buffer, Fetcher
from usenetfs.transfer.staged.blocks import StagedBlocks
from usenetfs.transfer.staged.hot_blocks import HotBlock
from usenetfs.types import ArticleId, BlockNumber, InodeId, Lane

MAX_VIEWS = 32
"""Blocks whose bytes are kept at hand; their readers come back for the rest of them."""


class BlockContent:
    """Reads blocks. Beyond what was written, a block reads as zeros."""

    def __init__(
        self, index: Index, staged: StagedBlocks, fetcher: Fetcher, *, block_size: int
    ) -> None:
        self.block_size = block_size
        self._index = index
        self._staged = staged
        self._fetcher = fetcher
        self._views: dict[tuple[InodeId, int], memoryview] = {}
        """What the block map says of a block of which nothing is staged. A block that is written,
        cut or deleted is not here: see :meth:`forget`."""
        self._held: dict[InodeId, dict[int, BlockLocation]] = {}
        """Files that stay as they were: where each of their blocks is."""
        self.on_small: Callable[[ArticleId], None] = lambda article: None
        """Called with the article of a file that is shorter than a block, when it is read."""
        staged.on_change = self.forget

    def __repr__(self) -> str:
        return f"<BlockContent {len(self._views)} blocks at hand>"

    def at_hand(self, inode: InodeId, offset: int, length: int) -> Buffer | None:
        """``length`` bytes from ``offset`` if one block at hand has them. Asks nobody."""
        number, start = divmod(offset, self.block_size)
        view = self._views.get((inode, number))
        if view is not None and start + length <= len(view):
            return view[start : start + length]
        return None

    def forget(self, inode: InodeId | None = None) -> None:
        """The bytes of a file (None: of any) change: what is at hand is no longer true."""
        if not self._views:
            return
        for key in [key for key in self._views if inode is None or key[0] == inode]:
            del self._views[key]

    def hold(self, inode: InodeId, blocks: Iterable[BlockLocation]) -> None:
        """The file has these blocks, whatever the index says, until :meth:`let_go`."""
        self._held[inode] = {location.number: location for location in blocks}

    def let_go(self, inode: InodeId) -> None:
        """The file is again what the index says."""
        self._held.pop(inode, None)
        self.forget(inode)

    async def read(self, inode: InodeId, offset: int, length: int, *, lane: Lane) -> Buffer:
        """``length`` bytes of the file from ``offset``. The caller knows where the file ends.

        Raises DataUnavailableError or IntegrityError for the block that cannot be had.
        """
        number, start = divmod(offset, self.block_size)
        if start + length <= self.block_size:
            return await self._read_block(inode, BlockNumber(number), start, length, lane)
        pieces: list[Buffer] = []
        while length:
            piece = min(length, self.block_size - start)
            pieces.append(await self._read_block(inode, BlockNumber(number), start, piece, lane))
            length -= piece
            number, start = number + 1, 0
        return b"".join(pieces)

    async def _read_block(
        self, inode: InodeId, number: BlockNumber, start: int, length: int, lane: Lane
    ) -> Buffer:
        view = self._views.get((inode, number))
        if view is not None and start + length <= len(view):
            return view[start : start + length]
        while True:
            hot = self._staged.get(inode, number)
            if hot is not None and (hot.whole or hot.extents.covers(start, start + length)):
                return self._staged.read(hot, start, length)
            location = self._locate(inode, number)
            if location is None:
                return self._compose(b"", hot, start, length)
            if not number and location.length < self.block_size:
                self.on_small(location.article)
            segment = self._fetcher.segment_at_hand(location)
            if segment is None:
                try:
                    segment = await self._fetcher.segment(location, lane=lane, share=inode)
                except (DataUnavailableError, IntegrityError):
                    # Of an article that the block has left it matters not that it is lost.
                    if self._is_still(inode, number, location, start, length):
                        raise
                    continue
                hot = self._staged.get(inode, number)
                if self._locate(inode, number) != location or (hot is not None and hot.whole):
                    continue
            base = memoryview(segment)[: location.length]
            if hot is None and start + length < location.length:
                self._keep_at_hand(inode, number, base)
            return self._compose(base, hot, start, length)

    def _is_still(
        self, inode: InodeId, number: BlockNumber, location: BlockLocation, start: int, length: int
    ) -> bool:
        """Whether it still takes the segment at ``location`` to answer."""
        hot = self._staged.get(inode, number)
        staged = hot is not None and (hot.whole or hot.extents.covers(start, start + length))
        return not staged and self._locate(inode, number) == location

    def _keep_at_hand(self, inode: InodeId, number: BlockNumber, view: memoryview) -> None:
        if len(self._views) >= MAX_VIEWS:
            del self._views[next(iter(self._views))]
        self._views[inode, number] = view

    def _locate(self, inode: InodeId, number: BlockNumber) -> BlockLocation | None:
        held = self._held.get(inode)
        if held is not None:
            return held.get(number)
        found = self._index.blocks.locate(inode, number, 1)
        return found[0] if found else None

    def _compose(self, base: Buffer, hot: HotBlock | None, start: int, length: int) -> Buffer:
        """``length`` bytes from ``start`` of the base, zeros beyond it, staged extents on top."""
        piece = memoryview(base)[start : start + length]
        if hot is None and len(piece) == length:
            return piece
        composed = bytearray(length)
        composed[: len(piece)] = piece
        if hot is not None:
            for low, high in hot.extents:
                low, high = max(low, start), min(high, start + length)
                if low < high:
                    staged = self._staged.read(hot, low, high - low)
                    composed[low - start : high - start] = staged
        return composed

    async def base(self, inode: InodeId, number: BlockNumber, *, lane: Lane) -> Buffer:
        """What the block map alone says of a block: the valid part of its segment."""
        while True:
            location = self._locate(inode, number)
            if location is None:
                return b""
            try:
                segment = await self._fetcher.segment(location, lane=lane, share=inode)
            except (DataUnavailableError, IntegrityError):
                if self._locate(inode, number) == location:
                    raise
                continue
            if self._locate(inode, number) == location:
                return memoryview(segment)[: location.length]
