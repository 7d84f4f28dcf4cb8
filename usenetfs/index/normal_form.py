"""Replicated rows as they are published: in normal form, and in SQLite's changeset encoding.

Some columns are counts over other rows (how many blocks rest on a segment, the link count of a
directory). What is published may lack some of those rows, so published rows say 0 there
and a reader counts for itself; :data:`NORMAL` is the list.

The encoding is made by SQL, in batches: a snapshot of millions of rows then runs beside the event
loop without taking the interpreter's lock for more than a moment at a time.

Owns no table. It must not know what a checkpoint is.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import apsw

from usenetfs.index.database import Row
from usenetfs.index.shards import ShardedRows

BATCH: Final = 500
"""Rows that SQL joins into one value."""

BATCHES: Final = {"symlinks": 100, "xattrs": 50}
"""The same for tables with long values: memory holds a batch twice over, in digits."""


class Column(NamedTuple):
    """``kind``: I integer, B blob, T text, A any."""

    name: str
    kind: str


class TableForm(NamedTuple):
    """Columns in their order, and those of the primary key."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def key_places(self) -> tuple[int, ...]:
        """Where the key's columns are among all."""
        names = [column.name for column in self.columns]
        return tuple(names.index(name) for name in self.key)

    @property
    def key_flags(self) -> bytes:
        """For each column its place in the key from 1, or 0: as changesets name them."""
        return bytes(
            self.key.index(column.name) + 1 if column.name in self.key else 0
            for column in self.columns
        )


def _form(name: str, columns: str, *key: str) -> TableForm:
    parts = (column.split(":") for column in columns.split())
    return TableForm(name, tuple(Column(part[0], part[1]) for part in parts), key)


FORMS: Final = {
    form.name: form
    for form in (
        _form("meta", "key:T value:A", "key"),
        _form(
            "inodes",
            "id:I mode:I uid:I gid:I nlink:I size:I rdev:I atime_ns:I mtime_ns:I ctime_ns:I",
            "id",
        ),
        _form("dirents", "parent:I cookie:I name:B inode:I", "parent", "cookie"),
        _form("symlinks", "inode:I target:B", "inode"),
        _form("xattrs", "inode:I name:B value:B", "inode", "name"),
        _form("blocks", "inode:I number:I segment:I length:I", "inode", "number"),
        _form(
            "segments",
            "id:I hash:B raw_length:I stored_length:I codec:I article:I slot:I refs:I",
            "id",
        ),
        _form("articles", "id:I attempt:I state:I size:I posted:I blocks:I bytes:I", "id"),
        _form("message_ids", "article:I message_id:T", "article"),
    )
}
"""The replicated tables. A test compares them with the schema."""

NORMAL: Final = {
    ("inodes", "nlink"): "CASE WHEN mode & 61440 = 16384 THEN 0 ELSE nlink END",
    ("segments", "refs"): "0",
    ("articles", "blocks"): "0",
    ("articles", "bytes"): "0",
}
"""What stands in these columns of a published row."""

_DIRECTORY: Final = 0o040000


def normalise(table: str, row: Row) -> Row:
    """A row of all columns in normal form; the same as :data:`NORMAL`."""
    if table == "inodes":
        return (*row[:4], 0, *row[5:]) if row[1] & 0o170000 == _DIRECTORY else row
    if table == "segments":
        return (*row[:-1], 0)
    if table == "articles":
        return (*row[:-2], 0, 0)
    return row


def table_header(form: TableForm) -> bytes:
    """What stands before a table's changes in a changeset."""
    return b"T" + bytes((len(form.columns),)) + form.key_flags + form.name.encode() + b"\0"


def row_of(
    connection: apsw.Connection,
    table: str,
    key: Sequence[Any],
    shards: ShardedRows | None = None,
) -> Row | None:
    """The row as it is, all columns."""
    form = FORMS[table]
    if shards is not None and shards.has(table):
        return shards.row(table, ", ".join(column.name for column in form.columns), key[0])
    where = " AND ".join(f"{name} = ?" for name in form.key)
    columns = ", ".join(column.name for column in form.columns)
    return connection.execute(f"SELECT {columns} FROM {table} WHERE {where}", key).fetchone()


def encoded_rows(
    connection: apsw.Connection, table: str, shards: ShardedRows | None = None
) -> Iterator[bytes]:
    """Every row in normal form, in changeset encoding, one by one (for digests)."""
    form = FORMS[table]
    for joined in _joined(connection, form, f"group_concat({_record(form)}, ',')", shards):
        yield from map(unhexlify, joined.split(","))


def encoded_inserts(
    connection: apsw.Connection, table: str, shards: ShardedRows | None = None
) -> Iterator[bytes]:
    """Every row in normal form as an INSERT of a changeset, in batches; without the header.

    Rows that the connection was told to :func:`exclude` are left out.
    """
    form = FORMS[table]
    record = f"'1200' || {_record(form)}"
    if connection.execute(_IS_EXCLUDED, (_excluded(table),)).fetchone():
        same = " AND ".join(f"e.{name} = t.{name}" for name in form.key)
        record = (
            f"CASE WHEN EXISTS (SELECT 1 FROM temp.{_excluded(table)} e WHERE {same}) THEN ''"
            f" ELSE {record} END"
        )
    for batch in _joined(connection, form, f"unhex(group_concat({record}, ''))", shards):
        if batch:
            yield batch


def _joined(
    connection: apsw.Connection, form: TableForm, aggregate: str, shards: ShardedRows | None
) -> Iterator[Any]:
    """``aggregate`` over all rows, called ``t``, in batches and in the order of the key.

    Where a batch ends is looked up first: the rows of it are then a range of the key, which is read
    in order and needs no subquery. Of a table that is spread over files, a batch is a stripe.
    """
    if shards is not None and shards.has(form.name):
        for source, above_key, last_key in shards.windows(form.name, BATCH):
            found = connection.execute(
                f"SELECT {aggregate} FROM {source} t", (above_key, last_key)
            ).fetchone()
            if found is not None and found[0] is not None:
                yield found[0]
        return
    key = ", ".join(form.key)
    places = ", ".join("?" for _ in form.key)
    size = BATCHES.get(form.name, BATCH)
    after: tuple[Any, ...] = ()
    while True:
        above = f"WHERE ({key}) > ({places})" if after else ""
        last = connection.execute(
            f"SELECT {key} FROM {form.name} {above} ORDER BY {key} LIMIT 1 OFFSET {size - 1}", after
        ).fetchone()
        below = ""
        if last is not None:
            below = f"{'AND' if after else 'WHERE'} ({key}) <= ({places})"
        bindings = (*after, *(last or ()))
        sql = f"SELECT {aggregate} FROM {form.name} t {above} {below}"
        found = connection.execute(sql, bindings).fetchone()
        if found is not None and found[0] is not None:
            yield found[0]
        if last is None:
            return
        after = last


_IS_EXCLUDED: Final = "SELECT 1 FROM temp.sqlite_schema WHERE name = ?"


def _excluded(table: str) -> str:
    return f"excluded_{table}"


def exclude(connection: apsw.Connection, table: str, keys: Iterable[Sequence[Any]]) -> None:
    """Rows that exports of this connection leave out; more at each call."""
    key = FORMS[table].key
    names, places = ", ".join(key), ", ".join("?" for _ in key)
    connection.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS {_excluded(table)}"
        f" ({names}, PRIMARY KEY ({names})) WITHOUT ROWID"
    )
    connection.executemany(f"INSERT OR IGNORE INTO temp.{_excluded(table)} VALUES ({places})", keys)


def export_rows(
    connection: apsw.Connection,
    extra: Mapping[str, Iterable[bytes]],
    shards: ShardedRows | None = None,
) -> Iterator[bytes]:
    """All replicated tables but what is excluded, as a changeset of INSERTs, as a stream.

    ``extra``: by table, INSERTs to add, encoded.
    """
    for table, form in FORMS.items():
        begun = False
        for batches in (encoded_inserts(connection, table, shards), extra.get(table, ())):
            for batch in batches:
                yield batch if begun else table_header(form) + batch
                begun = True


def _record(form: TableForm) -> str:
    """SQL for the hexadecimal digits of a row's record: one call for all its columns, which takes
    half the time of one call for each."""
    formats, values = [], []
    for column in form.columns:
        value = NORMAL.get((form.name, column.name), column.name)
        pattern, argument = _field(value, column.kind)
        formats.append(pattern)
        values.append(argument)
    return _printf("".join(formats), values)


def _printf(pattern: str, arguments: Sequence[str]) -> str:
    return f"printf('{pattern}', {', '.join(arguments)})"


def _field(value: str, kind: str) -> tuple[str, str]:
    """A field as a pattern with one place, and what stands there."""
    if kind == "I":
        return "01%016x", value
    if kind == "B":
        return "04%s", _octets(value)
    if kind == "T":
        return "03%s", _octets(f"CAST({value} AS BLOB)")
    cases = " ".join(
        f"WHEN '{name}' THEN {_printf(pattern, [argument])}"
        for name, (pattern, argument) in (
            ("integer", _field(value, "I")),
            ("text", _field(value, "T")),
            ("blob", _field(value, "B")),
        )
    )
    return "%s", f"CASE typeof({value}) {cases} END"


def _octets(blob: str) -> str:
    """Length as a varint, then the octets. None is as long as 2 MiB.

    SQLite's shifts and bitwise operators are all of one precedence.
    """
    length = f"length({blob})"
    return (
        f"CASE WHEN {length} < 128 THEN printf('%02x%s', {length}, hex({blob}))"
        f" WHEN {length} < 16384"
        f" THEN printf('%02x%02x%s', 128 | ({length} >> 7), {length} & 127, hex({blob}))"
        f" ELSE printf('%02x%02x%02x%s', 128 | ({length} >> 14), 128 | (({length} >> 7) & 127),"
        f" {length} & 127, hex({blob})) END"
    )
