"""Filling the cache costs no more fetches than it has room for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.transfer.world import (
    BLOCK,
    ExpectLog,
    FakeServers,
    World,
    drop_caches,
    opened_world,
    stored_file,
)
from usenetfs.store.article_cache import ArticleCache
from usenetfs.store.pins import Pins
from usenetfs.transfer.fetch.cache_care import AT_ONCE, LOOK_AGAIN, CacheCare
from usenetfs.types import InodeId

BLOCKS = 240
FIT = 120
"""About as many have room in the cache."""
FEWEST = FIT // 6
"""Articles that find room at least: several blocks share one."""


@pytest.fixture
def servers() -> FakeServers:
    return FakeServers()


def care_of(world: World, cache: ArticleCache) -> CacheCare:
    world.fetcher._cache = cache
    return CacheCare(world.index, world.fetcher, cache, Pins(None))


def small_cache(path: Path) -> ArticleCache:
    return ArticleCache(path / "small", max_bytes=FIT * BLOCK, min_free_bytes=0)


async def keep_pinned(care: CacheCare, inode: InodeId) -> None:
    """For as long as twenty looks at what is pinned take."""
    care.pin(inode)
    with trio.move_on_after(20 * LOOK_AGAIN):
        await care.run()


async def test_what_is_warmed_does_not_drive_itself_out(
    tmp_path: Path, servers: FakeServers
) -> None:
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, os.urandom(BLOCKS * BLOCK))
        articles = len(servers.articles)
        await drop_caches(world)
        cache = small_cache(tmp_path)
        done = await care_of(world, cache).warm(inode)
        assert done.articles == done.fetched == len(cache) > FEWEST
        assert done.refused == articles - len(cache)
        assert servers.calls["fetch"] == done.fetched
        # What was fetched is an ordinary article of the cache again.
        other = await stored_file(world, os.urandom(BLOCKS * BLOCK))
        await drop_caches(world)
        again = await care_of(world, cache).warm(other)
        assert again.fetched > FEWEST


async def test_what_is_pinned_and_finds_no_room_is_not_fetched_again_and_again(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, os.urandom(BLOCKS * BLOCK))
        await drop_caches(world)
        cache = small_cache(tmp_path)
        await keep_pinned(care_of(world, cache), inode)
        assert servers.calls["fetch"] == len(cache) > FEWEST


async def test_a_cache_that_cannot_be_written_costs_few_fetches(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock, expect_log: ExpectLog
) -> None:
    expect_log("the cache cannot write")
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, os.urandom(BLOCKS * BLOCK))
        await drop_caches(world)
        (tmp_path / "broken").write_bytes(b"a file, where a directory should be")
        cache = ArticleCache(tmp_path / "broken", max_bytes=1 << 30, min_free_bytes=0)
        await keep_pinned(care_of(world, cache), inode)
        assert servers.calls["fetch"] <= 6 * AT_ONCE
