"""File contents: what reading, writing, cutting, syncing and deleting a file mean.

:class:`Files` joins a file's attributes (:class:`LiveInodes`) with its bytes (``transfer``). A
write touches the staging files and memory, nothing else; :meth:`Files.save` writes rows and
attributes of what changed to the index in **one** transaction, so that no crash separates a size
from its bytes.

When saving happens: at fsync, before a rename, every :data:`SAVE_INTERVAL`, and when much has
gathered. At close a record in the journal does (``pending.py``).

Back-pressure: while staging is over its limit, or its disk nearly full, a write waits until uploads
have freed space; where they cannot free enough it fails at once. In a stillness
(``transfer/staged/stillness.py``) writes into some files wait until it ends. Reads never wait for
either.
"""

from __future__ import annotations

import errno
import logging
import stat
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import trio

from usenetfs.errors import DiskFullError, PosixError, UsenetfsError
from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.fs.pending import Pending
from usenetfs.index.index import Index
from usenetfs.index.inodes import Inode
from usenetfs.transfer.content import BlockContent
from usenetfs.transfer.fetch.fetcher import Buffer
from usenetfs.transfer.staged.blocks import StagedBlocks
from usenetfs.transfer.staged.freeing import Freer
from usenetfs.transfer.staged.stillness import Stillness
from usenetfs.types import BlockNumber, InodeId, Lane

log = logging.getLogger("usenetfs.fs")

SAVE_INTERVAL = 0.5
"""Seconds after which a change is in the index at the latest (not yet synced to the disk)."""

DELETED_TOGETHER = 64
"""Inodes deleted in one transaction: some milliseconds."""

MAX_UNSAVED = 2048
"""Unsaved blocks and inodes that a write saves at once instead of waiting for the interval."""

"""Block rows deleted between two chances for other work."""

MEASURED_EVERY = 4 << 20
"""Bytes written between two looks at how much is staged; fewer where less may be."""

PAGE = 4096
"""What a write counts at least: the disk gives a small file that much, and the index its rows."""

RESIDUE = 4 << 20
"""Bytes of staging that uploads may leave: files that stay open, and what the disk adds to them."""

MAX_BLOCKS = 1 << 31
"""Blocks of the longest file: 1.5 EB with the default block size."""


class Files:
    """``staging_limit``: bytes of staging above which writes wait. ``min_free``: bytes of the disk
    that they leave. ``reach``: what ``fsync`` waits for beyond the local disk, if anything.
    ``stillness``: when writes wait for a checkpoint."""

    def __init__(
        self,
        index: Index,
        inodes: LiveInodes,
        staged: StagedBlocks,
        content: BlockContent,
        freer: Freer,
        *,
        stillness: Stillness,
        staging_limit: int,
        min_free: int,
        pending: Pending,
        reach: Callable[[InodeId], Awaitable[None]] | None = None,
    ) -> None:
        self._index = index
        self._pending = pending
        self._inodes = inodes
        self._staged = staged
        self._content = content
        self._freer = freer
        self._stillness = stillness
        self._staging_limit = staging_limit
        self._min_free = min_free
        self._reach = reach
        self._doomed: dict[InodeId, None] = {}
        """Inodes to be deleted together."""
        self.max_size = MAX_BLOCKS * staged.block_size
        self._unmeasured = 0
        """Bytes that may be written before staging is measured again."""
        self.waiting_writers = 0
        """Writes held back because staging is full."""

    # --- reading ---------------------------------------------------------------------------------

    def at_hand(self, inode: InodeId, offset: int, length: int) -> Buffer | None:
        """Bytes within the file if they take no waiting and no looking up, else None."""
        return self._content.at_hand(inode, offset, length)

    async def read(
        self, inode: InodeId, offset: int, length: int, *, lane: Lane = Lane.READER
    ) -> Buffer:
        """Bytes of the file from ``offset``, at most ``length``, fewer at its end."""
        length = min(length, self._inodes.get(inode).size - offset)
        if length <= 0:
            return b""
        return await self._content.read(inode, offset, length, lane=lane)

    # --- writing ---------------------------------------------------------------------------------

    async def write(self, inode: InodeId, offset: int, data: bytes) -> int:
        """Write all of ``data``; returns its length."""
        end = offset + len(data)
        if end > self.max_size:
            raise PosixError(errno.EFBIG)
        self._unmeasured -= max(len(data), PAGE)
        if self._unmeasured < 0:
            room = self._room(self._staging_limit)
            if room < 0:
                await self.wait_for_room(self._staging_limit)
            self._unmeasured = min(max(room, 0), MEASURED_EVERY)
        if self._staged.steady.holds(inode, offset, end):
            await self._staged.steady.wait(inode, offset, end)
        if self._stillness.holds(inode):
            await self._stillness.wait(inode)
        self._staged.write(inode, offset, data)
        self._inodes.wrote(inode, end)
        self.save_if_many()
        return len(data)

    async def wait_for_an_import(self, limit: int) -> None:
        """Return when an import may stage more: there is room below ``limit``, and no stillness."""
        await self.wait_for_room(limit)
        if self._stillness.on:
            await self._stillness.wait_for_the_end()

    async def wait_for_room(self, limit: int) -> None:
        """Return when no more than ``limit`` bytes are staged, and enough of the disk is free.
        DiskFullError where uploads cannot free that much: others fill it."""
        if self._room(limit) >= 0:
            await trio.lowlevel.checkpoint()
            return
        self.waiting_writers += 1
        self._staged.pressed += 1
        try:
            while self._room(limit) < 0:
                self.save()
                self._staged.force()
                await self._freer.freed.wait_at_most(1.0)
        finally:
            self.waiting_writers -= 1
            self._staged.pressed -= 1

    def _room(self, limit: int) -> int:
        """Bytes that may be staged still; negative where some must go first."""
        usage = self._staged.usage()
        spare = self._staged.to_spare(self._min_free)
        if -spare > max(usage - RESIDUE, 0):
            raise DiskFullError(
                "the disk that holds the data directory is nearly full",
                hint="free space there: the last of it is kept for the index (staging.min_free)",
            )
        return min(limit - usage, spare)

    def resize(self, inode: InodeId, size: int) -> None:
        """Cut the file or extend it with zeros, and set its times."""
        if size > self.max_size:
            raise PosixError(errno.EFBIG)
        row = self._inodes.get(inode)
        if stat.S_ISDIR(row.mode):
            raise PosixError(errno.EISDIR)
        if not stat.S_ISREG(row.mode):
            raise PosixError(errno.EINVAL)
        now = time.time_ns()
        resized = replace(row, size=size, mtime_ns=now, ctime_ns=now)
        if size >= row.size:
            self._inodes.change(resized)
            return
        with self._index.transaction():
            cut = self._staged.cut(inode, size)
            self._cut_block_map(inode, size)
            self._index.inodes.update(resized)
        self._inodes.written(resized)
        self._staged.cut_done(inode, size, cut)

    async def resize_in_steps(self, inode: InodeId, size: int) -> None:
        """:meth:`resize`, letting others work in between when many blocks go.

        The file shrinks from its end, so each step, and a crash between two, leaves a valid file.
        """
        if self._stillness.holds(inode):
            await self._stillness.wait(inode)
        first_gone = BlockNumber(-(-size // self._staged.block_size))
        while True:
            lowest = self._index.blocks.lowest_of_last(inode, first_gone, self._index.batch)
            if lowest is None or lowest <= first_gone:
                break
            self.resize(inode, min(self._inodes.get(inode).size, lowest * self._staged.block_size))
            await trio.lowlevel.checkpoint()
        self.resize(inode, size)

    def _cut_block_map(self, inode: InodeId, size: int) -> None:
        number, keep = divmod(size, self._staged.block_size)
        first_gone = BlockNumber(number + (keep > 0))
        while self._index.blocks.delete_from(inode, first_gone, self._index.batch):
            continue
        edge = self._index.blocks.get(inode, BlockNumber(number)) if keep else None
        if edge is not None and edge.length > keep:
            self._index.blocks.set_length(inode, BlockNumber(number), keep)

    # --- saving ----------------------------------------------------------------------------------

    def save(self, inode: InodeId | None = None) -> None:
        """Commit unsaved rows and attributes of one file, or of all."""
        if inode is None or self._pending:
            self._pending.commit()
            return
        if not self._inodes.is_unsaved(inode):
            return
        with self._index.transaction():
            blocks = self._staged.save(inode)
            rows = self._inodes.save(inode)
        self._staged.saved(blocks)
        self._inodes.written(*rows)

    def closed(self, inode: InodeId) -> None:
        """The file as it is now survives the death of the daemon."""
        self._pending.closed(inode)

    def save_if_many(self) -> None:
        """Save everything, if much has gathered."""
        if self._staged.unsaved + self._inodes.unsaved > MAX_UNSAVED:
            self.save()

    async def save_regularly(self) -> None:
        """Save what changed, every interval, until cancelled."""
        while True:
            await trio.sleep(SAVE_INTERVAL)
            try:
                self.save()
                await self._delete_doomed()
            except UsenetfsError as error:
                log.warning("changes could not be saved: %s; it is tried again", error)

    async def sync(self, inode: InodeId) -> None:
        """After it returns, the file as it is now survives a power cut, and is as far on its way as
        ``reach`` takes it. It waits for as long as that takes, also while the network is away."""
        self.save(inode)
        await trio.to_thread.run_sync(self._staged.sync_files, inode)
        await trio.to_thread.run_sync(self._index.sync)
        if self._reach is not None:
            await self._reach(inode)

    async def sync_names(self) -> None:
        """After it returns, all names as they are now survive a power cut."""
        self.save()
        await trio.to_thread.run_sync(self._index.sync)

    # --- deleting --------------------------------------------------------------------------------

    async def delete_if_unneeded(self, row: Inode) -> None:
        """Delete an inode once it has no name and nobody needs it."""
        if row.nlink == 0 and not self._inodes.needed(row.id):
            await self.delete(row.id)

    async def delete_soon(self, row: Inode) -> None:
        """:meth:`delete_if_unneeded`, within :data:`SAVE_INTERVAL` and together with others: what a
        transaction costs is paid once for many. Until then it is an unlinked inode like any other.
        """
        if row.nlink == 0 and not self._inodes.needed(row.id):
            self._doomed[row.id] = None
            if len(self._doomed) >= DELETED_TOGETHER:
                await self._delete_doomed()

    async def _delete_doomed(self) -> None:
        doomed = [inode for inode in self._doomed if not self._inodes.needed(inode)]
        await self._delete(doomed)
        for inode in doomed:
            self._doomed.pop(inode, None)

    async def delete(self, inode: InodeId) -> None:
        """Drop everything of an inode without names, in batches that let others work."""
        await self._delete([inode])

    async def _delete(self, inodes: list[InodeId]) -> None:
        while inodes:
            inodes = self._delete_some(inodes)
            if inodes:
                await trio.lowlevel.checkpoint()

    def _delete_some(self, inodes: list[InodeId]) -> list[InodeId]:
        """One transaction's worth of blocks and rows; returns those inodes that are left."""
        room = batch = self._index.batch
        gone: list[InodeId] = []
        with self._index.transaction():
            for inode in inodes:
                self._staged.forget_inode(inode)
                deleted = self._index.blocks.delete_from(inode, BlockNumber(0), batch)
                room -= deleted
                if deleted < batch:
                    self._index.inodes.delete(inode)
                    gone.append(inode)
                if room <= 0:
                    break
        for inode in gone:
            self._inodes.gone(inode)
            self._staged.deleted(inode)
        return inodes[len(gone) :]

    async def delete_leftovers(self) -> None:
        """Delete what was unlinked and still open when the filesystem was last used."""
        while leftovers := self._index.inodes.unlinked(1000):
            for inode in leftovers:
                await self.delete(inode)
