"""Many rows at once, for content that is on the servers already.

The write path takes a block through staging, one state after another (transitions.py). What was
posted before needs none of that: its rows are written in batches, each one transaction, with one
prepared statement a table.

Owns no table. It changes articles, segments and the block map together and leaves every count
right, so a crash between two batches leaves an index in which nothing is half there. The blocks
must have no row yet: whoever imports gives content to files just made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from usenetfs.errors import DatabaseError
from usenetfs.index.articles import ArticleTable, InFlightArticle
from usenetfs.index.database import Database
from usenetfs.index.segments import NewSegment, SegmentTable
from usenetfs.types import (
    ArticleId,
    BlockNumber,
    Codec,
    InodeId,
    SegmentHash,
)

BATCH: Final = 1000
"""Block rows in a transaction, about."""


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


class BulkLoader:
    """Adds stored content. ``batch``: block rows in a transaction, about."""

    def __init__(
        self,
        database: Database,
        articles: ArticleTable,
        segments: SegmentTable,
        *,
        batch: int = BATCH,
    ) -> None:
        if batch < 1:
            raise DatabaseError("a batch has at least one row")
        self._database = database
        self._articles = articles
        self._segments = segments
        self._batch = batch

    def __repr__(self) -> str:
        return f"<BulkLoader batch={self._batch}>"

    def add(self, stored: Iterable[StoredArticle], now_ns: int) -> Iterator[int]:
        """Add all of it; yields after each transaction how many block rows that added.

        Content that is stored already is not stored twice: its blocks point to what is there. An
        article nothing of which is needed gets no row. DatabaseError for a block that has a row.
        """
        batch: list[StoredArticle] = []
        rows = 0
        for article in stored:
            batch.append(article)
            rows += len(article.members)
            if rows >= self._batch:
                yield self._add(batch, now_ns)
                batch, rows = [], 0
        if batch:
            yield self._add(batch, now_ns)

    def _add(self, batch: Sequence[StoredArticle], now_ns: int) -> int:
        members = [member for one in batch for member in one.members]
        with self._database.transaction():
            held = self._segments.insert_many(
                NewSegment(
                    member.hash,
                    member.raw_length,
                    member.stored_length,
                    member.codec,
                    one.article.id,
                    slot,
                )
                for one in batch
                for slot, member in enumerate(one.members)
            )
            self._database.write_many(
                "INSERT INTO blocks (inode, number, segment, length) VALUES (?, ?, ?, ?)",
                (
                    (member.inode, member.block, segment, member.raw_length)
                    for member, (segment, _) in zip(members, held, strict=True)
                ),
            )
            self._count(batch, members, [article for _, article in held], now_ns)
        return len(members)

    def _count(
        self,
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
        rows = []
        self._articles.persist_numbering(*(one.article.id for one in batch))
        for one in batch:
            if one.article.id in resting:
                blocks, size = resting.pop(one.article.id)
                posted = (one.article.posted_ns or now_ns) // 1_000_000_000
                rows.append((one.article, posted, blocks, size))
        self._articles.insert_many(rows)
        if resting:
            self._articles.add_blocks_many(resting)
