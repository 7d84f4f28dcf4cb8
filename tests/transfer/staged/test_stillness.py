"""Who waits in a stillness, and that everybody goes on after it."""

from __future__ import annotations

import pytest
import trio

from usenetfs.transfer.staged.stillness import Stillness
from usenetfs.types import InodeId


def test_it_holds_the_files_named_and_newer_ones() -> None:
    stillness = Stillness()
    assert not stillness.on
    assert not stillness.holds(InodeId(5))
    with stillness.over([5], 10):
        assert stillness.on
        assert [stillness.holds(InodeId(n)) for n in (4, 5, 10, 11)] == [False, True, False, True]
        stillness.widen([4])
        assert stillness.holds(InodeId(4))
        with pytest.raises(RuntimeError), stillness.over([1], 1):
            pass
    assert not stillness.holds(InodeId(5))


async def test_whoever_waits_goes_on_after_it(autojump_clock: object) -> None:
    stillness = Stillness()
    times = []

    async def write(inode: int) -> None:
        await stillness.wait(InodeId(inode))
        times.append((inode, trio.current_time()))

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        with stillness.over([5], 10):
            nursery.start_soon(write, 5)
            nursery.start_soon(write, 11)
            nursery.start_soon(stillness.wait_for_the_end)
            await trio.sleep(3)
            assert stillness.waiting == 3
        await trio.testing.wait_all_tasks_blocked()
    assert sorted(times) == [(5, start + 3), (11, start + 3)]
    assert stillness.waiting == 0


async def test_whoever_waits_can_be_cancelled(autojump_clock: object) -> None:
    stillness = Stillness()
    with stillness.over([5], 10):
        with trio.move_on_after(1) as scope:
            await stillness.wait(InodeId(5))
        assert scope.cancelled_caught
        assert stillness.waiting == 0


async def test_one_after_the_other_holds_whom_the_second_names(autojump_clock: object) -> None:
    stillness = Stillness()
    waited = trio.Event()

    async def write() -> None:
        await stillness.wait(InodeId(5))
        waited.set()

    async with trio.open_nursery() as nursery:
        with stillness.over([5], 10):
            nursery.start_soon(write)
            await trio.testing.wait_all_tasks_blocked()
        with stillness.over([5], 10):
            await trio.sleep(1)
            assert not waited.is_set()
