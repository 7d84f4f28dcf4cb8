"""The block map: which segment holds which block of which file.

Owns ``blocks``, and keeps the reference counts of segments right in the same transaction: nobody
else writes block rows except transitions.py, which uses the same counting. It must not know where
content is staged, except that shortening a block makes content read earlier useless
(:meth:`StagingTable.cut`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from usenetfs.errors import DatabaseError
from usenetfs.index.database import Database, Row
from usenetfs.index.segments import SegmentTable
from usenetfs.index.shards import Shards
from usenetfs.index.staging import StagingTable
from usenetfs.types import (
    ArticleId,
    BlockNumber,
    Codec,
    InodeId,
    MessageId,
    SegmentHash,
    SegmentId,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One row of ``blocks``: the first ``length`` bytes of the segment, then zeros."""

    segment: SegmentId
    length: int


@dataclass(frozen=True, slots=True)
class BlockLocation:
    """A block with all that is needed to fetch it. Lengths in bytes."""

    number: BlockNumber
    length: int
    segment: SegmentId
    hash: SegmentHash
    codec: Codec
    raw_length: int
    stored_length: int
    article: ArticleId
    slot: int
    attempt: int
    message_id: MessageId | None
    """Only if it is not the one computed from ``article`` and ``attempt``."""


_LOCATE = """
SELECT b.number, b.length, b.segment, s.hash, s.codec, s.raw_length, s.stored_length, s.article,
       s.slot, coalesce(a.attempt, 0), m.message_id
FROM blocks b CROSS JOIN segments s ON s.id = b.segment
LEFT JOIN articles a {} ON a.id = s.article AND a.attempt <> 0
LEFT JOIN message_ids m ON m.article = s.article
WHERE b.inode = ? AND b.number >= ? AND b.number < ?
ORDER BY b.number
"""


class BlockTable:
    def __init__(
        self, database: Database, shards: Shards, segments: SegmentTable, staging: StagingTable
    ) -> None:
        self._database = database
        self._shards = shards
        self._segments = segments
        self._staging = staging
        # a file of before that index, open for reading, goes the longer way to the same answer
        has_index = database.row("SELECT 1 FROM sqlite_schema WHERE name = 'articles_again'")
        self._locate = _LOCATE.format("INDEXED BY articles_again" if has_index else "NOT INDEXED")

    def get(self, inode: InodeId, number: BlockNumber) -> Block | None:
        row = self._database.row(
            "SELECT segment, length FROM blocks WHERE inode = ? AND number = ?", (inode, number)
        )
        return None if row is None else Block(*row)

    def locate(self, inode: InodeId, first: BlockNumber, count: int) -> list[BlockLocation]:
        """Where blocks ``first`` … ``first + count − 1`` are; those without a row are left out."""
        return [
            BlockLocation(
                number, length, segment, content, Codec(codec), raw, stored, article, slot, *rest
            )
            for number, length, segment, content, codec, raw, stored, article, slot, *rest in (
                self._located(inode, first, first + count)
            )
        ]

    def _located(self, inode: InodeId, first: int, end: int) -> list[Row]:
        """The rows of ``_LOCATE``; where content is spread over files, put together here."""
        if not self._shards.spread:
            return self._database.rows(self._locate, (inode, first, end))
        blocks = self._database.rows(
            "SELECT number, length, segment FROM blocks"
            " WHERE inode = ? AND number >= ? AND number < ? ORDER BY number",
            (inode, first, end),
        )
        if not blocks:
            return []
        segments = self._shards.many(
            "segments",
            "hash, codec, raw_length, stored_length, article, slot",
            (segment for _, _, segment in blocks),
        )
        holders = {row[4] for row in segments.values()}
        attempts = self._shards.many("articles", "attempt", holders)
        rewritten: dict[int, str] = dict(
            self._database.rows(
                "SELECT article, message_id FROM message_ids"
                " WHERE article IN (SELECT value FROM json_each(?))",
                (json.dumps(sorted(holders)),),
            )
        )
        return [
            (
                number,
                length,
                segment,
                *segments[segment],
                attempts.get(segments[segment][4], (0,))[0],
                rewritten.get(segments[segment][4]),
            )
            for number, length, segment in blocks
            if segment in segments
        ]

    def set(self, inode: InodeId, number: BlockNumber, segment: SegmentId, length: int) -> None:
        """Point a block to a segment. Raises DatabaseError if there is no such segment."""
        old = self.get(inode, number)
        if not self._segments.take(segment, length):
            raise DatabaseError(f"segment {segment} does not exist")
        self._database.write(
            "INSERT INTO blocks (inode, number, segment, length) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (inode, number) DO UPDATE"
            " SET segment = excluded.segment, length = excluded.length",
            (inode, number, segment, length),
        )
        if old is not None:
            self._segments.release([(old.segment, old.length)])

    def set_length(self, inode: InodeId, number: BlockNumber, length: int) -> None:
        """Shorten a block to ``length`` bytes (the block a truncation cuts through).

        What lies behind reads as zeros from now on, also if the file grows again: content of the
        block that is being uploaded now is not settled by its arrival, and the block is uploaded
        anew. A block that is shorter already stays as it is.
        """
        self._staging.cut(inode, number)
        old = self.get(inode, number)
        if old is None or old.length <= length:
            return
        if length <= 0:
            self.delete_range(inode, number, number)
            return
        self._database.write(
            "UPDATE blocks SET length = ? WHERE inode = ? AND number = ?", (length, inode, number)
        )
        self._segments.resize(old.segment, length - old.length)

    def delete_from(self, inode: InodeId, first: BlockNumber, limit: int) -> int:
        """Delete up to ``limit`` blocks numbered ``first`` or more, the last ones first.

        Returns how many; fewer than ``limit`` means that none is left. Going backwards lets the
        caller shorten a huge file in several transactions, each of which leaves a valid file.
        """
        lowest = self.lowest_of_last(inode, first, limit)
        if lowest is None:
            return 0
        return self.delete_range(inode, lowest, None)

    def lowest_of_last(self, inode: InodeId, first: BlockNumber, limit: int) -> BlockNumber | None:
        """The lowest number among the last ``limit`` blocks numbered ``first`` or more."""
        number = self._database.value(
            "SELECT min(number) FROM (SELECT number FROM blocks WHERE inode = ? AND number >= ?"
            " ORDER BY number DESC LIMIT ?)",
            (inode, first, limit),
        )
        return None if number is None else BlockNumber(number)

    def delete_range(self, inode: InodeId, first: BlockNumber, last: BlockNumber | None) -> int:
        """Delete blocks ``first`` … ``last`` (None: the end of the file); returns how many."""
        dropped = self._database.write_rows(
            "DELETE FROM blocks WHERE inode = ? AND number BETWEEN ? AND ?"
            " RETURNING segment, length",
            (inode, first, (1 << 62) if last is None else last),
        )
        self._segments.release(dropped)
        return len(dropped)

    def next(self, inode: InodeId, first: BlockNumber) -> BlockNumber | None:
        """The lowest block number from ``first`` on that has a row."""
        number = self._database.value(
            "SELECT min(number) FROM blocks WHERE inode = ? AND number >= ?", (inode, first)
        )
        return None if number is None else BlockNumber(number)

    def last(self, inode: InodeId) -> BlockNumber | None:
        """The highest block number that has a row."""
        number = self._database.value("SELECT max(number) FROM blocks WHERE inode = ?", (inode,))
        return None if number is None else BlockNumber(number)
