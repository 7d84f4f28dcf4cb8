"""The last minutes, second by second, for graphs: bounded, and there before anybody looks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from usenetfs.control.model import HistoryReport, Sample

SAMPLES: Final = 300
INTERVAL: Final = 1.0
"""Seconds between two samples."""


class History:
    """``uploaded``, ``downloaded``: counters in octets; ``queued``, ``pending``: as in a sample."""

    def __init__(
        self,
        uploaded: Callable[[], int],
        downloaded: Callable[[], int],
        queued: Callable[[], int],
        pending: Callable[[], int],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._uploaded = uploaded
        self._downloaded = downloaded
        self._queued = queued
        self._pending = pending
        self._clock = clock
        self._last = clock(), uploaded(), downloaded()
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)

    def sample(self) -> None:
        """Note how it went since the last call."""
        then, up, down = self._last
        now, uploaded, downloaded = self._last = self._clock(), self._uploaded(), self._downloaded()
        seconds = max(now - then, 1e-3)
        self._samples.append(
            Sample(
                time=time.time(),
                upload=(uploaded - up) / seconds,
                download=(downloaded - down) / seconds,
                queued=self._queued(),
                pending=self._pending(),
            )
        )

    def report(self) -> HistoryReport:
        return HistoryReport(interval=INTERVAL, samples=tuple(self._samples))
