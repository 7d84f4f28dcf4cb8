"""Indexes of earlier versions: brought to this one's with all that is in them, or left alone."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from tests.index.world import (
    KEY,
    create,
    make_directory,
    make_file,
    member,
    record,
    reopen,
    stage,
    upload,
)
from usenetfs.errors import DiskFullError, SchemaVersionError
from usenetfs.index.index import Index
from usenetfs.index.migrate import STEPS
from usenetfs.index.schema import ADDED_INDEXES, APPLICATION_ID, SCHEMA_VERSION
from usenetfs.types import ROOT_INODE, BlockNumber

VERSIONS = Path(__file__).parent / "versions"
EARLIER = range(1, SCHEMA_VERSION)
INTERNAL = "name NOT LIKE 'sqlite_%'"


def fill(index: Index) -> None:
    """Something in every table that versions have had from the first."""
    folder = make_directory(index, b"folder")
    one = make_file(index, b"one", size=2000, parent=folder)
    upload(index, one, 0, b"a" * 1000)
    upload(index, one, 1, b"b" * 1000)
    two = make_file(index, b"two", size=1000)
    upload(index, two, 0, b"a" * 1000)
    waiting = make_file(index, b"waiting", size=1000)
    record(index, member(waiting, 0, stage(index, waiting, 0), b"c" * 1000))
    gone = make_file(index, b"gone")
    with index.transaction():
        index.symlinks.set(two, b"target")
        index.xattrs.set(two, b"user.x", b"value")
        index.dirents.remove(ROOT_INODE, b"gone")
        index.inodes.delete(gone)


def as_of_version(version: int, source: Path, path: Path) -> None:
    """An index of an earlier version with the rows of ``source``, as far as it had the tables."""
    old = apsw.Connection(str(path))
    schema = (VERSIONS / f"{version}.sql").read_text()
    old.execute(schema.split("CREATE TRIGGER")[0])
    old.execute("ATTACH ? AS source", (str(source),))
    tables = old.execute(f"SELECT name FROM main.sqlite_schema WHERE type = 'table' AND {INTERNAL}")
    for (table,) in tables.fetchall():
        if old.execute("SELECT 1 FROM source.sqlite_schema WHERE name = ?", (table,)).fetchone():
            old.execute(f"INSERT INTO main.{table} SELECT * FROM source.{table}")
    old.execute("DETACH source")
    old.execute("CREATE TRIGGER" + schema.split("CREATE TRIGGER", 1)[1])
    old.pragma("application_id", APPLICATION_ID)
    old.pragma("user_version", version)
    old.close()


def columns(connection: apsw.Connection) -> dict[str, list[tuple[object, ...]]]:
    """By table, its columns; the indexes by name."""
    names = connection.execute(
        f"SELECT name FROM sqlite_schema WHERE type IN ('table', 'index') AND {INTERNAL} ORDER BY 1"
    ).fetchall()
    return {
        str(name): connection.execute(f"PRAGMA table_xinfo({name})").fetchall() for (name,) in names
    }


def test_every_earlier_version_has_its_step_and_its_tables_here() -> None:
    assert list(STEPS) == list(EARLIER)
    assert [path.name for path in sorted(VERSIONS.glob("*.sql"))] == [
        f"{version}.sql" for version in range(1, SCHEMA_VERSION + 1)
    ]


@pytest.mark.parametrize("version", EARLIER)
def test_nothing_is_lost_on_the_way(tmp_path: Path, version: int) -> None:
    source, path = tmp_path / "source.db", tmp_path / "index.db"
    with create(source) as index:
        fill(index)
        expected = index.dirents.list(ROOT_INODE, 0, 10)
        tables = columns(index.database.connection)
    as_of_version(version, source, path)
    with reopen(path) as index:
        assert index.identity.schema_version == SCHEMA_VERSION
        assert index.check(deep=True) == []
        assert index.dirents.list(ROOT_INODE, 0, 10) == expected
        assert columns(index.database.connection) == tables
        assert len(index.in_flight()) == 1
        assert index.chain.state() is None  # so the first checkpoint is a snapshot
        two = index.dirents.lookup(ROOT_INODE, b"two")
        assert two is not None
        assert len(index.blocks.locate(two, BlockNumber(0), 1)) == 1
        assert index.symlinks.get(two) == b"target"
        # ids that were given once are not given again, and writing goes on
        highest = max(index.database.rows("SELECT id FROM inodes"))[0]
        new = make_file(index, b"new", size=1000)
        assert new > highest
        upload(index, new, 0, b"a" * 1000)
        assert index.changelog.pending() > 0
        assert index.check(deep=True) == []
    reopen(path).close()


def test_the_first_files_of_this_version_have_the_same_tables(tmp_path: Path) -> None:
    source, path = tmp_path / "source.db", tmp_path / "index.db"
    with create(source) as index:
        fill(index)
    as_of_version(SCHEMA_VERSION, source, path)
    with Index.open(path, directory_key=KEY, read_only=True) as index:
        two = index.dirents.lookup(ROOT_INODE, b"two")
        assert two is not None
        assert len(index.blocks.locate(two, BlockNumber(0), 1)) == 1
    with reopen(path) as index:
        added = "SELECT name FROM sqlite_schema WHERE name = ?"
        assert all(index.database.row(added, (name,)) for name in ADDED_INDEXES)
        inode = make_file(index, b"new", size=1000)
        upload(index, inode, 0, b"a" * 1000)
        assert index.segments.get(index.blocks.locate(inode, BlockNumber(0), 1)[0].segment)
        assert not index.give_back(1)  # it was not made for that
        assert index.check(deep=True) == []


@pytest.mark.parametrize("version", EARLIER)
def test_a_full_disk_leaves_it_as_it_was(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, path = tmp_path / "source.db", tmp_path / "index.db"
    with create(source) as index:
        fill(index)
    as_of_version(version, source, path)
    before = path.read_bytes()[100:]
    with monkeypatch.context() as patch:
        step = STEPS[version].replace("CREATE", "PRAGMA max_page_count = 1; CREATE", 1)
        patch.setitem(STEPS, version, step)
        with pytest.raises(DiskFullError):
            reopen(path)
    assert path.read_bytes()[100:] == before  # but for the header, which says that there was a WAL
    with reopen(path) as index:
        assert index.check(deep=True) == []


@pytest.mark.parametrize("version", EARLIER)
def test_a_reader_is_told_what_to_do(tmp_path: Path, version: int) -> None:
    create(tmp_path / "source.db").close()
    path = tmp_path / "index.db"
    as_of_version(version, tmp_path / "source.db", path)
    with pytest.raises(SchemaVersionError, match=f"version {version}") as caught:
        Index.open(path, directory_key=KEY, read_only=True)
    assert "mount it once" in (caught.value.hint or "")
