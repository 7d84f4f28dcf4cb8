"""Stored content and where it is.

Owns ``segments`` and the rule that a row lives as long as a block points to it: ``refs`` is the
number of such blocks, and what falls to 0 goes at once, together with its article when that was
the article's last. Ids are opaque to everybody else: which file a segment's row is in may change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from usenetfs.index.articles import ArticleTable
from usenetfs.index.database import Database, Row
from usenetfs.index.shards import Shards
from usenetfs.types import ArticleId, Codec, SegmentHash, SegmentId


@dataclass(frozen=True, slots=True)
class Segment:
    """One row of ``segments``. Lengths in bytes."""

    id: SegmentId
    hash: SegmentHash
    raw_length: int
    stored_length: int
    codec: Codec
    article: ArticleId
    slot: int
    refs: int


class NewSegment(NamedTuple):
    """Content, and where it is; as in :class:`Segment`."""

    hash: SegmentHash
    raw_length: int
    stored_length: int
    codec: Codec
    article: ArticleId
    slot: int


_COLUMNS = "id, hash, raw_length, stored_length, codec, article, slot, refs"


class SegmentTable:
    def __init__(self, database: Database, shards: Shards, articles: ArticleTable) -> None:
        self._database = database
        self._shards = shards
        self._articles = articles

    def get(self, segment: SegmentId) -> Segment | None:
        row = self._shards.row("segments", _COLUMNS, segment)
        return None if row is None else _segment(row)

    def by_hash(self, content: SegmentHash) -> Segment | None:
        """The segment that holds content of this hash and was seen on Usenet."""
        row = self._database.row(f"SELECT {_COLUMNS} FROM segments WHERE hash = ?", (content,))
        if row is not None:
            return _segment(row)
        at_rest = self._shards.segment_of_hash(content)
        found = None if at_rest is None else self.get(SegmentId(at_rest))
        return found if found is not None and found.hash == content else None

    def take(self, segment: SegmentId, length: int) -> bool:
        """Count one more block of ``length`` bytes; False if there is no such segment."""
        self._shards.bring("segments", (segment,))
        rows = self._database.write_rows(
            "UPDATE segments SET refs = refs + 1 WHERE id = ? RETURNING article", (segment,)
        )
        if not rows:
            return False
        self._articles.add_blocks(ArticleId(rows[0][0]), 1, length)
        return True

    def resize(self, segment: SegmentId, change: int) -> None:
        """A block that points here changed its length by ``change`` bytes."""
        row = self._shards.row("segments", "article", segment)
        if row is not None:
            self._articles.add_blocks(ArticleId(row[0]), 0, change)

    def release(self, dropped: Iterable[tuple[SegmentId, int]]) -> None:
        """Blocks ``(segment, length)`` point here no longer. May delete segments and articles."""
        per_segment: dict[SegmentId, int] = {}
        lengths: dict[SegmentId, int] = {}
        for segment, length in dropped:
            per_segment[segment] = per_segment.get(segment, 0) + 1
            lengths[segment] = lengths.get(segment, 0) + length
        if not per_segment:
            return
        self._shards.bring("segments", per_segment)
        # most segments have one block: try to delete first, count down what is left
        gone = self._database.write_many(
            "DELETE FROM segments WHERE id = ? AND refs <= ? RETURNING id, article",
            per_segment.items(),
        )
        article_of: dict[SegmentId, ArticleId] = dict(gone)
        if len(gone) < len(per_segment):
            article_of.update(
                self._database.write_many(
                    "UPDATE segments SET refs = refs - ? WHERE id = ? RETURNING id, article",
                    [
                        (n, segment)
                        for segment, n in per_segment.items()
                        if segment not in article_of
                    ],
                )
            )
        per_article: dict[ArticleId, list[int]] = {}
        for segment, article in article_of.items():
            amount = per_article.setdefault(article, [0, 0])
            amount[0] -= per_segment[segment]
            amount[1] -= lengths[segment]
        self._articles.add_blocks_many(per_article)


def _segment(row: Row) -> Segment:
    number, content, raw, stored, codec, article, slot, refs = row
    return Segment(number, content, raw, stored, Codec(codec), article, slot, refs)
