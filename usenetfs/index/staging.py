"""Which blocks are staged, how much of them, and how far each has come.

Owns ``local_staging``. The bytes themselves are in store/. A block has a row from its first change
until its newest content was seen on Usenet::

    (no row) ── put ──→ DIRTY ── record/link ──→ UPLOADING ── posted ──→ POSTED ── seen ──→ (no row)
                          ↑                        │  ↑ new_attempt       │  │
                          ├── forget, cut ─────────┴──┴───────────────────┘  │
                          └── seen, but changed since ───────────────────────┘

Generations decide everything: content is read at a generation, and its arrival settles the row only
if the row still has that generation. They are drawn from one sequence for all blocks
(:meth:`StagingTable.next_generation`), so they also order changes in time, as sync needs it.

Invariants: each :meth:`StagingTable.put_many` of a row leaves it with a higher generation; no row's
is above the newest that was given out, so whoever draws one and puts it finds it in the row. (A row
above what its writer knows would be uploaded again and again, and never settle.)
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from usenetfs.index.articles import NO_ARTICLE
from usenetfs.index.database import Database
from usenetfs.index.totals import Amount, Counter, TotalsTable
from usenetfs.types import ArticleId, BlockNumber, InodeId

Extents = tuple[tuple[int, int], ...]
"""(start, end) byte ranges within the block, end exclusive, ascending, disjoint."""

_MAX: Final = (1 << 63) - 1


class StagingState(enum.IntEnum):
    """How far the content in flight has come; see the diagram above."""

    DIRTY = 0
    UPLOADING = 1
    POSTED = 2


@dataclass(frozen=True, slots=True)
class StagedBlock:
    """One row of ``local_staging``; the columns are explained in schema.py.

    ``whole`` with no extents: all of the block is staged. ``whole`` with extents: what they do not
    cover is zeros. Not ``whole``: what they do not cover is in the block map.
    """

    inode: InodeId
    block: BlockNumber
    generation: int
    whole: bool
    extents: Extents
    dirtied_ns: int
    state: StagingState = StagingState.DIRTY
    article: ArticleId = NO_ARTICLE
    slot: int = 0
    uploaded_generation: int = 0

    @property
    def rewritten(self) -> bool:
        """Whether it was changed after the content in flight was read."""
        return self.state is not StagingState.DIRTY and self.generation != self.uploaded_generation


@dataclass(frozen=True, slots=True)
class StagingCounts:
    """Staged blocks by state; one rewritten while in flight counts as dirty."""

    dirty: Amount
    uploading: Amount
    posted: Amount

    @property
    def total(self) -> Amount:
        return self.dirty + self.uploading + self.posted


def pack_extents(extents: Extents) -> bytes:
    """Little-endian u32 pairs."""
    return struct.pack(f"<{2 * len(extents)}I", *chain.from_iterable(extents))


def unpack_extents(packed: bytes) -> Extents:
    return tuple(struct.iter_unpack("<II", packed))


_SELECT = (
    "SELECT inode, block, generation, whole, extents, dirtied_ns, state, article, slot,"
    " uploaded_generation FROM local_staging"
)

# How many bytes a block without extents holds is the file's size that says it; where that is not
# written yet, assume a full block. Hashing it tells exactly.
_PUT = """
INSERT INTO local_staging (inode, block, generation, whole, extents, bytes, dirtied_ns,
                           since, floor, state, article, slot, uploaded_generation)
SELECT ?1, ?2, ?3, ?4, ?5, coalesce(?6, (
    SELECT CASE WHEN size > ?2 * ?8 THEN min(?8, size - ?2 * ?8) ELSE ?8 END
    FROM inodes WHERE id = ?1), ?8), ?7, ?3, ?3, 0, 0, 0, 0
WHERE true
ON CONFLICT (inode, block) DO UPDATE SET
    generation = max(excluded.generation, generation + 1),
    whole = excluded.whole,
    extents = excluded.extents,
    bytes = excluded.bytes,
    dirtied_ns = excluded.dirtied_ns
RETURNING generation
"""


class StagingTable:
    def __init__(self, database: Database, totals: TotalsTable, block_size: int) -> None:
        self._database = database
        self._totals = totals
        self._block_size = block_size
        highest = database.value("SELECT max(generation) FROM local_staging")
        self._generation = 0 if highest is None else highest

    def __repr__(self) -> str:
        return f"<StagingTable generation={self._generation}>"

    # --- generations

    def next_generation(self) -> int:
        """A generation greater than any before, of any block."""
        self._generation += 1
        return self._generation

    def sync_point(self) -> int:
        """The newest generation given out: what :meth:`settled` is asked about later."""
        return self._generation

    def settled(self, point: int) -> bool:
        """Whether every change up to ``point`` was seen on Usenet (or undone)."""
        oldest = self._database.value("SELECT min(since) FROM local_staging")
        return oldest is None or oldest > point

    def unsettled(self, point: int, inode: InodeId | None = None) -> int:
        """How many blocks :meth:`settled` waits for, of one file or of all."""
        count: int = self._database.value(
            "SELECT count(*) FROM local_staging WHERE since <= ?1 AND (?2 IS NULL OR inode = ?2)",
            (point, inode),
        )
        return count

    def behind(self, inode: InodeId, point: int, *, posted: bool) -> int:
        """How many blocks of a file, as they were at ``point``, are not seen (``posted``: not even
        posted) yet. Errs on the side of counting one too many."""
        if not posted:
            return self.unsettled(point, inode)
        count: int = self._database.value(
            "SELECT count(*) FROM local_staging WHERE since <= ?1 AND inode = ?2 AND NOT"
            " (state = 2 AND (generation = uploaded_generation OR uploaded_generation >= ?1))",
            (point, inode),
        )
        return count

    # --- changes by the filesystem

    def put_many(self, rows: Iterable[StagedBlock]) -> None:
        """Blocks were changed. Inside a transaction.

        Of each row, ``generation``, ``whole``, ``extents`` and ``dirtied_ns`` count. A row that
        exists keeps its state and its article, and gets the given generation, or the next if that
        is not higher than its own. ``dirtied_ns`` is its place in the queue.
        """
        size = self._block_size
        bindings = []
        for row in rows:
            known: int | None = None
            if row.extents or not row.whole:
                known = sum(end - start for start, end in row.extents)
            bindings.append(
                (
                    row.inode,
                    row.block,
                    row.generation,
                    row.whole,
                    pack_extents(row.extents),
                    known,
                    row.dirtied_ns,
                    size,
                )
            )
        for (generation,) in self._database.write_many(_PUT, bindings):
            self._generation = max(self._generation, generation)

    def put(self, row: StagedBlock) -> None:
        """:meth:`put_many` of one."""
        self.put_many((row,))

    def cut(self, inode: InodeId, block: BlockNumber) -> None:
        """A staged block was shortened: what was read of it before must not settle it.

        The row, if there is one, becomes DIRTY with a new generation.
        """
        self._database.write(
            "UPDATE local_staging SET generation = ?1, floor = ?1, state = 0, article = 0,"
            " slot = 0, uploaded_generation = 0 WHERE inode = ?2 AND block = ?3",
            (self.next_generation(), inode, block),
        )

    def truncate(self, inode: InodeId, size: int) -> int:
        """A file was shortened to ``size`` bytes; returns how many rows went.

        Rows behind the end go; of the block that the end cuts through, the extents are clipped and
        content in flight is disowned. The block map is :meth:`BlockTable.set_length`'s and
        :meth:`BlockTable.delete_from`'s.
        """
        block, rest = divmod(size, self._block_size)
        deleted = self.delete(inode, BlockNumber(block + 1 if rest else block))
        row = self.get(inode, BlockNumber(block)) if rest else None
        if row is None:
            return deleted
        self.cut(inode, row.block)
        clipped = tuple((start, min(end, rest)) for start, end in row.extents if start < rest)
        whole_but_empty = row.whole and bool(row.extents) and not clipped
        if whole_but_empty:
            clipped = ((0, rest),)  # "whole, no extents" would mean that all of it is staged
        length = sum(end - start for start, end in clipped) if clipped or not row.whole else rest
        self._database.write(
            "UPDATE local_staging SET extents = ?, bytes = ? WHERE inode = ? AND block = ?",
            (pack_extents(clipped), length, inode, row.block),
        )
        return deleted

    def delete(self, inode: InodeId, first_block: BlockNumber) -> int:
        """Forget the staged blocks from ``first_block`` on; returns how many there were."""
        self._database.write(
            "DELETE FROM local_staging WHERE inode = ? AND block >= ?", (inode, first_block)
        )
        return self._database.changes()

    def delete_inode(self, inode: InodeId) -> int:
        return self.delete(inode, BlockNumber(0))

    # --- reading

    def get(self, inode: InodeId, block: BlockNumber) -> StagedBlock | None:
        row = self._database.row(f"{_SELECT} WHERE inode = ? AND block = ?", (inode, block))
        return None if row is None else _staged(row)

    def next(self, inode: InodeId, first: BlockNumber) -> BlockNumber | None:
        """The lowest staged block of a file from ``first`` on."""
        number = self._database.value(
            "SELECT min(block) FROM local_staging WHERE inode = ? AND block >= ?", (inode, first)
        )
        return None if number is None else BlockNumber(number)

    def numbers(self, inode: InodeId, first: BlockNumber) -> list[BlockNumber]:
        """All staged blocks of a file from ``first`` on."""
        found = self._database.rows(
            "SELECT block FROM local_staging WHERE inode = ? AND block >= ?", (inode, first)
        )
        return [BlockNumber(number) for (number,) in found]

    def of_inode(
        self,
        inode: InodeId,
        first: BlockNumber | int = 0,
        last: BlockNumber | int | None = None,
    ) -> list[StagedBlock]:
        """Staged blocks ``first`` … ``last`` of a file, by number."""
        rows = self._database.rows(
            f"{_SELECT} WHERE inode = ? AND block BETWEEN ? AND ?",
            (inode, first, _MAX if last is None else last),
        )
        return [_staged(row) for row in rows]

    def next_dirty(
        self,
        limit: int,
        *,
        before_ns: int | None = None,
        after: StagedBlock | None = None,
        inode: InodeId | None = None,
    ) -> list[StagedBlock]:
        """DIRTY rows in the order in which they were dirtied.

        ``before_ns``: only those dirtied at or before that time. ``after``: continue behind that
        row. ``inode``: of one file only. Rows stay DIRTY until their article is recorded, so the
        caller remembers what it is working on.
        """
        key = (-1, 0, 0) if after is None else (after.dirtied_ns, after.inode, after.block)
        where = "state = 0 AND (dirtied_ns, inode, block) > (?, ?, ?) AND dirtied_ns <= ?"
        bindings: list[int] = [*key, _MAX if before_ns is None else before_ns]
        if inode is not None:
            where += " AND inode = ?"
            bindings.append(inode)
        rows = self._database.rows(
            f"{_SELECT} WHERE {where} ORDER BY dirtied_ns, inode, block LIMIT ?",
            (*bindings, limit),
        )
        return [_staged(row) for row in rows]

    def waiting_for(self, article: ArticleId) -> list[StagedBlock]:
        """Rows whose content an article in flight carries."""
        rows = self._database.rows(
            f"{_SELECT} WHERE article = ? AND article > 0 ORDER BY slot", (article,)
        )
        return [_staged(row) for row in rows]

    def files(self, after: InodeId | int = 0, limit: int = 1000) -> list[InodeId]:
        """Inodes with staged blocks, by number; continue after the last."""
        found: list[InodeId] = []
        while len(found) < limit:
            inode = self._database.value(
                "SELECT min(inode) FROM local_staging WHERE inode > ?", (after,)
            )
            if inode is None:
                break
            found.append(InodeId(inode))
            after = inode
        return found

    def counts(self) -> StagingCounts:
        """By state; from counters, so at no cost."""
        read = self._totals.read()
        return StagingCounts(
            dirty=read.get(Counter.STAGING_DIRTY, Amount()),
            uploading=read.get(Counter.STAGING_UPLOADING, Amount()),
            posted=read.get(Counter.STAGING_POSTED, Amount()),
        )


def _staged(row: tuple[Any, ...]) -> StagedBlock:
    inode, block, generation, whole, packed, dirtied_ns, state, article, slot, uploaded = row
    return StagedBlock(
        inode,
        block,
        generation,
        bool(whole),
        unpack_extents(packed) if packed else (),
        dirtied_ns,
        StagingState(state),
        article,
        slot,
        uploaded,
    )
