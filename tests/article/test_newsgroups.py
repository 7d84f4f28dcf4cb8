"""Newsgroup choice: rules first, then an even rotation, whoever asks at once."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
import trio

from usenetfs.article.newsgroups import GroupRule, NewsgroupChoice

GROUPS = ["alt.a", "alt.b", "alt.c"]
MOVIES = GroupRule(("alt.movies", "alt.films"), patterns=("*.mkv", "*.MP4"))
LARGE = GroupRule(("alt.large",), min_size=1000, max_size=2000)
TINY_TEXT = GroupRule(("alt.text",), patterns=("*.txt",), max_size=10)


def test_rotation() -> None:
    choice = NewsgroupChoice(GROUPS, start=1)
    assert [choice.choose() for _ in range(5)] == ["alt.b", "alt.c", "alt.a", "alt.b", "alt.c"]
    assert repr(choice) == "<NewsgroupChoice 3 groups, 0 rules>"


def test_the_start_is_random() -> None:
    assert {NewsgroupChoice(GROUPS).choose() for _ in range(200)} == set(GROUPS)


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        (b"film.mkv", 5, "alt.movies"),
        (b"FILM.MKV", None, "alt.movies"),
        (b"dir.txt/film.mp4", 5, "alt.movies"),
        (b"film.mkv.txt", 5, "alt.text"),
        (b"note.txt", 11, "alt.a"),
        (b"note.txt", None, "alt.a"),
        (b"note.txt", 1000, "alt.large"),
        (b"other", 2000, "alt.large"),
        (b"other", 2001, "alt.a"),
        (b"other", 999, "alt.a"),
        (None, 1500, "alt.large"),
        (None, None, "alt.a"),
        (b"f\xffilm.mkv", None, "alt.movies"),
        (b"mkv", None, "alt.a"),
    ],
)
def test_rules(name: bytes | None, size: int | None, expected: str) -> None:
    choice = NewsgroupChoice(GROUPS, [MOVIES, LARGE, TINY_TEXT], start=0)
    assert choice.choose(name, size) == expected


def test_rules_rotate_on_their_own() -> None:
    choice = NewsgroupChoice(GROUPS, [MOVIES], start=0)
    chosen = [choice.choose(b"a.mkv"), choice.choose(), choice.choose(b"a.mkv"), choice.choose()]
    assert chosen == ["alt.movies", "alt.a", "alt.films", "alt.b"]


def test_threads_share_evenly() -> None:
    choice = NewsgroupChoice(GROUPS)
    chosen: list[list[str]] = [[] for _ in range(8)]
    barrier = threading.Barrier(8)

    def work(mine: list[str]) -> None:
        barrier.wait(10)
        mine.extend(choice.choose() for _ in range(3000))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert Counter(group for mine in chosen for group in mine) == dict.fromkeys(GROUPS, 8000)


async def test_tasks_share_evenly() -> None:
    choice = NewsgroupChoice(GROUPS)
    chosen = Counter[str]()

    async def work() -> None:
        for _ in range(30):
            chosen[choice.choose()] += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(work)
    assert chosen == dict.fromkeys(GROUPS, 100)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="no newsgroups"):
        NewsgroupChoice([])
    with pytest.raises(ValueError, match="needs a newsgroup"):
        GroupRule(())
    with pytest.raises(ValueError, match="no file has"):
        GroupRule(("alt.a",), min_size=2, max_size=1)
