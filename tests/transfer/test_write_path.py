"""The pipeline's promises: full articles, bounded queues, states that hold, crashes taken up."""

from __future__ import annotations

import lzma
import os
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.transfer.world import (
    BLOCK,
    ExpectLog,
    FakeServers,
    comes_back,
    drop_caches,
    opened_world,
    until,
    uploading,
)
from usenetfs.article.container import MEMBER_SIZE
from usenetfs.article.wire import OutgoingArticle
from usenetfs.errors import DiskFullError
from usenetfs.index.articles import ArticleState
from usenetfs.index.transitions import Settled
from usenetfs.transfer.staged import freeing
from usenetfs.transfer.upload import ledger
from usenetfs.transfer.upload.post_check import CheckTimes
from usenetfs.transfer.upload.settings import UploadSettings
from usenetfs.types import Codec, Durability


@pytest.fixture
def servers() -> FakeServers:
    return FakeServers()


# --- articles are full, queues are bounded ----------------------------------------------------


async def test_articles_of_many_small_files_are_full(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    sizes = [37 * (number % 40) + 5 for number in range(600)]
    async with opened_world(tmp_path, servers) as world, uploading(world):
        for size in sizes:
            world.staged.write(world.new_file(size), 0, os.urandom(size))
        world.save()
        await world.uploader.sync()
    overhead = len(sizes) * MEMBER_SIZE
    needed = -(-(sum(sizes) + overhead) // BLOCK)
    assert servers.calls["post"] <= needed / 0.9 + 1


async def test_an_open_article_leaves_after_its_delay_without_sync(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers) as world, uploading(world):
        world.write(world.new_file(10), 0, b"x" * 10)
        await trio.sleep(0.5)
        assert servers.calls["post"] == 0
        await trio.sleep(5)
        assert servers.calls["post"] == 1
        assert world.index.staging.counts().total.count == 0


async def test_lzma_never_sees_what_is_known_or_random(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fed: list[bytes] = []
    compress = lzma.compress

    def noted(data: bytes, **options: Any) -> bytes:
        fed.append(bytes(data))
        return compress(data, **options)

    monkeypatch.setattr(lzma, "compress", noted)
    text = b"all work and no play " * (BLOCK // 21 + 1)
    settings = UploadSettings(codec=Codec.LZMA, pack_delay=1.0, check=CheckTimes(first=0.5))
    opened = opened_world(tmp_path, servers, upload=settings)
    async with opened as world, uploading(world):
        first, second = world.new_file(2 * BLOCK), world.new_file(BLOCK)
        world.write(first, 0, text[:BLOCK] + os.urandom(BLOCK))
        await world.uploader.sync()
        world.write(second, 0, text[:BLOCK])
        await world.uploader.sync()
        await drop_caches(world)
        assert await world.read(second, 0, BLOCK) == text[:BLOCK]
    assert fed == [text[:BLOCK]]


async def test_what_waits_for_a_stopped_server_is_bounded(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock, expect_log: ExpectLog
) -> None:
    expect_log("posting failed")
    blocks = 3000
    servers.down = True
    async with opened_world(tmp_path, servers) as world:
        world.uploader.flight.queue.max_bytes = 20 * BLOCK
        inode = world.new_file(blocks * BLOCK)
        world.write(inode, 0, os.urandom(blocks * BLOCK))
        async with uploading(world):
            await trio.sleep(20)
            queue, in_flight = world.uploader.flight.queue, len(world.index.in_flight())
            assert 0 < queue.bytes <= queue.max_bytes
            assert in_flight < 60
            servers.down = False
            await world.uploader.sync()
        assert world.index.check() == []
        assert len(servers.articles) == blocks


# --- durability -------------------------------------------------------------------------------


async def test_states_follow_a_file_on_its_way(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers, check=CheckTimes(first=30.0)) as world:
        inode = world.new_file(BLOCK)
        world.write(inode, 0, os.urandom(BLOCK))
        assert world.index.durability_of(inode) is Durability.STAGED
        async with uploading(world):
            with trio.fail_after(20):
                await world.uploader.reach(inode, Durability.POSTED)
            assert world.index.durability_of(inode) is Durability.POSTED
            assert world.index.staged_bytes_of(inode)[Durability.POSTED] == BLOCK
            await world.uploader.reach(inode, Durability.SEEN)
            assert world.index.durability_of(inode) is Durability.SEEN
            assert world.index.stored_bytes_of(inode, 0, 1) == {Durability.SEEN: BLOCK}
        world.write(inode, 10, b"changed")
        assert world.index.durability_of(inode) is Durability.STAGED
        assert world.index.staged_bytes_of(inode)[Durability.STAGED] == 7
        assert world.index.stored_bytes_of(inode, 0, 1) == {Durability.SEEN: BLOCK - 7}


async def test_reaching_a_state_waits_for_the_newest_content(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(BLOCK)
        newest = os.urandom(BLOCK)

        def rewrite(_: OutgoingArticle) -> None:
            servers.after_post = lambda _: None
            world.write(inode, 0, newest)

        servers.after_post = rewrite
        world.write(inode, 0, os.urandom(BLOCK))
        await world.uploader.reach(inode, Durability.POSTED)
        await world.uploader.reach(inode, Durability.POSTED)
        assert servers.calls["post"] == 2


async def test_staging_may_wait_until_articles_were_opened(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock, expect_log: ExpectLog
) -> None:
    expect_log("not ours")
    check = CheckTimes(first=0.5, deadline=30.0, verify=True)
    async with opened_world(tmp_path, servers, check=check) as world, uploading(world):
        inode, data = world.new_file(BLOCK), os.urandom(BLOCK)

        def spoil(article: OutgoingArticle) -> None:
            servers.after_post = lambda _: None
            servers.articles[article.message_id] = os.urandom(500)

        servers.after_post = spoil
        world.write(inode, 0, data)
        await world.uploader.sync()
        assert servers.calls["post"] == 2, "a STAT would have believed the first"
        assert world.index.durability_of(inode) is Durability.VERIFIED
        await comes_back(world, inode, data)


async def test_a_failed_commit_of_what_was_posted_is_tried_again(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    expect_log: ExpectLog,
) -> None:
    expect_log("cannot be written down")
    async with opened_world(tmp_path, servers) as world:
        mark, failures = world.index.mark_outcomes, [1, 2, 3]

        def fail_at_first(*outcomes: Any) -> Settled:
            if failures:
                failures.pop()
                raise DiskFullError("no space left")
            return mark(*outcomes)

        monkeypatch.setattr(world.index, "mark_outcomes", fail_at_first)
        inode = world.new_file(BLOCK)
        world.write(inode, 0, os.urandom(BLOCK))
        async with uploading(world):
            await world.uploader.sync()
        assert servers.calls["post"] == 1
        assert world.index.check() == []


# --- crashes: what one run leaves, the next one takes up -----------------------------------------


async def test_a_crash_before_the_240_is_written_down_sends_nothing_twice(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = os.urandom(3 * BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = world.new_file(len(data))
        world.write(inode, 0, data)
        monkeypatch.setattr(ledger, "DELAY", 1e6)
        async with uploading(world):
            await until(lambda: world.uploader.counts.articles_posted == 3)
        assert [a.state for a in world.index.in_flight()] == [ArticleState.PENDING] * 3
    monkeypatch.undo()
    async with opened_world(tmp_path, servers) as world, uploading(world):
        await world.uploader.sync()
        await comes_back(world, inode, data)
        assert world.index.durability_of(inode) is Durability.VERIFIED, "each was opened"
    assert servers.calls["post"] == 3


async def test_a_crash_after_the_240_sends_nothing_twice(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(3 * BLOCK)
    async with opened_world(tmp_path, servers, check=CheckTimes(first=1e5)) as world:
        inode = world.new_file(len(data))
        world.write(inode, 0, data)
        async with uploading(world):
            await world.uploader.reach(inode, Durability.POSTED)
        assert [a.state for a in world.index.in_flight()] == [ArticleState.POSTED] * 3
    async with opened_world(tmp_path, servers) as world, uploading(world):
        await world.uploader.sync()
        await comes_back(world, inode, data)
    assert servers.calls["post"] == 3


async def test_a_crash_before_staging_is_freed_leaves_nothing_behind(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = os.urandom(3 * BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = world.new_file(len(data))
        world.write(inode, 0, data)
        monkeypatch.setattr(freeing, "INTERVAL", 1e6)
        async with uploading(world):
            await world.uploader.reach(inode, Durability.SEEN)
        assert world.staging.usage() >= len(data)
    async with opened_world(tmp_path, servers) as world:
        assert world.staged.sweep() >= len(data)
        assert world.staging.usage() == 0
        assert await world.read(inode, 0, len(data)) == data


async def test_a_crash_before_saving_leaves_the_last_saved_content(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers) as world:
        inode = world.new_file(BLOCK)
        world.staged.write(inode, 0, os.urandom(BLOCK))
    async with opened_world(tmp_path, servers) as world, uploading(world):
        world.staged.sweep()
        assert world.staging.usage() == 0
        assert await world.read(inode, 0, BLOCK) == bytes(BLOCK)
        await world.uploader.sync()
    assert servers.calls["post"] == 0
