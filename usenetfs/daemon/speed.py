"""How fast something goes, from a counter that only grows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from usenetfs.control.model import SpeedReport

WINDOW = 10.0
"""Seconds over which "now" is measured."""


class SpeedMeter:
    """``total``: reads the counter, in octets. :meth:`sample` is called about once a second."""

    def __init__(
        self, total: Callable[[], int], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = total
        self._clock = clock
        self._start = clock()
        self._samples: deque[tuple[float, int]] = deque([(self._start, total())])

    def sample(self) -> None:
        """Note the counter; samples older than the window go."""
        now = self._clock()
        self._samples.append((now, self._total()))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW:
            self._samples.popleft()

    def report(self) -> SpeedReport:
        """Octets a second over the window and since the start."""
        now, total = self._clock(), self._total()
        since, then = self._samples[0]
        return SpeedReport(
            now=(total - then) / max(now - since, 1e-3),
            average=total / max(now - self._start, 1e-3),
            total_bytes=total,
        )
