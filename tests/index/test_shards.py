"""Rows in several files: each in its own, found wherever they are, whole after any crash.

Most tests deal out single keys instead of stripes of 64, so that a few rows reach every file.
"""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import settings

from tests.index.test_model import IndexMachine
from tests.index.world import (
    BLOCK,
    NOW_NS,
    content_hash,
    create,
    make_file,
    member,
    record,
    reopen,
    rows_of_table,
    stage,
    upload,
)
from usenetfs.errors import DatabaseError, DiskFullError
from usenetfs.index import settling
from usenetfs.index import shards as shards_module
from usenetfs.index.check import Kind
from usenetfs.index.index import Index
from usenetfs.index.replica import Replica
from usenetfs.index.settling import Batch, Settling
from usenetfs.index.shard_files import shard_files, shard_path
from usenetfs.index.shards import MOST, shard_of_hash, shard_of_key
from usenetfs.index.spreading import spread
from usenetfs.types import ROOT_INODE, BlockNumber, Durability, InodeId

Rows = dict[str, set[tuple[object, ...]]]


@pytest.fixture(autouse=True)
def small_stripes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "STRIPE_BITS", 0)


@pytest.fixture(params=[3, 16])
def index(path: Path, request: pytest.FixtureRequest) -> Iterator[Index]:
    with create(path, shards=request.param) as opened:
        yield opened
        assert opened.check(deep=True) == []
        opened.settling.run()
        assert opened.check(deep=True) == []
        assert opened.database.value("SELECT count(*) FROM local_claimed") == 0


def fill(index: Index, files: int, first: int = 0) -> list[InodeId]:
    """Files of two blocks; the second block of every third has known content."""
    made = []
    for number in range(first, first + files):
        inode = make_file(index, b"%d" % number, size=2 * BLOCK)
        upload(index, inode, 0, b"%d" % number)
        upload(index, inode, 1, b"known" if number % 3 == 0 else b"second %d" % number)
        made.append(inode)
    return made


def delete(index: Index, number: int) -> None:
    with index.transaction():
        inode = index.dirents.remove(ROOT_INODE, b"%d" % number)
        assert inode is not None
        index.blocks.delete_from(inode, BlockNumber(0), 10)
        index.inodes.delete(inode)


def state(index: Index) -> Rows:
    return {table: set(rows_of_table(index, table)) for table in ("blocks", "segments", "articles")}


def in_main(index: Index, table: str) -> int:
    count: int = index.database.value(f"SELECT count(*) FROM main.{table}")
    return count


def copied(path: Path, to: Path) -> Path:
    """The files as a process that is killed now leaves them."""
    to.mkdir()
    for file in path.parent.glob(f"{path.stem}*"):
        if file.is_file() and not file.name.endswith(("-lock", "-shm")):
            shutil.copy(file, to)
    return to / path.name


# --- where rows are


def test_each_row_goes_to_the_file_that_its_key_gives(index: Index) -> None:
    fill(index, 40)
    before = state(index)
    index.settling.run()
    assert in_main(index, "segments") == in_main(index, "articles") == 0
    assert state(index) == before
    count = index.shards.count
    for shard in range(count):
        file = apsw.Connection(str(shard_path(index.database.path, shard)))
        for table in ("segments", "articles"):
            keys = {key for (key,) in file.execute(f"SELECT id FROM {table}")}
            of_it = {
                row[0] for row in before[table] if shard_of_key(int(str(row[0])), count) == shard
            }
            assert keys == of_it
        for content, segment in file.execute("SELECT hash, segment FROM segment_hashes"):
            assert shard_of_hash(content, count) == shard
            assert index.segments.by_hash(content).id == segment  # type: ignore[union-attr]
        file.close()


def test_at_rest_rows_are_found_as_before(index: Index) -> None:
    inodes = fill(index, 12)
    known = index.segments.by_hash(content_hash(b"known"))
    located = [index.blocks.locate(inode, BlockNumber(0), 2) for inode in inodes]
    articles = index.articles.list(limit=5), index.articles.list(limit=1000)
    settled = index.durability_of(inodes[0]), index.stored_bytes_of(inodes[3], 0, 9)
    index.settling.run()
    assert index.segments.by_hash(content_hash(b"known")) == known
    assert known is not None
    assert known.refs == 4
    assert index.segments.by_hash(content_hash(b"never stored")) is None
    assert [index.blocks.locate(inode, BlockNumber(0), 2) for inode in inodes] == located
    assert (index.articles.list(limit=5), index.articles.list(limit=1000)) == articles
    assert len(articles[0]) == 5
    assert index.articles.list(articles[0][-1].id, limit=5) == articles[1][5:10]
    assert (index.durability_of(inodes[0]), index.stored_bytes_of(inodes[3], 0, 9)) == settled
    assert settled == (Durability.SEEN, {Durability.SEEN: 6})
    assert in_main(index, "segments") == 0  # nothing was brought for it


def test_stripes_keep_neighbours_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "STRIPE_BITS", 6)
    with create(path, shards=MOST) as index:
        fill(index, 70)
        before = state(index)
        index.settling.run()
        assert state(index) == before
        sizes = [
            index.database.value(f"SELECT count(*) FROM {schema}.segments")
            for schema in index.shards.schemas[1:]
        ]
        assert sum(sizes) == 117  # 70 first blocks, 46 second ones, and the known one
        assert len([size for size in sizes if size]) <= 3
        assert index.check(deep=True) == []


# --- changing what is at rest


def test_what_changes_is_brought_and_settles_again(index: Index) -> None:
    inodes = fill(index, 9)
    index.settling.run()
    article = index.blocks.locate(inodes[1], BlockNumber(0), 1)[0].article
    assert index.mark_verified(article)
    assert index.mark_verified(article)
    assert in_main(index, "articles") == 1
    with index.transaction():
        index.blocks.set_length(inodes[1], BlockNumber(0), 1)
        index.articles.set_attempt(article, 3, None)
    index.settling.run()
    found = index.articles.get(article)
    assert found is not None
    assert (found.attempt, found.state, found.bytes) == (3, Durability.VERIFIED, 1)
    assert index.blocks.locate(inodes[1], BlockNumber(0), 1)[0].attempt == 3


def test_what_is_deleted_leaves_its_file(index: Index) -> None:
    fill(index, 9)
    index.settling.run()
    for number in range(9):
        delete(index, number)
    assert state(index) == {"blocks": set(), "segments": set(), "articles": set()}
    index.settling.run()
    for schema in index.shards.schemas[1:]:
        for table in ("segments", "articles", "segment_hashes"):
            assert index.database.value(f"SELECT count(*) FROM {schema}.{table}") == 0
    inode = make_file(index, b"anew", size=BLOCK)
    upload(index, inode, 0, b"known")
    segment = index.segments.by_hash(content_hash(b"known"))
    assert segment is not None
    assert segment.refs == 1


def test_a_file_gives_back_what_is_free(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "WORTH_GIVING_BACK", 4)
    with create(path, shards=2) as index:
        fill(index, 400)
        index.settling.run()
        full = [index.database.value(f"PRAGMA shard_0{shard}.page_count") for shard in (0, 1)]
        for number in range(400):
            delete(index, number)
        index.settling.run()
        for shard in (0, 1):
            assert index.database.value(f"PRAGMA shard_0{shard}.page_count") < full[shard] - 4
            assert index.database.value(f"PRAGMA shard_0{shard}.freelist_count") < 4
        assert index.check(deep=True) == []


def test_known_content_is_linked_wherever_it_is(index: Index) -> None:
    fill(index, 3)
    index.settling.run()
    segment = index.segments.by_hash(content_hash(b"known"))
    assert segment is not None
    inode = make_file(index, b"linked", size=BLOCK)
    generation = stage(index, inode, 0)
    assert index.link_known(inode, BlockNumber(0), generation, segment.id, 5)
    again = index.segments.get(segment.id)
    assert again is not None
    assert again.refs == segment.refs + 1


def test_changes_while_they_are_carried_are_kept(index: Index) -> None:
    inodes = fill(index, 9)
    batch = index.settling.plan(0)
    assert batch
    article = index.blocks.locate(inodes[1], BlockNumber(0), 1)[0].article
    index.mark_verified(article)
    index.settling.carry(batch)
    delete(index, 4)
    before = state(index)
    index.settling.release(batch)
    assert in_main(index, "articles") == 1
    assert state(index) == before


@pytest.mark.parametrize("seed", range(4))
def test_changes_between_two_slices_are_kept(
    index: Index, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(settling, "SLICE", 2)
    rng = random.Random(seed)
    there = list(range(30))
    fill(index, 30)
    known = state(index)

    def change_something() -> None:
        nonlocal known
        if rng.random() < 0.4:
            delete(index, there.pop(rng.randrange(len(there))))
        if rng.random() < 0.4:
            number = max(there) + 1
            fill(index, 1, first=number)
            there.append(number)
        if rng.random() < 0.4:
            index.mark_verified(rng.choice(index.articles.list()).id)
        known = state(index)

    for _ in range(4):
        batch = Batch()
        for _ in index.settling.plan_slices(batch, 0):
            assert state(index) == known
            change_something()
        assert batch
        index.settling.carry(batch)
        for _ in index.settling.release_slices(batch):
            assert state(index) == known
            change_something()
        assert index.check(deep=True) == []
    index.settling.run()
    assert state(index) == known


def test_moving_a_row_is_no_change_of_it(index: Index) -> None:
    inodes = fill(index, 9)
    recorded = index.changelog.last
    index.settling.run()
    assert index.changelog.last == recorded
    index.mark_verified(index.blocks.locate(inodes[1], BlockNumber(0), 1)[0].article)
    (changes,) = index.database.rows(
        "SELECT changes FROM local_changelog WHERE seq > ?", (recorded,)
    )
    found = [(change.name, change.op) for change in apsw.Changeset.iter(changes[0])]
    assert found == [("articles", "UPDATE")]


def test_a_cut_is_of_one_moment(index: Index) -> None:
    inodes = fill(index, 9)
    index.settling.run()
    before = {table: list(index.cut().encoded(table)) for table in ("segments", "articles")}
    with index.cut() as cut:
        fill(index, 5, first=100)
        index.mark_verified(index.blocks.locate(inodes[1], BlockNumber(0), 1)[0].article)
        delete(index, 0)
        index.settling.run()
        for table, rows in before.items():
            assert list(cut.encoded(table)) == rows
        newest = index.articles.list(limit=1000)[-1]
        assert cut.row("articles", (newest.id,)) is None


def test_reading_beside_the_one_who_writes(index: Index, path: Path) -> None:
    inodes = fill(index, 9)
    with Index.open(path, directory_key=b"directory key 16", read_only=True) as reading:
        for number, inode in enumerate(inodes):
            located = index.blocks.locate(inode, BlockNumber(0), 2)
            assert reading.blocks.locate(inode, BlockNumber(0), 2) == located
            index.settling.run()
            assert reading.blocks.locate(inode, BlockNumber(0), 2) == located
            assert reading.file_as_it_is(inode)[1] == located
            fill(index, 1, first=100 + number)
        assert reading.check() == []


# --- crashes


@pytest.mark.parametrize("files_written", [0, 1, 2, 5, None])
def test_killed_while_rows_are_carried(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files_written: int | None
) -> None:
    """In main and in some files: what main says counts, and the files are made good."""

    class KilledError(Exception):
        pass

    left = 10**9 if files_written is None else files_written
    write = Settling._write

    def until_killed(self: Settling, shard: int, share: object) -> None:
        nonlocal left
        if not left:
            raise KilledError
        left -= 1
        write(self, shard, share)  # type: ignore[arg-type]

    with create(path, shards=8) as index:
        fill(index, 20)
        index.settling.run()
        for number in range(0, 20, 4):
            delete(index, number)
        fill(index, 10, first=20)
        before = state(index)
        monkeypatch.setattr(Settling, "_write", until_killed)
        batch = index.settling.plan(0)
        assert batch
        if files_written is None:
            index.settling.carry(batch)  # killed before what was carried is released
        else:
            with pytest.raises(KilledError):
                index.settling.carry(batch)
        killed = copied(path, tmp_path / "killed")
        monkeypatch.undo()
        monkeypatch.setattr(shards_module, "STRIPE_BITS", 0)
    with reopen(killed) as index:
        assert state(index) == before
        assert index.check(deep=True) == []
        index.settling.run()
        assert in_main(index, "local_claimed") == 0  # nothing is left that nobody names
        assert state(index) == before
        assert index.check(deep=True) == []


@pytest.mark.parametrize("seed", range(6))
def test_a_power_cut_takes_back_what_main_had_not_synced(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The files have all that was written to them; main has only what was synced."""
    rng = random.Random(seed)
    synced = tmp_path / "synced"
    known: Rows = {}
    with create(path, shards=5) as index:

        def note() -> None:
            nonlocal known
            shutil.rmtree(synced, ignore_errors=True)
            copied(path, synced)
            known = state(index)

        sync = index.database.sync

        def sync_and_note() -> None:
            sync()
            note()

        monkeypatch.setattr(index.database, "sync", sync_and_note)
        note()
        there: list[int] = []
        for step in range(60):
            fill(index, 1, first=step)
            there.append(step)
            if rng.random() < 0.4:
                delete(index, there.pop(rng.randrange(len(there))))
            if there and rng.random() < 0.3:
                index.mark_verified(rng.choice(index.articles.list()).id)
            if rng.random() < 0.3 and (batch := index.settling.plan(0)):
                index.settling.carry(batch)
                if rng.random() < 0.7:
                    index.settling.release(batch)
            if rng.random() < 0.2:
                cut = copied(path, tmp_path / f"cut {step}")
                for name in (path.name, f"{path.name}-wal"):
                    (cut.parent / name).unlink(missing_ok=True)
                    if (synced / name).exists():
                        shutil.copy(synced / name, cut.parent)
                with reopen(cut) as after:
                    assert state(after) == known
                    assert after.check(deep=True) == []
                    after.settling.run()
                    assert state(after) == known
                    assert after.check(deep=True) == []


def test_what_a_step_claims_is_durable_before_a_file_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def noting(name: str, work: Callable[..., None]) -> Callable[..., None]:
        def noted(*arguments: object) -> None:
            order.append(name)
            work(*arguments)

        return noted

    with create(path, shards=3) as index:
        fill(index, 4)
        monkeypatch.setattr(index.database, "sync", noting("sync", index.database.sync))
        monkeypatch.setattr(Settling, "_write", noting("write", Settling._write))
        index.settling.run()
    assert order == ["sync", "write", "write", "write"]


# --- the files themselves


def test_a_file_that_is_missing_or_another_indexs_is_refused(path: Path, tmp_path: Path) -> None:
    with create(path, shards=3) as index:
        fill(index, 4)
    other = tmp_path / "other" / path.name
    other.parent.mkdir()
    create(other, shards=3).close()
    kept = shard_path(path, 1).read_bytes()
    for stranger in (shard_path(other, 1).read_bytes(), shard_path(path, 2).read_bytes()):
        shard_path(path, 1).write_bytes(stranger)
        with pytest.raises(DatabaseError, match="another index"):
            reopen(path)
    shard_path(path, 1).unlink()
    with pytest.raises(DatabaseError, match=r"index\.shard-01\.db is not there"):
        reopen(path)
    shard_path(path, 1).write_bytes(kept)
    with reopen(path) as index:
        assert index.check(deep=True) == []


@pytest.mark.parametrize("count", [0, -1, MOST + 1])
def test_a_number_that_cannot_be(path: Path, count: int) -> None:
    with pytest.raises(DatabaseError, match="1 to 64"):
        create(path, shards=count)
    assert not path.exists()


def test_files_left_over_are_replaced_and_one_file_has_none_beside_it(path: Path) -> None:
    shard_path(path, 7).write_bytes(b"left over")
    create(path, shards=2).close()
    made = [file.name for file in shard_files(path) if file.suffix == ".db"]
    assert made == ["index.shard-00.db", "index.shard-01.db"]


def test_what_cannot_be_made_leaves_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(DatabaseError, match="cannot be made"):
        create(path, shards=3)
    assert list(path.parent.iterdir()) == []


def test_one_file_is_spread_later(path: Path) -> None:
    with create(path) as index:
        inodes = fill(index, 40)
        before = state(index)
    assert shard_files(path) == []
    spread(path, 4)
    with reopen(path) as index:
        assert index.database.pages()[0] == 0
        assert in_main(index, "segments") == in_main(index, "articles") == 0
        assert state(index) == before
        known = index.segments.by_hash(content_hash(b"known"))
        assert known is not None
        assert known.refs == 14
        for schema in index.shards.schemas[1:]:
            assert index.database.value(f"PRAGMA {schema}.journal_mode") == "wal"
        index.mark_verified(index.blocks.locate(inodes[1], BlockNumber(0), 1)[0].article)
        delete(index, 0)
        upload(index, make_file(index, b"new", size=BLOCK), 0, b"known")
        before = state(index)
        index.settling.run()
        assert state(index) == before
        assert index.articles.allocate() not in {row[0] for row in before["articles"]}
        assert index.check(deep=True) == []


def test_what_cannot_be_spread_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    create(path).close()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="No space left"):
        spread(path, 2)


def test_an_index_in_several_files_follows_nobody(path: Path) -> None:
    create(path, shards=2).close()
    with pytest.raises(DatabaseError, match="can follow"):
        Replica.open(path)
    reopen(path).close()


# --- the check


def test_content_that_is_not_found_by_its_hash_is_mended(path: Path) -> None:
    with create(path, shards=2) as index:
        fill(index, 6)
        index.settling.run()
        file = apsw.Connection(str(shard_path(path, 0)))
        file.execute("DELETE FROM segment_hashes")
        lost = file.changes()
        file.close()
        assert lost
        assert [finding.kind for finding in index.check()] == [Kind.SHARD] * lost
        assert all(finding.repaired for finding in index.check(repair=True))
        index.settling.run()
        assert index.check(deep=True) == []


def test_counts_of_rows_at_rest_are_mended(path: Path) -> None:
    with create(path, shards=2) as index:
        fill(index, 6)
        index.settling.run()
        before = state(index)
        for shard in range(2):
            file = apsw.Connection(str(shard_path(path, shard)))
            file.execute("UPDATE segments SET refs = 77")
            file.execute("UPDATE articles SET blocks = 77")
            file.close()
        kinds = {finding.kind for finding in index.check()}
        assert kinds == {Kind.SEGMENT_REFS, Kind.ARTICLE_BLOCKS, Kind.COUNTERS}
        assert all(finding.repaired for finding in index.check(repair=True))
        assert index.check() == []
        assert state(index) == before


def test_a_stray_row_and_a_damaged_file_are_said(path: Path) -> None:
    with create(path, shards=2) as index:
        fill(index, 2)
        index.settling.run()
        file = apsw.Connection(str(shard_path(path, 0)))
        file.execute("INSERT INTO articles VALUES (1, 0, 2, 1, 1, 1, 1)")
        file.close()
        found = {finding.kind for finding in index.check()}
        assert found == {Kind.SHARD, Kind.COUNTERS}
    for left in shard_files(path):
        if left.name.endswith("-wal"):
            left.unlink()
    content = bytearray(shard_path(path, 1).read_bytes())
    content[4096 * 2 : 4096 * 3] = b"\xff" * 4096  # the root of segments
    shard_path(path, 1).write_bytes(content)
    with reopen(path) as index:
        assert {finding.kind for finding in index.check(deep=True)} == {Kind.DATABASE}
    shard_path(path, 1).write_bytes(b"\xff" * len(content))
    with pytest.raises(DatabaseError, match=r"shard-01\.db is not an index"):
        reopen(path)


# --- who asks

KNOWS_THE_TABLES = {
    # they bring a row before they change it
    "articles.py",
    "segments.py",
    "transitions.py",
    # they have a way of their own where rows are spread
    "blocks.py",
    "check_content.py",
    "settling.py",
    "shards.py",
    "spreading.py",
    # theirs is one file: a view's, one being built, or one of before there were several
    "derived.py",
    "touched.py",
    "migrate.py",
}


def test_nobody_else_writes_sql_that_names_the_tables() -> None:
    named = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(?:main\.)?(?:segments|articles)\b")
    package = Path(shards_module.__file__).parent.parent
    naming = {file for file in package.rglob("*.py") if named.search(file.read_text())}
    assert {file.parent for file in naming} == {package / "index"}
    assert {file.name for file in naming} <= KNOWS_THE_TABLES


# --- any order of steps


class SpreadIndexMachine(IndexMachine):
    files_of_content = 3


SpreadIndexMachine.TestCase.settings = settings(
    max_examples=10, stateful_step_count=40, deadline=None
)  # few: each step writes to the disk
TestSpreadIndex = SpreadIndexMachine.TestCase


def test_waiting_content_finds_what_is_at_rest(index: Index) -> None:
    """An article brings content that was stored, and settled, while it was on its way."""
    late = make_file(index, b"late", size=BLOCK)
    article, _ = record(index, member(late, 0, stage(index, late, 0), b"known"))
    fill(index, 1)
    index.settling.run()
    index.mark_posted(article, "server", None, NOW_NS)
    assert index.mark_seen(article, NOW_NS).freed == ((late, 0),)
    segment = index.segments.by_hash(content_hash(b"known"))
    assert segment is not None
    assert segment.refs == 2
    assert index.articles.get(article) is None
