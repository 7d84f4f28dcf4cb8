"""Rows as they are published: the same by SQL as by the codec, for every length and type."""

from __future__ import annotations

import os

import apsw
import pytest

from tests.index.world import create
from usenetfs.checkpoint.changeset import encode_record
from usenetfs.checkpoint.draft import TABLES
from usenetfs.index.normal_form import (
    BATCH,
    FORMS,
    encoded_inserts,
    encoded_rows,
    exclude,
    export_rows,
    normalise,
    table_header,
)
from usenetfs.index.schema import CREATE_SCHEMA, REPLICATED_TABLES


@pytest.fixture
def connection() -> apsw.Connection:
    made = apsw.Connection(":memory:")
    made.execute(CREATE_SCHEMA)
    return made


def test_the_forms_are_those_of_the_schema(connection: apsw.Connection) -> None:
    assert tuple(FORMS) == REPLICATED_TABLES
    for name, form in FORMS.items():
        rows = list(connection.execute(f"PRAGMA table_info({name})"))
        assert [row[1] for row in rows] == [column.name for column in form.columns]
        assert bytes(row[5] for row in rows) == form.key_flags
        kinds = {"INTEGER": "I", "BLOB": "B", "TEXT": "T", "ANY": "A"}
        assert [kinds[row[2]] for row in rows] == [column.kind for column in form.columns]
        assert TABLES[name].key == tuple(form.key_flags)


def fill(connection: apsw.Connection) -> None:
    lengths = [0, 1, 127, 128, 129, 255, 300, 16383, 16384, 16385, 40000, 65536]
    for number, length in enumerate(lengths):
        connection.execute(
            "INSERT INTO xattrs VALUES (?, ?, ?)", (7, b"%d" % number, os.urandom(length))
        )
        connection.execute("INSERT INTO symlinks VALUES (?, ?)", (number, os.urandom(length)))
        connection.execute("INSERT INTO message_ids VALUES (?, ?)", (number, "é<" * length))
    for number in (-(1 << 63), -1, 0, 1, 0x7F, 1 << 40, (1 << 63) - 1):
        mode = 0o040755 if number % 2 else 0o100644
        connection.execute(
            "INSERT INTO inodes VALUES (?, ?, 1, 2, 3, 4, 5, ?, ?, ?)",
            (number, mode, -number - 1, number, 1_700_000_000_000_000_000),
        )
    connection.execute("INSERT INTO meta VALUES ('a', 5), ('b', 'text'), ('c', x'00ff')")
    connection.execute("INSERT INTO segments VALUES (1, x'0102', 3, 4, 1, 6, 7, 8)")
    connection.execute("INSERT INTO articles VALUES (1, 2, 3, 4, 5, 6, 7)")


@pytest.mark.parametrize("table", REPLICATED_TABLES)
def test_rows_are_encoded_as_the_codec_does(connection: apsw.Connection, table: str) -> None:
    fill(connection)
    columns = ", ".join(column.name for column in FORMS[table].columns)
    rows = connection.execute(f"SELECT {columns} FROM {table}").fetchall()
    expected = sorted(encode_record(normalise(table, row)) for row in rows)
    assert sorted(encoded_rows(connection, table)) == expected


def test_an_export_makes_the_same_tables(connection: apsw.Connection) -> None:
    fill(connection)
    other = apsw.Connection(":memory:")
    other.execute(CREATE_SCHEMA)
    apsw.Changeset.apply(b"".join(export_rows(connection, {})), other)
    for table in REPLICATED_TABLES:
        assert sorted(encoded_rows(other, table)) == sorted(encoded_rows(connection, table))
    other.close()


@pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH])
def test_batches_neither_lose_nor_repeat(connection: apsw.Connection, count: int) -> None:
    rows = [(number // 7, number, b"n", number) for number in range(count)]
    connection.executemany("INSERT INTO dirents VALUES (?, ?, ?, ?)", rows)
    excluded = [(row[0], row[1]) for row in rows[::3]]
    left = [row for number, row in enumerate(rows) if number % 3]
    other = apsw.Connection(":memory:")
    other.execute(CREATE_SCHEMA)
    exclude(connection, "dirents", excluded[::2])
    exclude(connection, "dirents", excluded[1::2])
    for batch in encoded_inserts(connection, "dirents"):
        apsw.Changeset.apply(table_header(FORMS["dirents"]) + batch, other)
    assert other.execute("SELECT * FROM dirents ORDER BY cookie").fetchall() == left
    other.close()


def test_a_new_index_has_its_forms(tmp_path: object) -> None:
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    with create(tmp_path / "index.db") as index:
        changes = b"".join(export_rows(index.database.connection, {}))
    assert changes.startswith(b"T\x02\x01\x00meta\0")
