"""How one reader of a file reads, and so which blocks it will want next.

Pure decisions, in blocks. A reader is *sequential* when it goes on where it stopped (or a little
further), *backward* when it goes down block by block, *strided* when the distance between its
places repeats; otherwise it is *random*, and nothing is fetched ahead.

The window, in blocks ahead of the reader, starts small and doubles while the reader goes on, up to
what its speed asks for: as much as it reads in :data:`HORIZON` seconds, or in a few times the
latency of a fetch if that is longer. A reader that waits for us looks slow, but the window doubles
with each block, and so its speed and what it asks for grow together until the line or the reader is
at its limit. A slow reader (a player) keeps a small window, one that becomes slower gives some of
it back, and a seek ends it at once. What all readers together may have is for the caller to say
(``most``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from usenetfs.types import BlockNumber

FIRST_WINDOW = 2
"""Blocks ahead after the first sign of a pattern."""

NEAR = 2
"""Blocks that a read may be away from the last one and still go on: the kernel sends the pieces of
one read out of order."""

CONFIRMATIONS = 2
"""Equal distances in a row that make a stride."""

HORIZON = 0.5
"""Seconds of reading that should be fetched ahead."""

LATENCIES = 4.0
"""Times the latency of a fetch that should be."""

SMOOTHING = 0.2
"""Weight of the newest block in the average."""

SHORTEST = 1e-6
"""Seconds for a block; whoever is quicker has no measurable speed."""


class ReadAhead:
    """The state of one open file. ``most``: blocks ahead at most, which the caller may change."""

    def __init__(self, block_size: int, most: int) -> None:
        self._block_size = block_size
        self.most = max(1, most)
        self._window = 0
        self._moved_at = float("-inf")
        self._interval = 0.0
        """Seconds from one block to the next, averaged."""
        self._last: int | None = None
        self._step = 0
        self._confirmed = 0
        self._steps = 0
        """Steps since the window grew."""
        self._horizon = HORIZON
        self._ahead: int | None = None
        """The furthest block asked for, in the direction of the step."""

    def __repr__(self) -> str:
        return f"<ReadAhead at={self._last} step={self._step} window={self._window}>"

    @property
    def window(self) -> int:
        """Blocks ahead now."""
        return self._window

    @property
    def last(self) -> int | None:
        """The block that was read last."""
        return self._last

    @property
    def step(self) -> int:
        """From one block to the next, in blocks."""
        return self._step

    @property
    def speed(self) -> float:
        """Blocks a second; 0 while that is unknown."""
        return 1.0 / self._interval if self._interval > SHORTEST else 0.0

    @property
    def ahead(self) -> int:
        """Blocks that were asked for and not reached yet."""
        if self._ahead is None or self._last is None or not self._window:
            return 0
        return max(0, (self._ahead - self._last) // self._step)

    def on_read(
        self, offset: int, size: int, now: float, *, latency: float = 0.0
    ) -> Sequence[BlockNumber]:
        """A read of ``size`` bytes at ``offset``; the blocks to fetch now, nearest first.

        ``now`` and ``latency`` (of a fetch) in seconds. The blocks may lie outside the file; the
        caller knows where it ends.
        """
        first = offset // self._block_size
        last = (offset + max(size, 1) - 1) // self._block_size
        previous, self._last = self._last, last
        if previous is None:
            # Most files are read from their start, in order.
            return self._go(last, 1) if first == 0 else ()
        if last == previous:
            return ()
        self._horizon = max(HORIZON, LATENCIES * latency)
        elapsed, self._moved_at = now - self._moved_at, now
        if self._window:
            self._measure(abs((last - previous) // self._step), elapsed)
        return self._moved(last, last - previous)

    def _measure(self, blocks: int, elapsed: float) -> None:
        """Times are averaged, not speeds: blocks that were waited for come in bursts."""
        if blocks <= self._window and elapsed < math.inf:  # else it is a seek, or the first block
            interval = elapsed / max(1, blocks)
            weight = SMOOTHING if self._interval else 1.0
            self._interval += (interval - self._interval) * weight

    def _wanted_window(self) -> int:
        """Blocks that the reader's speed asks for; all that it may have while that is unknown."""
        if not self.speed:
            return self.most
        return min(self.most, max(FIRST_WINDOW, math.ceil(self.speed * self._horizon)))

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
        self._interval = 0.0

    def _go(self, place: int, step: int) -> Sequence[BlockNumber]:
        """Ask for what is missing of the window behind ``place``."""
        if self._step != step:
            self._stop(step)
        ahead = place if self._ahead is None else self._ahead
        if (ahead - place) * step < 0:
            ahead = place
        left = (ahead - place) // step
        wanted_window = self._wanted_window()
        self._steps += 1
        if not self._window:
            self._window, self._steps = min(FIRST_WINDOW, self.most), 0
        elif self._window > wanted_window:
            self._window = max(wanted_window, self._window - 1)
        elif self._steps >= self._window // 2:
            self._window, self._steps = min(self._window * 2, wanted_window), 0
        if left >= self._window:
            return ()
        wanted = [
            BlockNumber(place + step * number) for number in range(left + 1, self._window + 1)
        ]
        self._ahead = place + step * self._window
        return wanted
