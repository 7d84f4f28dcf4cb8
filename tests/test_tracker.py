"""Operations as they go on and end, and what is known of them afterwards."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.errors import DiskFullError
from usenetfs.tracker import (
    BOUNDS,
    KEPT,
    MAX_ACTIVE,
    MAX_TIMINGS,
    Histogram,
    Kind,
    Outcome,
    Tracker,
    current_id,
    on_behalf_of,
)


class Clock:
    """Goes on when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tracker(clock: Clock) -> Tracker:
    return Tracker(clock=clock, wall=lambda: 1e9 + clock.now, run="ab")


def test_what_is_known_of_an_operation(tracker: Tracker, clock: Clock) -> None:
    with tracker.track(Kind.SYNC, "sync", inodes=(7,), octets=5) as operation:
        assert tracker.active() == [operation]
        assert (operation.id, current_id()) == ("ab-1", "ab-1")
        assert tracker.find("ab-1") is operation
        clock.now += 2.5
    assert current_id() == ""
    assert tracker.active() == []
    assert tracker.recent() == [operation]
    assert tracker.find("ab-1") is operation
    assert (operation.kind, operation.name, operation.inodes) == (Kind.SYNC, "sync", (7,))
    assert (operation.duration, operation.outcome) == (2.5, Outcome.DONE)
    assert operation.started_at == 1e9 + 100
    assert tracker.counts[Kind.SYNC].done == 1
    assert tracker.durations[Kind.SYNC].count == 1


def test_what_fails_says_why_and_keeps_nothing_alive(tracker: Tracker) -> None:
    with (
        pytest.raises(DiskFullError),
        tracker.track(Kind.IMPORT, "a tree"),
    ):
        raise DiskFullError("it is full")
    [failed] = tracker.failures()
    assert (failed.outcome, failed.error, failed.error_code) == (
        Outcome.FAILED,
        "it is full",
        DiskFullError.error_code,
    )
    with pytest.raises(ValueError), tracker.track(Kind.IMPORT, "a tree"):  # noqa: PT011 - any
        raise ValueError("a bug")
    assert tracker.failures()[-1].error_code == "internal"
    assert tracker.counts[Kind.IMPORT].failed == 2


async def test_who_is_cancelled_has_not_failed(tracker: Tracker) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        with tracker.track(Kind.SYNC, "sync"):
            await trio.lowlevel.checkpoint()
    counts = tracker.counts[Kind.SYNC]
    assert (counts.cancelled, counts.failed, counts.done) == (1, 0, 0)
    assert tracker.durations[Kind.SYNC].count == 0
    assert tracker.failures() == []


async def test_tasks_and_threads_know_on_whose_behalf_they_run(tracker: Tracker) -> None:
    seen: list[str] = []

    async def work() -> None:
        await trio.lowlevel.checkpoint()
        seen.append(current_id())
        seen.append(await trio.to_thread.run_sync(current_id))

    with tracker.track(Kind.SYNC, "one"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            other = tracker.begin(Kind.UPLOAD, "another")
            with on_behalf_of(other):
                nursery.start_soon(work)
            seen.append(current_id())
    assert seen[0] == "ab-1"
    assert sorted(seen[1:]) == ["ab-1", "ab-1", "ab-2", "ab-2"]


def test_an_operation_goes_through_its_stages(tracker: Tracker, clock: Clock) -> None:
    operation = tracker.begin(Kind.UPLOAD, "article", age=2)
    operation.passed("stage", "post")
    clock.now += 3
    operation.passed("post", "check")
    assert operation.stage == "check"
    operation.end()
    operation.end(DiskFullError("too late"))
    assert operation.stages == {"stage": 2.0, "post": 3.0}
    assert (operation.duration, operation.outcome) == (5.0, Outcome.DONE)
    assert tracker.stages[Kind.UPLOAD, "post"].total == 3.0
    with tracker.timed(Kind.UPLOAD, "post"):
        clock.now += 1
    assert tracker.stages[Kind.UPLOAD, "post"].total == 4.0


def test_everything_is_bounded(tracker: Tracker) -> None:
    for _ in range(MAX_ACTIVE + 99):
        tracker.begin(Kind.FETCH, "article")
    last = tracker.begin(Kind.FETCH, "article")
    assert len(tracker.active()) == MAX_ACTIVE
    assert len(tracker.active(Kind.FETCH, limit=3)) == 3
    last.end()
    assert tracker.counts[Kind.FETCH].done == 1
    for operation in tracker.active():
        operation.end(DiskFullError("full"))
    assert (len(tracker.recent()), len(tracker.failures())) == (KEPT, KEPT)
    assert tracker.counts[Kind.FETCH].failed == MAX_ACTIVE
    for number in range(MAX_TIMINGS + 50):
        tracker.observe(f"request {number}", 0.1)
    assert len(tracker.timings) == MAX_TIMINGS + 1
    assert tracker.timings["other"].count == 50


def test_what_had_nothing_to_do_counts_for_nothing(tracker: Tracker) -> None:
    with tracker.track(Kind.CHECKPOINT, "checkpoint 5") as operation:
        operation.drop()
    assert (tracker.active(), tracker.recent()) == ([], [])
    assert tracker.counts[Kind.CHECKPOINT].cancelled == 0
    assert tracker.durations[Kind.CHECKPOINT].count == 0


def test_ids_of_others_are_not_found(tracker: Tracker) -> None:
    tracker.begin(Kind.SYNC, "sync")
    for text in ("", "ab", "cd-1", "ab-2", "ab-x", "ab-²"):
        assert tracker.find(text) is None
    assert Tracker().run != Tracker().run


@given(st.lists(st.floats(0, 1000), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_within_its_bucket(durations: list[float], share: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.observe(duration)
    assert histogram.count == len(durations)
    assert sum(histogram.counts) == len(durations)
    assert histogram.total == pytest.approx(sum(durations))
    found = histogram.quantile(share)
    assert found is not None
    rank = max(1, -(-len(durations) * share // 1))
    true = sorted(durations)[int(min(rank, len(durations))) - 1]
    above = [bound for bound in BOUNDS if bound >= true]
    below = [bound for bound in BOUNDS if bound < true]
    if above:
        assert (below[-1] if below else 0.0) <= found <= above[0] * 1.0001
    else:
        assert found == BOUNDS[-1]


def test_nothing_is_said_of_nothing() -> None:
    assert Histogram().quantile(0.5) is None
