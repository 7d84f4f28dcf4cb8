"""Giving staging's disk space back, once nothing can need it any more.

A block may leave staging when the index no longer lists it **and that commit is on the disk**: if
the row came back after a power cut and its bytes were gone, zeros would be uploaded in their place.
That holds whatever took the row away: its content was seen on the servers, its file was cut, or
deleted (a file that another was renamed over has been synced, as often as not). So all of that is
collected, the index's log is synced, and only then are the bytes freed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import trio

from usenetfs.errors import LocalStorageError
from usenetfs.index.index import Index
from usenetfs.transfer.pulse import Pulse
from usenetfs.transfer.staged.blocks import StagedBlocks
from usenetfs.transfer.staged.hot_blocks import Key
from usenetfs.types import InodeId

log = logging.getLogger("usenetfs.upload")

INTERVAL = 0.5
"""Seconds between two syncs of the log on behalf of freeing."""

IDLE_INTERVAL = 2.0
"""Seconds after which what was cut off or deleted is freed, though nothing was settled."""


class Freer:
    """Collects settled blocks and frees them in rounds."""

    def __init__(self, index: Index, staged: StagedBlocks) -> None:
        self._index = index
        self._staged = staged
        self._blocks: list[Key] = []
        self._files: list[InodeId] = []
        self._work = Pulse()
        self._turn = trio.Lock()
        self.freed = Pulse()
        """Fires after each round: there may be room in staging."""
        staged.on_cut = self._add_cut
        staged.on_deleted = self._add_file

    def __repr__(self) -> str:
        return f"<Freer waiting={len(self._blocks)} files={len(self._files)}>"

    def add(self, keys: Iterable[Key]) -> None:
        """These blocks were settled: their rows are gone from the index."""
        self._blocks.extend(keys)
        self._work.fire()

    def _add_cut(self, keys: Iterable[Key]) -> None:
        self._blocks.extend(keys)

    def _add_file(self, inode: InodeId) -> None:
        self._files.append(inode)

    async def run(self) -> None:
        """Free in rounds until cancelled."""
        while True:
            await self._work.wait_at_most(IDLE_INTERVAL)
            if self._blocks:
                await trio.sleep(INTERVAL)  # others will follow: one sync for all of them
            await self.free_now()

    async def free_now(self) -> None:
        """One round: sync, then free what was given up before the sync."""
        async with self._turn:
            await self._free()

    async def _free(self) -> None:
        blocks, self._blocks = self._blocks, []
        files, self._files = self._files, []
        if not blocks and not files and not self._staged.reclaimable:
            await trio.lowlevel.checkpoint()
            return
        try:
            if blocks or files:
                await trio.to_thread.run_sync(self._index.sync)
        except LocalStorageError as error:
            log.warning("staging could not be freed now: %s; it is tried again", error)
            self._blocks.extend(blocks)
            self._files.extend(files)
            return
        again = set(self._blocks)  # written and given up anew: the next sync covers that
        self._staged.free(key for key in blocks if key not in again)
        for inode in files:
            self._staged.free_file(inode)
        try:
            await trio.to_thread.run_sync(self._staged.reclaim)
        except LocalStorageError as error:
            log.warning("some of staging could not be freed now: %s; it is tried again", error)
        self.freed.fire()
