"""How one reader of a file reads, and so which blocks it will want next.

Pure decisions, in blocks. A reader is *sequential* when it goes on where it stopped (or a little
further), *backward* when it goes down block by block, *strided* when the distance between its
places repeats; otherwise it is *random*, and nothing is fetched ahead.

The window, in blocks ahead of the reader, starts small and doubles each time the reader reaches
blocks that were fetched ahead, up to its maximum; a seek ends it at once. So one short read of a
large file costs two blocks too many at most, and a long one soon has as much under way as the
round trip asks for.
"""

from __future__ import annotations

from collections.abc import Sequence

from usenetfs.types import BlockNumber

FIRST_WINDOW = 2
"""Blocks ahead after the first sign of a pattern."""

NEAR = 2
"""Blocks that a read may be away from the last one and still go on: the kernel sends the pieces of
one read out of order."""

CONFIRMATIONS = 2
"""Equal distances in a row that make a stride."""


class ReadAhead:
    """The state of one open file. ``max_window``: blocks ahead at most."""

    def __init__(self, block_size: int, max_window: int) -> None:
        self._block_size = block_size
        self._max_window = max(1, max_window)
        self._window = 0
        self._last: int | None = None
        self._step = 0
        self._confirmed = 0
        self._ahead: int | None = None
        """The furthest block asked for, in the direction of the step."""

    def __repr__(self) -> str:
        return f"<ReadAhead at={self._last} step={self._step} window={self._window}>"

    @property
    def window(self) -> int:
        """Blocks ahead now."""
        return self._window

    def on_read(self, offset: int, size: int, now: float) -> Sequence[BlockNumber]:
        """A read of ``size`` bytes at ``offset``; the blocks to fetch now, nearest first.

        They may lie outside the file; the caller knows where it ends.
        """
        del now  # of interest only to a window that knows the speed
        first = offset // self._block_size
        last = (offset + max(size, 1) - 1) // self._block_size
        previous, self._last = self._last, last
        if previous is None:
            # Most files are read from their start, in order.
            return self._go(last, 1) if first == 0 else ()
        if last == previous:
            return self._go(last, self._step) if self._window else ()
        return self._moved(last, last - previous)

    def _moved(self, place: int, distance: int) -> Sequence[BlockNumber]:
        if 0 < distance <= NEAR and self._step in {0, 1}:
            return self._go(place, 1)
        if -NEAR <= distance < 0 and self._step == 1 and self._window:
            return ()  # a late piece of what is read in order
        if distance == self._step:
            self._confirmed += 1
        else:
            self._stop(distance)
        if distance in {-1, 1} or self._confirmed >= CONFIRMATIONS:
            return self._go(place, distance)
        return ()

    def _stop(self, step: int) -> None:
        self._window = 0
        self._ahead = None
        self._step = step
        self._confirmed = 0

    def _go(self, place: int, step: int) -> Sequence[BlockNumber]:
        """Ask for what is missing of the window behind ``place``."""
        if self._step != step:
            self._stop(step)
        ahead = place if self._ahead is None else self._ahead
        if (ahead - place) * step < 0:
            ahead = place
        left = (ahead - place) // step
        if not self._window:
            self._window = min(FIRST_WINDOW, self._max_window)
        elif left <= self._window // 2:
            self._window = min(self._window * 2, self._max_window)
        if left > self._window // 2:
            return ()
        wanted = [
            BlockNumber(place + step * number) for number in range(left + 1, self._window + 1)
        ]
        self._ahead = place + step * self._window
        return wanted
