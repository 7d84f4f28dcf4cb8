"""Scores, expected times and the breaker, without a clock."""

from __future__ import annotations

import random

from usenetfs.net.health import SCORE_HALF_LIFE, BreakerState, CircuitBreaker, Health
from usenetfs.net.retry import RetryPolicy


def test_a_score_falls_with_failures_and_recovers_by_itself() -> None:
    health = Health()
    assert health.score(0) == 1
    for _ in range(5):
        health.failed(0)
    low = health.score(0)
    assert low < 0.3
    assert 1 - health.score(SCORE_HALF_LIFE) == (1 - low) / 2
    health.succeeded(0)
    assert health.score(0) > low


def test_failures_latency_and_queues_make_a_server_less_wanted() -> None:
    good, failing, distant = Health(), Health(), Health()
    failing.failed(0)
    distant.latency.add(0.5)
    assert good.expected_time(0, 0, 4) < failing.expected_time(0, 0, 4)
    assert good.expected_time(0, 0, 4) < distant.expected_time(0, 0, 4)
    assert good.expected_time(0, 0, 4) < good.expected_time(0, 8, 4)


def test_the_breaker_opens_after_three_and_waits_longer_each_time() -> None:
    breaker = CircuitBreaker(RetryPolicy(jitter=0.0))
    for now in (0.0, 1.0):
        breaker.failed(now)
        assert breaker.state is BreakerState.CLOSED
    breaker.failed(2.0)
    assert breaker.state is BreakerState.OPEN
    now, waits = 2.0, []
    for _ in range(8):
        assert not breaker.may_dial(breaker.retry_at - 0.01, 0)
        waits.append(breaker.retry_at - now)
        now = breaker.retry_at
        assert breaker.may_dial(now, 0)
        assert breaker.state is BreakerState.HALF_OPEN
        assert not breaker.may_dial(now, 1)
        breaker.failed(now)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    breaker.admitted()
    assert breaker.may_dial(now, 5)
    breaker.failed(now)
    assert breaker.state is BreakerState.OPEN, "getting in is not yet being of use"
    breaker.admitted()
    breaker.succeeded()
    breaker.failed(now)
    assert breaker.state is BreakerState.CLOSED


def test_a_fatal_failure_opens_it_at_once() -> None:
    breaker = CircuitBreaker(rng=random.Random(1))
    breaker.failed(0.0, fatal=True)
    assert breaker.state is BreakerState.OPEN
    assert 45 <= breaker.retry_at <= 60
