"""How much of what is fetched may be written to the cache, so that readers do not feel it.

Writing takes processor time, and the interpreter's lock, away from those who read. So:

- it has a share of each processor, and a little at once after a rest. What comes somewhat faster
  than that is cached in part;
- what comes much faster is not cached at all. Of a gigabyte read from a server on the same machine
  a fifth was cached, here and there, which spares nobody a fetch that is worth sparing, and cost
  its reader a fifteenth of the speed and the process a sixth of its processor time (measured: 446
  and 475 MB/s, 2.5 and 2.0 s/GB; two processors, nine rounds in turn).

Pure: the caller gives the time. One thread tells what came, another what it took; each number here
has one writer.
"""

from __future__ import annotations

import math
from typing import Final

PROCESSOR_SHARE: Final = 0.05
"""Of each processor there is, that writing may take: on two as much as caches a hundred and thirty
megabytes a second, more than a gigabit line carries. A server so near that it is faster can be
asked again. Three times as much cost a tenth of the speed at which two processors read from one."""

BURST: Final = 0.1
"""Seconds of processor time that may be used at once after a rest: some hundred articles."""

TOO_FAST: Final = 2.0
"""What would take so many times the share is not cached at all."""

MEMORY: Final = 0.5
"""Seconds over which it is averaged how fast bodies come."""

SMOOTHING: Final = 0.1
"""Weight of the newest body in what one costs."""


class WriteBudget:
    """Times in seconds, of a clock that never goes back; ``now`` is when it begins."""

    def __init__(self, processors: int, now: float) -> None:
        self._share = PROCESSOR_SHARE * processors
        self._began = now
        self._used = 0.0
        """Processor time, see :meth:`spent`."""
        self._cost = 0.0
        """Processor time that a body takes, averaged; 0 before the first."""
        self._flow = 0.0
        """Bodies a second, when the last one came."""
        self._last = now

    def __repr__(self) -> str:
        return f"<WriteBudget {self._flow:.0f} bodies/s, {self._cost * 1e3:.2f} ms each>"

    def admits(self, now: float) -> bool:
        """Another body has come: whether it may be written."""
        self._flow = self._flow * math.exp((self._last - now) / MEMORY) + 1 / MEMORY
        self._last = now
        if self._flow * self._cost > TOO_FAST * self._share:
            return False
        return self._used <= self._allowed(now)

    def spent(self, seconds: float, now: float) -> None:
        """Writing one took ``seconds`` of processor time. What is not used does not save up beyond
        the burst."""
        self._cost += (seconds - self._cost) * (SMOOTHING if self._cost else 1.0)
        self._used = max(self._used, self._allowed(now) - BURST) + seconds

    def _allowed(self, now: float) -> float:
        """Processor time that may have been used by now."""
        return BURST + self._share * (now - self._began)
