"""Trees of small files: the articles behind those that are read."""

from __future__ import annotations

import random

from usenetfs.transfer.neighbours import MAX_TRAILS, Neighbours
from usenetfs.types import ArticleId

MOST = 16


def walk(neighbours: Neighbours, articles: list[int]) -> list[int]:
    """Read one file of each article in turn; what was fetched ahead, in order."""
    asked = []
    for article in articles:
        wanted = neighbours.on_read(ArticleId(article), MOST)
        if wanted is not None:
            for number in range(wanted.after + 1, wanted.after + 1 + wanted.count):
                asked.append(number)
                neighbours.asked(ArticleId(number))
    return asked


def test_a_tree_read_in_order_has_each_article_fetched_once_and_ahead() -> None:
    neighbours = Neighbours()
    asked = walk(neighbours, [n for n in range(1000, 1100) for _ in range(50)])
    assert len(asked) == len(set(asked))
    assert set(range(1003, 1100)) <= set(asked)
    assert max(asked) <= 1099 + MOST


def test_some_disorder_does_not_matter() -> None:
    neighbours = Neighbours()
    dice = random.Random(4)
    order = [max(0, n + dice.randint(-4, 4)) + 500 for n in range(200)]
    asked = walk(neighbours, order)
    assert len(asked) == len(set(asked))
    assert set(range(510, 690)) <= set(asked)


def test_reading_here_and_there_costs_nothing() -> None:
    dice = random.Random(7)
    assert walk(Neighbours(), [dice.randrange(0, 1_000_000) * 100 for _ in range(300)]) == []


def test_one_file_again_and_again_costs_nothing() -> None:
    assert walk(Neighbours(), [7] * 100) == []


def test_two_trees_at_once_do_not_disturb_each_other() -> None:
    neighbours = Neighbours()
    mixed = [n for pair in zip(range(100, 160), range(9000, 9060), strict=True) for n in pair]
    asked = walk(neighbours, mixed)
    assert set(range(104, 160)) <= set(asked)
    assert set(range(9004, 9060)) <= set(asked)


def test_old_trails_are_forgotten() -> None:
    neighbours = Neighbours()
    walk(neighbours, [n * 1000 for n in range(1, 3 * MAX_TRAILS)])
    assert repr(neighbours).count("(") == MAX_TRAILS


def test_nothing_is_asked_where_nothing_is_allowed() -> None:
    neighbours = Neighbours()
    for article in range(100):
        assert neighbours.on_read(ArticleId(article), 0) is None
