"""Blocks that are being read for somebody who waits: writes into them wait for a moment.

A block that changes while it is read must be read again. Of one that is changed a thousand times a
second no reading would ever succeed, and whoever waits until it is on the servers (``sync``,
``fsync``) would wait for ever. So while somebody does, a block is steady from its claim until it
was read: some milliseconds, and never more than :data:`LONGEST`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import trio

from usenetfs.transfer.pulse import Pulse
from usenetfs.transfer.staged.hot_blocks import Key
from usenetfs.types import BlockNumber, InodeId

LONGEST: Final = 1.0
"""Seconds that a write waits, at most: what a block lacks may have to be fetched first."""


class SteadyBlocks:
    """On the event-loop thread."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._keys: set[Key] = set()
        self._ended = Pulse()

    def __repr__(self) -> str:
        return f"<SteadyBlocks {len(self._keys)}>"

    def begin(self, keys: Iterable[Key]) -> None:
        """These were claimed."""
        self._keys.update(keys)

    def end(self, keys: Iterable[Key]) -> None:
        """These were read, or will not be; it does not matter whether they were steady."""
        if self._keys:
            self._keys.difference_update(keys)
            self._ended.fire()

    def holds(self, inode: InodeId, start: int, end: int) -> bool:
        """Whether a write of the bytes from ``start`` to ``end`` of a file should wait."""
        if not self._keys:
            return False
        size = self._block_size
        numbers = range(start // size, (max(end, start + 1) - 1) // size + 1)
        return any((inode, BlockNumber(number)) in self._keys for number in numbers)

    async def wait(self, inode: InodeId, start: int, end: int) -> None:
        """Return once it need not wait any more. Call it when it :meth:`holds`."""
        with trio.move_on_after(LONGEST):
            while self.holds(inode, start, end):
                await self._ended.wait()
