"""Read-ahead carried out: order, shares, and giving up."""

from __future__ import annotations

import os
from collections.abc import Hashable
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transfer.world import BLOCK, FakeServers, World, opened_world, stored_file, uploading
from usenetfs.net.providers import FetchedBody
from usenetfs.net.urgency import Urgency
from usenetfs.transfer.fetch.prefetch import LEAST, Prefetcher, Reader
from usenetfs.types import InodeId, Lane, MessageId

BUDGET = 16


@pytest.fixture
def servers() -> FakeServers:
    return FakeServers()


def prefetcher_of(world: World) -> Prefetcher:
    made = Prefetcher(world.index, world.fetcher, block_size=BLOCK, budget=BUDGET * BLOCK)
    world.content.on_small = made.small_file
    return made


class File:
    """One open file, read as ``fs/operations.py`` does."""

    def __init__(self, world: World, prefetcher: Prefetcher, inode: InodeId, length: int) -> None:
        self.world, self.prefetcher, self.inode, self.length = world, prefetcher, inode, length
        self.reader: Reader = prefetcher.new_reader(inode)

    async def read(self, block: int, size: int = BLOCK) -> bytes:
        offset = block * BLOCK
        size = min(size, self.length - offset)
        self.prefetcher.reading(self.reader, offset, size, self.length)
        data = await self.world.content.read(self.inode, offset, size, lane=Lane.READER)
        self.prefetcher.has_read(self.reader, self.length)
        return bytes(data)


async def test_a_file_read_in_order_is_there_before_it_is_asked_for(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(40 * BLOCK)
    async with opened_world(tmp_path, servers) as world:
        file = File(world, prefetcher_of(world), await stored_file(world, data), len(data))
        for block in range(40):
            before = servers.calls["fetch"]
            assert await file.read(block) == data[block * BLOCK : (block + 1) * BLOCK]
            await wait_all_tasks_blocked(0.01)
            assert block < 2 or servers.calls["fetch"] > block or before == 40
        assert servers.calls["fetch"] == 40


async def test_the_first_block_comes_alone(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(10 * BLOCK)
    async with opened_world(tmp_path, servers) as world:
        file = File(world, prefetcher_of(world), await stored_file(world, data), len(data))
        servers.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.read, 0)
            await wait_all_tasks_blocked(0.01)
            assert servers.calls["fetch"] == 1
            servers.gate.set()
        await wait_all_tasks_blocked(0.01)
        assert servers.calls["fetch"] == 3


async def test_reading_here_and_there_fetches_what_is_read(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(40 * BLOCK)
    async with opened_world(tmp_path, servers) as world:
        file = File(world, prefetcher_of(world), await stored_file(world, data), len(data))
        for block in (30, 3, 17, 38, 9, 25):
            assert await file.read(block, 100) == data[block * BLOCK : block * BLOCK + 100]
        await wait_all_tasks_blocked(0.01)
        assert servers.calls["fetch"] == 6


async def test_a_seek_and_the_close_give_up_what_has_not_left(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(60 * BLOCK)
    async with opened_world(tmp_path, servers) as world:
        prefetcher = prefetcher_of(world)
        file = File(world, prefetcher, await stored_file(world, data), len(data))
        for block in range(6):
            await file.read(block)
            await wait_all_tasks_blocked(0.01)
        servers.unsent = True
        servers.gate = trio.Event()
        with trio.move_on_after(1):
            for block in range(6, 20):
                await file.read(block)
        assert world.fetcher.active > 1
        with trio.move_on_after(1):
            await file.read(50, 10)
        assert world.fetcher.active <= 2  # the one that was read when we gave up, and this one
        prefetcher.stop(file.reader)
        assert "0 readers" in repr(prefetcher)


async def test_readers_share_what_all_may_have(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(60 * BLOCK)
    async with opened_world(tmp_path, servers) as world:
        prefetcher = prefetcher_of(world)
        inode = await stored_file(world, data)
        files = [File(world, prefetcher, inode, len(data)) for _ in range(8)]
        for block in range(12):
            for file in files:
                await file.read(block, 10)
        assert [file.reader.pattern.most for file in files] == [LEAST] * 8
        for file in files[1:]:
            prefetcher.stop(file.reader)
        await files[0].read(12, 10)
        assert files[0].reader.pattern.most == BUDGET


async def test_a_failure_ahead_is_heard_of_by_who_reads_it_alone(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(6 * BLOCK)
    async with opened_world(tmp_path, servers) as world:
        file = File(world, prefetcher_of(world), await stored_file(world, data), len(data))
        last = next(reversed(servers.articles))
        del servers.articles[last]
        read = 0
        for block in range(6):
            try:
                assert await file.read(block) == data[block * BLOCK : (block + 1) * BLOCK]
                read += 1
            except OSError:
                raise
            except Exception as error:  # noqa: BLE001 - which block it is, is not known
                assert "no server has" in str(error)  # noqa: PT017
            await wait_all_tasks_blocked(0.01)
        assert read == 5


async def test_small_files_that_were_stored_together_come_together(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers) as world:
        prefetcher_of(world)
        contents = [os.urandom(BLOCK // 8) * 4 for _ in range(160)]  # many more than fit unpacked
        async with uploading(world):
            inodes = []
            for content in contents:
                inode = world.new_file(len(content))
                world.write(inode, 0, content)
                inodes.append(inode)
            await world.uploader.sync()
        world.fetcher.drop_memory()
        servers.calls.clear()
        waits = 0
        for inode, content in zip(inodes, contents, strict=True):
            location = world.index.blocks.locate(inode, 0, 1)[0]  # type: ignore[arg-type]
            waits += not world.fetcher.has(location.article)
            assert await world.read(inode, 0, len(content)) == content
            await wait_all_tasks_blocked(0.01)
        assert servers.calls["fetch"] <= len(servers.articles)
        assert waits <= len(servers.articles) // 2


class FarServers(FakeServers):
    """Every fetch takes as long, however many there are."""

    latency = 0.05

    async def fetch(
        self,
        message_id: MessageId,
        *,
        lane: Lane,
        exclude: AbstractSet[str] = frozenset(),
        fresh: bool = False,
        share: Hashable = None,
        urgency: Urgency | None = None,
    ) -> FetchedBody:
        await trio.sleep(self.latency)
        return await super().fetch(
            message_id, lane=lane, exclude=exclude, fresh=fresh, share=share, urgency=urgency
        )


async def test_a_far_server_is_kept_busy(tmp_path: Path, autojump_clock: MockClock) -> None:
    servers = FarServers()
    count = 100
    data = os.urandom(count * BLOCK)
    async with opened_world(tmp_path, servers) as world:
        file = File(world, prefetcher_of(world), await stored_file(world, data), len(data))
        started = trio.current_time()
        for block in range(count):
            await file.read(block)
        took = trio.current_time() - started
        one_by_one = count * servers.latency
        at_best = one_by_one / BUDGET
        assert took < 2 * at_best, f"{took:.2f} s where {at_best:.2f} is possible"
