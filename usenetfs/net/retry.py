"""Trying again: how long to wait, how often, and counted by kind of operation (R3).

Waits and stops are tenacity's objects; the Fibonacci wait, which it lacks, and the bounded jitter
are here. Each kind of operation may have a policy of its own. What is retried, and with the same
Message-ID or a new one, is decided by the one table of :mod:`usenetfs.net.retry_rules`.
"""

from __future__ import annotations

import enum
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import tenacity
import trio
from tenacity.stop import stop_base
from tenacity.wait import wait_base, wait_exponential, wait_fixed, wait_incrementing

from usenetfs.net.retry_rules import worth_repeating

log = logging.getLogger("usenetfs.net")

T = TypeVar("T")


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
            if low * self.unit >= self.ceiling:
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


_NOBODY: Final = tenacity.AsyncRetrying(sleep=trio.sleep)


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

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after so many tries, for those who keep count themselves."""
        state = tenacity.RetryCallState(_NOBODY, None, (), {})
        state.attempt_number = max(1, attempt)
        return self.wait(rng)(state)

    def stop(self) -> stop_base:
        """The stop object: after the first try and all retries."""
        if self.retries is None:
            return tenacity.stop_never
        return tenacity.stop_after_attempt(self.retries + 1)


class _CountingStop(stop_base):
    """Another stop, which tells when it ends the trying."""

    def __init__(self, stop: stop_base, on_stop: Callable[[], None]) -> None:
        self.stop = stop
        self.on_stop = on_stop

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        over = bool(self.stop(retry_state))
        if over:
            self.on_stop()
        return over


@dataclass(frozen=True, slots=True)
class RetryCounts:
    """Of one kind of operation, since the start."""

    attempts: int
    """First tries and all others."""
    retries: int
    """Tries after the first."""
    given_up: int
    """Operations that failed although they might have been tried again: their tries were used
    up."""


def _never(error: BaseException) -> None:
    """What is told of failures when nobody asks."""


@dataclass(slots=True)
class RetryManager:
    """Retries by policy: ``kinds`` has those of single kinds of operation, ``policy`` is that of
    all others. Every try is counted by kind; see :meth:`counts`."""

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    kinds: Mapping[str, RetryPolicy] = field(default_factory=dict)
    rng: random.Random = field(default_factory=random.Random, repr=False)
    _attempts: Counter[str] = field(default_factory=Counter, init=False)
    _retries: Counter[str] = field(default_factory=Counter, init=False)
    _given_up: Counter[str] = field(default_factory=Counter, init=False)
    _reasons: Counter[tuple[str, str]] = field(default_factory=Counter, init=False)

    def policy_of(self, kind: str) -> RetryPolicy:
        """What applies to this kind of operation."""
        return self.kinds.get(kind, self.policy)

    def counts(self) -> dict[str, RetryCounts]:
        """By kind of operation, those that were ever begun."""
        return {
            kind: RetryCounts(self._attempts[kind], self._retries[kind], self._given_up[kind])
            for kind in sorted(self._attempts)
        }

    def reasons(self, kind: str) -> dict[str, int]:
        """Why operations of a kind were tried again: how often, by the code of the error."""
        return {code: n for (of, code), n in sorted(self._reasons.items()) if of == kind}

    def wait_after(self, kind: str, tries: int) -> float:
        """Seconds to wait after so many tries that failed, for those who keep a schedule of their
        own; the failed try and the one to come are counted as one attempt and one retry."""
        self._attempts[kind] += 1
        self._retries[kind] += 1
        return self.policy_of(kind).delay(tries, self.rng)

    async def run(
        self,
        kind: str,
        work: Callable[[], Awaitable[T]],
        *,
        may_retry: Callable[[BaseException], bool] = worth_repeating,
        stop: Callable[[], stop_base] | None = None,
        on_failure: Callable[[BaseException], None] = _never,
    ) -> T:
        """What ``work`` gives, as often as the policy says; ``stop`` makes what stands in for it.

        As :meth:`retrying`, whose machinery is set up only once something has failed: it costs
        28 µs, which is much where a thousand articles a second are fetched and none fails.
        """
        failed: list[Exception] = []
        try:
            result = await work()
        except Exception as error:  # noqa: BLE001 - raised again as the first of the tries
            failed.append(error)
        else:
            self._attempts[kind] += 1
            return result
        stopping = None if stop is None else stop()
        async for attempt in self.retrying(
            kind, may_retry=may_retry, stop=stopping, on_failure=on_failure
        ):
            with attempt:
                if failed:
                    raise failed.pop()
                return await work()
        raise AssertionError("retrying ends with a result or an error")

    def retrying(
        self,
        kind: str,
        *,
        may_retry: Callable[[BaseException], bool] = worth_repeating,
        stop: stop_base | None = None,
        on_failure: Callable[[BaseException], None] = _never,
    ) -> tenacity.AsyncRetrying:
        """To be iterated: ``async for attempt in manager.retrying("fetch"): with attempt: …``.

        ``stop`` stands in for that of the policy. The last error is raised as it is.
        ``on_failure`` is told of each that is retried.
        """
        policy = self.policy_of(kind)

        def before(state: tenacity.RetryCallState) -> None:
            self._attempts[kind] += 1
            self._retries[kind] += state.attempt_number > 1

        def give_up() -> None:
            self._given_up[kind] += 1

        def before_sleep(state: tenacity.RetryCallState) -> None:
            error = None if state.outcome is None else state.outcome.exception()
            if error is not None:
                self._reasons[kind, getattr(error, "error_code", "internal")] += 1
                on_failure(error)
                log.info("%s failed (%s): again in %.1f s", kind, error, state.upcoming_sleep)

        return tenacity.AsyncRetrying(
            sleep=trio.sleep,
            wait=policy.wait(self.rng),
            stop=_CountingStop(policy.stop() if stop is None else stop, give_up),
            retry=tenacity.retry_if_exception(may_retry),
            before=before,
            before_sleep=before_sleep,
            reraise=True,
        )
