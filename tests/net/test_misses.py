"""A miss is believed for longer and longer, and for no longer than it has to be."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from usenetfs.net import misses
from usenetfs.net.misses import LONGEST, MAX_MISSES, Misses
from usenetfs.types import MessageId

ONE = MessageId("<one@example.net>")


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def believed_for(known: Misses, clock: Clock) -> float:
    """Seconds from now until the group would be asked again."""
    began = clock.now
    while known.believed(ONE, "x"):
        clock.now += 1
    return clock.now - began


def test_each_further_miss_is_believed_for_longer() -> None:
    clock = Clock()
    known = Misses(clock)
    assert known.believed(ONE, "x") is None
    waits = []
    for _ in range(6):
        known.note(ONE, "x", "430 no")
        assert known.believed(ONE, "x") == "430 no"
        assert known.believed(ONE, "y") is None, "what one group has not another may have"
        waits.append(believed_for(known, clock))
    assert waits == [10, 40, 160, 600, 600, 600]


def test_an_article_that_turned_up_begins_anew() -> None:
    clock = Clock()
    known = Misses(clock)
    for _ in range(3):
        known.note(ONE, "x", "430 no")
        believed_for(known, clock)
    known.forget(ONE, "x")
    assert known.believed(ONE, "x") is None
    known.note(ONE, "x", "430 no")
    assert believed_for(known, clock) == 10


def test_what_nobody_asks_for_any_more_is_forgotten() -> None:
    clock = Clock()
    known = Misses(clock)
    known.note(ONE, "x", "430 no")
    clock.now += 2 * LONGEST + 1
    assert len(known) == 0


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_MISSES <= 1 << 16
    monkeypatch.setattr(misses, "MAX_MISSES", 3)
    known = Misses(Clock())
    for number in range(10):
        known.note(MessageId(f"<{number}@example.net>"), "x", "430 no")
    assert len(known) == 3
    assert known.believed(MessageId("<9@example.net>"), "x") is not None
