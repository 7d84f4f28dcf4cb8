"""Of what comes at which speed how much is cached, in virtual time."""

from __future__ import annotations

from usenetfs.store.write_budget import BURST, MEMORY, PROCESSOR_SHARE, TOO_FAST, WriteBudget

COST = 0.001
"""Processor time of a body, in seconds."""

SHARE = 2 * PROCESSOR_SHARE
FITS = SHARE / COST
"""Bodies a second that two processors may write."""


class Stream:
    """Bodies that come evenly, and are written at once."""

    def __init__(self) -> None:
        self.now = 100.0
        self.budget = WriteBudget(2, self.now)

    def come(self, bodies_a_second: float, seconds: float) -> float:
        """Which part of them is written."""
        count = round(bodies_a_second * seconds)
        written = 0
        for _ in range(count):
            self.now += 1 / bodies_a_second
            if self.budget.admits(self.now):
                self.budget.spent(COST, self.now)
                written += 1
        return written / count


def test_what_comes_no_faster_than_the_share_is_all_cached() -> None:
    assert Stream().come(0.9 * FITS, 20) == 1.0


def test_what_comes_somewhat_faster_is_cached_in_part() -> None:
    stream = Stream()
    stream.come(1.6 * FITS, 5)
    assert 0.5 < stream.come(1.6 * FITS, 20) < 0.75


def test_what_comes_much_faster_is_not_cached_after_the_first_moments() -> None:
    stream, fast = Stream(), 3 * TOO_FAST * FITS
    first = stream.come(fast, 2 * MEMORY)
    assert 0 < first * fast * 2 * MEMORY * COST <= BURST + SHARE * 2 * MEMORY
    assert stream.come(fast, 20) == 0.0


def test_when_it_comes_slowly_again_it_is_cached_again() -> None:
    stream = Stream()
    stream.come(3 * TOO_FAST * FITS, 10)
    stream.come(0.5 * FITS, 6 * MEMORY)
    assert stream.come(0.5 * FITS, 10) == 1.0


def test_a_rest_saves_up_no_more_than_the_burst() -> None:
    stream = Stream()
    stream.come(0.9 * FITS, 1)
    stream.now += 3600
    written = stream.come(20 * FITS, 1) * 20 * FITS
    assert written * COST <= BURST + SHARE + COST
