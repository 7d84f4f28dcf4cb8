"""Which articles are asked for."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.health.choice import ArticleSet, Choice, Wish
from usenetfs.index.index import Index
from usenetfs.types import (
    ROOT_INODE,
    ArticleId,
    BlockNumber,
    Codec,
    InodeId,
    SegmentHash,
    article_id,
)

KEY = bytes(32)
ARTICLES = 300


@given(st.lists(st.integers(1, 1 << 62)))
def test_a_set_of_articles_is_a_set(numbers: list[int]) -> None:
    ours, theirs = ArticleSet(), set[int]()
    for number in numbers:
        assert ours.add(ArticleId(number)) is (number not in theirs)
        theirs.add(number)
        assert ArticleId(number) in ours
        assert (ArticleId(number ^ 1) in ours) is (number ^ 1 in theirs)
    assert len(ours) == len(theirs)


def test_a_million_articles_take_little_more_than_their_bits() -> None:
    articles = ArticleSet()
    for number in range(1, 1_000_000):
        articles.add(article_id(3, number))
    held = sum(sys.getsizeof(chunk) for chunk in articles._chunks.values())
    assert held < 2 * 1_000_000 / 8


@pytest.fixture(params=[1, 3])
def index(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Index]:
    """``ARTICLES`` articles of one block each, in two files that share half of them."""
    with Index.create(
        tmp_path / "index.db",
        filesystem_id=bytes(16),
        name="t",
        block_size=4096,
        directory_key=KEY,
        shards=request.param,
    ) as made:
        fill(made)
        made.settling.run()
        yield made


def fill(index: Index) -> None:
    with index.transaction():
        files = [index.inodes.insert(0o100644, 0, 0, 1, 0, 0, (1, 1, 1)).id for _ in range(2)]
        for number, inode in enumerate(files):
            index.dirents.insert(ROOT_INODE, b"file-%d" % number, inode)
        for number in range(1, ARTICLES + 1):
            article = ArticleId(number)
            index.database.write(
                "INSERT INTO articles (id, attempt, state, size, posted, blocks, bytes)"
                " VALUES (?, 0, 2, 10, 1, 0, 0)",
                (article,),
            )
            content = SegmentHash(number.to_bytes(16, "big"))
            ((segment,),) = index.database.write_rows(
                "INSERT INTO segments (hash, raw_length, stored_length, codec, article, slot, refs)"
                " VALUES (?, 4096, 4096, ?, ?, 0, 0) RETURNING id",
                (content, Codec.NONE, article),
            )
            index.blocks.set(files[0], BlockNumber(number), segment, 4096)
            if number % 2:
                index.blocks.set(files[1], BlockNumber(number), segment, 4096)


def chosen(index: Index, wish: Wish, seed: int = 0) -> list[ArticleId]:
    choice = Choice(index, wish, rng=random.Random(seed))
    *_, extent = choice.count()
    found = [article.id for step in choice.steps(extent) for article in step]
    assert len(found) == choice.wanted(extent)
    return found


@pytest.mark.parametrize("data", [False, True])
def test_each_article_comes_once_however_many_files_share_it(index: Index, data: bool) -> None:
    assert sorted(chosen(index, Wish(data=data))) == list(range(1, ARTICLES + 1))
    below = chosen(index, Wish(ROOT_INODE, data=data))
    assert sorted(below) == list(range(1, ARTICLES + 1))
    second = index.dirents.lookup(ROOT_INODE, b"file-1")
    assert sorted(chosen(index, Wish(second, data=data))) == list(range(1, ARTICLES + 1, 2))
    assert chosen(index, Wish(InodeId(99), data=data)) == []


def test_what_was_never_verified_comes_first(index: Index) -> None:
    index.mark_checked([ArticleId(number) for number in range(1, 201)], [])
    everything = chosen(index, Wish(data=True))
    assert sorted(everything[:100]) == list(range(201, 301))
    assert len(everything) == ARTICLES
    assert set(chosen(index, Wish(data=True, unverified=True))) == set(range(201, 301))
    third = chosen(index, Wish(data=True, share=0.2))
    assert len(third) == 60
    assert set(third) < set(range(201, 301))
    half = chosen(index, Wish(data=True, share=0.5))
    assert set(range(201, 301)) < set(half)
    assert len(half) == 150


def test_what_becomes_verified_meanwhile_is_not_asked_for_again(index: Index) -> None:
    choice = Choice(index, Wish(data=True), rng=random.Random(0))
    *_, extent = choice.count()
    asked = []
    for step in choice.steps(extent):
        asked += [article.id for article in step]
        index.mark_checked([article.id for article in step], [])
    assert sorted(asked) == list(range(1, ARTICLES + 1))


def test_parts_differ_from_run_to_run(index: Index) -> None:
    parts = {tuple(chosen(index, Wish(data=True, share=0.1), seed)) for seed in range(20)}
    assert len(parts) == 20
    assert len({article for part in parts for article in part}) > 200
