"""fsck of the index: each fault is found, said, mended where that is safe, and gone after that."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.index.world import (
    BLOCK,
    NOW_NS,
    create,
    make_directory,
    make_file,
    member,
    record,
    reopen,
    stage,
    upload,
)
from usenetfs.index import survey as survey_module
from usenetfs.index.check import Kind
from usenetfs.index.index import Index
from usenetfs.types import ROOT_INODE, InodeId


@pytest.fixture
def ruined(path: Path) -> Index:
    """A small filesystem, sound so far: /d (2), /d/a (3) with two blocks, /d/b (4) in flight."""
    index = create(path)
    directory = make_directory(index, b"d")
    a = make_file(index, b"a", size=2 * BLOCK, parent=directory)
    b = make_file(index, b"b", size=2 * BLOCK, parent=directory)
    upload(index, a, 0, b"0" * BLOCK)
    upload(index, a, 1, b"1" * BLOCK)
    record(index, member(b, 0, stage(index, b, 0), b"2" * BLOCK))
    stage(index, b, 1)
    assert index.check(deep=True) == []
    assert (directory, a, b) == (2, 3, 4)
    return index


def ruin(index: Index, *statements: str) -> None:
    with index.transaction():
        for statement in statements:
            index.database.write(statement)


FAULTS = [
    ("DELETE FROM inodes WHERE id = 4", {Kind.DIRENT_TO_NOWHERE, Kind.STAGED_NOWHERE}),
    (
        "DELETE FROM inodes WHERE id = 3",
        {Kind.DIRENT_TO_NOWHERE, Kind.BLOCK_WITHOUT_INODE},
    ),
    ("DELETE FROM dirents WHERE inode = 3", {Kind.ORPHAN_INODE}),
    ("DELETE FROM dirents WHERE inode = 2", {Kind.ORPHAN_INODE, Kind.LINK_COUNT}),
    ("UPDATE dirents SET parent = 77 WHERE inode = 3", {Kind.DIRENT_TO_NOWHERE}),
    ("UPDATE dirents SET parent = 4 WHERE inode = 3", {Kind.DIRENT_TO_NOWHERE}),
    ("UPDATE inodes SET nlink = 5 WHERE id = 3", {Kind.LINK_COUNT}),
    ("UPDATE inodes SET nlink = 9 WHERE id = 1", {Kind.LINK_COUNT}),
    ("UPDATE inodes SET nlink = 0 WHERE id = 3", {Kind.LINK_COUNT, Kind.COUNTERS}),
    ("UPDATE inodes SET size = 5 WHERE id = 3", {Kind.BLOCK_BEYOND_SIZE, Kind.COUNTERS}),
    ("UPDATE segments SET refs = 7 WHERE id = 1", {Kind.SEGMENT_REFS}),
    ("UPDATE articles SET blocks = 7", {Kind.ARTICLE_BLOCKS, Kind.COUNTERS}),
    ("UPDATE articles SET bytes = 7", {Kind.ARTICLE_BLOCKS, Kind.COUNTERS}),
    ("DELETE FROM blocks WHERE number = 1", {Kind.SEGMENT_REFS, Kind.ARTICLE_BLOCKS}),
    ("DELETE FROM local_article", {Kind.STAGED_WAITING, Kind.IN_FLIGHT_LEFTOVER}),
    ("DELETE FROM local_segment", {Kind.STAGED_WAITING}),
    ("UPDATE local_staging SET state = 1 WHERE block = 1", {Kind.STAGED_WAITING}),
    ("INSERT INTO symlinks VALUES (99, x'00')", {Kind.LEFTOVER}),
    ("INSERT INTO xattrs VALUES (99, x'00', x'00')", {Kind.LEFTOVER}),
    ("INSERT INTO message_ids VALUES (99, '<a@b>')", {Kind.LEFTOVER}),
    ("UPDATE local_totals SET count = count + 1 WHERE name = 5", {Kind.COUNTERS}),
    ("DELETE FROM local_totals WHERE name = 8", {Kind.COUNTERS}),
]


@pytest.mark.parametrize(("fault", "kinds"), FAULTS, ids=[fault for fault, _ in FAULTS])
def test_found_mended_and_gone(ruined: Index, fault: str, kinds: set[Kind]) -> None:
    with ruined as index:
        ruin(index, fault)
        found = index.check(deep=True)
        assert kinds <= {finding.kind for finding in found}
        assert not any(finding.repaired for finding in found)
        assert all(finding.text for finding in found)
        mended = index.check(repair=True, batch=2)
        assert all(finding.repaired for finding in mended), mended
        assert index.check() == []


def test_what_cannot_be_mended_is_said_again(ruined: Index) -> None:
    with ruined as index:
        ruin(index, "DELETE FROM segments WHERE id = 1", "DELETE FROM articles WHERE id % 2 = 0")
        for repair in (False, True, False):
            found = index.check(repair=repair)
            lost = [finding for finding in found if finding.kind is Kind.BLOCK_WITHOUT_DATA]
            assert len(lost) == 2
            assert {finding.inode for finding in lost} == {3}
            assert not any(finding.repaired for finding in lost)
        assert index.blocks.last(InodeId(3)) == 1  # the rows stay: they say what is missing


def test_a_loop_of_directories_is_reported(ruined: Index) -> None:
    with ruined as index:
        inner = make_directory(index, b"e", parent=InodeId(2))
        ruin(
            index,
            f"UPDATE dirents SET parent = {inner} WHERE inode = 2",
            f"UPDATE inodes SET nlink = 3 WHERE id = {inner}",
            "UPDATE inodes SET nlink = 2 WHERE id = 1",
        )
        assert {(f.kind, f.inode) for f in index.check()} == {(Kind.LOOP, 2), (Kind.LOOP, inner)}


def test_an_orphan_is_found_again(ruined: Index) -> None:
    with ruined as index:
        ruin(index, "DELETE FROM dirents WHERE inode = 2", "DELETE FROM dirents WHERE inode = 3")
        index.check(repair=True)
        place = index.dirents.lookup(ROOT_INODE, b"lost+found")
        assert place is not None
        assert index.dirents.path_of(InodeId(3)) == b"/lost+found/#3"
        assert index.dirents.path_of(InodeId(4)) == b"/lost+found/#2/b"
        assert index.check() == []


def test_a_block_behind_the_end_is_left_while_it_is_staged(ruined: Index) -> None:
    """Its file's new size may be in memory only, when the block is seen already."""
    with ruined as index:
        stage(index, InodeId(3), 0)
        stage(index, InodeId(3), 1)
        ruin(index, "UPDATE inodes SET size = 5 WHERE id = 3")
        assert {finding.kind for finding in index.check()} == {Kind.COUNTERS}


def test_ordinary_leftovers_are_no_fault(ruined: Index) -> None:
    """An unlinked file that was open, and an article on its way for a deleted file."""
    with ruined as index:
        with index.transaction():
            index.dirents.remove(InodeId(2), b"b")
            index.staging.delete_inode(InodeId(4))
            row = index.inodes.get(InodeId(4))
            assert row is not None
            index.inodes.delete(InodeId(4))
        make_file(index, b"open")
        ruin(index, "UPDATE inodes SET nlink = 0 WHERE id = 5", "DELETE FROM dirents WHERE inode=5")
        ruin(index, "UPDATE local_totals SET count = count - 1 WHERE name = 5")
        assert index.check() == []
        (flown,) = index.in_flight()
        index.mark_seen(flown.id, NOW_NS)
        assert index.check() == []


def test_it_stops_when_asked(ruined: Index) -> None:
    with ruined as index:
        asked = 0

        def cancelled() -> bool:
            nonlocal asked
            asked += 1
            return asked == 3

        assert index.check(cancelled=cancelled, batch=1) == []
        assert asked == 3
        steps = index.check_steps(batch=1)
        assert next(steps) == []
        make_file(index, b"between two steps others may write, if nothing else")
        assert index.check() == []


def test_findings_are_bounded(ruined: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "MAX_FINDINGS", 5)
    with ruined as index:
        ruin(index, *(f"INSERT INTO symlinks VALUES ({n}, x'00')" for n in range(100, 120)))
        assert len(index.check(batch=3)) == 5
        assert len(index.check(batch=3, repair=True)) == 5
        assert index.check() == []


def test_sqlites_own_findings_end_it(path: Path) -> None:
    with create(path) as index:
        for number in range(300):
            make_file(index, b"%d" % number)
        index.wal_checkpoint_inline()
        root = index.database.value("SELECT rootpage FROM sqlite_schema WHERE name='dirents_inode'")
    content = bytearray(path.read_bytes())
    start = (root - 1) * 4096
    content[start + 200 : start + 4096] = bytes(3896)
    path.write_bytes(content)
    with reopen(path) as index:
        found = index.check(deep=True, repair=True)
        assert {finding.kind for finding in found} == {Kind.DATABASE}
        assert not any(finding.repaired for finding in found)
