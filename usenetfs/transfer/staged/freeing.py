"""Giving staging's disk space back, once nothing can need it any more.

A block may leave staging when the index no longer lists it **and that commit is on the disk**: if
the row came back after a power cut and its bytes were gone, zeros would be uploaded in their place.
So what was settled is collected, the index's log is synced, and only then are the bytes freed.
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
        self._settled: list[Key] = []
        self._work = Pulse()
        self.freed = Pulse()
        """Fires after each round: there may be room in staging."""

    def __repr__(self) -> str:
        return f"<Freer waiting={len(self._settled)}>"

    def add(self, keys: Iterable[Key]) -> None:
        """These blocks' rows are gone from the index."""
        self._settled.extend(keys)
        self._work.fire()

    async def run(self) -> None:
        """Free in rounds until cancelled."""
        while True:
            await self._work.wait_at_most(IDLE_INTERVAL)
            if self._settled:
                await trio.sleep(INTERVAL)  # others will follow: one sync for all of them
            await self.free_now()

    async def free_now(self) -> None:
        """One round: sync, then free what was settled before the sync."""
        keys, self._settled = self._settled, []
        if not keys and not self._staged.reclaimable:
            await trio.lowlevel.checkpoint()
            return
        try:
            if keys:
                await trio.to_thread.run_sync(self._index.sync)
                self._staged.free(keys)
            await trio.to_thread.run_sync(self._staged.reclaim)
        except LocalStorageError as error:
            log.warning("staging could not be freed now: %s; it is tried again", error)
            self._settled.extend(keys)
        self.freed.fire()
