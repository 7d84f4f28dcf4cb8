"""Articles: those seen on Usenet, and those on their way there.

Owns ``articles`` and ``message_ids`` (replicated), ``local_article`` and ``local_segment`` (in
flight), and the numbering. An article is in exactly one of ``local_article`` and ``articles``. How
it goes from one to the other, and what that does to blocks, is transitions.py.

Numbers: an article's id is never used for two contents. :meth:`ArticleTable.allocate` hands them
out from memory; the record of an article persists the high-water mark in its own transaction, and
nothing is sent before that commit. So a number lost to a crash was never seen by anybody. A power
cut may take commits back; therefore numbers are reserved ahead, a thousand at a time, and the
reservation is synced before the first of them is used.
"""

from __future__ import annotations

import builtins
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from usenetfs.errors import DatabaseError
from usenetfs.index.database import Database, Row
from usenetfs.index.shards import Shards
from usenetfs.index.totals import BLOCK_COUNTERS, Counter, TotalsTable
from usenetfs.types import (
    ARTICLE_NUMBER_BITS,
    ArticleId,
    BlockNumber,
    Codec,
    Durability,
    InodeId,
    MessageId,
    SegmentHash,
    article_id,
)

NO_ARTICLE: Final = ArticleId(0)
"""Never allocated: the columns that hold "no article" hold this."""

RESERVED_NUMBERS: Final = 1024
"""Reserved at a time: one sync for some 700 MB."""

SPARE_NUMBERS: Final = 256
"""Kept for those who cannot wait for a sync."""

_NUMBER_MASK: Final = (1 << ARTICLE_NUMBER_BITS) - 1


class ArticleState(enum.IntEnum):
    """Of an article in flight.

    ::

        record_article → PENDING ── mark_posted → POSTED ── mark_seen → (articles)
                            │  └───────────── mark_seen ────────────────↗
                            └────────────┬─────────┘
                       new_attempt → PENDING;  forget_article → (gone)
    """

    PENDING = 0
    """Recorded; may have been sent, may have arrived: in doubt after a crash."""
    POSTED = 1
    """A server answered 240."""


class NewMember(NamedTuple):
    """A staged block as an article carries it; its slot is its position in the article.

    ``generation`` is the generation at which its content was read. Lengths in bytes.
    """

    inode: InodeId
    block: BlockNumber
    generation: int
    hash: SegmentHash
    codec: Codec
    raw_length: int
    stored_length: int


class StagedLink(NamedTuple):
    """A further staged block with the same content as the member in ``slot``."""

    inode: InodeId
    block: BlockNumber
    generation: int
    slot: int


@dataclass(frozen=True, slots=True)
class NewArticle:
    """What is recorded before the first byte is sent. ``size``: octets of the sealed body."""

    id: ArticleId
    attempt: int
    salt: bytes
    size: int
    members: Sequence[NewMember]


@dataclass(frozen=True, slots=True)
class InFlightArticle:
    """One row of ``local_article``."""

    id: ArticleId
    attempt: int
    state: ArticleState
    salt: bytes
    size: int
    posted_ns: int
    server: str | None
    message_id: MessageId | None
    """Only if the server rewrote it."""


@dataclass(frozen=True, slots=True)
class InFlightSegment:
    """One row of ``local_segment``."""

    article: ArticleId
    slot: int
    hash: SegmentHash
    raw_length: int
    stored_length: int
    codec: Codec


@dataclass(frozen=True, slots=True)
class Article:
    """One row of ``articles``: SEEN or VERIFIED. ``posted`` in seconds since 1970 UTC."""

    id: ArticleId
    attempt: int
    state: Durability
    size: int
    posted: int
    blocks: int
    bytes: int


_ARTICLE = "id, attempt, state, size, posted, blocks, bytes"
_IN_FLIGHT = (
    "SELECT id, attempt, state, salt, size, posted_ns, server, message_id FROM local_article"
)
_IN_FLIGHT_SEGMENT = (
    "SELECT article, slot, hash, raw_length, stored_length, codec FROM local_segment"
)


class ArticleTable:
    def __init__(self, database: Database, shards: Shards, totals: TotalsTable, epoch: int) -> None:
        self._database = database
        self._shards = shards
        self._totals = totals
        self._epoch = epoch
        self._next = self._first_unused()
        self._reserved = 0

    def __repr__(self) -> str:
        return f"<ArticleTable epoch={self._epoch} next={self._next}>"

    def _first_unused(self) -> int:
        """Above the persisted mark, and above every id of this epoch wherever it is named."""
        highest = max(1, self._stored("next_article"), self._stored("reserved_articles"))
        low, high = article_id(self._epoch, 0), article_id(self._epoch, _NUMBER_MASK)
        flown = self._database.value(
            "SELECT max(id) FROM local_article WHERE id BETWEEN ? AND ?", (low, high)
        )
        for found in (flown, self._shards.highest("articles", low, high)):
            if found is not None:
                highest = max(highest, (found & _NUMBER_MASK) + 1)
        return highest

    def _stored(self, key: str) -> int:
        value = self._database.value("SELECT value FROM local_meta WHERE key = ?", (key,))
        return 0 if value is None else value

    # --- numbering

    def must_reserve(self, count: int) -> bool:
        """Whether the next ``count`` numbers, and some for others, may be given out only after
        :meth:`reserve`."""
        return self._next + count + SPARE_NUMBERS > self._reserved

    def reserve(self, count: int) -> int:
        """Store that no later start may give out numbers below the mark returned. Inside a
        transaction. Once that is safe from a power cut too, :meth:`reserved` takes the mark."""
        mark = self._next + count + RESERVED_NUMBERS
        self._set_reserved(mark)
        return mark

    def reserved(self, mark: int) -> None:
        """What :meth:`reserve` stored is on the disk."""
        self._reserved = max(self._reserved, mark)

    def release_reserved(self) -> None:
        """Nothing more is given out before the next start, which may go on without a gap. Inside
        a transaction."""
        self._reserved = self._next
        self._set_reserved(self._next)

    def _set_reserved(self, mark: int) -> None:
        self._database.write(
            "INSERT INTO local_meta (key, value) VALUES ('reserved_articles', ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (mark,),
        )

    @property
    def next_number(self) -> int:
        """The number of this epoch that is given out next."""
        return self._next

    def allocate(self) -> ArticleId:
        """The next id. Not used again even if nothing is ever recorded under it."""
        number = self._next
        self._next += 1
        return article_id(self._epoch, number)

    def persist_numbering(self, *articles: ArticleId) -> None:
        """Store that ``articles`` and all ids before them are used. Inside a transaction."""
        for article in articles:
            if article >> ARTICLE_NUMBER_BITS != self._epoch or article == NO_ARTICLE:
                raise DatabaseError(f"article {article:#x} is not of epoch {self._epoch}")
        first_unused = (max(articles) & _NUMBER_MASK) + 1
        self._next = max(self._next, first_unused)
        self._database.write(
            "INSERT INTO local_meta (key, value) VALUES ('next_article', ?)"
            " ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
            (first_unused,),
        )

    # --- on Usenet

    def get(self, article: ArticleId) -> Article | None:
        row = self._shards.row("articles", _ARTICLE, article)
        return None if row is None else _article(row)

    def list(
        self, after: ArticleId = NO_ARTICLE, limit: int = 1000, *, state: Durability | None = None
    ) -> builtins.list[Article]:
        """Articles in order of id, for scrubbing; continue after the last one's id."""
        rows: builtins.list[Row] = []
        if not self._shards.spread:
            rows = self._database.rows(
                f"SELECT {_ARTICLE} FROM articles"
                " WHERE id > ? AND (?2 IS NULL OR state = ?2) ORDER BY id LIMIT ?3",
                (after, state, limit),
            )
            return [_article(row) for row in rows]
        for source, above, last in self._shards.windows("articles", limit, after=after):
            rows += self._database.rows(
                f"SELECT {_ARTICLE} FROM {source}"
                " WHERE id > ?1 AND id <= ?2 AND (?3 IS NULL OR state = ?3) ORDER BY id",
                (above, last, state),
            )
            if len(rows) >= limit:
                break
        return [_article(row) for row in rows[:limit]]

    def message_id(self, article: ArticleId) -> MessageId | None:
        """The Message-ID if it is not the computed one."""
        text = self._database.value(
            "SELECT message_id FROM message_ids WHERE article = ?", (article,)
        )
        return None if text is None else MessageId(text)

    def set_attempt(self, article: ArticleId, attempt: int, message_id: MessageId | None) -> None:
        """An article on Usenet was posted anew, under another Message-ID."""
        self._shards.bring("articles", (article,))
        self._database.write("UPDATE articles SET attempt = ? WHERE id = ?", (attempt, article))
        self._database.write("DELETE FROM message_ids WHERE article = ?", (article,))
        if message_id is not None:
            self.set_message_id(article, message_id)

    def set_message_id(self, article: ArticleId, message_id: MessageId) -> None:
        self._database.write(
            "INSERT INTO message_ids (article, message_id) VALUES (?, ?)", (article, message_id)
        )

    def insert(self, article: InFlightArticle, posted: int, blocks: int, block_bytes: int) -> None:
        """A row in state SEEN."""
        self._database.write(
            "INSERT INTO articles (id, attempt, state, size, posted, blocks, bytes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                article.id,
                article.attempt,
                Durability.SEEN,
                article.size,
                posted,
                blocks,
                block_bytes,
            ),
        )
        if article.message_id is not None:
            self.set_message_id(article.id, article.message_id)
        self._totals.add(Counter.ARTICLES, 1, article.size)
        self._totals.add(Counter.BLOCKS_SEEN, blocks, block_bytes)

    def set_state(self, article: ArticleId, state: Durability) -> bool:
        """SEEN ⇄ VERIFIED. False if there is no such article."""
        row = self._shards.row("articles", "state, blocks, bytes", article)
        if row is None:
            return False
        old, blocks, size = row
        if old != state:
            self._shards.bring("articles", (article,))
            self._database.write("UPDATE articles SET state = ? WHERE id = ?", (state, article))
            self._totals.add(BLOCK_COUNTERS[old], -blocks, -size)
            self._totals.add(BLOCK_COUNTERS[state.value], blocks, size)
        return True

    def add_blocks(self, article: ArticleId, blocks: int, size: int) -> None:
        """``blocks`` more block rows, of ``size`` bytes in all, rest on an article."""
        self.add_blocks_many({article: (blocks, size)})

    def add_blocks_many(self, changes: Mapping[ArticleId, Sequence[int]]) -> None:
        """``{article: (blocks, bytes)}``; either may be negative. What falls to 0 is deleted."""
        self._shards.bring("articles", changes)
        rows = self._database.write_many(
            "UPDATE articles SET blocks = blocks + ?, bytes = bytes + ? WHERE id = ?"
            " RETURNING id, blocks, state, size",
            [(blocks, size, article) for article, (blocks, size) in changes.items()],
        )
        unused = []
        for article, left, state, article_size in rows:
            blocks, size = changes[article]
            self._totals.add(BLOCK_COUNTERS[state], blocks, size)
            if left <= 0:
                unused.append((article,))
                self._totals.add(Counter.ARTICLES, -1, -article_size)
        if unused:
            self._database.write_many("DELETE FROM articles WHERE id = ?", unused)
            self._database.write_many("DELETE FROM message_ids WHERE article = ?", unused)

    # --- in flight

    def in_flight(self) -> builtins.list[InFlightArticle]:
        """All articles recorded and not seen, by id: what start-up has to settle."""
        return [_in_flight(row) for row in self._database.rows(f"{_IN_FLIGHT} ORDER BY id")]

    def get_in_flight(self, article: ArticleId) -> InFlightArticle | None:
        row = self._database.row(f"{_IN_FLIGHT} WHERE id = ?", (article,))
        return None if row is None else _in_flight(row)

    def segment_in_flight(self, content: SegmentHash) -> InFlightSegment | None:
        """A segment on its way that holds content of this hash."""
        row = self._database.row(f"{_IN_FLIGHT_SEGMENT} WHERE hash = ? LIMIT 1", (content,))
        return None if row is None else _segment(row)

    def insert_in_flight(self, article: NewArticle) -> None:
        """Record an article as PENDING, with its segments."""
        self._database.write(
            "INSERT INTO local_article"
            " (id, attempt, state, salt, size, posted_ns, server, message_id)"
            " VALUES (?, ?, ?, ?, ?, 0, '', '')",
            (article.id, article.attempt, ArticleState.PENDING, article.salt, article.size),
        )
        self._database.write_many(
            "INSERT INTO local_segment (article, slot, hash, raw_length, stored_length, codec)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    article.id,
                    slot,
                    member.hash,
                    member.raw_length,
                    member.stored_length,
                    member.codec,
                )
                for slot, member in enumerate(article.members)
            ],
        )

    def set_posted(
        self, article: ArticleId, server: str, message_id: MessageId | None, now_ns: int
    ) -> bool:
        """A server answered 240. False if the article is not in flight."""
        self._database.write(
            "UPDATE local_article SET state = ?, server = ?, message_id = ?, posted_ns = ?"
            " WHERE id = ?",
            (ArticleState.POSTED, server, message_id or "", now_ns, article),
        )
        return self._database.changes() > 0

    def set_new_attempt(self, article: ArticleId, salt: bytes) -> int | None:
        """Back to PENDING under the next Message-ID; the attempt, or None if not in flight."""
        rows = self._database.write_rows(
            "UPDATE local_article SET attempt = attempt + 1, salt = ?, state = ?, server = '',"
            " message_id = '', posted_ns = 0 WHERE id = ? RETURNING attempt",
            (salt, ArticleState.PENDING, article),
        )
        return rows[0][0] if rows else None

    def delete_in_flight(self, article: ArticleId) -> bool:
        """Whether it was there."""
        self._database.write("DELETE FROM local_segment WHERE article = ?", (article,))
        self._database.write("DELETE FROM local_article WHERE id = ?", (article,))
        return self._database.changes() > 0


def _article(row: tuple[Any, ...]) -> Article:
    number, attempt, state, size, posted, blocks, block_bytes = row
    return Article(number, attempt, Durability(state), size, posted, blocks, block_bytes)


def _in_flight(row: tuple[Any, ...]) -> InFlightArticle:
    number, attempt, state, salt, size, posted_ns, server, message_id = row
    return InFlightArticle(
        id=number,
        attempt=attempt,
        state=ArticleState(state),
        salt=salt,
        size=size,
        posted_ns=posted_ns,
        server=server or None,
        message_id=MessageId(message_id) if message_id else None,
    )


def _segment(row: tuple[Any, ...]) -> InFlightSegment:
    article, slot, content, raw_length, stored_length, codec = row
    return InFlightSegment(article, slot, content, raw_length, stored_length, Codec(codec))
