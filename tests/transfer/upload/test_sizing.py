"""The number of posters against models of what limits an upload."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from usenetfs.transfer.upload.sizing import PosterSizing, first_posters, first_workers

MOST = 32


def by_latency(line: float, each: float) -> Callable[[int], float]:
    """Each connection brings ``each`` octets a second until the line is full."""
    return lambda size: min(line, size * each)


def by_contention(each: float, best: int) -> Callable[[int], float]:
    """A server that slows down when more than ``best`` talk to it at once."""
    return lambda size: min(size, best) * each / (1 + 0.05 * max(0, size - best))


@pytest.mark.parametrize(
    "model",
    [
        by_latency(100e6, 12e6),
        by_latency(1e9, 5e6),
        by_latency(20e6, 50e6),
        by_contention(40e6, 2),
        by_contention(30e6, 5),
    ],
)
def test_it_finds_nine_tenths_of_the_best_speed(model: Callable[[int], float]) -> None:
    sizing = PosterSizing(1, MOST)
    for _ in range(12):
        sizing.measured(model(sizing.size), dry=False)
    best = max(model(size) for size in range(1, MOST + 1))
    later = [model(sizing.measured(model(sizing.size), dry=False)) for _ in range(60)]
    assert sum(later) / len(later) >= 0.9 * best


def test_it_does_not_take_what_brings_nothing() -> None:
    model = by_latency(20e6, 50e6)
    sizing = PosterSizing(1, MOST)
    sizes = [sizing.measured(model(sizing.size), dry=False) for _ in range(200)]
    assert max(sizes[4:]) <= 3
    assert sum(sizes) / len(sizes) < 2.5


def test_it_follows_a_line_that_changes() -> None:
    sizing = PosterSizing(1, MOST)
    narrow, wide = by_latency(30e6, 10e6), by_latency(120e6, 10e6)
    for _ in range(20):
        sizing.measured(narrow(sizing.size), dry=False)
    assert sizing.size <= 5
    for _ in range(200):
        sizing.measured(wide(sizing.size), dry=False)
    assert wide(sizing.size) >= 0.8 * 120e6


def test_intervals_without_work_say_nothing() -> None:
    sizing = PosterSizing(2, MOST)
    for rate in (0.0, 5e6, 1e9):
        assert sizing.measured(rate, dry=True) == 2
    assert sizing.measured(0.0, dry=False) == 2


def test_it_stays_within_its_limits() -> None:
    sizing = PosterSizing(1, 3)
    assert max(sizing.measured(sizing.size * 1e6, dry=False) for _ in range(50)) == 3
    sizing.limit(2)
    assert sizing.size == 2
    assert max(sizing.measured(sizing.size * 1e6, dry=False) for _ in range(50)) <= 2
    sizing.limit(0)
    assert sizing.size == 1


def test_first_numbers() -> None:
    assert [first_workers(cores) for cores in (1, 2, 8, 64)] == [1, 2, 8, 8]
    assert [first_posters(workers, 20) for workers in (1, 2, 8)] == [1, 1, 4]
    assert first_posters(8, 3) == 3
