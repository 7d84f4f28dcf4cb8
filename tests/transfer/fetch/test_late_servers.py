"""A server that takes too long: another one is asked, too, if there is one and a reader waits."""

from __future__ import annotations

import os
from collections.abc import Hashable
from collections.abc import Set as AbstractSet
from pathlib import Path

import trio
from trio.testing import MockClock

from tests.transfer.world import BLOCK, FakeServers, opened_world, stored_file
from usenetfs.net.providers import FetchedBody
from usenetfs.net.urgency import Urgency
from usenetfs.types import Lane, MessageId


class TwoServers(FakeServers):
    """The first takes its time, the second is quick."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.alternatives = 1

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
        server = "two" if "one" in exclude else "one"
        assert urgency is not None
        urgency.asking(server, self.alternatives, lambda: True, lambda lane: None)
        self.calls[server] += 1
        await trio.sleep(5 if self.slow and server == "one" else 0.2)
        body = bytearray(self.articles[message_id])
        return FetchedBody(body, server, message_id, len(body))


async def test_a_reader_gets_the_answer_of_the_other_server(
    tmp_path: Path, patient_clock: MockClock
) -> None:
    servers = TwoServers()
    data = os.urandom(40 * BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, data)
        for block in range(30):
            await world.read(inode, block * BLOCK, 100)
        assert servers.calls["two"] == 0
        servers.slow = True
        started = trio.current_time()
        assert await world.read(inode, 30 * BLOCK, BLOCK) == data[30 * BLOCK : 31 * BLOCK]
        assert 0.2 < trio.current_time() - started < 2.0
        assert servers.calls["two"] == 1
        assert world.fetcher.lateness.hedged == 1
        assert world.fetcher.active == 0


async def test_asking_twice_has_its_bounds(tmp_path: Path, patient_clock: MockClock) -> None:
    servers = TwoServers()
    data = os.urandom(40 * BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, data)
        for block in range(30):
            await world.read(inode, block * BLOCK, 100)
        servers.slow = True
        with trio.move_on_after(12):
            for block in range(30, 40):
                await world.read(inode, block * BLOCK, 100)
        assert servers.calls["two"] <= 3


async def test_where_there_is_no_other_server_nobody_else_is_asked(
    tmp_path: Path, patient_clock: MockClock
) -> None:
    servers = TwoServers()
    servers.alternatives = 0
    data = os.urandom(40 * BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = await stored_file(world, data)
        for block in range(30):
            await world.read(inode, block * BLOCK, 100)
        servers.slow = True
        await world.read(inode, 30 * BLOCK, 100)
        assert servers.calls["two"] == 0
        assert world.fetcher.lateness.hedged == 0
