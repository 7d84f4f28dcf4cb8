"""What keeps the index in shape while it is in use: a task of the daemon.

The write-ahead log is copied into the database when it has grown: the long part in a thread, the
short one on the loop, after which the log starts over. Looked at twice a second, it stays below the
size at which a commit would have to do all of it at once, however fast programs write. And pages
that are free go back to the disk, a few at a time; and rows to the files that they are spread over,
if there are more than one.

Must not know who writes, or what.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from usenetfs.errors import UsenetfsError
from usenetfs.index.index import Index
from usenetfs.index.settling import Batch

log = logging.getLogger("usenetfs.daemon")

INTERVAL: Final = 0.5
"""Seconds between two looks, each of which costs microseconds."""

WAL_WORTH_IT: Final = 4 << 20
"""Bytes of log below which it is left alone."""


async def keep_in_shape(index: Index, report: Callable[[UsenetfsError], None]) -> None:
    """Run until cancelled; what fails is reported and tried again."""
    behind = False
    while True:
        await trio.sleep(0 if behind else INTERVAL)
        behind = False
        try:
            behind = await _settle(index)
            index.give_back()
            if index.wal_size() < WAL_WORTH_IT:
                continue
            await trio.to_thread.run_sync(index.wal_checkpoint_step)
            index.wal_checkpoint_inline()
        except UsenetfsError as error:
            log.warning("the index could not be tidied up: %s; tried again", error)
            report(error)


async def _settle(index: Index) -> bool:
    """Move some rows to the files they belong to; whether there were any."""
    batch = Batch()
    for _ in index.settling.plan_slices(batch):
        await trio.lowlevel.checkpoint()
    if not batch:
        return False
    await trio.to_thread.run_sync(index.settling.carry, batch)
    for _ in index.settling.release_slices(batch):
        await trio.lowlevel.checkpoint()
    return True
