"""What the benchmark loads into an index is sound, and counted as it should be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from scripts.bench.index_load import StoredArticle, StoredMember, load
from tests.index.world import BLOCK, NOW_NS, content_hash, create, make_file, upload
from usenetfs.errors import DatabaseError
from usenetfs.index.articles import ArticleState, InFlightArticle
from usenetfs.index.index import Index
from usenetfs.types import ArticleId, BlockNumber, Codec, InodeId, MessageId


@pytest.fixture(params=[1, 3])
def index(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Index]:
    with create(tmp_path / "index.db", shards=request.param) as opened:
        yield opened
        opened.settling.run()
        assert opened.check(deep=True) == []


def stored(
    index: Index, *members: tuple[InodeId, int, bytes], message_id: str | None = None
) -> StoredArticle:
    article = InFlightArticle(
        index.articles.allocate(),
        0,
        ArticleState.POSTED,
        b"",
        5000,
        NOW_NS,
        None,
        None if message_id is None else MessageId(message_id),
    )
    rows = [
        StoredMember(inode, BlockNumber(n), content_hash(c), Codec.NONE, len(c), len(c))
        for inode, n, c in members
    ]
    return StoredArticle(article, rows)


def add(index: Index, articles: Iterable[StoredArticle], batch: int = 1000) -> list[int]:
    return list(load(index, articles, NOW_NS, batch))


def test_blocks_lead_to_their_articles(index: Index) -> None:
    inode = make_file(index, b"a", size=3 * BLOCK)
    one = stored(index, (inode, 0, b"a" * BLOCK), (inode, 1, b"b" * BLOCK), message_id="<x@y.z>")
    two = stored(index, (inode, 2, b"c" * 10))
    assert add(index, [one, two]) == [3]
    found = index.blocks.locate(inode, BlockNumber(0), 9)
    assert [(b.number, b.article, b.slot, b.length) for b in found] == [
        (0, one.article.id, 0, BLOCK),
        (1, one.article.id, 1, BLOCK),
        (2, two.article.id, 0, 10),
    ]
    assert [b.message_id for b in found] == ["<x@y.z>", "<x@y.z>", None]
    assert index.check(deep=True) == []


def test_each_batch_is_a_transaction_and_is_recorded(index: Index) -> None:
    inode = make_file(index, b"a", size=7 * BLOCK)
    before = index.changelog.pending()
    articles = [stored(index, (inode, n, b"%d" % n * BLOCK)) for n in range(7)]
    loading = load(index, articles, NOW_NS, 3)
    assert next(loading) == 3
    assert index.blocks.last(inode) == 2  # committed, whatever becomes of the rest
    assert list(loading) == [3, 1]
    assert index.changelog.pending() == before + 3
    assert index.check() == []


def test_content_that_is_there_is_not_stored_again(index: Index) -> None:
    inode = make_file(index, b"a", size=4 * BLOCK)
    there = upload(index, inode, 0, b"k" * BLOCK)
    same = stored(index, (inode, 1, b"k" * BLOCK))  # nothing of it is needed
    mixed = stored(index, (inode, 2, b"k" * BLOCK), (inode, 3, b"n" * BLOCK))
    assert add(index, [same, mixed]) == [3]
    assert index.articles.get(same.article.id) is None
    held, new = index.articles.get(there), index.articles.get(mixed.article.id)
    assert held is not None
    assert new is not None
    assert (held.blocks, held.bytes, new.blocks, new.bytes) == (3, 3 * BLOCK, 1, BLOCK)
    assert index.check(deep=True) == []
    assert index.articles.allocate() > mixed.article.id


def test_equal_contents_of_one_batch_are_stored_once(index: Index) -> None:
    inode = make_file(index, b"a", size=3 * BLOCK)
    articles = [stored(index, (inode, n, b"e" * BLOCK)) for n in range(3)]
    add(index, articles)
    assert {b.article for b in index.blocks.locate(inode, BlockNumber(0), 3)} == {
        articles[0].article.id
    }
    assert index.check(deep=True) == []


def test_a_block_that_has_a_row_undoes_its_batch(index: Index) -> None:
    inode = make_file(index, b"a", size=3 * BLOCK)
    upload(index, inode, 1, b"k" * BLOCK)
    articles = [stored(index, (inode, n, b"%d" % n * BLOCK)) for n in range(3)]
    loading = load(index, articles, NOW_NS, 1)
    assert next(loading) == 1
    with pytest.raises(DatabaseError):
        next(loading)
    assert [b.number for b in index.blocks.locate(inode, BlockNumber(0), 9)] == [0, 1]
    assert index.check(deep=True) == []


def test_another_writers_article_is_refused(index: Index) -> None:
    inode = make_file(index, b"a", size=BLOCK)
    foreign = stored(index, (inode, 0, b"f" * BLOCK))
    other = InFlightArticle(ArticleId(77 << 40), 0, ArticleState.POSTED, b"", 1, 1, None, None)
    with pytest.raises(DatabaseError, match="not of epoch"):
        add(index, [StoredArticle(other, foreign.members)])
    assert index.check(deep=True) == []
