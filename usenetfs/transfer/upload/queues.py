"""The queues between the stages of the upload pipeline (R1): bounded by count and by octets.

Whichever bound is reached first holds the producer up, so a queue of small things cannot grow
without end, and one of large things cannot fill the memory. One thing is always let in, however
large it is. Waiting is first come, first served; depth and octets can be looked at.

Belongs to the event-loop thread.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, TypeVar

import trio

T = TypeVar("T")

MAX_SEGMENTS: Final = 1000
"""Segments in one queue, at most."""


class BoundedQueue(Generic[T]):
    """``capacity``: sum of the counts inside; ``max_bytes``: sum of their octets."""

    def __init__(self, *, capacity: int = MAX_SEGMENTS, max_bytes: int) -> None:
        self.capacity = capacity
        self.max_bytes = max_bytes
        self.depth = 0
        self.bytes = 0
        self._items: deque[tuple[T, int, int]] = deque()
        self._room = trio.lowlevel.ParkingLot()
        self._arrived = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return (
            f"<BoundedQueue {self.depth}/{self.capacity} things, "
            f"{self.bytes}/{self.max_bytes} octets>"
        )

    def __len__(self) -> int:
        """Items, whatever their counts."""
        return len(self._items)

    def has_room(self, count: int, octets: int) -> bool:
        """Whether an item would be let in now."""
        if not self._items:
            return True
        return self.depth + count <= self.capacity and self.bytes + octets <= self.max_bytes

    async def put(self, item: T, *, count: int, octets: int) -> None:
        """Wait for room and leave ``item``, which stands for ``count`` segments."""
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while not self.has_room(count, octets) or (self._room and not waited):
            await self._room.park()
            waited = True
        self._items.append((item, count, octets))
        self.depth += count
        self.bytes += octets
        self._arrived.unpark()
        self._let_in()
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def get(self) -> T:
        """The oldest item, once there is one."""
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while not self._items:
            await self._arrived.park()
            waited = True
        item, count, octets = self._items.popleft()
        self.depth -= count
        self.bytes -= octets
        self._let_in()
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return item

    def _let_in(self) -> None:
        """Wake one who waits for room; it wakes the next one if there is still some."""
        if self.depth < self.capacity and self.bytes < self.max_bytes:
            self._room.unpark()
