"""Rows go from main to the files they are spread over, some thousands at a time.

A step has three parts, so that neither the event loop nor a program that writes waits for a disk:

1. :meth:`Settling.plan_slices`, the owner's thread: notes the keys that main claims and has no row
   for (deleted ones), then the oldest rows in main, which are claimed.
2. :meth:`Settling.carry`, any thread: makes those claims durable, then writes the rows into their
   files, each a transaction of its own, and makes those durable.
3. :meth:`Settling.release_slices`, the owner's thread: what main still has as it was carried goes
   from main, claim and row in one transaction. What was changed meanwhile stays claimed, for
   another step.

The parts of the owner are cut into slices, each a transaction of a millisecond or two; between them
the owner may do anything, because nothing is said of a key but in the slice that has it. Only, what
was deleted is noted before the rows are: otherwise a row of an earlier slice could be deleted and
noted as such, too, and its file be left with it while the claim ends.

Killed, or without power, between any two statements of this: a key that is claimed is answered by
main, which has all that a shard may or may not have got; so nothing has to be made good, and the
next step does anew what this one did not end. That holds in both directions: a shard never has what
main could still lose, because the claim and all before it is durable first; and main never drops
what a shard could still lose.

It must not know what the rows mean. With one file there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import apsw

from usenetfs.index.database import (
    BUSY_TIMEOUT_MS,
    WAL_KEPT_BYTES,
    Database,
    Row,
    sync_directory,
    translate,
)
from usenetfs.index.shard_files import shard_path
from usenetfs.index.shards import KINDS, Shards, shard_of_hash, shard_of_key

KEPT: Final = 16_384
"""Rows of a table that stay in main: the newest, which are changed again soon (seen → verified)."""

BATCH: Final = 4096
"""Rows of a table in a step. Each file that gets some of them is synced for it."""

WORTH_GIVING_BACK: Final = 1024
"""Pages of a file that may be free, whatever part of it that is."""

GIVEN_BACK: Final = 4096
"""Pages that a step returns to the disk, at most."""

SLICE: Final = 256
"""Rows of a table that the owner's thread sees to at once: 0.7 ms to claim them, 1.8 to let go of
them."""


def _per_table() -> dict[str, list[Any]]:
    return {table: [] for table in KINDS}


@dataclass(frozen=True, slots=True)
class Batch:
    """By table: the rows as they are in main, and the keys of which there is no row."""

    rows: dict[str, list[Row]] = field(default_factory=_per_table)
    gone: dict[str, list[int]] = field(default_factory=_per_table)

    def __bool__(self) -> bool:
        return any((*self.rows.values(), *self.gone.values()))


@dataclass(slots=True)
class _Share:
    """What one file gets."""

    rows: dict[str, list[Row]] = field(default_factory=_per_table)
    gone: dict[str, list[int]] = field(default_factory=_per_table)
    hashes: list[tuple[bytes, int]] = field(default_factory=list)


class Settling:
    """The steps. Only one at a time."""

    def __init__(self, database: Database, shards: Shards) -> None:
        self._database = database
        self._shards = shards
        self._names_durable = False

    def __repr__(self) -> str:
        return f"<Settling {self._shards!r}>"

    def run(self, kept: int = 0) -> int:
        """Steps until no more than ``kept`` rows of a table are in main; how many there were. For
        callers without an event loop to hold up."""
        steps = 0
        while batch := self.plan(kept):
            self.carry(batch)
            self.release(batch)
            steps += 1
        return steps

    def plan(self, kept: int | None = None) -> Batch:
        """:meth:`plan_slices`, all of them."""
        batch = Batch()
        for _ in self.plan_slices(batch, kept):
            pass
        return batch

    def release(self, batch: Batch) -> None:
        """:meth:`release_slices`, all of them."""
        for _ in self.release_slices(batch):
            pass

    # --- 1

    def plan_slices(self, batch: Batch, kept: int | None = None) -> Iterator[None]:
        """Put into ``batch``, which is empty, what is to be moved, if a table has more than
        ``kept`` rows or there are more claims, by default :data:`KEPT`. Yields after each slice."""
        kept = KEPT if kept is None else kept
        if not self._shards.spread or not self._worth_it(kept):
            return
        for table in KINDS:
            yield from self._note_gone(table, batch.gone[table])
        for table in KINDS:
            yield from self._claim_oldest(table, batch.rows[table])

    def _note_gone(self, table: str, gone: list[int]) -> Iterator[None]:
        last = -1
        while len(gone) < BATCH:
            claimed = self._database.rows(
                f"SELECT c.id, EXISTS (SELECT 1 FROM main.{table} t WHERE t.id = c.id)"
                " FROM main.local_claimed c WHERE c.kind = ? AND c.id > ? ORDER BY c.id LIMIT ?",
                (KINDS[table], last, SLICE),
            )
            if not claimed:
                return
            last = claimed[-1][0]
            gone.extend(key for key, there in claimed if not there)
            yield

    def _claim_oldest(self, table: str, rows: list[Row]) -> Iterator[None]:
        last = -1
        while len(rows) < BATCH:
            with self._database.transaction():
                oldest = self._database.rows(
                    f"SELECT * FROM main.{table} WHERE id > ? ORDER BY id LIMIT ?", (last, SLICE)
                )
                self._shards.claim(table, (row[0] for row in oldest))
            if not oldest:
                return
            last = oldest[-1][0]
            rows.extend(oldest)
            yield

    def _worth_it(self, kept: int) -> bool:
        """Counts no further than it must."""
        for source in (*(f"main.{table}" for table in KINDS), "main.local_claimed"):
            sql = f"SELECT count(*) FROM (SELECT 1 FROM {source} LIMIT ?)"
            if self._database.value(sql, (kept + 1,)) > kept:
                return True
        return False

    # --- 2

    def carry(self, batch: Batch) -> None:
        """Write it into the files, durably. Blocks; from any thread."""
        self._database.sync()
        self._forget_hashes(batch.gone["segments"])
        for shard, share in sorted(self._shares(batch).items()):
            self._write(shard, share)
        if not self._names_durable:
            sync_directory(self._database.path.parent)
            self._names_durable = True

    def _shares(self, batch: Batch) -> dict[int, _Share]:
        count = self._shards.count
        shares: dict[int, _Share] = {}

        def share(shard: int) -> _Share:
            return shares.setdefault(shard, _Share())

        for table in KINDS:
            for row in batch.rows[table]:
                share(shard_of_key(row[0], count)).rows[table].append(row)
            for key in batch.gone[table]:
                share(shard_of_key(key, count)).gone[table].append(key)
        for segment, content, *_ in batch.rows["segments"]:
            share(shard_of_hash(content, count)).hashes.append((content, segment))
        return shares

    def _forget_hashes(self, segments: Iterable[int]) -> None:
        """Entries of segments that go: first, because the segment's row says which they are."""
        count = self._shards.count
        by_shard: dict[int, list[int]] = {}
        for segment in segments:
            by_shard.setdefault(shard_of_key(segment, count), []).append(segment)
        entries: dict[int, list[tuple[bytes, int]]] = {}
        for shard, keys in by_shard.items():
            with _Writer(self._database, shard) as connection:
                for key in keys:
                    row = connection.execute(
                        "SELECT hash FROM segments WHERE id = ?", (key,)
                    ).fetchone()
                    if row is not None:
                        there = entries.setdefault(shard_of_hash(row[0], count), [])
                        there.append((row[0], key))
        for shard, hashes in sorted(entries.items()):
            with _Writer(self._database, shard) as connection:
                connection.executemany(
                    "DELETE FROM segment_hashes WHERE hash = ? AND segment = ?", hashes
                )

    def _write(self, shard: int, share: _Share) -> None:
        with _Writer(self._database, shard) as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO segment_hashes (hash, segment) VALUES (?, ?)",
                sorted(share.hashes),
            )
            for table in KINDS:
                connection.executemany(
                    f"DELETE FROM {table} WHERE id = ?", ((key,) for key in share.gone[table])
                )
                rows = share.rows[table]
                if rows:
                    places = ", ".join("?" * len(rows[0]))
                    connection.executemany(
                        f"INSERT OR REPLACE INTO {table} VALUES ({places})", rows
                    )
            if any(share.gone.values()):
                _give_back(connection)

    # --- 3

    def release_slices(self, batch: Batch) -> Iterator[None]:
        """The shards answer for what was carried, unless main has it otherwise by now. Yields after
        each slice."""
        for table, kind in KINDS.items():
            for rows in _sliced(batch.rows[table]):
                with self._database.transaction():
                    with self._shards.unrecorded():
                        same = self._database.write_many(_delete_same(table), rows)
                    self._database.write_many(
                        "DELETE FROM main.local_claimed WHERE kind = ? AND id = ?",
                        ((kind, key) for (key,) in same),
                    )
                yield
            for gone in _sliced(batch.gone[table]):
                with self._database.transaction():
                    self._database.write_many(
                        "DELETE FROM main.local_claimed WHERE kind = ?1 AND id = ?2 AND NOT EXISTS"
                        f" (SELECT 1 FROM main.{table} t WHERE t.id = ?2)",
                        ((kind, key) for key in gone),
                    )
                yield


def _sliced(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + SLICE] for start in range(0, len(items), SLICE))


def _give_back(connection: apsw.Connection) -> None:
    """Return free pages to the disk, if as much of the file is free as makes it worth it for main
    (``Index.give_back``). Inside the transaction."""
    free, total = connection.pragma("freelist_count"), connection.pragma("page_count")
    if free >= WORTH_GIVING_BACK and free * 4 >= total:
        connection.execute(f"PRAGMA incremental_vacuum({GIVEN_BACK})").fetchall()


_COLUMNS: Final = {
    "segments": "id hash raw_length stored_length codec article slot refs",
    "articles": "id attempt state size posted blocks bytes",
}


def _delete_same(table: str) -> str:
    same = " AND ".join(f"{column} = ?" for column in _COLUMNS[table].split())
    return f"DELETE FROM main.{table} WHERE {same} RETURNING id"


class _Writer:
    """A file opened for one transaction, which is durable when the block ends."""

    def __init__(self, database: Database, shard: int) -> None:
        self._path = shard_path(database.path, shard)

    def __enter__(self) -> apsw.Connection:
        try:
            self._connection = apsw.Connection(
                str(self._path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=8
            )
        except apsw.Error as error:
            raise translate(error, self._path) from error
        try:
            self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            self._connection.pragma("synchronous", "full")  # a commit syncs its log
            self._connection.pragma("journal_size_limit", WAL_KEPT_BYTES)
            self._connection.wal_autocheckpoint(0)
            self._connection.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            self._connection.close(True)
            raise translate(error, self._path) from error
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._connection.execute("COMMIT")
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as failure:
            raise translate(failure, self._path) from failure
        finally:
            self._connection.close(True)  # rolls back what was not committed
        if isinstance(error, apsw.Error):
            raise translate(error, self._path) from error
