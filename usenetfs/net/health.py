"""How well a server does: what has been measured of it, a score, and a circuit breaker.

Pure: times are arguments, randomness is injected. Knows nothing of connections.

The score is what a choice between servers of equal priority is made by. It starts at 1, drops
with every failure, rises with every success, and by itself drifts back towards 1, so that a
server that had a bad evening is tried again although nobody asked it in the meantime.

The breaker, one per server:

==========  =============================  ===========
state       event                          next state
==========  =============================  ===========
CLOSED      ``threshold`` failed dials     OPEN
CLOSED      a fatal failure (login, TLS)   OPEN
OPEN        its time has passed            HALF_OPEN
HALF_OPEN   the one probe got in           CLOSED
HALF_OPEN   the probe failed               OPEN, longer
==========  =============================  ===========

Getting in is half of it: failures are forgotten only when the server has answered something, so
that one which lets everybody in and then hangs up is dialled less and less often, too.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field
from typing import Final

from usenetfs.net.retry import RetryPolicy

SCORE_HALF_LIFE: Final = 60.0
"""Seconds in which the distance of a score from 1 halves by itself."""
FAILURE_WEIGHT: Final = 0.25
SUCCESS_WEIGHT: Final = 0.05
SMOOTHING: Final = 0.1
"""Weight of a new sample in latency, interval and size averages."""
TYPICAL_ARTICLE: Final = 740_000
"""Octets; what an expected service time is computed for."""


@dataclass(slots=True)
class Ewma:
    """An exponentially weighted moving average; None before the first sample."""

    weight: float = SMOOTHING
    value: float | None = None

    def add(self, sample: float) -> None:
        self.value = (
            sample if self.value is None else self.value + self.weight * (sample - self.value)
        )

    def get(self, default: float) -> float:
        return default if self.value is None else self.value


@dataclass(slots=True)
class Health:
    """Success, latency and throughput of one server."""

    latency: Ewma = field(default_factory=Ewma)
    """Seconds from sending a request on an idle connection to the first octet of the reply."""
    rate: Ewma = field(default_factory=Ewma)
    """Octets a second, of one connection, while it is busy."""
    post_time: Ewma = field(default_factory=Ewma)
    """Seconds from POST to 240 on one connection."""
    _score: float = 1.0
    _scored_at: float = 0.0

    def score(self, now: float) -> float:
        """Between 0 and 1."""
        elapsed = max(0.0, now - self._scored_at)
        return float(1.0 - (1.0 - self._score) * 0.5 ** (elapsed / SCORE_HALF_LIFE))

    def succeeded(self, now: float) -> None:
        self._move(now, 1.0, SUCCESS_WEIGHT)

    def failed(self, now: float) -> None:
        self._move(now, 0.0, FAILURE_WEIGHT)

    def _move(self, now: float, towards: float, weight: float) -> None:
        score = self.score(now)
        self._score = score + weight * (towards - score)
        self._scored_at = now

    def expected_time(
        self, now: float, queued: int, connections: int, *, posting: bool = False
    ) -> float:
        """Seconds until an article asked for now would be here (or there): the lower, the better.

        ``queued`` requests are before it and ``connections`` work on them. A server nothing is
        known of looks good, so that it gets tried. Failures make it look slow.
        """
        service = self.latency.get(0.001) + TYPICAL_ARTICLE / max(self.rate.get(1e9), 1.0)
        if posting:
            service = self.post_time.get(2 * self.latency.get(0.001))
        waiting = service * (1 + queued / max(1, connections))
        return waiting / max(self.score(now), 0.01) ** 2


class BreakerState(enum.Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class CircuitBreaker:
    """Stops dialling a server that does not answer, and finds out when it is back."""

    redial: RetryPolicy = field(default_factory=RetryPolicy)
    """How long to stay OPEN, the first time, the second time in a row, and so on."""
    threshold: int = 3
    rng: random.Random = field(default_factory=random.Random, repr=False)
    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    """Failed dials and useless sessions in a row."""
    retry_at: float = 0.0
    """OPEN: when a probe may go. CLOSED: when the next dial after a failed one may go."""
    _opened: int = 0

    def may_dial(self, now: float, dialling: int) -> bool:
        """Whether one more dial may start while ``dialling`` are under way. OPEN → HALF_OPEN."""
        if self.state is BreakerState.CLOSED:
            return now >= self.retry_at
        if self.state is BreakerState.OPEN and now >= self.retry_at:
            self.state = BreakerState.HALF_OPEN
        return self.state is BreakerState.HALF_OPEN and dialling == 0

    def admitted(self) -> None:
        """A dial ended in a session. Until it has been of use, one more failure is too many."""
        self.state = BreakerState.CLOSED
        self.retry_at = 0.0

    def succeeded(self) -> None:
        """The server answered."""
        self.failures = self._opened = 0

    def failed(self, now: float, *, fatal: bool = False) -> None:
        """A dial failed, or a session ended before it was of any use.

        ``fatal``: dialling again soon makes no sense.
        """
        self.failures += 1
        if self.state is BreakerState.CLOSED and not fatal and self.failures < self.threshold:
            self.retry_at = now + self.failures * self.redial.first / 4
            return
        self._opened += 1
        delay = self.redial.delay(self._opened, self.rng)
        if fatal:
            delay = max(delay, self.redial.ceiling * (1 - self.redial.jitter))
        self.state = BreakerState.OPEN
        self.retry_at = now + delay
