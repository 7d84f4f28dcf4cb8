"""Fault plans: their text, and that equal seeds have equal outcomes."""

from __future__ import annotations

import random

import pytest

from usenetfs.errors import ConfigurationError
from usenetfs.nntpd.faults import (
    CONNECT,
    POSTED,
    Action,
    FaultDecider,
    FaultPlan,
    FaultRule,
    When,
    parse_plan,
)


def _fired(plan: str, moments: list[tuple[str, str]]) -> list[Action | None]:
    decider = FaultDecider(parse_plan(plan))
    faults = [decider.decide(*moment) for moment in moments]
    return [fault.action if fault else None for fault in faults]


def _same(where: str, count: int) -> list[tuple[str, str]]:
    return [(where, f"<{number}@x>") for number in range(count)]


def test_text_form() -> None:
    plan = parse_plan(
        """
        # a comment
        seed 7
        BODY     every 10   corrupt octets=3
        post     nth 2      lose-reply          # belongs to POSTED
        CONNECT  after 20   reply code=502 text="Too many connections"
        *        p=0.25     stall seconds=5 times=3
        """
    )
    assert plan == FaultPlan(
        (
            FaultRule("BODY", Action.CORRUPT, When.EVERY, 10, parameters=(("octets", "3"),)),
            FaultRule(POSTED, Action.LOSE_REPLY, When.NTH, 2),
            FaultRule(
                CONNECT,
                Action.REPLY,
                When.AFTER,
                20,
                parameters=(("code", "502"), ("text", "Too many connections")),
            ),
            FaultRule(
                "*",
                Action.STALL,
                When.PROBABILITY,
                probability=0.25,
                times=3,
                parameters=(("seconds", "5"),),
            ),
        ),
        seed=7,
    )
    assert plan.rules[0].value("octets") == 3
    assert FaultRule(POSTED, Action.REWRITE_ID).flag("tell")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("BODY", "a rule is"),
        ("NONSENSE always drop", "no such command"),
        ("BODY always explode", "no such action"),
        ("BODY sometimes drop", "none of always"),
        ("BODY every drop", "invalid literal"),
        ("BODY every 0 drop", "out of range"),
        ("BODY p=1.5 drop", "out of range"),
        ("BODY p drop", "needs a number"),
        ("BODY nth 1", "action is missing"),
        ("BODY always drop soon", "not of the form"),
        ("BODY always drop seconds=1", "takes no"),
        ("BODY always stall seconds=soon", "makes no sense"),
        ("BODY always stall seconds=inf", "makes no sense"),
        ("BODY always reply code=99", "makes no sense"),
        ("BODY always reply code=6000", "makes no sense"),
        ('BODY always reply text="a\tb"', "makes no sense"),
        (f"BODY always reply text={'x' * 500}", "makes no sense"),
        ("POSTED always rewrite-id tell=perhaps", "makes no sense"),
        ("BODY always hide", "can happen at"),
        ("STAT always truncate", "can happen at"),
        ("BODY always end", "can happen at"),
        ('BODY always reply text="open', "No closing quotation"),
    ],
)
def test_mistakes_are_named_with_their_line(line: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"line 2: .*{reason}"):
        parse_plan(f"# first\n{line}\n")


def test_when() -> None:
    drop, none = Action.DROP, None
    moments = _same("BODY", 6)
    assert _fired("BODY always drop", moments) == [drop] * 6
    assert _fired("BODY nth 3 drop", moments) == [none, none, drop, none, none, none]
    assert _fired("BODY every 2 drop", moments) == [none, drop] * 3
    assert _fired("BODY after 4 drop", moments) == [none] * 4 + [drop] * 2
    assert _fired("BODY always drop times=2", moments) == [drop] * 2 + [none] * 4
    assert _fired("BODY p=0 drop", moments) == [none] * 6
    assert _fired("BODY p=1 drop", moments) == [drop] * 6


def test_where() -> None:
    everywhere = [("BODY", ""), ("STAT", ""), ("POST", ""), (POSTED, ""), (CONNECT, "")]
    drop = Action.DROP
    assert _fired("* always drop", everywhere) == [drop, drop, drop, None, None]
    assert _fired("* always corrupt", everywhere) == [Action.CORRUPT, None, None, None, None]
    assert _fired("POSTED always drop", everywhere) == [None, None, None, drop, None]


def test_first_rule_that_fires_wins_and_all_count() -> None:
    plan = "BODY every 2 drop\nBODY every 3 corrupt"
    drop, corrupt = Action.DROP, Action.CORRUPT
    fired = _fired(plan, _same("BODY", 6))
    assert fired == [None, drop, corrupt, drop, None, drop]


def test_draws_follow_the_seed_and_the_id_not_the_order() -> None:
    plan = "seed {}\nBODY p=0.3 drop\nBODY p=0.3 corrupt"
    moments = _same("BODY", 200) * 2
    shuffled = moments.copy()
    random.Random(1).shuffle(shuffled)

    def outcomes(seed: int, order: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return sorted(
            (moment[1], str(action))
            for moment, action in zip(order, _fired(plan.format(seed), order), strict=True)
        )

    assert outcomes(5, moments) == outcomes(5, shuffled)
    assert outcomes(5, moments) != outcomes(6, moments)
    drops = sum(action == str(Action.DROP) for _, action in outcomes(5, moments))
    assert 80 < drops < 160, "about 0.3 of 400"


def test_what_a_fault_draws_is_repeatable() -> None:
    first, second = (FaultDecider(parse_plan("BODY p=1 corrupt")) for _ in range(2))
    one, two = first.decide("BODY", "<a@b>"), second.decide("BODY", "<a@b>")
    assert one is not None
    assert two is not None
    assert one.random.random() == two.random.random()
    assert "BODY corrupt: 1" in repr(first)
