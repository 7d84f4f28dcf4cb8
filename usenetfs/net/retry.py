"""Trying again: how long to wait, how often, and counted by kind of operation (R3).

Waits and stops are tenacity's objects; the Fibonacci wait, which it lacks, and the bounded jitter
are here. What is retried, and with the same Message-ID or a new one, is the caller's rule: it knows
what its errors mean. The rules there are:

======================  ==========================  ===============================================
operation               error                       next
======================  ==========================  ===============================================
post                    network, in doubt, quota    the same article, the same Message-ID, for ever
post                    rejected                    a new attempt: new salt, new Message-ID
post                    duplicate                   fetched; ours: posted, else as rejected
fetch                   network                     the same article until patience ends
fetch                   missing, damaged            the next server, at once; then the reader's EIO
check (STAT)            anything                    growing waits until its deadline
======================  ==========================  ===============================================
"""

from __future__ import annotations

import enum
import logging
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import tenacity
import trio
from tenacity.stop import stop_base
from tenacity.wait import wait_base, wait_exponential, wait_fixed, wait_incrementing

from usenetfs.errors import UsenetfsError

log = logging.getLogger("usenetfs.net")


class Strategy(enum.Enum):
    """How the waits grow: 1, 2, 4, 8; 1, 2, 3, 4; 1, 1, 2, 3, 5; 1, 1, 1 (times the first)."""

    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    FIBONACCI = "fibonacci"
    FIXED = "fixed"


class WaitFibonacci(wait_base):
    """``unit`` times 1, 1, 2, 3, 5, 8, …; at most ``ceiling`` seconds."""

    def __init__(self, unit: float, ceiling: float) -> None:
        self.unit = unit
        self.ceiling = ceiling

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        low, high = 0, 1
        for _ in range(retry_state.attempt_number):
            if high * self.unit >= self.ceiling:
                break
            low, high = high, low + high
        return min(max(low, 1) * self.unit, self.ceiling)


class WaitWithJitter(wait_base):
    """Another wait, up to ``jitter`` (a share of it) more or less; never above ``ceiling``."""

    def __init__(
        self, wait: wait_base, *, jitter: float, ceiling: float, rng: random.Random
    ) -> None:
        self.wait = wait
        self.jitter = jitter
        self.ceiling = ceiling
        self.rng = rng

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        wait = self.wait(retry_state) * (1 + self.rng.uniform(-self.jitter, self.jitter))
        return min(max(wait, 0.0), self.ceiling)


class StopAt(stop_base):
    """Stops where the next wait would end after ``deadline``, in trio's seconds."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        return trio.current_time() + retry_state.upcoming_sleep > self.deadline


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``first`` and ``ceiling`` in seconds; ``retries`` None: without end."""

    strategy: Strategy = Strategy.EXPONENTIAL
    retries: int | None = 5
    first: float = 1.0
    ceiling: float = 60.0
    jitter: float = 0.25

    def wait(self, rng: random.Random) -> wait_base:
        """The wait object, jitter included."""
        wait: wait_base
        match self.strategy:
            case Strategy.EXPONENTIAL:
                wait = wait_exponential(multiplier=self.first, max=self.ceiling)
            case Strategy.LINEAR:
                wait = wait_incrementing(start=self.first, increment=self.first, max=self.ceiling)
            case Strategy.FIBONACCI:
                wait = WaitFibonacci(self.first, self.ceiling)
            case Strategy.FIXED:
                wait = wait_fixed(min(self.first, self.ceiling))
        return WaitWithJitter(wait, jitter=self.jitter, ceiling=self.ceiling, rng=rng)

    def stop(self) -> stop_base:
        """The stop object: after the first try and all retries."""
        if self.retries is None:
            return tenacity.stop_never
        return tenacity.stop_after_attempt(self.retries + 1)


def _never(error: BaseException) -> None:
    """What is told of failures when nobody asks."""


@dataclass(slots=True)
class RetryManager:
    """Retries by one policy; ``counts`` says how many there were of each kind of operation."""

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    counts: Counter[str] = field(default_factory=Counter)
    rng: random.Random = field(default_factory=random.Random)

    def retrying(
        self,
        kind: str,
        *,
        may_retry: Callable[[BaseException], bool] = lambda error: (
            isinstance(error, UsenetfsError) and error.recoverable
        ),
        stop: stop_base | None = None,
        on_failure: Callable[[BaseException], None] = _never,
    ) -> tenacity.AsyncRetrying:
        """To be iterated: ``async for attempt in manager.retrying("fetch"): with attempt: …``.

        The last error is raised as it is. ``on_failure`` is told of each that is retried.
        """

        def before_sleep(state: tenacity.RetryCallState) -> None:
            self.counts[kind] += 1
            error = None if state.outcome is None else state.outcome.exception()
            if error is not None:
                on_failure(error)
                log.info("%s failed (%s): again in %.1f s", kind, error, state.upcoming_sleep)

        return tenacity.AsyncRetrying(
            sleep=trio.sleep,
            wait=self.policy.wait(self.rng),
            stop=self.policy.stop() if stop is None else stop,
            retry=tenacity.retry_if_exception(may_retry),
            before_sleep=before_sleep,
            reraise=True,
        )
