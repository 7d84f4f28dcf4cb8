"""What a demand wants of each checkpoint, and when it is met."""

from __future__ import annotations

import pytest

from usenetfs.checkpoint import demand as module
from usenetfs.checkpoint.demand import Demand, Demands
from usenetfs.checkpoint.holdback import Lack


def lack(*inodes: int, causes: tuple[int, ...] = ()) -> Lack:
    return Lack(frozenset(inodes), frozenset(causes or inodes))


def test_it_is_met_when_a_checkpoint_lacks_nothing_of_it() -> None:
    demand = Demand(10)
    assert not demand.met
    wanted = demand.cut()
    assert 10 in wanted
    assert 11 not in wanted
    demand.answered(lack(3, 4, causes=(4,)))
    assert not demand.met
    assert (demand.lacking, demand.causes) == ({3, 4}, {3, 4})
    wanted = demand.cut()
    assert 3 in wanted
    assert 9 not in wanted  # the checkpoint before had it
    demand.answered(lack())
    assert demand.met


def test_what_takes_over_a_name_is_wanted_in_place_of_what_had_it() -> None:
    demand = Demand(10)
    demand.replaced(5, 20)
    demand.replaced(20, 21)
    demand.replaced(30, 31)
    wanted = demand.cut()
    assert 20 in wanted
    assert 21 in wanted
    assert 31 not in wanted


def test_a_name_that_passes_on_between_cut_and_answer_is_followed() -> None:
    demand = Demand(10)
    demand.cut()
    demand.replaced(5, 20)
    demand.answered(lack(5))
    assert demand.causes == {5, 20}
    assert 20 in demand.cut()


def test_of_very_many_only_the_newest_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NARROW", 2)
    demand = Demand(10)
    demand.cut()
    demand.answered(lack(1, 2, 3))
    assert 9 in demand.cut()
    demand.answered(lack(1, 2))
    assert 9 not in demand.cut()


def test_a_demand_is_asked_only_by_cuts_after_it_was_made() -> None:
    demands = Demands()
    early = demands.cut()
    with demands.open(10) as demand:
        early.met()
        assert not demand.met
        asked = demands.cut()
        demands.replaced(1, 12)
        asked.answered([lack(1)])
        assert demand.causes == {1, 12}
        demands.cut().met()
        assert demand.met
    assert demands.cut().demands == ()
