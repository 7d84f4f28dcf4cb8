"""Which checkpoint a time means, and how users say times."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio

from tests.checkpoint.test_replay import published, reader_of
from tests.transfer.world import FakeServers
from usenetfs.checkpoint.chain import ChainReader
from usenetfs.checkpoint.record import Counters, OpenedCheckpoint, Record
from usenetfs.cli.states import parse_point
from usenetfs.daemon.recovery import checkpoint_at, list_checkpoints
from usenetfs.errors import DataUnavailableError, UsageError


async def test_a_time_is_the_last_checkpoint_before_it(tmp_path: Path) -> None:
    servers = FakeServers()
    builder, _ = await published(tmp_path, servers, "sbbbbb")
    times = [record.time for record in builder.records]
    for lost in (None, 3):
        if lost is not None:
            builder.lose_record(lost)
        for number, moment in enumerate(times):
            found = await checkpoint_at(reader_of(servers), 5, moment + 59)
            reader = reader_of(servers)
            route = await reader.route(found)
            assert route.target.number == (2 if number == lost else number)
        assert await checkpoint_at(reader_of(servers), 5, 9e12) == 5
        with pytest.raises(DataUnavailableError, match="as old"):
            await checkpoint_at(reader_of(servers), 5, times[0] - 1)


class LongChain(ChainReader):
    """Checkpoint n was published at time n; only those of ``there`` can be read."""

    def __init__(self, *there: range) -> None:
        super().__init__(reader_of(FakeServers())._articles)
        self._there = there
        self.asked = 0
        self.ahead = range(0)
        """When these were published, the clock was a day ahead."""

    async def checkpoint(self, number: int) -> OpenedCheckpoint:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if not any(number in numbers for numbers in self._there):
            raise DataUnavailableError("expired")
        record = Record(
            number=number,
            writer=bytes(8),
            epoch=1,
            schema=2,
            time=number + 86_400 * (number in self.ahead),
            previous=None,
            base=None,
            changeset=None,
            snapshot=None,
            digest=bytes(32),
            counters=Counters(0, 0, 0, 0, 0),
            next_article=1,
        )
        return OpenedCheckpoint(record, None, None)


@pytest.mark.parametrize("moment", [700_001, 900_000, 999_999])
async def test_a_time_in_a_chain_whose_beginning_expired(moment: int) -> None:
    chain = LongChain(range(700_000, 1_000_000))
    assert await checkpoint_at(chain, 999_999, moment) == moment
    assert chain.asked < 2000


@pytest.mark.parametrize("moment", [0, 50, 99, 400, 500])
async def test_a_time_beside_a_long_gap(moment: int) -> None:
    chain = LongChain(range(100), range(400, 501))
    assert await checkpoint_at(chain, 500, moment) == (399 if moment == 99 else moment)


@pytest.mark.parametrize("moment", [5, 39, 70, 1500, 1999])
async def test_a_time_after_a_clock_was_wrong(moment: int) -> None:
    chain = LongChain(range(2000))
    chain.ahead = range(40, 1200)
    assert await checkpoint_at(chain, 1999, moment) == (39 if moment == 70 else moment)


async def test_a_list_says_which_are_lost(tmp_path: Path) -> None:
    servers = FakeServers()
    builder, _ = await published(tmp_path, servers, "scccc")
    builder.lose_record(3)
    found = await list_checkpoints(reader_of(servers), 4, 3)
    assert found[0] == builder.records[2]
    assert isinstance(found[1], tuple)
    assert found[1][0] == 3
    assert found[2] == builder.records[4]


def test_points_as_users_type_them() -> None:
    assert parse_point("118") == 118
    assert parse_point("#118") == 118
    ago = parse_point("2 h ago")
    assert isinstance(ago, float)
    assert abs(time.time() - 7200 - ago) < 5
    assert parse_point("2026-11-25T22:10:00+00:00") == 1795644600.0
    assert isinstance(parse_point("2026-11-25"), float)
    for nonsense in ("", "yesterday", "-1", "5 apples ago"):
        with pytest.raises(UsageError):
            parse_point(nonsense)
