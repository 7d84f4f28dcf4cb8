"""Counters kept beside the rows, so that ``status`` and statfs never count.

Owns ``local_totals``. The counters of staged blocks follow their rows by trigger (schema.py); the
others are told here by whoever changes the rows, collected during a transaction, and written just
before its COMMIT, so that they commit or vanish with it. Applying a changeset goes past them:
:meth:`TotalsTable.recount` is called after it.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from usenetfs.index.database import Database
from usenetfs.types import Durability


class Counter(enum.IntEnum):
    """Rows of ``local_totals``. The first three are written by triggers."""

    STAGING_DIRTY = 0
    STAGING_UPLOADING = 1
    STAGING_POSTED = 2
    BLOCKS_SEEN = 3
    BLOCKS_VERIFIED = 4
    FILES = 5
    DIRECTORIES = 6
    OTHERS = 7
    ARTICLES = 8


BLOCK_COUNTERS = {
    Durability.SEEN.value: Counter.BLOCKS_SEEN,
    Durability.VERIFIED.value: Counter.BLOCKS_VERIFIED,
}


@dataclass(frozen=True, slots=True)
class Amount:
    """``count`` things (blocks, files, articles) of ``bytes`` octets in all."""

    count: int = 0
    bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.count + other.count, self.bytes + other.bytes)


# What each counter should say, from the rows themselves. 0x8000 is S_IFREG, 0x4000 S_IFDIR.
_RECOUNT = """
SELECT CASE WHEN uploaded_generation = generation THEN state ELSE 0 END, count(*), sum(bytes)
    FROM local_staging GROUP BY 1
UNION ALL
SELECT CASE mode & 0xF000 WHEN 0x8000 THEN 5 WHEN 0x4000 THEN 6 ELSE 7 END, count(*),
    sum(CASE mode & 0xF000 WHEN 0x8000 THEN size ELSE 0 END)
    FROM inodes WHERE nlink > 0 GROUP BY 1
"""

_RECOUNT_ARTICLES = """
SELECT CASE state WHEN 2 THEN 3 ELSE 4 END, sum(blocks), sum(bytes) FROM {0} GROUP BY 1
UNION ALL
SELECT 8, count(*), coalesce(sum(size), 0) FROM {0}
"""


class TotalsTable:
    """The counters. :meth:`add` inside a transaction; :meth:`flush` is its last act.

    ``articles``: what the rows of articles are counted in, for SQL.
    """

    def __init__(self, database: Database, articles: Sequence[str] = ("articles",)) -> None:
        self._database = database
        self._articles = articles
        self._pending: dict[Counter, list[int]] = {}

    def __repr__(self) -> str:
        return f"<TotalsTable pending={self._pending}>"

    def add(self, counter: Counter, count: int, size: int) -> None:
        """Change a counter by ``count`` things and ``size`` bytes (either may be negative)."""
        pending = self._pending.get(counter)
        if pending is None:
            self._pending[counter] = [count, size]
        else:
            pending[0] += count
            pending[1] += size

    def flush(self) -> None:
        """Write what :meth:`add` collected. Called before each COMMIT."""
        if not self._pending:
            return
        changes = [
            (count, size, int(counter))
            for counter, (count, size) in self._pending.items()
            if count or size
        ]
        self._pending.clear()
        if changes:
            self._database.write_many(
                "UPDATE local_totals SET count = count + ?, bytes = bytes + ? WHERE name = ?",
                changes,
            )

    def discard(self) -> None:
        """Forget what :meth:`add` collected. Called after each ROLLBACK."""
        self._pending.clear()

    def read(self) -> dict[Counter, Amount]:
        """All counters, the open transaction's changes included."""
        if self._pending:
            self.flush()
        rows = self._database.rows("SELECT name, count, bytes FROM local_totals")
        return {Counter(name): Amount(count, size) for name, count, size in rows}

    def counted(self) -> dict[Counter, Amount]:
        """What the counters should say, counted from the rows: slow with many of them."""
        found = {counter: Amount() for counter in Counter}
        for name, count, size in self._database.rows(_RECOUNT):
            found[Counter(name)] = Amount(count, size)
        for source in self._articles:
            for name, count, size in self._database.rows(_RECOUNT_ARTICLES.format(source)):
                found[Counter(name)] += Amount(count, size)
        return found

    def recount(self) -> None:
        """Set every counter to what the rows say. Inside a transaction."""
        self._pending.clear()
        self._database.write_many(
            "INSERT INTO local_totals (name, count, bytes) VALUES (?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET count = excluded.count, bytes = excluded.bytes",
            [(int(name), amount.count, amount.bytes) for name, amount in self.counted().items()],
        )
