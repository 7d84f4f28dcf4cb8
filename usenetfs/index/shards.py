"""Which file a row of ``segments`` or ``articles`` is in, and how it gets from there to where it is
changed.

With one file (the default) all of this says "main" and costs nothing. With N of them, rows at rest
lie in ``index.shard-00.db`` …, which are attached read-only, and *main* has the rows that are new
or were changed of late. One rule says what a row is:

    main's row, if main has one; otherwise, if main *claims* the key (``local_claimed``), there is
    no such row; otherwise the row of the key's shard.

Every transaction writes main alone, so it is whole or not there at all, whatever number of files
there is. Before a row at rest is changed or deleted it is *brought*: copied to main and claimed, in
the same transaction, past the session that records changes (nothing about it changed). Rows go back
to the shards by way of settling.py, which keeps two promises that make the rule true at any moment:

- a shard's row is written or deleted only while main claims its key, and the claim is durable;
- a claim ends only when the shard's row is durable and the same as main's.

A row's file follows from its key alone: stripes of 64 neighbouring ids are dealt out in turn, so an
article's segments lie together. Content is looked up by its hash in ``segment_hashes`` of the shard
that the hash gives; an entry is a hint, believed only if the segment it names has that hash.

Owns ``local_claimed`` and the routing. It must not know what the rows mean.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple

from usenetfs.index.database import Database, Row

MOST: Final = 64
"""Files at most. (SQLite attaches ten by itself; apsw's build of it, 125.)"""

KINDS: Final = {"segments": 0, "articles": 1}
"""The tables that are spread, and what stands for them in ``local_claimed``."""

STRIPE_BITS: Final = 6

COUNT: Final = "shards"
"""In ``local_meta``: how many files; without it one."""

STAMP: Final = "shard_stamp"
"""In ``local_meta``: bytes that each of the files has too, so that none of another index is taken
for one of this."""

LOCK_MAIN: Final = "DELETE FROM main.local_claimed WHERE 0"
"""Takes the lock for writing of main alone."""

Query = Callable[[str, Sequence[Any]], list[Row]]


class Window(NamedTuple):
    """Rows whose key is above ``after`` and up to ``last``. ``source``: what stands behind FROM in
    a statement whose first two bindings are those."""

    source: str
    after: int
    last: int


def schema_of(shard: int) -> str:
    """The name under which a file is attached."""
    return f"shard_{shard:02}"


def shard_of_key(key: int, count: int) -> int:
    """Of a segment's or an article's id."""
    return (key >> STRIPE_BITS) % count


def is_of_shard() -> str:
    """SQL: the row of the first binding's so many files is in the second one's."""
    return f"(id >> {STRIPE_BITS}) % ? = ?"


def shard_of_hash(content: bytes, count: int) -> int:
    """Of the entry by which content is found."""
    return int.from_bytes(content[:4]) % count


def is_unclaimed(table: str) -> str:
    """SQL: the row ``s`` of a shard counts."""
    return (
        "NOT EXISTS (SELECT 1 FROM main.local_claimed c"
        f" WHERE c.kind = {KINDS[table]} AND c.id = s.id)"
    )


class ShardedRows:
    """Reads rows wherever they are. ``query`` runs a statement on a connection to which the shards
    are attached; with ``count`` 1 there are none."""

    def __init__(self, query: Query, count: int) -> None:
        self._query = query
        self.count = count

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.count} files>"

    @property
    def spread(self) -> bool:
        """Whether there is more than one file."""
        return self.count > 1

    def has(self, table: str) -> bool:
        """Whether a table's rows are in more than one file."""
        return self.spread and table in KINDS

    @property
    def schemas(self) -> list[str]:
        """The names of all files, main first."""
        return ["main", *(schema_of(shard) for shard in range(self.count) if self.spread)]

    def row(self, table: str, columns: str, key: int) -> Row | None:
        """``columns`` of one row."""
        sql = f"SELECT {columns} FROM main.{table} WHERE id = ?"
        found = self._query(sql, (key,))
        if found or not self.spread:
            return found[0] if found else None
        schema = schema_of(shard_of_key(key, self.count))
        found = self._query(
            f"SELECT {columns} FROM {schema}.{table} s WHERE id = ? AND {is_unclaimed(table)}",
            (key,),
        )
        # another connection may have brought it between the two looks
        found = found or self._query(sql, (key,))
        return found[0] if found else None

    def many(self, table: str, columns: str, keys: Iterable[int]) -> dict[int, Row]:
        """``columns`` of those rows that there are, by key. ``keys``: a few thousand at most."""
        wanted = set(keys)
        if len(wanted) == 1:
            (key,) = wanted
            row = self.row(table, columns, key)
            return {} if row is None else {key: row}
        found = self._some(f"SELECT id, {columns} FROM main.{table} s WHERE", wanted)
        if self.spread:
            for shard, keys_of in self._by_shard(wanted - found.keys()):
                sql = f"SELECT id, {columns} FROM {schema_of(shard)}.{table} s"
                found |= self._some(f"{sql} WHERE {is_unclaimed(table)} AND", keys_of)
            if missing := wanted - found.keys():  # another connection may have brought them
                found |= self._some(f"SELECT id, {columns} FROM main.{table} s WHERE", missing)
        return found

    def _some(self, select: str, keys: Iterable[int]) -> dict[int, Row]:
        sql = f"{select} s.id IN (SELECT value FROM json_each(?))"
        return {row[0]: row[1:] for row in self._query(sql, (json.dumps(sorted(keys)),))}

    def _by_shard(self, keys: Iterable[int]) -> list[tuple[int, list[int]]]:
        groups: dict[int, list[int]] = {}
        for key in keys:
            groups.setdefault(shard_of_key(key, self.count), []).append(key)
        return sorted(groups.items())

    def segment_of_hash(self, content: bytes) -> int | None:
        """The segment at rest that may have this content."""
        if not self.spread:
            return None
        schema = schema_of(shard_of_hash(content, self.count))
        rows = self._query(
            f"SELECT segment FROM {schema}.segment_hashes WHERE hash = ?", (content,)
        )
        return rows[0][0] if rows else None

    # --- all rows

    def sources(self, table: str) -> list[str]:
        """What stands behind FROM, one for each file: together they have every row once."""
        return [f"main.{table}"] + [
            f"(SELECT * FROM {schema}.{table} s WHERE {is_unclaimed(table)})"
            for schema in self.schemas[1:]
        ]

    def windows(self, table: str, batch: int, *, after: int = -1) -> Iterator[Window]:
        """Rows in the order of the key, from above ``after``, about ``batch`` or a stripe at a
        time."""
        if self.spread:
            yield from self._stripes(table, after)
            return
        while True:
            rows = self._query(
                f"SELECT max(id) FROM (SELECT id FROM {table} WHERE id > ? ORDER BY id LIMIT ?)",
                (after, batch),
            )
            last = rows[0][0]
            if last is None:
                return
            yield Window(table, after, last)
            after = last

    def _stripes(self, table: str, after: int) -> Iterator[Window]:
        ahead = {schema: self._next(schema, table, after) for schema in self.schemas}
        while True:
            first = min((key for key in ahead.values() if key is not None), default=None)
            if first is None:
                return
            last = first | ((1 << STRIPE_BITS) - 1)
            schema = schema_of(shard_of_key(first, self.count))
            between = "id > ?1 AND id <= ?2"
            source = (
                f"(SELECT * FROM main.{table} WHERE {between} UNION ALL SELECT * FROM"
                f" {schema}.{table} s WHERE {between} AND {is_unclaimed(table)} ORDER BY id)"
            )
            yield Window(source, first - 1, last)
            for name, key in ahead.items():
                if key is not None and key <= last:
                    ahead[name] = self._next(name, table, last)

    def at_rest(self, table: str) -> Iterator[Window]:
        """The same of those rows for which a shard answers."""
        for schema in self.schemas[1:]:
            after: int | None = -1
            while after is not None:
                last = self._query(
                    f"SELECT max(id) FROM (SELECT id FROM {schema}.{table} WHERE id > ?"
                    " ORDER BY id LIMIT 1000)",
                    (after,),
                )[0][0]
                if last is not None:
                    source = (
                        f"(SELECT * FROM {schema}.{table} s WHERE id > ?1 AND id <= ?2"
                        f" AND {is_unclaimed(table)})"
                    )
                    yield Window(source, after, last)
                after = last

    def strays(self) -> list[tuple[str, int]]:
        """Some of the rows that are in a shard they do not belong to. Reads all keys."""
        found: list[tuple[str, int]] = []
        for shard, schema in enumerate(self.schemas[1:]):
            for table in KINDS:
                rows = self._query(
                    f"SELECT id FROM {schema}.{table} WHERE NOT {is_of_shard()} LIMIT 9",
                    (self.count, shard),
                )
                found += [(table, key) for (key,) in rows]
        return found

    def _next(self, schema: str, table: str, after: int) -> int | None:
        rows = self._query(f"SELECT min(id) FROM {schema}.{table} WHERE id > ?", (after,))
        return rows[0][0]  # type: ignore[no-any-return]

    def highest(self, table: str, low: int, high: int) -> int | None:
        """The highest key from ``low`` to ``high`` that any file has, claimed or not."""
        found = []
        for schema in self.schemas:
            sql = f"SELECT max(id) FROM {schema}.{table} WHERE id BETWEEN ? AND ?"
            found.append(self._query(sql, (low, high))[0][0])
        return max((key for key in found if key is not None), default=None)


class Shards(ShardedRows):
    """The same for who may write. Files are attached already (shard_files.py)."""

    def __init__(self, database: Database, count: int) -> None:
        super().__init__(database.rows, count)
        self._database = database
        self._near = False
        self.unrecorded: Callable[[], AbstractContextManager[None]] = nullcontext
        """While this is entered, changes of rows are not recorded as changes."""

    def bring(self, table: str, keys: Iterable[int]) -> None:
        """Have main answer for these rows: statements on ``table`` may change them from here to the
        end of the transaction, which is open."""
        if not self.spread:
            return
        wanted = set(keys)
        if not wanted:
            return
        wanted -= self._some(f"SELECT id FROM main.{table} s WHERE", wanted).keys()
        for shard, keys_of in self._by_shard(wanted):
            with self.unrecorded():
                brought = self._database.write_rows(
                    f"INSERT INTO main.{table} SELECT * FROM {schema_of(shard)}.{table} s"
                    f" WHERE {is_unclaimed(table)} AND s.id IN (SELECT value FROM json_each(?))"
                    " RETURNING id",
                    (json.dumps(keys_of),),
                )
            self.claim(table, (key for (key,) in brought))

    def claim(self, table: str, keys: Iterable[int]) -> None:
        """From now on the shard's rows do not count."""
        self._database.write_many(
            "INSERT OR IGNORE INTO main.local_claimed (kind, id) VALUES (?, ?)",
            ((KINDS[table], key) for key in keys),
        )

    def bring_content(self, hashes: Iterable[bytes]) -> None:
        """:meth:`bring` those segments that have content of these hashes."""
        if not self.spread:
            return
        groups: dict[int, list[str]] = {}
        for content in set(hashes):
            groups.setdefault(shard_of_hash(content, self.count), []).append(content.hex())
        segments: list[int] = []
        for shard, digits in sorted(groups.items()):
            rows = self._database.rows(
                f"SELECT segment FROM {schema_of(shard)}.segment_hashes"
                " WHERE hash IN (SELECT unhex(value) FROM json_each(?))",
                (json.dumps(digits),),
            )
            segments.extend(segment for (segment,) in rows)
        self.bring("segments", segments)

    def near(self, segments: Iterable[int]) -> tuple[str, str]:
        """Names of two tables that have these segments and their articles, for a join: those of the
        index, or temporary ones, which are good until the next call."""
        if not self.spread:
            return "segments", "articles"
        query = self._database.rows
        for table in KINDS if not self._near else ():
            query(f"CREATE TEMP TABLE near_{table} AS SELECT * FROM main.{table} WHERE 0")
            query(f"CREATE UNIQUE INDEX temp.near_{table}_id ON near_{table} (id)")
        self._near = True
        self._gather("segments", set(segments))
        articles = query("SELECT DISTINCT article FROM temp.near_segments")
        self._gather("articles", {article for (article,) in articles})
        return "temp.near_segments", "temp.near_articles"

    def _gather(self, table: str, keys: set[int]) -> None:
        query = self._database.rows
        query(f"DELETE FROM temp.near_{table}")
        among = "s.id IN (SELECT value FROM json_each(?))"
        copy = f"INSERT OR IGNORE INTO temp.near_{table} SELECT * FROM"
        of_main = f"{copy} main.{table} s WHERE {among}"
        query(of_main, (json.dumps(sorted(keys)),))
        for shard, keys_of in self._by_shard(keys):
            query(
                f"{copy} {schema_of(shard)}.{table} s WHERE {is_unclaimed(table)} AND {among}",
                (json.dumps(keys_of),),
            )
        if self._database.read_only:  # another connection may have brought some since
            query(of_main, (json.dumps(sorted(keys)),))
