"""Fetching: once for all who wait, from the next server if wrong, and never wrong bytes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.transfer.world import (
    BLOCK,
    KEYS,
    ExpectLog,
    FakeServers,
    opened_world,
    stored_file,
    until,
)
from usenetfs import logs
from usenetfs.article.message_ids import message_id
from usenetfs.config.models import LogSection
from usenetfs.errors import DataUnavailableError
from usenetfs.types import BlockNumber


@pytest.fixture
def servers() -> FakeServers:
    return FakeServers()


async def test_all_readers_share_one_fetch(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, data)
        servers.gate = trio.Event()
        read: list[bytes] = []

        async def reader(start: int) -> None:
            read.append(await world.read(inode, start, 100))

        async with trio.open_nursery() as nursery:
            for start in range(0, 1000, 100):
                nursery.start_soon(reader, start)
            await trio.sleep(1)
            servers.gate.set()
        assert sorted(read) == sorted(data[s : s + 100] for s in range(0, 1000, 100))
        assert servers.calls["fetch"] == 1


async def test_a_failure_reaches_all_readers_and_is_forgotten(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, data)
        kept, servers.articles = servers.articles, {}
        servers.gate = trio.Event()
        failed: list[DataUnavailableError] = []

        async def reader() -> None:
            try:
                await world.read(inode, 0, 10)
            except DataUnavailableError as error:
                failed.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(reader)
            await trio.sleep(1)
            servers.gate.set()
        assert len(failed) == 5
        servers.articles = kept
        assert await world.read(inode, 0, 10) == data[:10]


async def test_an_altered_article_sends_the_fetcher_to_the_next_server(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    expect_log: ExpectLog,
) -> None:
    expect_log("gave a wrong article")
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, data)
        servers.altered["one"] = lambda body: body[:-1] + bytes([body[-1] ^ 1])
        assert await world.read(inode, 0, BLOCK) == data
        assert servers.calls["fetch"] == 2


async def test_an_article_wrong_everywhere_is_an_error_for_its_block_alone(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    expect_log: ExpectLog,
) -> None:
    expect_log("gave a wrong article")
    data = os.urandom(2 * BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, data)
        assert len(servers.articles) == 2
        ids = list(servers.articles)
        # The server gives the second article for the first: it opens for neither id.
        servers.articles[ids[0]] = servers.articles[ids[1]]
        outcomes = []
        for number in range(2):
            try:
                outcomes.append(await world.read(inode, number * BLOCK, BLOCK))
            except DataUnavailableError as error:
                assert "one" in str(error)  # noqa: PT017 - one of two fails, whichever it is
                outcomes.append(b"")
        assert sorted(map(len, outcomes)) == [0, BLOCK]
        assert all(not o or o == data[i * BLOCK : (i + 1) * BLOCK] for i, o in enumerate(outcomes))


async def test_while_the_network_is_away_a_read_waits_and_then_fails(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, os.urandom(BLOCK))
        servers.down = True
        started = trio.current_time()
        with pytest.raises(DataUnavailableError, match="refused"):
            await world.read(inode, 0, 10)
        assert 2.0 < trio.current_time() - started <= 5.0


async def test_the_network_comes_back_while_a_read_waits(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, data)
        servers.down = True

        async def repair() -> None:
            await trio.sleep(2)
            servers.down = False

        async with trio.open_nursery() as nursery:
            nursery.start_soon(repair)
            assert await world.read(inode, 0, BLOCK) == data


async def test_a_damaged_cache_costs_a_fetch_and_nothing_else(
    tmp_path: Path,
    servers: FakeServers,
    expect_log: ExpectLog,
) -> None:
    expect_log("cached article is damaged")
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, data)
        assert await world.read(inode, 0, BLOCK) == data
        await until(lambda: world.cache.stats().articles > 0)
        for file in (tmp_path / "cache").rglob("*"):
            if file.is_file():
                content = bytearray(file.read_bytes())
                content[len(content) // 2] ^= 1
                file.write_bytes(content)
        world.fetcher.drop_memory()
        assert await world.read(inode, 0, BLOCK) == data
        assert servers.calls["fetch"] == 2


async def test_a_cache_deleted_while_in_use_is_a_miss(tmp_path: Path, servers: FakeServers) -> None:
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, data)
        assert await world.read(inode, 0, BLOCK) == data
        await until(lambda: world.cache.stats().articles > 0)
        for file in (tmp_path / "cache").rglob("*"):
            if file.is_file():
                file.unlink()
        world.fetcher.drop_memory()
        assert await world.read(inode, 0, BLOCK) == data


async def test_holes_read_as_zeros(tmp_path: Path, servers: FakeServers) -> None:
    async with opened_world(tmp_path, servers) as world:
        inode = world.new_file(10 * BLOCK)
        world.write(inode, 5 * BLOCK + 10, b"x")
        assert await world.read(inode, 0, 6 * BLOCK) == bytes(5 * BLOCK + 10) + b"x" + bytes(
            BLOCK - 11
        )


# --- whims ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["missing", "damaged", "wrong"])
async def test_what_nobody_gives_once_is_asked_for_again(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    expect_log: ExpectLog,
    how: str,
) -> None:
    if how == "wrong":
        expect_log("gave a wrong article")
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, data)
        kept = dict(servers.articles)
        match how:
            case "missing":
                servers.articles = {}
            case "damaged":
                servers.damaged = set(kept)
            case _:
                servers.articles = {name: bytes(len(body)) for name, body in kept.items()}

        async def relent() -> None:
            await trio.sleep(0.25)
            servers.articles, servers.damaged = kept, set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(relent)
            assert await world.read(inode, 0, BLOCK) == data


async def test_what_is_lost_is_asked_for_twice_and_not_for_ever(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, data)
        servers.articles = {}
        with pytest.raises(DataUnavailableError):
            await world.read(inode, 0, BLOCK)
        assert servers.calls["fetch"] == 2
        servers.remembers = True
        with pytest.raises(DataUnavailableError):
            await world.read(inode, 0, BLOCK)
        assert servers.calls["fetch"] == 3, "nobody was asked: asking again would be idle"


async def test_a_fetch_is_in_the_log_with_its_operation(
    tmp_path: Path, servers: FakeServers
) -> None:
    """So that it can be followed; the level is one that is asked for."""
    with logs.running(tmp_path / "logs", LogSection(download="debug")):
        async with opened_world(tmp_path, servers) as world:
            inode = await stored_file(world, os.urandom(BLOCK))
            await world.read(inode, 0, 10)
    text = (tmp_path / "logs/download.log").read_text()
    line = r"DEBUG usenetfs\.download \[[0-9a-f]{4}-\d+\]: article \d+/\d+ is fetched, \d+ bytes"
    assert len(re.findall(line, text)) == 1


async def test_what_was_lost_while_it_was_read_is_looked_for_where_it_is_now(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(BLOCK)
    new = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, data)
        kept, servers.articles = servers.articles, {}
        servers.gate = trio.Event()
        read: list[bytes] = []

        async def reader() -> None:
            read.append(await world.read(inode, 0, BLOCK))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader)
            await trio.sleep(1)
            world.write(inode, 0, new)
            servers.gate.set()
        assert read == [new]
        assert kept


async def test_an_article_posted_anew_while_it_is_read_is_found(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, data)
        location = world.index.blocks.locate(inode, BlockNumber(0), 1)[0]
        (body,) = servers.articles.values()
        servers.articles.clear()
        servers.gate = trio.Event()
        read: list[bytes] = []

        async def reader() -> None:
            read.append(await world.read(inode, 0, BLOCK))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader)
            await trio.sleep(1)
            attempt = location.attempt + 1
            with world.index.transaction():
                world.index.articles.set_attempt(location.article, attempt, None)
            servers.articles[message_id(KEYS.message_id_key, location.article, attempt)] = body
            nursery.start_soon(reader)  # joins what asks for the article under its old name
            await trio.sleep(1)
            servers.gate.set()
        assert read == [data, data]
