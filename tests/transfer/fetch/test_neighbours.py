"""Trees of small files: the articles around those that are read."""

from __future__ import annotations

import random

from usenetfs.transfer.fetch.neighbours import FIRST_WINDOW, MAX_TRAILS, NEAR, Neighbours
from usenetfs.types import ArticleId

MOST = 16


def walk(neighbours: Neighbours, articles: list[int]) -> tuple[list[int], int]:
    """Read a file of each article in turn: what was asked for, and how many reads came too early
    for that."""
    asked: list[int] = []
    there: set[int] = set()
    waits = 0
    for article in articles:
        waits += article not in there
        there.add(article)
        for wanted in neighbours.on_read(ArticleId(article), MOST):
            asked += range(wanted.first, wanted.last + 1)
        there.update(asked)
    return asked, waits


def test_a_tree_read_in_order_has_each_article_asked_for_once_and_ahead() -> None:
    asked, waits = walk(Neighbours(), [n for n in range(1000, 1100) for _ in range(50)])
    assert len(asked) == len(set(asked))
    assert waits == 2
    assert max(asked) <= 1099 + 2 * MOST
    assert min(asked) >= 1000 - 2 * FIRST_WINDOW


def test_backward_is_as_good() -> None:
    asked, waits = walk(Neighbours(), list(range(1000, 800, -1)))
    assert len(asked) == len(set(asked))
    assert waits == 2
    assert max(asked) <= 1000 + 2 * FIRST_WINDOW


def test_the_order_within_a_directory_does_not_matter() -> None:
    dice = random.Random(4)
    order = []
    for directory in range(500, 800, 10):
        files = [article for article in range(directory, directory + 10) for _ in range(20)]
        dice.shuffle(files)
        order += files
    asked, waits = walk(Neighbours(), order)
    assert len(asked) == len(set(asked))
    assert waits <= 10  # of 300


def test_reading_here_and_there_costs_nothing() -> None:
    dice = random.Random(7)
    asked, _ = walk(Neighbours(), [dice.randrange(0, 1_000_000) * 100 for _ in range(300)])
    assert asked == []


def test_one_file_again_and_again_costs_nothing() -> None:
    assert walk(Neighbours(), [7] * 100)[0] == []


def test_two_trees_at_once_do_not_disturb_each_other() -> None:
    mixed = [n for pair in zip(range(100, 160), range(9000, 9060), strict=True) for n in pair]
    _, waits = walk(Neighbours(), mixed)
    assert waits == 4


def test_what_is_far_away_is_another_trail() -> None:
    neighbours = Neighbours()
    walk(neighbours, [100, 101, 101 + FIRST_WINDOW + NEAR + 1])
    assert repr(neighbours).count("(") == 2


def test_old_trails_are_forgotten() -> None:
    neighbours = Neighbours()
    walk(neighbours, [n * 1000 for n in range(1, 3 * MAX_TRAILS)])
    assert repr(neighbours).count("(") == MAX_TRAILS


def test_nothing_is_asked_where_nothing_is_allowed_and_nothing_below_zero() -> None:
    neighbours = Neighbours()
    for article in range(100):
        assert not neighbours.on_read(ArticleId(article), 0)
    asked, _ = walk(Neighbours(), list(range(20, -1, -1)))
    assert min(asked) == 0
