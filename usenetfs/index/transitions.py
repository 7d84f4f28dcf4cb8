"""How staged blocks become articles on Usenet: the steps of the write path, each one transaction.

Owns no table; changes staging, articles, segments and the block map together, so that a crash
between any two steps leaves a state that the next start can go on from:

=========================  ===================================================================
after                      a crash leaves
=========================  ===================================================================
(nothing)                  DIRTY rows: uploaded anew
``record_articles``        a PENDING article: perhaps sent. It is looked for (STAT, then opened),
                           and either counted as seen or forgotten
``mark_outcomes``, posted  a POSTED article: looked for in the same way
``mark_outcomes``, seen    block rows that point to it; staging of these blocks may be freed, and
                           what was not freed in time is swept at the next start
=========================  ===================================================================

``record_article``, ``mark_posted`` and the other forms for one article are the same steps.

What an article carries is decided when it is recorded; who waits for it is ``article`` and ``slot``
of each staged row. So a file deleted meanwhile just no longer waits, a block changed meanwhile
takes the content and stays dirty, and a block shortened meanwhile (:meth:`StagingTable.cut`) waits
no more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from usenetfs.index.articles import (
    ArticleState,
    ArticleTable,
    InFlightArticle,
    NewArticle,
    StagedLink,
)
from usenetfs.index.database import Database
from usenetfs.index.segments import SegmentTable
from usenetfs.index.shards import Shards
from usenetfs.index.staging import StagingState
from usenetfs.types import (
    ArticleId,
    BlockNumber,
    Durability,
    InodeId,
    MessageId,
    SegmentId,
)

BlockKey = tuple[InodeId, BlockNumber]


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the blocks that waited for an article."""

    freed: tuple[BlockKey, ...] = ()
    """Their newest content is safe: staging may drop it."""
    requeued: tuple[BlockKey, ...] = ()
    """They are DIRTY again: changed since, or their article came to nothing."""


class PostedArticle(NamedTuple):
    """A server answered 240. ``message_id``: only if it is not the one that was asked for."""

    article: ArticleId
    server: str
    message_id: MessageId | None
    now_ns: int

    @classmethod
    def now(cls, article: ArticleId, server: str, message_id: MessageId | None) -> PostedArticle:
        """It did so just now."""
        return cls(article, server, message_id, time.time_ns())


class NewRecord(NamedTuple):
    """An article to record, and further staged blocks with the content of its members."""

    article: NewArticle
    links: Sequence[StagedLink] = ()


class Transitions:
    """The steps. Each opens a transaction of its own, so none may be open."""

    def __init__(
        self,
        database: Database,
        shards: Shards,
        articles: ArticleTable,
        segments: SegmentTable,
    ) -> None:
        self._database = database
        self._shards = shards
        self._articles = articles
        self._segments = segments

    # --- staged → recorded

    def record_article(self, article: NewArticle, extra_links: Iterable[StagedLink] = ()) -> int:
        """Commit what an article carries, before its first byte is sent.

        Returns how many staged blocks now wait for it. Members whose row is gone, was cut or is
        waiting for another article are passed over; if nobody waits, nothing is recorded, and the
        article must not be sent.
        """
        return self.record_articles((NewRecord(article, tuple(extra_links)),))[0]

    def record_articles(self, records: Iterable[NewRecord]) -> list[int]:
        """:meth:`record_article` of several in one transaction; for each, how many wait."""
        counts = []
        with self._database.transaction():
            for article, links in records:
                bound = len(self._database.write_many(_WAIT, _waiting(article, links)))
                if bound:
                    self._articles.persist_numbering(article.id)
                    self._articles.insert_in_flight(article)
                counts.append(bound)
        return counts

    def link_staged(
        self, inode: InodeId, block: BlockNumber, generation: int, article: ArticleId, slot: int
    ) -> bool:
        """A staged block has the same content as a segment in flight: it waits for it too.

        False if the segment is not in flight (any more), or the block was cut, changed owner or
        waits already: look the hash up again, or upload it.
        """
        row = self._database.row(
            "SELECT a.state, g.raw_length FROM local_article a"
            " JOIN local_segment g ON g.article = a.id WHERE a.id = ? AND g.slot = ?",
            (article, slot),
        )
        if row is None:
            return False
        state, raw_length = row
        with self._database.transaction():
            bound = self._database.write_many(
                _WAIT, [(article, slot, generation, raw_length, inode, block)]
            )
            if bound and state == ArticleState.POSTED:
                self._database.write(
                    "UPDATE local_staging SET state = ? WHERE inode = ? AND block = ?",
                    (StagingState.POSTED, inode, block),
                )
        return bool(bound)

    def link_known(
        self,
        inode: InodeId,
        block: BlockNumber,
        generation: int,
        segment: SegmentId,
        length: int,
    ) -> bool:
        """A staged block has the content of a segment that was seen: it is settled at once.

        True: the block row is set and the staged content may be freed. False: nothing was done,
        because the block changed since ``generation``, is gone, or the segment is.
        """
        with self._database.transaction():
            self._shards.bring("segments", (segment,))
            gone = self._database.write_rows(
                "DELETE FROM local_staging WHERE inode = ? AND block = ? AND generation = ?"
                " AND state = 0 AND EXISTS (SELECT 1 FROM segments WHERE id = ?) RETURNING 1",
                (inode, block, generation, segment),
            )
            if not gone:
                return False
            old = self._database.rows(
                "SELECT segment, length FROM blocks WHERE inode = ? AND number = ?", (inode, block)
            )
            self._segments.take(segment, length)
            self._database.write(
                "INSERT INTO blocks (inode, number, segment, length) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (inode, number) DO UPDATE"
                " SET segment = excluded.segment, length = excluded.length",
                (inode, block, segment, length),
            )
            self._segments.release(old)
        return True

    # --- recorded → posted → seen → verified

    def mark_posted(
        self, article: ArticleId, server: str, message_id: MessageId | None, now_ns: int
    ) -> bool:
        """A server answered 240. ``message_id``: only if it is not the one that was asked for.

        False if the article was not in flight (any more).
        """
        with self._database.transaction():
            return self._post(PostedArticle(article, server, message_id, now_ns))

    def _post(self, posted: PostedArticle) -> bool:
        if not self._articles.set_posted(*posted):
            return False
        self._database.write(
            "UPDATE local_staging SET state = 2 WHERE article = ? AND article > 0",
            (posted.article,),
        )
        return True

    def mark_outcomes(
        self,
        posted: Iterable[PostedArticle],
        seen: Iterable[ArticleId],
        verified: Iterable[ArticleId],
        now_ns: int,
    ) -> Settled:
        """:meth:`mark_posted`, :meth:`mark_seen` and :meth:`mark_verified` of many articles, in
        that order and in one transaction."""
        with self._database.transaction():
            for one in posted:
                self._post(one)
            settled = self._see_all(seen, now_ns)
            for article in verified:
                self._articles.set_state(article, Durability.VERIFIED)
        return settled

    def mark_seen(self, article: ArticleId, now_ns: int) -> Settled:
        """The article is on Usenet: every block that waits for it now points to it.

        An article that is not in flight settles nothing; one for which nobody waits is dropped.
        """
        with self._database.transaction():
            return self._see(article, now_ns)

    def _see_all(self, articles: Iterable[ArticleId], now_ns: int) -> Settled:
        freed: list[BlockKey] = []
        requeued: list[BlockKey] = []
        for article in articles:
            settled = self._see(article, now_ns)
            freed.extend(settled.freed)
            requeued.extend(settled.requeued)
        return Settled(tuple(freed), tuple(requeued))

    def _see(self, article: ArticleId, now_ns: int) -> Settled:
        flown = self._articles.get_in_flight(article)
        if flown is None:
            return Settled()
        key = (article,)
        database = self._database
        replaced = database.rows(_REPLACED, key)
        if self._shards.spread:
            known = database.rows("SELECT hash FROM local_segment WHERE article = ?", key)
            self._shards.bring_content(content for (content,) in known)
        database.write(_INSERT_SEGMENTS, key)
        self._count_blocks(flown, now_ns)
        database.write(_SET_BLOCKS, key)
        self._segments.release(replaced)
        freed = database.write_rows(
            "DELETE FROM local_staging WHERE article = ? AND article > 0"
            " AND generation = uploaded_generation RETURNING inode, block",
            key,
        )
        requeued = database.write_rows(
            "UPDATE local_staging SET since = uploaded_generation + 1, state = 0, article = 0,"
            " slot = 0, uploaded_generation = 0 WHERE article = ? AND article > 0"
            " RETURNING inode, block",
            key,
        )
        self._articles.delete_in_flight(article)
        return Settled(tuple(freed), tuple(requeued))

    def _count_blocks(self, flown: InFlightArticle, now_ns: int) -> None:
        """Insert the article's row, with the blocks that will rest on it.

        Content that another article brought in the meantime stays there: its blocks rest on that.
        """
        for holder, blocks, size in self._database.rows(_BLOCKS_PER_ARTICLE, (flown.id,)):
            if holder == flown.id:
                posted = (flown.posted_ns or now_ns) // 1_000_000_000
                self._articles.insert(flown, posted, blocks, size)
            else:
                self._articles.add_blocks(holder, blocks, size)

    def mark_verified(self, article: ArticleId) -> bool:
        """The article was fetched whole, and opened. False if no block rests on it."""
        with self._database.transaction():
            return self._articles.set_state(article, Durability.VERIFIED)

    def mark_checked(self, verified: Iterable[ArticleId], doubted: Iterable[ArticleId]) -> None:
        """:meth:`mark_verified` of many articles; and of ``doubted`` ones, which opened once and
        could not be had now, the opposite: they were seen. In one transaction."""
        with self._database.transaction():
            for article in verified:
                self._articles.set_state(article, Durability.VERIFIED)
            for article in doubted:
                self._articles.set_state(article, Durability.SEEN)

    # --- back

    def new_attempt(self, article: ArticleId, salt: bytes) -> int | None:
        """Rejected, or not seen in time: to be posted under a new Message-ID, sealed anew.

        Returns the attempt's number; None if the article is not in flight, or nobody waits for it
        any more (it is dropped then).
        """
        with self._database.transaction():
            waiting = self._database.write_rows(
                "UPDATE local_staging SET state = 1 WHERE article = ? AND article > 0 RETURNING 1",
                (article,),
            )
            if not waiting:
                self._articles.delete_in_flight(article)
                return None
            return self._articles.set_new_attempt(article, salt)

    def forget_article(self, article: ArticleId) -> Settled:
        """The article came to nothing: its blocks are DIRTY again, and its id is not used again."""
        with self._database.transaction():
            requeued = self._database.write_rows(
                "UPDATE local_staging SET state = 0, article = 0, slot = 0, uploaded_generation = 0"
                " WHERE article = ? AND article > 0 RETURNING inode, block",
                (article,),
            )
            self._articles.delete_in_flight(article)
        return Settled(requeued=tuple(requeued))


def _waiting(
    article: NewArticle, links: Iterable[StagedLink]
) -> list[tuple[ArticleId, int, int, int, InodeId, BlockNumber]]:
    """The bindings of ``_WAIT`` for all who may wait for an article."""
    waiting = [
        (article.id, slot, member.generation, member.raw_length, member.inode, member.block)
        for slot, member in enumerate(article.members)
    ]
    waiting.extend(
        (
            article.id,
            link.slot,
            link.generation,
            article.members[link.slot].raw_length,
            link.inode,
            link.block,
        )
        for link in links
    )
    return waiting


# A staged block begins to wait. Content read at a generation below the row's floor is another
# file's, or of before a truncation; content older than the row's is fine, it just does not end it.
_WAIT = """
UPDATE local_staging SET state = 1, article = ?1, slot = ?2, uploaded_generation = ?3,
    bytes = CASE WHEN generation = ?3 THEN ?4 ELSE bytes END
WHERE inode = ?5 AND block = ?6 AND state = 0 AND generation >= ?3 AND floor <= ?3
RETURNING 1
"""

_REPLACED = """
SELECT b.segment, b.length
FROM local_staging w CROSS JOIN blocks b ON b.inode = w.inode AND b.number = w.block
WHERE w.article = ?1 AND w.article > 0
"""

_INSERT_SEGMENTS = """
INSERT INTO segments (hash, raw_length, stored_length, codec, article, slot, refs)
SELECT g.hash, g.raw_length, g.stored_length, g.codec, g.article, g.slot, count(*)
FROM local_segment g CROSS JOIN local_staging w ON w.article = g.article AND w.slot = g.slot
WHERE g.article = ?1 AND w.article = ?1 AND w.article > 0
GROUP BY g.slot
ON CONFLICT (hash) DO UPDATE SET refs = refs + excluded.refs
"""

_BLOCKS_PER_ARTICLE = """
SELECT s.article, count(*), sum(g.raw_length)
FROM local_staging w
CROSS JOIN local_segment g ON g.article = w.article AND g.slot = w.slot
CROSS JOIN segments s ON s.hash = g.hash
WHERE w.article = ?1 AND w.article > 0
GROUP BY s.article
"""

_SET_BLOCKS = """
INSERT INTO blocks (inode, number, segment, length)
SELECT w.inode, w.block, s.id, g.raw_length
FROM local_staging w
CROSS JOIN local_segment g ON g.article = w.article AND g.slot = w.slot
CROSS JOIN segments s ON s.hash = g.hash
WHERE w.article = ?1 AND w.article > 0
ON CONFLICT (inode, number) DO UPDATE SET segment = excluded.segment, length = excluded.length
"""
