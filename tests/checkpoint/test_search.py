"""Finding the end: few questions, and gaps do not hide what comes after them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.checkpoint.search import find_end

COPIES = 2


class Chain:
    """Counts questions as a server would: one for each copy that is looked for."""

    def __init__(self, end: int, *, begin: int = 0, lost: frozenset[int] = frozenset()) -> None:
        self.begin, self.end, self.lost = begin, end, lost
        self.questions = 0

    async def probe(self, number: int) -> bool:
        assert number >= 0
        there = self.begin <= number <= self.end and number not in self.lost
        self.questions += 1 if there else COPIES
        return there


async def test_below_sixty_questions_for_a_hundred_thousand_checkpoints() -> None:
    ends = {*range(65_500, 65_600), *range(99_900, 100_001)}
    ends |= set(random.Random(1).sample(range(100_001), 3000))
    for end in sorted(ends):
        chain = Chain(end)
        assert await find_end(chain.probe) == end
        assert chain.questions < 60, (end, chain.questions)


async def test_every_short_chain() -> None:
    for end in range(300):
        assert await find_end(Chain(end).probe) == end
        for known in {0, end // 2, end}:
            assert await find_end(Chain(end).probe, known=known) == end


async def test_no_chain() -> None:
    chain = Chain(-1)
    assert await find_end(chain.probe) is None
    assert chain.questions < 100


async def test_nothing_new_costs_few_questions() -> None:
    chain = Chain(70_000)
    assert await find_end(chain.probe, known=70_000) == 70_000
    assert chain.questions <= 12


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1])
async def test_lost_ones_do_not_hide_the_rest(share: float) -> None:
    numbers = random.Random(7)
    for end in numbers.sample(range(100_000), 300):
        lost = frozenset(n for n in range(end) if numbers.random() < share) - {end}
        chain = Chain(end, lost=lost)
        found = await find_end(chain.probe)
        assert found is not None
        assert found <= end
        assert found == end, (end, found)


@given(
    end=st.integers(0, 3000),
    known=st.integers(-1, 50),
    gaps=st.lists(st.integers(0, 3000), max_size=6),
)
async def test_the_end_is_found_behind_any_gap_of_eight(
    end: int, known: int, gaps: list[int]
) -> None:
    lost = frozenset(n for gap in gaps[:1] for n in range(gap, gap + 8))
    if end in lost or known > end or known in lost:
        return
    assert await find_end(Chain(end, lost=lost).probe, known=known) == end


async def test_the_last_ones_lost_leave_the_one_before() -> None:
    assert await find_end(Chain(500, lost=frozenset({500})).probe) == 499
    assert await find_end(Chain(500, lost=frozenset(range(480, 501))).probe) == 479


async def test_a_chain_whose_beginning_expired_is_found() -> None:
    for begin, end in ((40, 90), (1000, 70_000), (60_000, 131_100)):
        assert await find_end(Chain(end, begin=begin).probe) == end
