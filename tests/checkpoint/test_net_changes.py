"""Many changes are joined in parts, with the same outcome as all at once."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import apsw
import pytest

from usenetfs.checkpoint import net_changes
from usenetfs.checkpoint.changeset import (
    Change,
    decode_changes,
    encode_change,
    encode_table,
    scatter,
)
from usenetfs.checkpoint.net_changes import NetChanges
from usenetfs.errors import DocumentError
from usenetfs.index.cut import merge

PART = 2000


@pytest.fixture(scope="module")
def changesets() -> list[bytes]:
    """What two tables went through, a changeset a transaction; rows come, change, go and return."""
    connection = apsw.Connection(":memory:")
    connection.execute(
        "CREATE TABLE names (parent INTEGER, name BLOB, leads_to INTEGER, note TEXT,"
        " PRIMARY KEY (parent, name)) WITHOUT ROWID;"
        "CREATE TABLE files (id INTEGER PRIMARY KEY, size REAL, hash BLOB)"
    )
    numbers = random.Random(1)
    found = []
    for _ in range(150):
        session = apsw.Session(connection, "main")
        session.attach()
        for _ in range(12):
            key = numbers.randrange(600)
            name = b"%d" % (key // 7 % 9) * numbers.choice([1, 200])
            statement, bindings = numbers.choice(
                [
                    ("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (key, 0.5, name)),
                    ("UPDATE files SET size = ? WHERE id = ?", (numbers.random(), key)),
                    ("DELETE FROM files WHERE id = ?", (key,)),
                    ("INSERT OR REPLACE INTO names VALUES (?, ?, ?, ?)", (key % 7, name, 1, "é")),
                    ("UPDATE names SET leads_to = ? WHERE parent = ?", (key, key % 7)),
                    ("DELETE FROM names WHERE parent = ?", (key % 7,)),
                ]
            )
            connection.execute(statement, bindings)
        found.append(session.changeset())
        session.close()
    connection.close()
    return found


def as_set(changes: Iterable[Change]) -> set[tuple[bytes, bytes]]:
    found = [(encode_table(change.table), encode_change(change)) for change in changes]
    assert len(set(found)) == len(found)
    return set(found)


def test_the_net_changes_are_the_same_in_parts(
    changesets: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counted(parts: list[bytes]) -> bytes:
        sizes.extend(map(len, parts))
        return merge(parts)

    monkeypatch.setattr(net_changes, "PART", PART)
    monkeypatch.setattr(net_changes, "merge", counted)
    size = sum(map(len, changesets))
    with NetChanges(changesets, size, tmp_path) as changes:
        assert as_set(changes) == as_set(decode_changes([merge(changesets)]))
        assert list(changes) == list(changes)
    assert len(set(sizes)) > size // PART // 2
    assert max(sizes) < 5 * PART, "most of it was merged at once"
    assert list(tmp_path.iterdir()) == []


def test_few_changes_are_one_part(changesets: list[bytes], tmp_path: Path) -> None:
    with NetChanges(changesets[:3], 1000, tmp_path) as changes:
        assert as_set(changes) == as_set(decode_changes([merge(changesets[:3])]))
    with NetChanges([], 0, tmp_path) as changes:
        assert list(changes) == []


def test_a_changeset_is_scattered_as_it_is(changesets: list[bytes]) -> None:
    for changeset in changesets:
        at, table = b"", b""
        for header, key, change in scatter(changeset):
            at += change if header == table else header + change
            table = header
            assert key in change
        assert at == changeset


def test_a_changeset_that_ends_early_is_not_scattered(changesets: list[bytes]) -> None:
    whole = b"".join(changesets[:3])
    ends, at, table = {0}, 0, b""
    for header, _, change in scatter(whole):
        if header != table:
            at += len(header)
            ends.add(at)
        at, table = at + len(change), header
        ends.add(at)
    for end in range(len(whole)):
        if end in ends:
            list(scatter(whole[:end]))
        else:
            with pytest.raises(DocumentError):
                list(scatter(whole[:end]))
