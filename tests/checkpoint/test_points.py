"""Which checkpoint a time means, and how users say times."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.checkpoint.test_replay import published, reader_of
from tests.transfer.world import FakeServers
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
