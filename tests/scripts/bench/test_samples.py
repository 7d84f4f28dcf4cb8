"""Turns, failures, medians and ratios."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import pytest

from scripts.bench.samples import (
    BenchError,
    Contestant,
    Entry,
    Sample,
    Scenario,
    as_json,
    ratio,
    run_scenario,
    spread,
)


def sample(speed: float) -> Sample:
    """One of 100 MB at ``speed`` MB/s."""
    return Sample(size=100_000_000, seconds=100 / speed, cpu_seconds=0.1, peak_rss=1)


class Race:
    """Contestants that note when they ran. A context that notes that it was left."""

    def __init__(self, *, failing: str = "") -> None:
        self.ran: list[tuple[str, int]] = []
        self.closed = False
        self._failing = failing

    def scenario(self, *names: str, absent: str = "") -> Scenario:
        @contextlib.contextmanager
        def opened() -> Iterator[Sequence[Contestant]]:
            try:
                yield [
                    Contestant(name, self._run(name), "not installed" if name == absent else "")
                    for name in names
                ]
            finally:
                self.closed = True

        return Scenario("key", "title", names[0], opened)

    def _run(self, name: str) -> Callable[[int], Sample]:
        def run(number: int) -> Sample:
            self.ran.append((name, number))
            if name == self._failing:
                raise BenchError("wrong bytes")
            return sample(100)

        return run


def test_contestants_take_turns_and_none_is_always_first() -> None:
    race = Race()
    run_scenario(race.scenario("a", "b"), 3)
    assert race.ran == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert race.closed


def test_one_that_fails_is_out_and_the_result_is_not_ok() -> None:
    race = Race(failing="b")
    result = run_scenario(race.scenario("a", "b"), 2)
    assert [name for name, _ in race.ran] == ["a", "b", "a"]
    assert result.entries[1].failure == "wrong bytes"
    assert not result.ok


def test_one_that_is_absent_is_named_and_nothing_is_wrong_with_that() -> None:
    race = Race()
    result = run_scenario(race.scenario("a", "b", absent="b"), 2)
    assert [name for name, _ in race.ran] == ["a", "a"]
    assert result.entries[1].absent == "not installed"
    assert result.ok


def test_nobody_there_is_no_success() -> None:
    race = Race()
    assert not run_scenario(race.scenario("a", absent="a"), 2).ok


def test_what_was_prepared_is_released_on_an_interrupt() -> None:
    race = Race()

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_scenario(race.scenario("a"), 1, progress=interrupt)
    assert race.closed


def test_speed_and_cpu_are_those_of_the_payload() -> None:
    one = Sample(size=500_000_000, seconds=2, cpu_seconds=0.5)
    assert one.speed == 250
    assert one.cpu_per_gb == 1.0
    assert Sample(1, 1).cpu_per_gb is None


def test_a_ratio_compares_runs_of_the_same_round() -> None:
    # Each round the machine halves its speed; the ratio does not move.
    mine = Entry("mine", [sample(speed) for speed in (90, 45, 22.5)])
    base = Entry("base", [sample(speed) for speed in (100, 50, 25)])
    assert ratio(mine, base) == pytest.approx(0.9)
    assert ratio(mine, Entry("none")) is None


def test_spread_leaves_out_what_was_not_measured() -> None:
    found = spread([3.0, None, 1.0, 2.0])
    assert found is not None
    assert (found.median, found.low, found.high) == (2.0, 1.0, 3.0)
    assert spread([None]) is None


def test_json_has_every_sample() -> None:
    result = run_scenario(Race().scenario("a", "b"), 2)
    whole = as_json(result)
    assert whole["contestants"][1]["ratio"] == 1.0
    assert [s["mb_per_second"] for s in whole["contestants"][0]["samples"]] == [100, 100]
