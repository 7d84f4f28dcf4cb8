"""When a second server is asked, and how often at most."""

from __future__ import annotations

from usenetfs.transfer.fetch.hedging import ALLOWANCE, FEWEST_SAMPLES, LEAST, SHARE, Lateness


def experienced(duration: float, count: int = 1000) -> Lateness:
    lateness = Lateness()
    for _ in range(count):
        lateness.took(duration)
    return lateness


def test_nothing_is_late_before_anything_is_known() -> None:
    lateness = Lateness()
    for _ in range(FEWEST_SAMPLES - 1):
        lateness.took(0.1)
    assert lateness.limit is None
    assert not lateness.may_hedge(100.0)


def test_late_is_half_as_long_again_as_most_take() -> None:
    lateness = experienced(0.4)
    assert lateness.limit is not None
    assert 0.5 < lateness.limit < 0.7
    assert not lateness.may_hedge(0.5)
    assert lateness.may_hedge(0.7)


def test_quick_servers_have_a_floor() -> None:
    assert experienced(0.001).limit == LEAST


def test_a_few_slow_ones_do_not_change_what_is_usual() -> None:
    lateness = experienced(0.4)
    for number in range(128):
        lateness.took(5.0 if number % 40 == 0 else 0.4)
    assert lateness.limit is not None
    assert lateness.limit < 0.7


def test_asking_twice_is_bounded() -> None:
    lateness = experienced(0.2)
    assert sum(lateness.may_hedge(9.0) for _ in range(100)) == int(ALLOWANCE)
    extra = 0
    for _ in range(1000):
        lateness.took(0.2)
        extra += lateness.may_hedge(9.0)
    assert extra <= 1000 * SHARE + 1
    assert lateness.hedged == extra + int(ALLOWANCE)


def test_a_server_that_became_slow_is_the_new_usual() -> None:
    lateness = experienced(0.2)
    for _ in range(200):
        lateness.took(2.0)
    assert not lateness.may_hedge(2.5)
