"""The cache as its user wants it: filled ahead of time, emptied in part, or pinned.

Owns the pins and what follows from them: the articles of what is pinned are fetched while nobody
else needs the line, and are not evicted. Trees change, so they are looked through again after a
while. Fetching here goes in the lowest lane, a few articles at a time.

Traffic costs money, so nothing is fetched that would find no room, or drive out what was fetched
just before it: the cache is asked first, and what is being warmed is pinned until that is over.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio

from usenetfs.errors import UsenetfsError
from usenetfs.index.index import Index
from usenetfs.store.article_cache import ArticleCache, on_disk
from usenetfs.store.pins import Pins
from usenetfs.transfer.fetch.fetcher import Fetcher
from usenetfs.transfer.fetch.tree_articles import ArticlePlace, articles_below
from usenetfs.types import ArticleId, InodeId

log = logging.getLogger("usenetfs.download")

AT_ONCE = 8
"""Articles being fetched for the cache alone."""

LOOK_AGAIN = 60.0
"""Seconds after which pinned trees are looked through again."""

LOOK_AGAIN_LATER = 3600.0
"""The same where the disk took nothing of what was fetched the last times."""


@dataclass(slots=True)
class Warmed:
    """What came of filling the cache."""

    articles: int = 0
    """In the cache now, or before."""
    fetched: int = 0
    bytes: int = 0
    """Fetched."""
    failed: int = 0
    """Could not be had; reading them would fail, too."""
    refused: int = 0
    """There was no room; not fetched, unless ``in_vain``."""
    in_vain: int = 0
    """Of the refused: the disk failed to take them."""
    full_for: int | None = None
    """The size of the smallest that was refused: what is as large is not tried."""


class CacheCare:
    """See the module. :meth:`run` keeps what is pinned, until cancelled."""

    def __init__(self, index: Index, fetcher: Fetcher, cache: ArticleCache, pins: Pins) -> None:
        self._index = index
        self._fetcher = fetcher
        self._cache = cache
        self.pins = pins
        self._pinned: set[ArticleId] = set()
        self._changed = trio.Event()
        self._on_the_way = 0
        """Bytes of what is fetched for the cache now."""
        self._look_again = LOOK_AGAIN

    def __repr__(self) -> str:
        return f"<CacheCare {self.pins!r} of {len(self._pinned)} articles>"

    # --- at once ---------------------------------------------------------------------------------

    async def warm(self, inode: InodeId) -> Warmed:
        """Fetch what is missing of a file or tree into the cache."""
        done = Warmed()
        seen: set[ArticleId] = set()
        try:
            async with trio.open_nursery() as nursery:
                limit = trio.Semaphore(AT_ONCE)
                async for place in self._walk(inode):
                    if place.article in seen:
                        continue
                    seen.add(place.article)
                    self._cache.pin(place.article)
                    await limit.acquire()
                    nursery.start_soon(self._warm_one, place, done, limit)
        finally:
            for article in seen:
                self._cache.unpin(article)
        return done

    async def _warm_one(self, place: ArticlePlace, done: Warmed, limit: trio.Semaphore) -> None:
        try:
            if self._cache.contains(place.article):
                done.articles += 1
            else:
                await self._fetch_one(place, done)
        except UsenetfsError as error:
            log.info("the cache was not filled with an article: %s", error)
            done.failed += 1
        finally:
            limit.release()

    async def _fetch_one(self, place: ArticlePlace, done: Warmed) -> None:
        row = self._index.articles.get(place.article)
        needed = on_disk(row.size) if row is not None else 0
        self._on_the_way += needed
        try:
            full = done.full_for is not None and needed >= done.full_for
            if full or not await trio.to_thread.run_sync(self._cache.has_room, self._on_the_way):
                done.refused += 1
                done.full_for = needed if done.full_for is None else min(needed, done.full_for)
                return
            size = await self._fetcher.cache_only(
                place.article, place.attempt, rewritten=place.rewritten
            )
        finally:
            self._on_the_way -= needed
        if size:
            done.articles += 1
            done.fetched += 1
            done.bytes += size
        else:
            done.refused += 1
            done.in_vain += 1
            done.full_for = 0

    async def drop(self, inode: InodeId) -> int:
        """Take a file or tree out of the cache, and what shares its articles; how many."""
        dropped = 0
        async for place in self._walk(inode):
            self._fetcher.forget(place.article)
            if self._cache.contains(place.article):
                await trio.to_thread.run_sync(self._cache.discard, place.article)
                dropped += 1
        return dropped

    async def _walk(self, inode: InodeId) -> AsyncIterator[ArticlePlace]:
        for step in articles_below(self._index, inode):
            for place in step:
                yield place
            await trio.lowlevel.checkpoint()

    # --- pins ------------------------------------------------------------------------------------

    def pin(self, inode: InodeId) -> None:
        """Keep a file or tree in the cache from now on."""
        self.pins.add(inode)
        self._changed.set()

    def unpin(self, inode: InodeId) -> None:
        self.pins.remove(inode)
        self._changed.set()

    async def run(self) -> None:
        """Keep what is pinned, until cancelled."""
        while True:
            self._changed = trio.Event()
            if self.pins or self._pinned:
                try:
                    await self._look_through()
                except UsenetfsError as error:
                    log.warning(
                        "what is pinned could not be looked through: %s; tried again", error
                    )
                with trio.move_on_after(self._look_again):
                    await self._changed.wait()
            else:
                await self._changed.wait()

    async def _look_through(self) -> None:
        """Pin the articles of what is pinned now, unpin all others, and fetch what is missing."""
        wanted: set[ArticleId] = set()
        gone = [inode for inode in self.pins.all() if self._index.inodes.get(inode) is None]
        if gone:
            self.pins.remove(*gone)
        for inode in self.pins.all():
            async for place in self._walk(inode):
                wanted.add(place.article)
        for article in wanted - self._pinned:
            self._cache.pin(article)
        for article in self._pinned - wanted:
            self._cache.unpin(article)
        self._pinned = wanted
        in_vain = 0
        for inode in self.pins.all():
            done = await self.warm(inode)
            in_vain += done.in_vain
            if done.refused:
                log.info("%d pinned articles found no room in the cache", done.refused)
        self._look_again = min(2 * self._look_again, LOOK_AGAIN_LATER) if in_vain else LOOK_AGAIN
