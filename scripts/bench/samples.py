"""What one timed run gave, and what several of them say: pure, no clock and no processes.

A *scenario* is one piece of work; *contestants* do it in turns, round after round, so that whatever
the machine does meanwhile happens to all of them. A figure is the median of the rounds, with the
smallest and the largest beside it. A ratio is the median of the rounds' ratios, each of two runs
that stood next to each other, which drifts less than a ratio of medians.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final

MB: Final = 1_000_000
GB: Final = 1_000_000_000


class BenchError(Exception):
    """A contestant did not do its work, or did it wrongly; the text says what and why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed run. ``cpu_seconds``: user + system of the client.

    ``size``: octets of payload; 0 where it is not about how much (latencies), and then there is no
    speed.
    """

    size: int
    seconds: float
    cpu_seconds: float | None = None
    peak_rss: int | None = None
    """Octets."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """Further figures by name, the unit last in the name (``cp s``, ``p99 ms``)."""

    @property
    def speed(self) -> float | None:
        """MB/s."""
        return self.size / MB / self.seconds if self.size else None

    @property
    def cpu_per_gb(self) -> float | None:
        """CPU seconds for each GB of payload."""
        if self.cpu_seconds is None or not self.size:
            return None
        return self.cpu_seconds * GB / self.size


@dataclass(frozen=True, slots=True)
class Contestant:
    """``run`` does the work once (its argument: the round's number) and checks what it did."""

    name: str
    run: Callable[[int], Sample]
    absent: str = ""
    """Why it cannot take part; it is named with that in the result."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """``key``: a stable slug. ``baseline``: the contestant that the others are compared with.

    ``open`` prepares what the contestants need, for as long as its context lasts.
    """

    key: str
    title: str
    baseline: str
    open: Callable[[], AbstractContextManager[Sequence[Contestant]]]


@dataclass(slots=True)
class Entry:
    """What became of one contestant. ``samples`` has one for each round, or ends at a failure."""

    name: str
    samples: list[Sample] = field(default_factory=list)
    absent: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A scenario that was run."""

    key: str
    title: str
    baseline: str
    entries: Sequence[Entry]

    @property
    def ok(self) -> bool:
        """Whether whoever took part did its work, and anybody did."""
        return not any(entry.failure for entry in self.entries) and any(
            entry.samples for entry in self.entries
        )


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several figures, and between what they lie."""

    median: float
    low: float
    high: float


def run_scenario(
    scenario: Scenario, rounds: int, *, progress: Callable[[str], None] = lambda _: None
) -> Result:
    """Let the contestants take turns. One that fails is out, and the others go on."""
    with scenario.open() as contestants:
        entries = [Entry(c.name, absent=c.absent) for c in contestants]
        for number in range(rounds):
            for contestant, entry in _turn(contestants, entries, number):
                progress(f"{scenario.title}: {entry.name}, round {number + 1} of {rounds}")
                try:
                    entry.samples.append(contestant.run(number))
                except BenchError as error:
                    entry.failure = str(error)
                    progress(f"{entry.name} FAILED: {error}")
    return Result(scenario.key, scenario.title, scenario.baseline, entries)


def _turn(
    contestants: Sequence[Contestant], entries: Sequence[Entry], number: int
) -> Iterator[tuple[Contestant, Entry]]:
    """Who still takes part; every second round backwards, so that none is always first."""
    pairs = list(zip(contestants, entries, strict=True))
    for contestant, entry in pairs if number % 2 == 0 else reversed(pairs):
        if not entry.absent and not entry.failure:
            yield contestant, entry


def spread(values: Sequence[float | None]) -> Spread | None:
    """Of the figures that are there; None when none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(statistics.median(known), min(known), max(known))


def ratio(entry: Entry, baseline: Entry) -> float | None:
    """How many times faster than the baseline: the median over the rounds that both ran."""
    pairs = zip(entry.samples, baseline.samples, strict=False)
    factors = [m.speed / other.speed for m, other in pairs if m.speed and other.speed]
    return statistics.median(factors) if factors else None


def as_json(result: Result) -> dict[str, Any]:
    """Everything, for programs."""
    baseline = next((e for e in result.entries if e.name == result.baseline), None)
    return {
        "key": result.key,
        "title": result.title,
        "baseline": result.baseline,
        "contestants": [
            {
                "name": entry.name,
                "absent": entry.absent,
                "failure": entry.failure,
                "ratio": ratio(entry, baseline) if baseline is not None else None,
                "samples": [
                    {
                        "size": sample.size,
                        "seconds": sample.seconds,
                        "mb_per_second": sample.speed,
                        "cpu_seconds": sample.cpu_seconds,
                        "cpu_seconds_per_gb": sample.cpu_per_gb,
                        "peak_rss": sample.peak_rss,
                        "extra": dict(sample.extra),
                    }
                    for sample in entry.samples
                ],
            }
            for entry in result.entries
        ],
    }
