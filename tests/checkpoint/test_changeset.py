"""The changeset encoding, against SQLite's own session extension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.checkpoint.changeset import (
    CHUNK,
    UNCHANGED,
    Change,
    ChangesetDecoder,
    Operation,
    Table,
    decode_changes,
    encode_changes,
    encode_record,
)
from usenetfs.errors import DocumentError

SCHEMA = """
CREATE TABLE plain (id INTEGER NOT NULL PRIMARY KEY, a ANY, b ANY) STRICT;
CREATE TABLE named (p INTEGER NOT NULL, text TEXT NOT NULL, v ANY, name BLOB NOT NULL,
    PRIMARY KEY (name, p)) STRICT, WITHOUT ROWID;
CREATE TABLE "größe" (key TEXT NOT NULL PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
"""
TABLES = ("plain", "named", "größe")

INTEGERS = st.integers(-(2**63), 2**63 - 1)
SMALL = st.integers(0, 5)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)
BLOBS = st.binary(max_size=300)
VALUES = st.one_of(INTEGERS, st.floats(allow_nan=False), TEXTS, BLOBS, st.none())

STATEMENTS = st.one_of(
    st.tuples(st.just("REPLACE INTO plain VALUES (?, ?, ?)"), st.tuples(SMALL, VALUES, VALUES)),
    st.tuples(st.just("UPDATE plain SET b = ? WHERE id = ?"), st.tuples(VALUES, SMALL)),
    st.tuples(st.just("UPDATE plain SET id = id + 10 WHERE id = ?"), st.tuples(SMALL)),
    st.tuples(st.just("DELETE FROM plain WHERE id = ?"), st.tuples(SMALL)),
    st.tuples(
        st.just("REPLACE INTO named VALUES (?, ?, ?, ?)"),
        st.tuples(SMALL, TEXTS, VALUES, st.sampled_from([b"", b"x", b"y" * 200])),
    ),
    st.tuples(st.just("UPDATE named SET text = ? WHERE p = ?"), st.tuples(TEXTS, SMALL)),
    st.tuples(st.just("DELETE FROM named WHERE p = ?"), st.tuples(SMALL)),
    st.tuples(
        st.just('REPLACE INTO "größe" VALUES (?, ?)'),
        st.tuples(st.sampled_from(["a", "ü"]), VALUES.filter(lambda value: value is not None)),
    ),
)
RUNS = st.lists(STATEMENTS, max_size=25)


def database() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute(SCHEMA)
    return connection


def run(connection: apsw.Connection, statements: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
    for sql, bindings in statements:
        try:
            connection.execute(sql, bindings)
        except apsw.ConstraintError:
            continue


def recorded(
    connection: apsw.Connection, statements: Sequence[tuple[str, tuple[Any, ...]]]
) -> bytes:
    session = apsw.Session(connection, "main")
    for table in TABLES:
        session.attach(table)
    run(connection, statements)
    changes = session.changeset()
    session.close()
    return changes


def content(connection: apsw.Connection) -> list[Any]:
    return [
        (table, connection.execute(f'SELECT * FROM "{table}" ORDER BY 1, 2').fetchall())
        for table in TABLES
    ]


def as_sqlite_sees(changes: bytes) -> list[Any]:
    def fields(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if values is None:
            return None
        return tuple(UNCHANGED if value is apsw.no_change else value for value in values)

    return [
        (change.name, change.opcode, fields(change.old), fields(change.new), change.indirect)
        for change in apsw.Changeset.iter(changes)
    ]


def as_we_see(changes: Sequence[Change]) -> list[Any]:
    return [(c.table.name, int(c.operation), c.old, c.new, c.indirect) for c in changes]


@given(before=RUNS, statements=RUNS, cut=st.integers(1, 50))
def test_we_read_what_sqlite_records(before: Any, statements: Any, cut: int) -> None:
    connection = database()
    run(connection, before)
    changes = recorded(connection, statements)
    pieces = [changes[at : at + cut] for at in range(0, len(changes), cut)]
    assert as_we_see(list(decode_changes(pieces))) == as_sqlite_sees(changes)


@given(before=RUNS, statements=RUNS)
def test_what_we_write_is_what_sqlite_writes_and_applies(before: Any, statements: Any) -> None:
    connection, other = database(), database()
    run(connection, before)
    run(other, before)
    changes = recorded(connection, statements)
    ours = b"".join(encode_changes(decode_changes([changes])))
    assert ours == changes
    if ours:
        apsw.Changeset.apply(ours, other)
    assert content(other) == content(connection)


@given(statements=RUNS)
def test_a_whole_table_as_inserts_makes_the_same_table(statements: Any) -> None:
    connection, other = database(), database()
    run(connection, statements)
    tables = {
        "plain": Table("plain", (1, 0, 0)),
        "named": Table("named", (2, 0, 0, 1)),
        "größe": Table("größe", (1, 0)),
    }
    inserts = [
        Change(tables[name], Operation.INSERT, None, row)
        for name, rows in content(connection)
        for row in rows
    ]
    encoded = b"".join(encode_changes(inserts))
    if encoded:
        apsw.Changeset.apply(encoded, other)
    assert content(other) == content(connection)
    assert list(decode_changes([encoded])) == inserts


@given(data=st.binary(max_size=200))
def test_anything_else_is_refused_or_read_and_never_more(data: bytes) -> None:
    try:
        list(decode_changes([data]))
    except DocumentError:
        return


@given(statements=RUNS, at=st.integers(0, 400), octet=st.integers(0, 255))
def test_a_damaged_changeset_ends_in_one_kind_of_error(
    statements: Any, at: int, octet: int
) -> None:
    changes = bytearray(recorded(database(), statements))
    if at < len(changes):
        changes[at] = octet
    try:
        list(decode_changes([changes]))
    except DocumentError:
        return


def test_a_changeset_that_ends_early_is_refused() -> None:
    whole = b"".join(
        encode_changes([Change(Table("t", (1, 0)), Operation.INSERT, None, (1, b"abc"))])
    )
    for end in range(1, len(whole)):
        decoder = ChangesetDecoder()
        if decoder.feed(whole[:end]):
            pytest.fail("a change came out before it was there")
        if end == len(whole) - 16:  # just the table, which is whole
            decoder.finish()
            continue
        with pytest.raises(DocumentError):
            decoder.finish()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x12\x00\x01", id="no table"),
        pytest.param(b"T\x00t\x00", id="no columns"),
        pytest.param(b"T\x01\x00t\x00", id="no key"),
        pytest.param(b"T\x01\x01\x00", id="no name"),
        pytest.param(b"T\x01\x01" + b"t" * 300, id="a name without end"),
        pytest.param(b"T\x01\x01\xff\x00", id="a name that is no text"),
        pytest.param(b"T\x01\x01t\x00\x13\x00", id="an unknown operation"),
        pytest.param(b"T\x01\x01t\x00\x12\x02", id="an unknown mark"),
        pytest.param(b"T\x01\x01t\x00\x12\x00\x00", id="an insert without a value"),
        pytest.param(b"T\x01\x01t\x00\x12\x00\x06", id="an unknown type"),
        pytest.param(b"T\x01\x01t\x00\x12\x00\x03\x01\xff", id="a text that is none"),
        pytest.param(b"T\x01\x01t\x00\x12\x00\x04" + b"\xff" * 9, id="a blob of exabytes"),
    ],
)
def test_what_is_no_changeset_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        list(decode_changes([data]))


def test_chunks_stay_small_whatever_the_length() -> None:
    table = Table("t", (1, 0))
    changes = [Change(table, Operation.INSERT, None, (n, b"x" * 1000)) for n in range(1000)]
    chunks = list(encode_changes(changes))
    assert max(map(len, chunks)) < CHUNK + 2000
    assert list(decode_changes(chunks)) == changes


def test_a_value_that_sqlite_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="no type"):
        encode_record([object()])  # type: ignore[list-item]
