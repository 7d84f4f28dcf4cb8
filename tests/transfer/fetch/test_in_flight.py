"""How many articles a reader has on their way, against lines that are simulated."""

from __future__ import annotations

import pytest

from usenetfs.transfer.fetch.in_flight import FEW, VALID, InFlight


class Line:
    """Moves at most ``rate`` articles a second, each of which takes ``delay`` seconds at least.

    What is under way beyond that waits for the line, so a fetch takes longer; a reader takes
    whatever comes at once.
    """

    def __init__(self, in_flight: InFlight, *, rate: float, delay: float) -> None:
        self.in_flight = in_flight
        self.rate = rate
        self.delay = delay
        self.now = 1000.0
        self.speed = 0.0
        self._begun: list[float] = []
        """When those that are under way began."""

    def run(self, articles: int) -> list[int]:
        """How many were under way whenever one came."""
        found = []
        for _ in range(articles):
            enough = self.in_flight.enough(self.speed, self.now)
            self._begun += [self.now] * (enough - len(self._begun))
            found.append(len(self._begun))
            self.speed = min(self.rate, len(self._begun) / self.delay)
            self.now += 1 / self.speed
            began = self._begun.pop(0)
            self.now = max(self.now, began + self.delay)
            self.in_flight.took(self.now - began, self.now)
        return found


@pytest.mark.parametrize("delay", [0.001, 0.03, 0.1, 0.3])
def test_the_line_is_filled_and_little_waits(delay: float) -> None:
    line = Line(InFlight(), rate=800, delay=delay)
    found = line.run(4000)
    assert line.speed == 800
    assert FEW + 800 * delay - 1 <= max(found) <= FEW + 2 * 800 * delay


@pytest.mark.parametrize("delay", [0.001, 0.1])
def test_a_full_line_is_not_taken_for_a_long_one(delay: float) -> None:
    """However long it is full: a look now and then empties it."""
    line = Line(InFlight(), rate=800, delay=delay)
    line.run(4000)
    before = line.now
    found = line.run(100_000)
    assert line.now - before > 5 * VALID
    assert max(found) <= 2 * (FEW + 800 * delay)
    assert min(found) <= FEW + 1
    assert sum(found) / len(found) > 0.9 * max(found) - 1  # looks are short


def test_a_longer_way_is_noticed() -> None:
    line = Line(InFlight(), rate=200, delay=0.002)
    line.run(1000)
    line.delay = 0.2
    before = line.now
    line.run(3000)
    assert line.speed == 200
    assert line.in_flight.delay == pytest.approx(0.2, rel=0.2)
    assert line.now - before < 3 * VALID + 3000 / 200


def test_a_shorter_way_is_noticed() -> None:
    line = Line(InFlight(), rate=200, delay=0.2)
    line.run(1000)
    line.delay = 0.002
    line.run(int(1.5 * VALID * 200))
    assert max(line.run(100)) <= 2 * (FEW + 200 * 0.002)


def test_one_short_article_does_not_mislead() -> None:
    in_flight = InFlight()
    line = Line(in_flight, rate=200, delay=0.2)
    line.run(1000)
    in_flight.took(0.001, line.now)
    assert in_flight.delay > 0.15
