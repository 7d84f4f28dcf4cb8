"""Opening, refusing, transactions, durability: what holds whatever the tables are."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest

from tests.index.world import BLOCK, KEY, create, make_file, reopen
from usenetfs.errors import (
    DatabaseError,
    DiskFullError,
    FilesystemBusyError,
    FilesystemExistsError,
    SchemaVersionError,
)
from usenetfs.index.database import SMALL, translate
from usenetfs.index.dirents import _LIST
from usenetfs.index.index import ROOT_MODE, Index
from usenetfs.index.schema import LOCAL_TABLES, REPLICATED_TABLES, SCHEMA_VERSION
from usenetfs.types import ROOT_INODE


def damage(path: Path, sql: str) -> None:
    """Change a closed index behind its back."""
    connection = apsw.Connection(str(path))
    connection.execute(sql)
    connection.close()


# --- making and opening --------------------------------------------------------------------------


def test_a_new_index_has_a_root_and_its_identity(index: Index, path: Path) -> None:
    root = index.inodes.get(ROOT_INODE)
    assert root is not None
    assert (root.mode, root.nlink, root.uid) == (ROOT_MODE, 2, os.getuid())
    assert index.identity.name == "test"
    assert (index.identity.block_size, index.identity.epoch) == (BLOCK, 1)
    assert index.identity.schema_version == SCHEMA_VERSION
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in path.parent.iterdir() if ".new" in p.name) == []


def test_it_comes_back_as_it_was(path: Path) -> None:
    with create(path) as index:
        identity = index.identity
        inode = make_file(index, b"a")
    with reopen(path) as index:
        assert index.identity == identity
        assert index.dirents.lookup(ROOT_INODE, b"a") == inode


def test_an_index_is_not_overwritten(path: Path) -> None:
    create(path).close()
    with pytest.raises(FilesystemExistsError):
        create(path)
    reopen(path).close()


def test_what_a_killed_create_left_is_no_hindrance(path: Path) -> None:
    path.with_name("index.db.new").write_bytes(b"half")
    create(path).close()
    reopen(path).close()


def test_no_index(path: Path) -> None:
    with pytest.raises(DatabaseError, match="no index") as caught:
        reopen(path)
    assert caught.value.hint


def test_not_a_database(path: Path) -> None:
    path.write_bytes(b"something else " * 1000)
    with pytest.raises(DatabaseError, match="not an index"):
        reopen(path)


def test_another_programs_database(path: Path) -> None:
    damage(path, "CREATE TABLE t (x)")
    with pytest.raises(DatabaseError, match="not an index"):
        reopen(path)


@pytest.mark.parametrize(
    ("version", "hint"), [(SCHEMA_VERSION + 1, "newer"), (0, "version that made it")]
)
def test_another_schema_version(path: Path, version: int, hint: str) -> None:
    create(path).close()
    damage(path, f"PRAGMA user_version = {version}")
    with pytest.raises(SchemaVersionError, match=f"version {version}") as caught:
        reopen(path)
    assert hint in (caught.value.hint or "")


def test_damaged_pages(path: Path) -> None:
    with create(path) as index:
        for number in range(500):
            make_file(index, b"file %d" % number)
    content = bytearray(path.read_bytes())
    content[8192:] = os.urandom(len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(DatabaseError, match="damaged") as caught, reopen(path) as index:
        index.dirents.list(ROOT_INODE, 0, 1000)
    assert "recover" in (caught.value.hint or "")


def test_identity_lost(path: Path) -> None:
    create(path).close()
    damage(path, "DELETE FROM meta WHERE key = 'epoch'")
    with pytest.raises(DatabaseError, match="does not say its epoch"):
        reopen(path)


def test_another_filesystems_key_is_noticed_at_once(path: Path) -> None:
    create(path).close()
    with pytest.raises(DatabaseError, match="another filesystem's key"):
        Index.open(path, directory_key=b"0" * 16)
    reopen(path).close()  # the failed attempt holds no lock


def test_one_writer(path: Path) -> None:
    with create(path), pytest.raises(FilesystemBusyError):
        reopen(path)
    reopen(path).close()


def test_readers_beside_the_writer(path: Path) -> None:
    with create(path) as index, Index.open(path, directory_key=KEY, read_only=True) as reader:
        inode = make_file(index, b"a")
        assert reader.dirents.lookup(ROOT_INODE, b"a") == inode
        assert reader.check() == []
        with pytest.raises(DatabaseError, match="read-only"), reader.transaction():
            pass
        with pytest.raises(DatabaseError, match="not open for writing"):
            reader.sync()


@pytest.mark.parametrize("arguments", [{"filesystem_id": b"short"}, {"block_size": 0}])
def test_nonsense_is_refused(path: Path, arguments: dict[str, object]) -> None:
    given: dict[str, object] = {"filesystem_id": b"f" * 16, "name": "n", "block_size": 1000}
    with pytest.raises(DatabaseError):
        Index.create(path, directory_key=KEY, **{**given, **arguments})  # type: ignore[arg-type]
    assert not path.exists()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="cannot be made"):
        create(tmp_path / "nowhere" / "index.db")


def test_every_table_is_either_replicated_or_local(index: Index) -> None:
    tables = {
        row[0]
        for row in index.database.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")
        if not row[0].startswith("sqlite_")
    }
    assert tables == set(REPLICATED_TABLES) | set(LOCAL_TABLES)
    assert all(name.startswith("local_") for name in LOCAL_TABLES)
    triggers = index.database.rows("SELECT tbl_name FROM sqlite_schema WHERE type = 'trigger'")
    assert {row[0] for row in triggers} <= set(LOCAL_TABLES)
    for table in REPLICATED_TABLES:
        keys = [row for row in index.database.rows(f"PRAGMA table_info({table})") if row[5]]
        assert keys, table
        assert all(row[3] for row in keys), f"{table} takes NULL in its key"


# --- transactions --------------------------------------------------------------------------------


def test_an_error_undoes_all_of_it(index: Index) -> None:
    before = index.inodes.totals()
    with pytest.raises(ZeroDivisionError), index.transaction():  # noqa: PT012
        made = index.inodes.insert(0o100644, 0, 0, 1, 0, 5, (0, 0, 0))
        index.dirents.insert(ROOT_INODE, b"a", made.id)
        raise ZeroDivisionError
    assert index.dirents.lookup(ROOT_INODE, b"a") is None
    assert index.inodes.totals() == before
    assert make_file(index, b"b") > made.id  # a number is not given twice


def test_transactions_do_not_nest(index: Index) -> None:
    with index.transaction():
        make = index.inodes.insert(0o100644, 0, 0, 0, 0, 0, (0, 0, 0))
        with pytest.raises(DatabaseError, match="do not nest"):
            index.mark_seen(index.articles.allocate(), 0)
    assert index.inodes.get(make.id) is not None


def test_nothing_is_written_outside(index: Index) -> None:
    for write in (
        lambda: index.inodes.insert(0o100644, 0, 0, 1, 0, 0, (0, 0, 0)),
        lambda: index.dirents.remove(ROOT_INODE, b"a"),
        lambda: index.staging.put_many([]),
    ):
        with pytest.raises(DatabaseError, match="outside of a transaction"):
            write()


def test_the_hook_is_part_of_the_transaction(index: Index) -> None:
    seen: list[int] = []

    def note() -> None:
        seen.append(index.database.value("SELECT count(*) FROM inodes"))
        with_mark = "INSERT INTO local_meta (key, value) VALUES (?, 1)"
        index.database.write(with_mark, (f"mark {len(seen)}",))

    index.set_commit_hook(note)
    make_file(index, b"a")
    make_file(index, b"b")
    assert seen == [2, 3]
    marks = "SELECT count(*) FROM local_meta WHERE key LIKE 'mark%'"
    assert index.database.value(marks) == 2

    def fail() -> None:
        raise RuntimeError("hook")

    index.set_commit_hook(fail)
    with pytest.raises(RuntimeError, match="hook"):
        make_file(index, b"c")
    index.set_commit_hook(None)
    assert index.dirents.lookup(ROOT_INODE, b"c") is None
    assert not index.in_transaction


def test_a_full_disk_is_a_disk_full_error_and_undoes_the_transaction(index: Index) -> None:
    pages = index.database.value("PRAGMA page_count")
    index.database.value(f"PRAGMA max_page_count = {pages + 2}")
    made = 0
    with pytest.raises(DiskFullError) as caught:  # noqa: PT012
        while True:
            with index.transaction():
                for number in range(20):
                    inode = index.inodes.insert(0o100644, 0, 0, 1, 0, 0, (0, 0, 0))
                    index.dirents.insert(ROOT_INODE, b"%d %d" % (made, number), inode.id)
            made += 1
    assert caught.value.recoverable
    assert index.inodes.totals().files == made * 20
    index.database.value("PRAGMA max_page_count = 1000000")
    make_file(index, b"there is room again")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (apsw.FullError, DiskFullError, "no space"),
        (apsw.CorruptError, DatabaseError, "damaged"),
        (apsw.CantOpenError, DatabaseError, "cannot be opened"),
        (apsw.BusyError, DatabaseError, "locked"),
        (apsw.IOError, DatabaseError, "IOError"),
    ],
)
def test_foreign_errors(error: type[apsw.Error], kind: type[Exception], text: str) -> None:
    translated = translate(error("x"), Path("/data/index.db"))
    assert type(translated) is kind
    assert text in str(translated)


# --- durability ----------------------------------------------------------------------------------


def test_sync_from_a_thread_while_writing(index: Index) -> None:
    failed: list[BaseException] = []

    def sync() -> None:
        try:
            for _ in range(20):
                index.sync()
        except BaseException as error:  # noqa: BLE001 (reported by the main thread)
            failed.append(error)

    threads = [threading.Thread(target=sync) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(200):
        make_file(index, b"%d" % number)
    for thread in threads:
        thread.join(60)
    assert not failed


def test_a_sync_that_finds_too_many_files_open_is_no_loss(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(DatabaseError, match="Too many open files"):
            index.sync()
    index.sync()


def test_a_failed_sync_never_succeeds_again(path: Path) -> None:
    with create(path) as index:
        make_file(index, b"a")
        read_end, write_end = os.pipe()  # a pipe cannot be synced: EINVAL
        index.sync()
        os.dup2(read_end, index.database._wal_fd)
        os.close(read_end)
        os.close(write_end)
        for _ in range(2):
            with pytest.raises(DatabaseError, match="could not be synced"):
                index.sync()
    with reopen(path) as index:
        index.sync()


def test_the_wal_stays_small_under_sustained_writes(path: Path) -> None:
    with create(path) as index:
        assert not index.maintain()
        largest = 0
        for number in range(60):
            with index.transaction():
                for part in range(100):
                    inode = index.inodes.insert(0o100644, 0, 0, 1, 0, 0, (0, 0, 0))
                    index.dirents.insert(ROOT_INODE, b"%d %d" % (number, part), inode.id)
            worker = threading.Thread(target=index.wal_checkpoint_step)
            worker.start()
            worker.join(60)
            index.wal_checkpoint_inline()
            largest = max(largest, index.wal_size())
        assert largest < 4 << 20
        with index.transaction(), pytest.raises(DatabaseError, match="inside a transaction"):
            index.wal_checkpoint_inline()
        assert index.check(deep=True) == []


def test_a_log_that_somebody_else_is_copying_is_left_to_them(path: Path) -> None:
    script = (
        "import fcntl, os, sys; fd = os.open(sys.argv[1] + '-shm', os.O_RDWR);"
        "fcntl.lockf(fd, fcntl.LOCK_EX, 1, 121); print('locked', flush=True); sys.stdin.read()"
    )  # 121: the lock of whoever copies the log (sqlite.org/walformat.html)
    with create(path) as index:
        make_file(index, b"a")
        with subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"locked\n"
            assert index.database.checkpoint_in_thread() == (0, 0)
            assert index.database.checkpoint_inline() == (0, 0)
            process.kill()
        in_log, copied = index.database.checkpoint_in_thread()
        assert 0 < in_log == copied


def test_maintain_when_the_wal_has_grown(index: Index) -> None:
    for number in range(400):
        make_file(index, b"%d" % number)
    assert index.wal_size() > 4 << 20
    assert index.maintain()
    grown = index.wal_size()
    for number in range(400):
        make_file(index, b"again %d" % number)
    assert index.wal_size() <= grown + (1 << 20)  # it started over


def test_what_is_free_goes_back_to_the_disk(path: Path) -> None:
    with create(path) as index:
        with index.transaction():
            for number in range(12):
                index.database.write(
                    "INSERT INTO local_held (number, part, data) VALUES (?, 0, zeroblob(?))",
                    (number, 2 << 20),
                )
        inode = make_file(index, b"a")
        assert not index.give_back()  # nothing is free
        with index.transaction():
            index.database.write("DELETE FROM local_held")
        free, total = index.database.pages()
        assert free > 6000
        with index.transaction(), pytest.raises(DatabaseError, match="inside a transaction"):
            index.give_back()
        steps = 0
        while index.give_back(256):
            steps += 1
        assert 4 <= steps <= 12
        left, now = index.database.pages()
        assert left < 4096
        assert now < total
        assert index.dirents.lookup(ROOT_INODE, b"a") == inode
        assert index.check(deep=True) == []
    assert path.stat().st_size == now * 4096


def fill(index: Index, count: int) -> None:
    """So many names, quickly."""
    with index.transaction():
        made = index.inodes.insert_many([(0o100644, 0, 0, 1, 0, 0, (1, 1, 1))] * count)
        index.dirents.insert_many((ROOT_INODE, b"%d" % number, number) for number in made)


def statistics(index: Index) -> dict[str, int]:
    """Rows of each table, as the planner believes."""
    found = index.database.rows(
        "SELECT tbl, max(CAST(stat AS INTEGER)) FROM sqlite_stat1 GROUP BY 1"
    )
    return dict(found)


def test_closing_leaves_statistics_for_the_planner(path: Path) -> None:
    with create(path) as index:
        fill(index, SMALL + 1)
        assert len(index.dirents.list(ROOT_INODE, 0, 10)) == 10
    with reopen(path) as index:
        assert statistics(index)["dirents"] > SMALL
        assert "meta" not in statistics(index)


def test_a_listing_reads_no_more_than_it_gives_however_the_tables_grew(path: Path) -> None:
    """Closed with one inode, with statistics as earlier versions left them."""
    with create(path) as index:
        assert index.dirents.list(ROOT_INODE, 0, 10) == []
    damage(path, "ANALYZE")
    damage(path, "DELETE FROM sqlite_stat1 WHERE tbl = 'inodes'")
    damage(path, "INSERT INTO sqlite_stat1 VALUES ('inodes', NULL, '1')")
    damage(path, "INSERT INTO sqlite_stat1 VALUES ('dirents', 'dirents', '10100 81 1')")
    with reopen(path) as index:
        fill(index, 3000)
        plan = index.database.rows(f"EXPLAIN QUERY PLAN {_LIST}", (ROOT_INODE, 0, 10))
        assert [row[3].split()[0] for row in plan] == ["SEARCH", "SEARCH"]
    with reopen(path) as index:
        plan = index.database.rows(f"EXPLAIN QUERY PLAN {_LIST}", (ROOT_INODE, 0, 10))
        assert [row[3].split()[0] for row in plan] == ["SEARCH", "SEARCH"]
        assert index.check(deep=True) == []


def test_closed_is_closed(path: Path) -> None:
    index = create(path)
    descriptors = set(os.listdir("/proc/self/fd"))
    index.wal_checkpoint_step()
    make_file(index, b"a")
    index.sync()
    index.close()
    index.close()
    assert set(os.listdir("/proc/self/fd")) < descriptors
    assert "closed" in repr(index)
    with pytest.raises(DatabaseError):
        index.sync()
    with pytest.raises(DatabaseError):
        index.wal_checkpoint_step()


def test_a_killed_process_leaves_no_lock(path: Path) -> None:
    create(path).close()
    script = (
        "import sys, os, signal; from pathlib import Path; from tests.index.world import reopen;"
        "index = reopen(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(FilesystemBusyError):
            reopen(path)
        process.kill()
    reopen(path).close()


def test_the_cache_is_the_one_that_was_asked_for(path: Path) -> None:
    create(path).close()
    with Index.open(path, directory_key=KEY, batch=2, cache=1 << 20) as index:
        assert index.database.value("PRAGMA cache_size") == -1024
        assert index.batch == 2
