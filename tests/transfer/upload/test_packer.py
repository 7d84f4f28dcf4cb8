"""What shares an article with what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from usenetfs.article.container import HEADER_SIZE, MAX_MEMBERS, MEMBER_SIZE
from usenetfs.transfer.upload.packer import Packer, PreparedSegment
from usenetfs.types import Codec, SegmentHash

BLOCK = 10_000


def segment(size: int) -> PreparedSegment:
    return PreparedSegment(SegmentHash(bytes(16)), Codec.NONE, size, bytes(size), [])


def sizes(article: list[PreparedSegment]) -> int:
    return HEADER_SIZE + sum(MEMBER_SIZE + len(segment.payload) for segment in article)


def test_a_full_block_has_an_article_of_its_own_at_once() -> None:
    packer = Packer(block_size=BLOCK, delay=5)
    (article,) = packer.add(segment(BLOCK), 0)
    assert len(article) == 1
    assert packer.waiting == 0


@given(st.lists(st.integers(1, BLOCK), max_size=200))
def test_nothing_is_lost_and_nothing_too_large(lengths: list[int]) -> None:
    packer = Packer(block_size=BLOCK, delay=5)
    articles = [article for length in lengths for article in packer.add(segment(length), 0)]
    articles += packer.flush()
    assert sorted(len(s.payload) for article in articles for s in article) == sorted(lengths)
    assert all(sizes(article) <= packer.capacity for article in articles)


@given(st.lists(st.integers(1, BLOCK // 10), min_size=200, max_size=400))
def test_small_segments_fill_articles_to_nine_tenths(lengths: list[int]) -> None:
    packer = Packer(block_size=BLOCK, delay=5)
    articles = [article for length in lengths for article in packer.add(segment(length), 0)]
    assert all(sizes(article) >= 0.9 * packer.capacity for article in articles)


def test_an_article_leaves_when_its_oldest_member_has_waited() -> None:
    packer = Packer(block_size=BLOCK, delay=5)
    packer.add(segment(100), 1.0)
    packer.add(segment(100), 4.0)
    assert packer.due(5.9) == []
    (article,) = packer.due(6.0)
    assert len(article) == 2
    assert packer.due(100.0) == []


def test_an_article_has_a_bounded_number_of_members() -> None:
    packer = Packer(block_size=100 * MAX_MEMBERS, delay=5)
    articles = [a for _ in range(MAX_MEMBERS) for a in packer.add(segment(1), 0)]
    assert [len(article) for article in articles] == [MAX_MEMBERS]
