"""Waiting and trying again."""

from __future__ import annotations

import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import tenacity
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import usenetfs.errors
from usenetfs.errors import AuthenticationError, NetworkError, UsenetfsError
from usenetfs.net.retry import RetryCounts, RetryManager, RetryPolicy, StopAt, Strategy
from usenetfs.net.retry_rules import RULES, rule_of


def waits(policy: RetryPolicy, count: int) -> list[float]:
    wait = policy.wait(random.Random(1))
    states = [SimpleNamespace(attempt_number=number + 1) for number in range(count)]
    return [wait(cast(tenacity.RetryCallState, state)) for state in states]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.EXPONENTIAL, [1, 2, 4, 8, 16, 32, 60, 60]),
        (Strategy.LINEAR, [1, 2, 3, 4, 5, 6, 7, 8]),
        (Strategy.FIBONACCI, [1, 1, 2, 3, 5, 8, 13, 21]),
        (Strategy.FIXED, [1, 1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_how_the_waits_grow(strategy: Strategy, expected: list[int]) -> None:
    assert waits(RetryPolicy(strategy, jitter=0), 8) == expected
    if strategy is not Strategy.FIXED:
        assert waits(RetryPolicy(strategy, jitter=0), 100)[-1] == 60


@given(
    st.sampled_from(Strategy),
    st.floats(0.01, 100),
    st.floats(0.01, 100),
    st.floats(0, 1),
    st.integers(1, 200),
)
def test_jitter_stays_within_its_share_and_the_ceiling(
    strategy: Strategy, first: float, ceiling: float, jitter: float, count: int
) -> None:
    plain = RetryPolicy(strategy, first=first, ceiling=ceiling, jitter=0)
    jittery = RetryPolicy(strategy, first=first, ceiling=ceiling, jitter=jitter)
    for wait, base in zip(waits(jittery, count), waits(plain, count), strict=True):
        assert 0 <= wait <= ceiling
        assert base * (1 - jitter) - 1e-9 <= wait <= base * (1 + jitter) + 1e-9


async def test_five_retries_by_default_and_each_is_counted(autojump_clock: MockClock) -> None:
    manager = RetryManager(RetryPolicy(jitter=0))
    tries = 0

    async def fail() -> None:
        nonlocal tries
        tries += 1
        raise NetworkError("down")

    with pytest.raises(NetworkError):
        await manager.retrying("fetch")(fail)
    assert tries == 6
    assert manager.counts() == {"fetch": RetryCounts(attempts=6, retries=5, given_up=1)}
    assert trio.current_time() == pytest.approx(1 + 2 + 4 + 8 + 16)


async def test_what_is_not_recoverable_is_not_retried() -> None:
    manager = RetryManager()

    async def fail() -> None:
        raise AuthenticationError("no")

    with pytest.raises(AuthenticationError):
        await manager.retrying("fetch")(fail)
    assert manager.counts() == {"fetch": RetryCounts(attempts=1, retries=0, given_up=0)}


async def test_success_ends_it(autojump_clock: MockClock) -> None:
    manager = RetryManager()
    seen: list[BaseException] = []
    tries = 0
    async for attempt in manager.retrying("post", on_failure=seen.append):
        with attempt:
            tries += 1
            if tries < 3:
                raise NetworkError("down")
    assert tries == 3
    assert len(seen) == 2


@pytest.mark.parametrize("failures", [0, 1, 3, 5, 6])
async def test_what_is_run_is_tried_waited_for_and_counted_as_in_a_loop(
    failures: int, autojump_clock: MockClock
) -> None:
    outcomes = []
    for by_loop in (True, False):
        manager = RetryManager(RetryPolicy(jitter=0))
        tries = 0

        async def work() -> int:
            nonlocal tries
            tries += 1
            await trio.sleep(0.5)
            if tries <= failures:
                raise NetworkError(f"down {tries}")
            return tries

        started = trio.current_time()
        result: int | str = ""
        try:
            if by_loop:
                async for attempt in manager.retrying("fetch"):
                    with attempt:
                        result = await work()
            else:
                result = await manager.run("fetch", work)
        except NetworkError as error:
            result = str(error)
        took = round(trio.current_time() - started, 3)
        outcomes.append((result, tries, took, manager.counts(), manager.reasons("fetch")))
    assert outcomes[0] == outcomes[1]


async def test_what_is_run_ends_with_an_error_that_may_not_be_repeated() -> None:
    manager = RetryManager()

    async def work() -> None:
        await trio.lowlevel.checkpoint()
        raise AuthenticationError("no")

    with pytest.raises(AuthenticationError):
        await manager.run("fetch", work)
    assert manager.counts()["fetch"].retries == 0
    with pytest.raises(AuthenticationError):
        await manager.run("fetch", work, stop=lambda: StopAt(0))


async def test_a_deadline_is_never_overslept(autojump_clock: MockClock) -> None:
    manager = RetryManager(RetryPolicy(retries=None, jitter=0))

    async def fail() -> None:
        raise NetworkError("down")

    with pytest.raises(NetworkError):
        await manager.retrying("fetch", stop=StopAt(trio.current_time() + 10))(fail)
    assert trio.current_time() == pytest.approx(7)


async def test_each_kind_has_its_policy_and_its_counts(autojump_clock: MockClock) -> None:
    manager = RetryManager(
        RetryPolicy(jitter=0),
        kinds={"stat": RetryPolicy(Strategy.FIBONACCI, retries=7, first=2.0, ceiling=9, jitter=0)},
    )

    async def fail() -> None:
        raise NetworkError("down")

    with pytest.raises(NetworkError):
        await manager.retrying("stat")(fail)
    assert trio.current_time() == pytest.approx(2 + 2 + 4 + 6 + 9 + 9 + 9)
    with pytest.raises(NetworkError):
        await manager.retrying("anything")(fail)
    assert manager.counts() == {
        "anything": RetryCounts(6, 5, 1),
        "stat": RetryCounts(8, 7, 1),
    }


def test_who_keeps_a_schedule_is_counted_too() -> None:
    manager = RetryManager(kinds={"stat": RetryPolicy(Strategy.LINEAR, jitter=0)})
    assert [manager.wait_after("stat", tries) for tries in (1, 2, 3)] == [1, 2, 3]
    assert manager.counts() == {"stat": RetryCounts(attempts=3, retries=3, given_up=0)}


def test_a_delay_can_be_had_without_a_loop() -> None:
    rng = random.Random(1)
    for strategy in Strategy:
        policy = RetryPolicy(strategy, jitter=0)
        assert [policy.delay(number, rng) for number in range(1, 6)] == waits(policy, 5)


def test_the_documented_table_is_the_one_that_is_followed() -> None:
    text = (Path(__file__).parents[2] / "docs" / "retries.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (yes|no) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [
        (
            kind.error_code,
            rule.at_once.value,
            "yes" if kind.recoverable else "no",
            rule.identity.value,
        )
        for kind, rule in RULES.items()
    ]


def test_every_error_has_a_rule() -> None:
    for kind in vars(usenetfs.errors).values():
        if isinstance(kind, type) and issubclass(kind, UsenetfsError):
            nearest = next(parent for parent in kind.__mro__ if parent in RULES)
            assert rule_of(kind.__new__(kind)) is RULES[nearest]
