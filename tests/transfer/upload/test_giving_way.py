"""When uploads wait for programs that write."""

from __future__ import annotations

from usenetfs.transfer.upload.giving_way import BUSY, HEAP, LOOK, PATIENCE, GivingWay


def _run(giving: GivingWay, rate: float, staged: int, *, begin: float) -> list[bool]:
    """Ask every ``LOOK`` while ``rate`` changes a second come in."""
    moments = [begin + 1.1 * LOOK * step for step in range(10)]
    return [giving.should_wait(int(rate * moment), moment, staged) for moment in moments]


def test_fast_writers_come_first_until_much_is_staged() -> None:
    giving = GivingWay(limit=1 << 40)
    assert all(_run(giving, BUSY * 10, 0, begin=100.0)[1:])
    assert not any(_run(giving, BUSY * 10, HEAP, begin=200.0))


def test_slow_writers_hold_nobody_up() -> None:
    giving = GivingWay(limit=1 << 40)
    assert not any(_run(giving, BUSY / 3, 0, begin=100.0)[1:])


def test_it_ends_when_the_writer_does() -> None:
    giving = GivingWay(limit=1 << 40)
    assert _run(giving, BUSY * 10, 0, begin=100.0)[-1]
    last = 100.0 + 1.1 * LOOK * 9
    assert not giving.should_wait(int(BUSY * 10 * last), last + 1.5 * LOOK, 0)


def test_a_quarter_of_a_small_staging_area_is_enough() -> None:
    giving = GivingWay(limit=400)
    assert giving.enough == 100
    assert not any(_run(giving, BUSY * 10, 100, begin=100.0))


def test_a_writer_that_never_rests_does_not_hold_uploads_up_for_ever() -> None:
    giving = GivingWay(limit=1 << 40)
    assert all(_run(giving, BUSY * 2, 0, begin=100.0)[1:])
    assert not any(_run(giving, BUSY * 2, 0, begin=100.0 + PATIENCE + 2))
    calm = 200.0 + PATIENCE
    assert not giving.should_wait(int(BUSY * 2 * (calm - 80)), calm, 0)
    assert any(_run(giving, BUSY * 2, 0, begin=300.0 + PATIENCE)), "the next one is let go first"
