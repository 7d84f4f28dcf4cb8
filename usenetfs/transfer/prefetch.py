"""Read-ahead: the blocks that a reader will want next are fetched before it asks.

What to fetch is decided by :class:`ReadAhead`, one per open file; here the decision is carried out:
blocks that are staged, sparse, or in memory are passed over, the others are fetched in the
background, in the read-ahead lane, at most :data:`MAX_FETCHES` at a time over all readers. A fetch
that fails is no error: the reader will ask itself and hear the reason.
"""

from __future__ import annotations

import logging

import trio

from usenetfs.errors import UsenetfsError
from usenetfs.index.blocks import BlockLocation
from usenetfs.index.index import Index
from usenetfs.transfer.fetcher import Fetcher
from usenetfs.transfer.readahead import ReadAhead
from usenetfs.types import BlockNumber, InodeId, Lane

log = logging.getLogger("usenetfs.download")

MAX_FETCHES = 64


class Prefetcher:
    """``window``: blocks that one reader may be ahead. Work runs in ``nursery``."""

    def __init__(
        self,
        index: Index,
        fetcher: Fetcher,
        *,
        block_size: int,
        window: int,
        nursery: trio.Nursery,
    ) -> None:
        self._index = index
        self._fetcher = fetcher
        self._block_size = block_size
        self._window = window
        self._nursery = nursery
        self._active = 0

    def __repr__(self) -> str:
        return f"<Prefetcher active={self._active} window={self._window}>"

    def new_reader(self) -> ReadAhead:
        """The read-ahead state of a file just opened."""
        return ReadAhead(self._block_size, self._window)

    def noticed(
        self, inode: InodeId, reader: ReadAhead, offset: int, size: int, length: int
    ) -> None:
        """Somebody reads ``size`` bytes at ``offset`` of a file of ``length`` bytes."""
        if length <= self._block_size:
            return
        last = (length - 1) // self._block_size
        for number in reader.on_read(offset, size, trio.current_time()):
            if self._active >= MAX_FETCHES:
                return
            if 0 <= number <= last:
                self._start(inode, number)

    def _start(self, inode: InodeId, number: BlockNumber) -> None:
        found = self._index.blocks.locate(inode, number, 1)
        if found and not self._fetcher.at_hand(found[0]):
            self._active += 1
            self._nursery.start_soon(self._fetch, found[0])

    async def _fetch(self, location: BlockLocation) -> None:
        try:
            await self._fetcher.segment(location, lane=Lane.READAHEAD)
        except UsenetfsError as error:
            log.info("read-ahead came to nothing: %s", error)
        except Exception:
            log.exception("a fault of usenetfs in read-ahead; the reader is not affected")
        finally:
            self._active -= 1
