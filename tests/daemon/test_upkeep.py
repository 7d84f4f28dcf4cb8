"""The index's log stays short and its file gives back what is free, while others use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.index.world import BLOCK, create, make_file, upload
from usenetfs.daemon import upkeep
from usenetfs.daemon.upkeep import INTERVAL, WAL_WORTH_IT, keep_in_shape
from usenetfs.errors import DatabaseError, UsenetfsError
from usenetfs.index import settling
from usenetfs.index.index import WORTH_GIVING_BACK, Index


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with create(tmp_path / "index.db") as made:
        yield made


async def test_the_log_starts_over(index: Index, autojump_clock: trio.testing.MockClock) -> None:
    for number in range(400):
        make_file(index, b"%d" % number)
    grown = index.wal_size()
    assert grown > WAL_WORTH_IT
    errors: list[UsenetfsError] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_in_shape, index, errors.append)
        await trio.sleep(3 * INTERVAL)
        nursery.cancel_scope.cancel()
    for number in range(50):
        make_file(index, b"again %d" % number)
    assert not errors
    assert index.wal_size() < WAL_WORTH_IT < grown


async def test_what_is_free_goes_back_while_others_write(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "INTERVAL", 0.001)
    with index.transaction():
        for number in range(20):
            index.database.write(
                "INSERT INTO local_held (number, part, data) VALUES (?, 0, zeroblob(2000000))",
                (number,),
            )
    with index.transaction():
        index.database.write("DELETE FROM local_held")
    errors: list[UsenetfsError] = []
    made = 0
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_in_shape, index, errors.append)
            while index.database.pages()[0] > WORTH_GIVING_BACK:
                make_file(index, b"%d" % made)
                made += 1
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
    assert not errors
    assert index.inodes.totals().files == made
    assert index.check(deep=True) == []


async def test_what_fails_is_said_and_tried_again(
    index: Index, autojump_clock: trio.testing.MockClock, expect_log: Callable[[str], None]
) -> None:
    expect_log("could not be tidied up")
    index.close()
    errors: list[UsenetfsError] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_in_shape, index, errors.append)
        await trio.sleep(2.5 * INTERVAL)
        nursery.cancel_scope.cancel()
    assert [type(error) for error in errors] == [DatabaseError] * 2


def in_main(index: Index) -> int:
    rows: int = index.database.value("SELECT count(*) FROM main.segments")
    return rows


async def until(reached: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if reached():
            return
        await trio.sleep(0.001)
    raise AssertionError("never reached")


async def test_rows_go_to_the_files_they_are_spread_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "INTERVAL", 0.001)
    monkeypatch.setattr(settling, "KEPT", 5)
    monkeypatch.setattr(settling, "BATCH", 7)
    errors: list[UsenetfsError] = []
    with create(tmp_path / "spread.db", shards=3) as index, trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_in_shape, index, errors.append)
            for number in range(50):
                inode = make_file(index, b"%d" % number, size=BLOCK)
                upload(index, inode, 0, b"%d" % number)
                await trio.sleep(0.001)
            await until(lambda: in_main(index) <= settling.KEPT)
            nursery.cancel_scope.cancel()
        assert not errors
        assert len(index.articles.list()) == 50
        assert index.check(deep=True) == []


async def test_others_have_their_turn_while_rows_are_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "INTERVAL", 0.001)
    monkeypatch.setattr(settling, "KEPT", 5)
    monkeypatch.setattr(settling, "SLICE", 2)
    errors: list[UsenetfsError] = []
    turn = 0
    committed_in: list[int] = []
    with create(tmp_path / "spread.db", shards=3) as index, trio.fail_after(60):
        for number in range(60):
            inode = make_file(index, b"%d" % number, size=BLOCK)
            upload(index, inode, 0, b"%d" % number)
        index.set_commit_hook(lambda: committed_in.append(turn))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_in_shape, index, errors.append)
            while in_main(index):
                turn += 1
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert not errors
    # a turn of the loop may begin or end with the mover, so two of its slices may be neighbours
    assert len(committed_in) > 60
    assert len(set(committed_in)) > len(committed_in) / 3
