"""What every part of the check uses: findings, repairs, and scanning a table in batches.

Owns the list of findings and the rule that memory stays flat. It must not know what is wrong.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from usenetfs.index.database import Database, Row
from usenetfs.index.shards import Window
from usenetfs.types import InodeId

MAX_FINDINGS: Final = 10_000
"""Reported one by one; the rest is only counted, so that a ruined index does not fill memory."""


class Kind(enum.StrEnum):
    DATABASE = "database"
    DIRENT_TO_NOWHERE = "dirent_to_nowhere"
    ORPHAN_INODE = "orphan_inode"
    LOOP = "loop"
    LINK_COUNT = "link_count"
    BLOCK_WITHOUT_INODE = "block_without_inode"
    BLOCK_BEYOND_SIZE = "block_beyond_size"
    BLOCK_WITHOUT_DATA = "block_without_data"
    SEGMENT_REFS = "segment_refs"
    ARTICLE_BLOCKS = "article_blocks"
    STAGED_NOWHERE = "staged_nowhere"
    STAGED_WAITING = "staged_waiting"
    IN_FLIGHT_LEFTOVER = "in_flight_leftover"
    LEFTOVER = "leftover"
    COUNTERS = "counters"
    SHARD = "shard"


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement. ``text`` is one line for the user."""

    kind: Kind
    text: str
    repaired: bool
    inode: InodeId | None = None


Repair = Callable[[], None]


class Survey:
    """One run's findings. ``unlisted`` counts those beyond ``MAX_FINDINGS``."""

    def __init__(self, database: Database, *, repair: bool, batch: int) -> None:
        self.findings: list[Finding] = []
        self.unlisted = 0
        self.repair = repair
        self.batch = batch
        self._database = database

    def __repr__(self) -> str:
        return f"<Survey findings={len(self.findings)} unlisted={self.unlisted}>"

    def found(
        self, kind: Kind, text: str, fix: Repair | None = None, inode: int | None = None
    ) -> None:
        repaired = self.repair and fix is not None
        if repaired and fix is not None:
            fix()
        if len(self.findings) < MAX_FINDINGS:
            number = None if inode is None else InodeId(inode)
            self.findings.append(Finding(kind, text, repaired, number))
        else:
            self.unlisted += 1

    def run(self, rows: list[Row], look: Callable[[Row], None]) -> None:
        """Look at a batch of suspicious rows: with repair, in one transaction."""
        if not self.repair:
            for row in rows:
                look(row)
        elif rows:
            with self._database.transaction():
                for row in rows:
                    look(row)

    def scan_windows(
        self, windows: Iterable[Window], sql: str, look: Callable[[Row], None]
    ) -> Iterator[None]:
        """The same over the rows of a table that may be in several files: ``{}`` is where they are,
        ?1 and ?2 the range of the key."""
        for source, after, last in windows:
            self.run(self._database.rows(sql.format(source), (after, last)), look)
            yield

    def scan(self, table: str, key: str, sql: str, look: Callable[[Row], None]) -> Iterator[None]:
        """Run ``sql`` over ``table`` in ranges of its integer ``key``: ?1 < key ≤ ?2.

        ``sql`` selects only rows that are wrong; ``look`` judges each.
        """
        after = -1
        while True:
            last = self._database.value(
                f"SELECT max({key}) FROM (SELECT {key} FROM {table} WHERE {key} > ?"
                f" ORDER BY {key} LIMIT ?)",
                (after, self.batch),
            )
            if last is None:
                return
            self.run(self._database.rows(sql, (after, last)), look)
            yield
            after = last

    def write(self, sql: str, *bindings: object) -> Repair:
        return lambda: self._database.write(sql, bindings)
