"""What was written and is not yet safe: its bytes and what is known about them.

:class:`StagedBlocks` owns the pair that must never disagree: the bytes in ``store.Staging`` and
the rows of ``local_staging`` in the index. Everything that writes, cuts or frees staged data goes
through here, on the event-loop thread, without awaiting: so each method is atomic to all others.

A staged block is *whole* (its bytes from 0 to ``length`` are all in staging; the block map has
nothing to add) or an *overlay*: only its extents are in staging and the rest is the segment that
the block map names. Beyond its length a block reads as zeros.

Rules:

- **Generations** (``index/staging.py``) are drawn from one sequence for all blocks. A block's
  ``generation`` is that of its last change; ``since`` that of the first change that no upload has
  picked up, 0 if there is none.
- **Hot and saved.** Recently changed blocks live in memory; :meth:`save` writes them to the
  index inside the caller's transaction, and :meth:`saved` hears of its commit. A hot block that
  is not saved is never dropped.
- **Claims.** An upload claims a block, reads it in a thread, and hands the claim back. A claim
  whose block changed while it was read is torn, and is given up (:meth:`StagedBlocks.torn`).
- **Clean ground.** What an earlier life of the same place left in staging is punched out before a
  whole block grows over it; beyond its length, staging is never looked at.

It does not know files, sizes, FUSE, or the network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from usenetfs.errors import LocalStorageError
from usenetfs.index.index import Index
from usenetfs.index.staging import StagedBlock, StagingState
from usenetfs.store.extents import Extents
from usenetfs.store.staging import Staging
from usenetfs.transfer.staged.hot_blocks import Claim, CutBlocks, HotBlock, HotTable, Key
from usenetfs.transfer.staged.steady import SteadyBlocks
from usenetfs.types import BlockNumber, InodeId

FIRST_PAGE = 8
PAGE = 256
MAX_PAGES = 32
"""Rows of the queue looked at a time, and how often, when blocks that have not settled lead it."""

CHANGE = 128 << 10
"""Bytes of a write that count as one change."""

MAX_HOT = 4096
"""Saved blocks kept in memory; those not saved are kept however many (the saver bounds them)."""


class StagedBlocks:
    """See the module. ``clock`` gives monotonic seconds."""

    def __init__(
        self,
        index: Index,
        staging: Staging,
        *,
        block_size: int,
        settle: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.block_size = block_size
        self.settle = settle
        self._index = index
        self._staging = staging
        self._clock = clock
        self._hot = HotTable()
        self._unsaved = HotTable()
        self._claims: dict[Key, Claim] = {}
        self._writers: dict[InodeId, int] = {}
        self._forced = 0
        self.changes = 0
        """Changes since the start, a large one counted by its size: how busy writers are."""
        self.pressed = 0
        """Writers that wait for room; while there are any, uploads give way to nobody."""
        self._cursor: StagedBlock | None = None
        """The last row claimed."""
        self._passed_over = False
        """Whether rows before it may be claimed once they settle."""
        self._preferred: list[InodeId] = []
        self.steady = SteadyBlocks(block_size)
        """Which blocks writes should not change now."""
        self.on_dirty: Callable[[], None] = lambda: None
        """Called when something may be ready for upload; the uploader waits for it."""
        self.on_change: Callable[[InodeId], None] = lambda inode: None
        """Called before a file's bytes change, whatever of it is staged."""
        self.on_cut: Callable[[list[Key]], None] = lambda keys: None
        """Called with blocks that were cut off a file, or never came to be in it; and when a file
        was deleted:"""
        self.on_deleted: Callable[[InodeId], None] = lambda inode: None

    def __repr__(self) -> str:
        return (
            f"<StagedBlocks hot={len(self._hot)} unsaved={len(self._unsaved)} "
            f"claims={len(self._claims)} writers={len(self._writers)}>"
        )

    # --- looking ---------------------------------------------------------------------------------

    def get(self, inode: InodeId, number: BlockNumber) -> HotBlock | None:
        """The staged state of one block, or None if all of it is elsewhere."""
        hot = self._hot.get((inode, number))
        if hot is not None:
            return hot
        row = self._index.staging.get(inode, number)
        return None if row is None else self._warm(row)

    def _warm(self, row: StagedBlock) -> HotBlock:
        hot = HotBlock(
            inode=row.inode,
            number=row.block,
            whole=row.whole,
            extents=Extents(row.extents),
            generation=row.generation,
            since=row.generation if row.state is StagingState.DIRTY or row.rewritten else 0,
            dirtied_ns=row.dirtied_ns,
            changed_at=float("-inf"),
            saved=True,
        )
        if len(self._hot) >= MAX_HOT:
            self._cool()
        self._hot.put(hot)
        return hot

    def _cool(self) -> None:
        """Drop the older half of what is saved."""
        saved = [hot.key for hot in self._hot if hot.saved and hot.key not in self._claims]
        for key in saved[: max(1, len(saved) // 2)]:
            self._hot.drop(key)

    def read(self, hot: HotBlock | Claim, start: int, length: int) -> bytes:
        """``length`` staged bytes from ``start`` of a block; safe from any thread.

        For a whole block, what lies beyond its length reads as zeros, whatever staging holds there.
        For an overlay, ask only for what its extents cover.
        """
        inside = length
        if hot.whole:
            inside = max(0, min(length, hot.staged_end - start))
        data = self._staging.read(hot.inode, hot.number, start, inside) if inside else b""
        return data if inside == length else data + bytes(length - inside)

    def usage(self) -> int:
        """Bytes of local disk that staging takes."""
        return self._staging.usage()

    def to_spare(self, min_free: int) -> int:
        """Bytes of the local disk beyond what is to be left free; negative where some lack."""
        return self._staging.to_spare(min_free)

    # --- changing --------------------------------------------------------------------------------

    def write(self, inode: InodeId, offset: int, data: bytes | memoryview) -> None:
        """Put ``data`` at byte ``offset`` of the file; touches the local disk and memory only."""
        self.on_change(inode)
        self.changes += max(1, len(data) // CHANGE)
        touched: list[tuple[HotBlock, int, int]] = []
        try:
            for number, start, end in self._pieces(offset, offset + len(data)):
                hot = self._hot.get((inode, number)) or self.get(inode, number)
                if hot is None:
                    hot = self._new(inode, number, start, end)
                touched.append((hot, start, end))
                if hot.whole and start > hot.extents.end:
                    self._staging.zero(inode, number, hot.extents.end, start)
            self._staging.write_span(inode, offset, data)
        except LocalStorageError:
            self._undo(touched)
            raise
        for hot, start, end in touched:
            self._note_range(hot, start, end)
            self._changed(hot)

    def _pieces(self, offset: int, end: int) -> Iterator[tuple[BlockNumber, int, int]]:
        """The bytes from ``offset`` to ``end`` of a file as (block, start, end) within blocks."""
        number, start = divmod(offset, self.block_size)
        while offset < end:
            stop = min(self.block_size, start + end - offset)
            yield BlockNumber(number), start, stop
            offset += stop - start
            number, start = number + 1, 0

    def _undo(self, touched: list[tuple[HotBlock, int, int]]) -> None:
        """A write failed half way: a block that it would have begun is not there, and others may
        have some of its bytes in place of theirs, so what was read of them is not what they are."""
        for hot, _start, _end in touched:
            if hot.generation:
                self._changed(hot)
            else:
                self._hot.drop(hot.key)
                self.on_cut([hot.key])  # what the disk took of it

    def _changed(self, hot: HotBlock) -> None:
        hot.generation = self._index.staging.next_generation()
        if not hot.since:
            hot.since = hot.generation
            hot.dirtied_ns = time.time_ns()
        hot.changed_at = self._clock()
        hot.saved = False
        self._unsaved.put(hot)

    def _new(self, inode: InodeId, number: BlockNumber, start: int, end: int) -> HotBlock:
        base = self._index.blocks.get(inode, number)
        whole = base is None or (start == 0 and end >= base.length)
        hot = HotBlock(
            inode=inode,
            number=number,
            whole=whole,
            extents=Extents(),
            generation=0,
            since=0,
            dirtied_ns=0,
            changed_at=0.0,
            saved=False,
        )
        self._hot.put(hot)
        return hot

    def _note_range(self, hot: HotBlock, start: int, end: int) -> None:
        if hot.whole:
            hot.extents.add(0, end)
            return
        hot.extents.add(start, end)
        base = self._index.blocks.get(hot.inode, hot.number)
        length = max(hot.extents.end, base.length if base is not None else 0)
        if hot.extents.covers(0, length):
            hot.whole = True

    def cut(self, inode: InodeId, size: int) -> CutBlocks:
        """The file now ends at byte ``size``: rows of what is staged beyond it go, unsaved ones
        before it are saved.

        Inside a transaction. Memory stays as it is until its commit, which :meth:`cut_done` hears
        of with what is returned: a commit that fails has changed nothing.
        """
        self.on_change(inode)
        number, keep = divmod(size, self.block_size)
        edge = self.get(inode, BlockNumber(number)) if keep else None
        if edge is not None and not edge.saved:
            self._index.staging.put(self._row(edge))
        unsaved = self._unsaved.of_inode(inode)
        first_gone = BlockNumber(number + (keep > 0))
        gone = {hot.number for hot in unsaved if hot.number >= first_gone}
        gone.update(self._index.staging.numbers(inode, first_gone))
        self._index.staging.truncate(inode, size)
        kept = [hot for hot in unsaved if hot.number < number]
        self._index.staging.put_many([self._row(hot) for hot in kept])
        return CutBlocks(kept, [(inode, block) for block in gone])

    def cut_done(self, inode: InodeId, size: int, cut: CutBlocks) -> None:
        """The transaction of :meth:`cut` is committed; nothing was awaited since. Its bytes stay
        until that is durable (``freeing.py``); beyond a block's length nobody looks at them."""
        self._drop(inode, size // self.block_size)
        self._passed_over = True  # what the end cuts through may have been claimed, and is not now
        self.saved(cut.kept)
        self.on_cut(cut.gone)

    def forget_inode(self, inode: InodeId) -> None:
        """The file is deleted. Call inside a transaction."""
        self.on_change(inode)
        self._drop(inode, 0)
        self._index.staging.delete_inode(inode)

    def deleted(self, inode: InodeId) -> None:
        """The transaction of :meth:`forget_inode` is committed. Its bytes stay until that is
        durable."""
        self.on_deleted(inode)

    def _drop(self, inode: InodeId, first: int) -> None:
        """Forget the blocks of a file from ``first`` on."""
        for hot in self._hot.of_inode(inode):
            if hot.number >= first:
                self._hot.drop(hot.key)
                self._unsaved.drop(hot.key)
        for key in [key for key in self._claims if key[0] == inode and key[1] >= first]:
            self._claims.pop(key).cancelled = True

    # --- saving ----------------------------------------------------------------------------------

    @property
    def unsaved(self) -> int:
        return len(self._unsaved)

    def is_unsaved(self, inode: InodeId) -> bool:
        """Whether blocks of the file wait to be saved."""
        return bool(self._unsaved.of_inode(inode))

    def unsaved_rows(self, inode: InodeId) -> tuple[StagedBlock, ...]:
        """The rows of a file that :meth:`save` would write."""
        return tuple(self._row(hot) for hot in self._unsaved.of_inode(inode))

    def save(self, inode: InodeId | None = None) -> list[HotBlock]:
        """Write unsaved rows (of one inode, or all) to the index, inside a transaction.

        Returns them for :meth:`saved`, once it is committed.
        """
        blocks = list(self._unsaved) if inode is None else self._unsaved.of_inode(inode)
        if blocks:
            self._index.staging.put_many([self._row(hot) for hot in blocks])
        return blocks

    def saved(self, blocks: Iterable[HotBlock]) -> None:
        """The transaction of :meth:`save` is committed; nothing was awaited since."""
        for hot in blocks:
            hot.saved = True
            self._unsaved.drop(hot.key)
            if self._cursor is not None and hot.dirtied_ns <= self._cursor.dirtied_ns:
                self._passed_over = True  # saved later than what came after it
        if len(self._hot) > MAX_HOT:
            self._cool()
        self.on_dirty()

    def _row(self, hot: HotBlock) -> StagedBlock:
        return StagedBlock(
            inode=hot.inode,
            block=hot.number,
            generation=hot.generation,
            whole=hot.whole,
            extents=tuple(hot.extents),
            dirtied_ns=hot.dirtied_ns,
        )

    def sync_files(self, inode: InodeId) -> None:
        """Make the staged bytes of a file survive a power cut. Blocks: call it in a thread."""
        self._staging.sync(inode)

    # --- open for writing ------------------------------------------------------------------------

    def opened(self, inode: InodeId) -> None:
        """A writer opened the file: its blocks settle before they are uploaded."""
        self._writers[inode] = self._writers.get(inode, 0) + 1

    def closed(self, inode: InodeId) -> None:
        """A writer is gone; with the last one, everything is ready for upload."""
        left = self._writers[inode] - 1
        if left:
            self._writers[inode] = left
        else:
            del self._writers[inode]
            self.on_dirty()

    def force(self) -> int:
        """Everything dirty so far is ready for upload, settled or not.

        Returns the generation up to which that holds, for ``index.staging.settled``.
        """
        self._forced = self._index.staging.sync_point()
        self.on_dirty()
        return self._forced

    def prefer(self, inodes: Iterable[InodeId]) -> None:
        """Blocks of these are claimed before all others, until this is called again."""
        self._preferred = list(inodes)

    # --- claims ----------------------------------------------------------------------------------

    def claim(self, *, max_blocks: int, max_bytes: int) -> list[Claim]:
        """Take settled blocks for upload, oldest first. Unsaved blocks are not offered.

        Rows stay DIRTY until an article records them, so those claimed come up again: the search
        goes on behind the last one claimed. It starts anew only when it passed something over that
        may be ready by now.
        """
        claims = self._claim_preferred(max_blocks, max_bytes)
        if not claims:
            claims = self._claim_behind(self._cursor, max_blocks, max_bytes)
        if not claims and self._passed_over:
            self._passed_over = False
            claims = self._claim_behind(None, max_blocks, max_bytes)
        return claims

    def _claim_preferred(self, max_blocks: int, max_bytes: int) -> list[Claim]:
        rows = chain.from_iterable(
            self._index.staging.next_dirty(PAGE, inode=inode) for inode in self._preferred
        )
        return [claim for _, claim in self._take(rows, max_blocks, max_bytes)]

    def _claim_behind(
        self, last: StagedBlock | None, max_blocks: int, max_bytes: int
    ) -> list[Claim]:
        claims = []
        self._cursor = last
        for row, claim in self._take(self._dirty_rows(last), max_blocks, max_bytes):
            claims.append(claim)
            self._cursor = row
        return claims

    def _take(
        self, rows: Iterable[StagedBlock], max_blocks: int, max_bytes: int
    ) -> Iterator[tuple[StagedBlock, Claim]]:
        """A batch of what may be claimed of ``rows``."""
        count = size = 0
        for row in rows:
            hot = self._claimable(row)
            if hot is None:
                continue
            if count and size + hot.extents.end > max_bytes:
                return
            count += 1
            size += hot.extents.end
            yield row, self._claim(hot)
            if count == max_blocks or size >= max_bytes:
                return

    def _dirty_rows(self, last: StagedBlock | None) -> Iterator[StagedBlock]:
        """Rows of the queue behind ``last``; a bounded number of them."""
        size = FIRST_PAGE
        for _ in range(MAX_PAGES):
            page = self._index.staging.next_dirty(size, after=last)
            yield from page
            if len(page) < size:
                return
            last, size = page[-1], PAGE

    def _claimable(self, row: StagedBlock) -> HotBlock | None:
        if (row.inode, row.block) in self._claims:
            return None
        hot = self._hot.get((row.inode, row.block)) or self._warm(row)
        if hot.since and hot.saved and self._settled(hot):
            return hot
        self._passed_over = True
        return None

    def _settled(self, hot: HotBlock) -> bool:
        if hot.inode not in self._writers or hot.since <= self._forced:
            return True
        return self._clock() - hot.changed_at >= self.settle

    def _claim(self, hot: HotBlock) -> Claim:
        claim = Claim(
            inode=hot.inode,
            number=hot.number,
            generation=hot.generation,
            since=hot.since,
            whole=hot.whole,
            extents=tuple(hot.extents),
            dirtied_ns=hot.dirtied_ns,
        )
        hot.since = 0
        self._claims[hot.key] = claim
        return claim

    def torn(self, claim: Claim) -> bool:
        """Whether the block changed (or went) since it was claimed."""
        hot = self._hot.get(claim.key)
        return claim.cancelled or hot is None or hot.generation != claim.generation

    def give_up(self, claim: Claim) -> None:
        """The claim came to nothing: the block is dirty again, as old as it was."""
        if self._claims.pop(claim.key, None) is not claim:
            return
        hot = self._hot.get(claim.key)
        if hot is not None:
            hot.since = claim.since
        self._passed_over = True
        self.on_dirty()

    def recorded(self, claim: Claim) -> None:
        """The claim's content is in an article's committed record (or known already)."""
        if self._claims.get(claim.key) is claim:
            del self._claims[claim.key]

    # --- freeing ---------------------------------------------------------------------------------

    def settled_on_servers(self, keys: Iterable[Key]) -> None:
        """The index dropped these rows: they are no longer staged."""
        for key in keys:
            hot = self._hot.get(key)
            if hot is not None and hot.saved:
                self._hot.drop(key)

    def dirty_again(self, keys: Iterable[Key]) -> None:
        """The index made these rows DIRTY (rewritten since, or their article was given up)."""
        for inode, number in keys:
            hot = self._hot.get((inode, number))
            if hot is not None and not hot.since:
                hot.since = hot.generation
        self._passed_over = True
        self.on_dirty()

    def free(self, keys: Iterable[Key]) -> None:
        """Give the disk space of blocks back, except of those that were written again.

        Only after the commit that dropped their rows is durable: else a power cut could bring
        back rows whose bytes are gone.
        """
        by_inode: dict[InodeId, list[BlockNumber]] = {}
        for inode, number in keys:
            if self.get(inode, number) is None:
                by_inode.setdefault(inode, []).append(number)
        for inode, numbers in by_inode.items():
            self._staging.discard(inode, numbers)

    def free_file(self, inode: InodeId) -> None:
        """Give all disk space of a deleted file back, under the same condition."""
        self._staging.discard_inode(inode)

    @property
    def reclaimable(self) -> bool:
        """Whether :meth:`reclaim` has something to do."""
        return self._staging.reclaimable() > 0

    def reclaim(self) -> None:
        """Free the disk space of what was given back. Blocks: call it in a thread."""
        self._staging.reclaim()

    def sweep(self) -> int:
        """At mount, before anything is written: free what no row names. Returns bytes freed."""
        per_file = self._staging.blocks_per_file

        def live(inode: InodeId, group: int) -> list[BlockNumber]:
            first = group * per_file
            rows = self._index.staging.of_inode(inode, first, first + per_file - 1)
            return [row.block for row in rows]

        return self._staging.sweep(live).bytes_freed
