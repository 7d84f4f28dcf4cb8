"""Rows of stored content put into an index, many at once: how fast its tables take them.

The write path takes a block through staging, one state after another; its figure is another one.
Here an article and its blocks are there all at once, as if they had been on the servers already:
articles, segments and the block map are written in batches, each one transaction, with one prepared
statement a table, and every count is right. The blocks must have no row yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from usenetfs.index.articles import InFlightArticle
from usenetfs.index.index import Index
from usenetfs.types import ArticleId, BlockNumber, Codec, InodeId, SegmentHash, SegmentId


class StoredMember(NamedTuple):
    """A block, whose content is a member of an article; its slot is its position there.

    Lengths in bytes.
    """

    inode: InodeId
    block: BlockNumber
    hash: SegmentHash
    codec: Codec
    raw_length: int
    stored_length: int


class StoredArticle(NamedTuple):
    """An article that was seen on a server, and the blocks that it brings."""

    article: InFlightArticle
    members: Sequence[StoredMember]


def load(index: Index, stored: Iterable[StoredArticle], now_ns: int, batch: int) -> Iterator[int]:
    """Add all of it; yields after each transaction how many block rows that added.

    ``batch``: block rows in a transaction, about. Content that is stored already is not stored
    twice: its blocks point to what is there. An article nothing of which is needed gets no row.
    DatabaseError for a block that has a row.
    """
    together: list[StoredArticle] = []
    rows = 0
    for article in stored:
        together.append(article)
        rows += len(article.members)
        if rows >= batch:
            yield _add(index, together, now_ns)
            together, rows = [], 0
    if together:
        yield _add(index, together, now_ns)


def _add(index: Index, batch: Sequence[StoredArticle], now_ns: int) -> int:
    members = [member for one in batch for member in one.members]
    with index.transaction():
        held = _insert_segments(index, batch)
        index.database.write_many(
            "INSERT INTO blocks (inode, number, segment, length) VALUES (?, ?, ?, ?)",
            (
                (member.inode, member.block, segment, member.raw_length)
                for member, (segment, _) in zip(members, held, strict=True)
            ),
        )
        _count(index, batch, members, [article for _, article in held], now_ns)
    return len(members)


def _insert_segments(
    index: Index, batch: Sequence[StoredArticle]
) -> list[tuple[SegmentId, ArticleId]]:
    """For each member its segment, and the article that has it."""
    index.shards.bring_content(member.hash for one in batch for member in one.members)
    rows = index.database.write_many(
        "INSERT INTO segments (hash, raw_length, stored_length, codec, article, slot, refs)"
        " VALUES (?, ?, ?, ?, ?, ?, 1)"
        " ON CONFLICT (hash) DO UPDATE SET refs = refs + 1 RETURNING id, article",
        (
            (m.hash, m.raw_length, m.stored_length, m.codec, one.article.id, slot)
            for one in batch
            for slot, m in enumerate(one.members)
        ),
    )
    return [(SegmentId(segment), ArticleId(article)) for segment, article in rows]


def _count(
    index: Index,
    batch: Sequence[StoredArticle],
    members: Sequence[StoredMember],
    holders: Sequence[ArticleId],
    now_ns: int,
) -> None:
    """Insert the articles' rows, with the blocks that rest on them now."""
    resting: dict[ArticleId, list[int]] = {}
    for member, article in zip(members, holders, strict=True):
        amount = resting.setdefault(article, [0, 0])
        amount[0] += 1
        amount[1] += member.raw_length
    index.articles.persist_numbering(*(one.article.id for one in batch))
    for one in batch:
        if one.article.id in resting:
            blocks, size = resting.pop(one.article.id)
            posted = (one.article.posted_ns or now_ns) // 1_000_000_000
            index.articles.insert(one.article, posted, blocks, size)
    if resting:
        index.articles.add_blocks_many(resting)
