"""Counts that follow the rows which a changeset touches, at the cost of those rows.

Changesets carry no counts (docs/format.md, "normal form"), and counting all rows anew takes seconds
once there are millions. So what the touched rows amount to is noted before a changeset is applied,
and the difference to what they amount to afterwards is added: to ``segments.refs``,
``articles.blocks`` and ``articles.bytes``, and to the counters.

Owns no table. It must not know where changesets come from.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from usenetfs.index.database import Database, Row
from usenetfs.index.derived import add_defaults, recompute_uses
from usenetfs.index.inodes import kind_of
from usenetfs.index.totals import BLOCK_COUNTERS, Counter, TotalsTable

Key = tuple[Any, ...]


class _Segment(NamedTuple):
    article: int
    refs: int


class _Article(NamedTuple):
    state: int
    blocks: int
    bytes: int
    size: int


class _Use(NamedTuple):
    """What block rows rest on: by segment and by article, how many and how many bytes."""

    segments: Tally[int]
    articles: Tally[int]
    bytes: Tally[int]


class TouchedCounts:
    """``keys``: by table, of the rows that will change. ``inodes``: those whose links may change.

    Made before the changes, inside their transaction; :meth:`settle` is called after them and after
    link counts were set.
    """

    def __init__(
        self, database: Database, keys: Mapping[str, Iterable[Key]], inodes: Iterable[int]
    ) -> None:
        self._database = database
        self._inodes = set(inodes) | {key[0] for key in keys.get("inodes", ())}
        self._blocks = list(keys.get("blocks", ()))
        self._named = self._count_inodes()
        self._used = self._count_uses()
        self._segments = self._read_segments(
            {key[0] for key in keys.get("segments", ())} | self._used.segments.keys()
        )
        self._articles = self._read_articles(
            {key[0] for key in keys.get("articles", ())} | self._used.articles.keys()
        )

    def __repr__(self) -> str:
        return f"<TouchedCounts inodes={len(self._inodes)} blocks={len(self._blocks)}>"

    def settle(self) -> None:
        """Bring every count up to date. Inside the transaction of the changes."""
        if self._moved():
            recompute_uses(self._database)
            add_defaults(self._database)
            return
        used = self._count_uses()
        # what the changes did not touch is still as it was before them
        segments = self._segments | self._read_segments(used.segments.keys() - self._segments)
        articles = self._articles | self._read_articles(used.articles.keys() - self._articles)
        self._rest(used, segments, articles)
        before = self._named + _amounts_of(articles.values())
        after = self._count_inodes() + _amounts_of(self._read_articles(articles).values())
        totals = TotalsTable(self._database)
        for counter in Counter:
            count = after.count[counter] - before.count[counter]
            totals.add(counter, count, after.bytes[counter] - before.bytes[counter])
        totals.flush()

    def _moved(self) -> bool:
        """Whether content that stays went to another article: then its blocks are not at hand."""
        now = self._read_segments(self._segments)
        return any(
            was is not None and there is not None and was.article != there.article
            for was, there in ((was, now[segment]) for segment, was in self._segments.items())
        )

    def _rest(
        self,
        used: _Use,
        segments: Mapping[int, _Segment | None],
        articles: Mapping[int, _Article | None],
    ) -> None:
        """Set the counts of segments and articles: as before, and the difference in use.

        Absolute values: a row that was deleted and came again counts nothing.
        """
        before = self._used
        self._database.write_many(
            "UPDATE segments SET refs = ? WHERE id = ?",
            [
                ((was.refs if was else 0) + used.segments[n] - before.segments[n], n)
                for n, was in segments.items()
            ],
        )
        self._database.write_many(
            "UPDATE articles SET blocks = ?, bytes = ? WHERE id = ?",
            [
                (
                    (was.blocks if was else 0) + used.articles[n] - before.articles[n],
                    (was.bytes if was else 0) + used.bytes[n] - before.bytes[n],
                    n,
                )
                for n, was in articles.items()
            ],
        )

    # --- what rows amount to now

    def _count_inodes(self) -> _Amounts:
        found = _Amounts()
        for mode, size in self._each(
            "SELECT mode, size FROM inodes WHERE id = ? AND nlink > 0",
            ((inode,) for inode in self._inodes),
        ):
            kind = kind_of(mode)
            found.add(kind, 1, size if kind is Counter.FILES else 0)
        return found

    def _count_uses(self) -> _Use:
        use = _Use(Tally(), Tally(), Tally())
        for segment, length, article in self._each(
            "SELECT b.segment, b.length, s.article FROM blocks b"
            " LEFT JOIN segments s ON s.id = b.segment WHERE b.inode = ? AND b.number = ?",
            self._blocks,
        ):
            use.segments[segment] += 1
            if article is not None:
                use.articles[article] += 1
                use.bytes[article] += length
        return use

    def _read_segments(self, segments: Iterable[int]) -> dict[int, _Segment | None]:
        """None: there is no such segment."""
        sql = "SELECT article, refs FROM segments WHERE id = ?"
        rows = {number: self._database.row(sql, (number,)) for number in segments}
        return {number: None if row is None else _Segment(*row) for number, row in rows.items()}

    def _read_articles(self, articles: Iterable[int]) -> dict[int, _Article | None]:
        sql = "SELECT state, blocks, bytes, size FROM articles WHERE id = ?"
        rows = {number: self._database.row(sql, (number,)) for number in articles}
        return {number: None if row is None else _Article(*row) for number, row in rows.items()}

    def _each(self, sql: str, keys: Iterable[Key]) -> Iterable[Row]:
        for key in keys:
            row = self._database.row(sql, key)
            if row is not None:
                yield row


class _Amounts:
    """By counter, how many and how many bytes."""

    __slots__ = ("bytes", "count")

    def __init__(self) -> None:
        self.count: Tally[Counter] = Tally()
        self.bytes: Tally[Counter] = Tally()

    def add(self, counter: Counter, count: int, size: int) -> None:
        self.count[counter] += count
        self.bytes[counter] += size

    def __add__(self, other: _Amounts) -> _Amounts:
        total = _Amounts()
        for one in (self, other):
            total.count.update(one.count)
            total.bytes.update(one.bytes)
        return total


def _amounts_of(articles: Iterable[_Article | None]) -> _Amounts:
    """What articles, and the blocks that rest on them, add to the counters."""
    found = _Amounts()
    for one in articles:
        if one is not None:
            found.add(Counter.ARTICLES, 1, one.size)
            found.add(BLOCK_COUNTERS[one.state], one.blocks, one.bytes)
    return found
