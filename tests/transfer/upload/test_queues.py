"""A queue that is full by count or by octets, whichever comes first."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from usenetfs.transfer.upload.queues import MAX_SEGMENTS, BoundedQueue


async def test_both_bounds_hold_the_producer_up() -> None:
    for count, octets, expected in ((1, 10, 10), (300, 1, 3)):
        queue: BoundedQueue[int] = BoundedQueue(max_bytes=100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_produce, queue, 20, count, octets)
            await wait_all_tasks_blocked()
            assert len(queue) == expected
            assert queue.depth <= MAX_SEGMENTS
            assert queue.bytes <= 100
            assert [await queue.get() for _ in range(20)] == list(range(20))
        assert (queue.depth, queue.bytes) == (0, 0)


async def test_something_larger_than_the_queue_goes_through_alone() -> None:
    queue: BoundedQueue[int] = BoundedQueue(max_bytes=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_produce, queue, 3, 1, 50)
        await wait_all_tasks_blocked()
        assert len(queue) == 1
        assert [await queue.get() for _ in range(3)] == [0, 1, 2]


async def test_who_waits_is_woken_by_what_comes() -> None:
    queue: BoundedQueue[int] = BoundedQueue(max_bytes=10)
    got: list[int] = []

    async def consume() -> None:
        got.append(await queue.get())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(consume)
        await wait_all_tasks_blocked()
        for item in range(3):
            await queue.put(item, count=1, octets=1)
    assert sorted(got) == [0, 1, 2]


async def test_a_producer_that_gives_up_leaves_room_to_the_next() -> None:
    queue: BoundedQueue[str] = BoundedQueue(max_bytes=10)
    await queue.put("first", count=1, octets=10)
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0):
            await queue.put("given up", count=1, octets=10)
        nursery.start_soon(_put, queue, "second")
        await wait_all_tasks_blocked()
        assert await queue.get() == "first"
        assert await queue.get() == "second"


async def _put(queue: BoundedQueue[str], item: str) -> None:
    await queue.put(item, count=1, octets=10)


async def _produce(queue: BoundedQueue[int], number: int, count: int, octets: int) -> None:
    for item in range(number):
        await queue.put(item, count=count, octets=octets)
