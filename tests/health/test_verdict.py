"""What the answers of all spools come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.health.verdict import Answer, Outcome, Said, judge, reasons

HAS, MISSING, DAMAGED, UNASKED = Said
TABLE = {
    (HAS,): (Outcome.PRESENT, Outcome.PRESENT),
    (HAS, HAS): (Outcome.PRESENT, Outcome.PRESENT),
    (HAS, UNASKED): (Outcome.PRESENT, Outcome.PRESENT),
    (HAS, MISSING): (Outcome.DEGRADED, Outcome.FRESH),
    (HAS, DAMAGED): (Outcome.DEGRADED, Outcome.DEGRADED),
    (MISSING,): (Outcome.LOST, Outcome.FRESH),
    (MISSING, DAMAGED): (Outcome.LOST, Outcome.FRESH),
    (DAMAGED, DAMAGED): (Outcome.LOST, Outcome.LOST),
    (MISSING, UNASKED): (Outcome.UNKNOWN, Outcome.UNKNOWN),
    (DAMAGED, UNASKED): (Outcome.UNKNOWN, Outcome.UNKNOWN),
    (UNASKED,): (Outcome.UNKNOWN, Outcome.UNKNOWN),
    (): (Outcome.UNKNOWN, Outcome.UNKNOWN),
}


@pytest.mark.parametrize("said", TABLE)
def test_by_table(said: tuple[Said, ...]) -> None:
    answers = {str(number): Answer(one) for number, one in enumerate(said)}
    old, fresh = TABLE[said]
    assert judge(answers, fresh=False) is old
    assert judge(answers, fresh=True) is fresh


@given(st.lists(st.sampled_from(Said), max_size=6), st.booleans())
def test_never_lost_while_one_has_it_or_was_not_asked(said: list[Said], fresh: bool) -> None:
    outcome = judge({str(n): Answer(one) for n, one in enumerate(said)}, fresh=fresh)
    if HAS in said or UNASKED in said or not said:
        assert outcome is not Outcome.LOST
    if HAS not in said:
        assert outcome not in {Outcome.PRESENT, Outcome.DEGRADED}


def test_each_reason_is_told_once() -> None:
    answers = {
        "a": Answer(MISSING, "a has it not"),
        "b": Answer(DAMAGED, "b: seal"),
        "c": Answer(HAS),
        "d": Answer(MISSING, "a has it not"),
    }
    assert reasons(answers) == "a has it not; b: seal"
