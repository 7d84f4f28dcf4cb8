"""Inodes, names, links, attributes; listings that other changes do not disturb."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.index.world import TIMES, create, make_directory, make_file, reopen
from usenetfs.errors import DatabaseError
from usenetfs.index.dirents import FIRST_COOKIE, PROBES, DirentTable, DuplicateEntryError
from usenetfs.index.index import Index
from usenetfs.index.inodes import InodeTotals
from usenetfs.types import ROOT_INODE, InodeId


def names(index: Index, directory: InodeId = ROOT_INODE, page: int = 100) -> list[bytes]:
    """A whole listing, in pages."""
    found: list[bytes] = []
    cookie = 0
    while entries := index.dirents.list(directory, cookie, page):
        found.extend(entry.name for entry in entries)
        cookie = entries[-1].cookie
    return found


def make_many(index: Index, count: int, directory: InodeId = ROOT_INODE) -> list[InodeId]:
    with index.transaction():
        inodes = index.inodes.insert_many(
            [(stat.S_IFREG | 0o644, 0, 0, 1, 0, 7, TIMES) for _ in range(count)]
        )
        index.dirents.insert_many(
            (directory, b"file %d" % number, inode) for number, inode in enumerate(inodes)
        )
    return inodes


# --- inodes --------------------------------------------------------------------------------------


def test_an_inode_is_kept_as_given(index: Index) -> None:
    with index.transaction():
        made = index.inodes.insert(stat.S_IFCHR | 0o600, 7, 8, 1, 0x103, 9, (-1, 2, 1 << 62))
        index.dirents.insert(ROOT_INODE, b"device", made.id)
    assert index.inodes.get(made.id) == made
    changed = replace(made, mode=stat.S_IFCHR, uid=1, gid=2, rdev=4, atime_ns=3, ctime_ns=6)
    with index.transaction():
        index.inodes.update(changed)
        index.inodes.update(replace(changed, id=InodeId(999)))  # not there: nothing happens
    assert index.inodes.get(made.id) == changed
    assert index.inodes.get(InodeId(999)) is None


def test_totals_follow_every_change(index: Index) -> None:
    file = make_file(index, b"a", size=10)
    make_directory(index, b"d")
    with index.transaction():
        link = index.inodes.insert(stat.S_IFLNK | 0o777, 0, 0, 1, 0, 3, TIMES)
        index.dirents.insert(ROOT_INODE, b"l", link.id)
    assert index.inodes.totals() == InodeTotals(files=1, directories=2, others=1, bytes=10)
    row = index.inodes.get(file)
    assert row is not None
    with index.transaction():
        index.inodes.update(replace(row, size=50))
        assert index.inodes.totals().bytes == 50  # also before the commit
    with index.transaction():
        index.dirents.remove(ROOT_INODE, b"a")
        index.inodes.update(replace(row, size=50, nlink=0))
    assert index.inodes.totals() == InodeTotals(files=0, directories=2, others=1, bytes=0)
    assert index.inodes.unlinked(10) == [file]
    with index.transaction():
        index.inodes.delete(file)
    assert index.inodes.unlinked(10) == []


def test_numbers_go_up_and_are_not_reused_while_open(path: Path) -> None:
    with create(path) as index:
        first = make_file(index, b"a")
        with index.transaction():
            index.dirents.remove(ROOT_INODE, b"a")
            index.inodes.delete(first)
        assert make_file(index, b"b") == first + 1
    with reopen(path) as index:
        assert make_file(index, b"c") == first + 2


# --- names ---------------------------------------------------------------------------------------


def test_a_name_leads_to_its_inode(index: Index) -> None:
    one, other = make_file(index, b"\xff not utf-8"), make_file(index, b"b")
    assert index.dirents.lookup(ROOT_INODE, b"\xff not utf-8") == one
    assert index.dirents.lookup(ROOT_INODE, b"c") is None
    assert index.dirents.lookup(one, b"b") is None
    with index.transaction():
        with pytest.raises(DuplicateEntryError):
            index.dirents.insert(ROOT_INODE, b"b", one)
        assert index.dirents.remove(ROOT_INODE, b"c") is None
        assert index.dirents.replace(ROOT_INODE, b"b", other) == other
        assert index.dirents.replace(ROOT_INODE, b"c", other) is None
        assert index.dirents.remove(ROOT_INODE, b"b") == other
    assert names(index) in ([b"\xff not utf-8", b"c"], [b"c", b"\xff not utf-8"])


def test_paths(index: Index) -> None:
    outer = make_directory(index, b"a")
    inner = make_directory(index, b"b", parent=outer)
    file = make_file(index, b"c", parent=inner)
    assert index.dirents.path_of(file) == b"/a/b/c"
    assert index.dirents.path_of(ROOT_INODE) == b"/"
    assert index.dirents.path_of(InodeId(999)) is None
    assert index.dirents.parents_of(file) == [(inner, b"c")]
    assert not index.dirents.is_empty(inner)
    assert index.dirents.is_empty(file)


def test_links_and_attributes_go_with_the_inode(index: Index) -> None:
    inode = make_file(index, b"a")
    with index.transaction():
        index.symlinks.set(inode, b"target")
        index.symlinks.set(inode, b"other")
        index.xattrs.set(inode, b"user.b", b"")
        index.xattrs.set(inode, b"user.a", b"1")
        index.xattrs.set(inode, b"user.a", b"2" * 65536)
    assert index.symlinks.get(inode) == b"other"
    assert index.xattrs.list(inode) == [b"user.a", b"user.b"]
    assert index.xattrs.get(inode, b"user.a") == b"2" * 65536
    assert index.xattrs.get(inode, b"user.c") is None
    with index.transaction():
        assert index.xattrs.remove(inode, b"user.b")
        assert not index.xattrs.remove(inode, b"user.b")
        index.dirents.remove(ROOT_INODE, b"a")
        index.inodes.delete(inode)
    assert index.symlinks.get(inode) is None
    assert index.xattrs.list(inode) == []


# --- colliding hashes ----------------------------------------------------------------------------


@pytest.fixture
def colliding(index: Index, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Names of one first letter have one hash, and neighbours overlap."""
    monkeypatch.setattr(DirentTable, "cookie", lambda _self, name: FIRST_COOKIE + name[0] % 64)
    return index


def test_equal_hashes_take_neighbouring_places(colliding: Index) -> None:
    index = colliding
    made = {name: make_file(index, name) for name in (b"a1", b"a2", b"a3", b"a4")}
    assert {name: index.dirents.lookup(ROOT_INODE, name) for name in made} == made
    with index.transaction(), pytest.raises(DatabaseError, match="same hash"):
        index.dirents.insert(ROOT_INODE, b"a5", ROOT_INODE)
    with index.transaction():
        index.dirents.remove(ROOT_INODE, b"a2")
        # the free place before the name must not let it in twice
        with pytest.raises(DuplicateEntryError):
            index.dirents.insert(ROOT_INODE, b"a3", ROOT_INODE)
        index.inodes.delete(made.pop(b"a2"))
    made[b"a5"] = make_file(index, b"a5")
    assert {name: index.dirents.lookup(ROOT_INODE, name) for name in made} == made
    assert sorted(names(index, page=1)) == sorted(made)


def test_bulk_names_that_collide(colliding: Index) -> None:
    index = colliding
    wanted = [b"a1", b"b1", b"a2", b"c1", b"b2"]
    with index.transaction():
        inodes = index.inodes.insert_many(
            [(stat.S_IFREG, 0, 0, 1, 0, 0, TIMES) for _ in range(len(wanted))]
        )
        index.dirents.insert_many(
            (ROOT_INODE, name, inode) for name, inode in zip(wanted, inodes, strict=True)
        )
    assert sorted(names(index)) == sorted(wanted)
    assert [index.dirents.lookup(ROOT_INODE, name) for name in wanted] == inodes
    with pytest.raises(DuplicateEntryError), index.transaction():
        index.dirents.insert_many([(ROOT_INODE, b"a1", inodes[1])])


@settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcd"), st.integers(0, 3)), max_size=40))
def test_colliding_names_against_a_dict(
    colliding: Index, steps: list[tuple[bool, str, int]]
) -> None:
    """Four overlapping hashes of at most PROBES names each: a directory of small trouble."""
    index, directory = colliding, InodeId(50)
    model: dict[bytes, InodeId] = {}
    with pytest.raises(ZeroDivisionError), index.transaction():  # noqa: PT012
        for add, letter, number in steps:
            name, inode = f"{letter}{number}".encode(), InodeId(100 + number)
            if not add:
                assert index.dirents.remove(directory, name) == model.pop(name, None)
            elif name in model:
                with pytest.raises(DuplicateEntryError):
                    index.dirents.insert(directory, name, inode)
            else:
                try:
                    index.dirents.insert(directory, name, inode)
                except DatabaseError:  # its places are taken by names of neighbouring hashes
                    assert len(model) >= PROBES
                else:
                    model[name] = inode
            assert {n: index.dirents.lookup(directory, n) for n in model} == model
        raise ZeroDivisionError  # nothing of it stays for the next example


def test_cookies_depend_on_the_key_and_leave_room_for_dots(index: Index) -> None:
    other = DirentTable(index.database, b"another key 1234")
    cookies = [index.dirents.cookie(b"%d" % n) for n in range(1000)]
    assert len(set(cookies)) == 1000
    assert all(FIRST_COOKIE <= cookie < 1 << 62 for cookie in cookies)
    assert other.cookie(b"0") != cookies[0]


# --- listings ------------------------------------------------------------------------------------


def test_a_listing_survives_changes_around_it(index: Index) -> None:
    make_many(index, 500)
    cookies = {e.name: e.cookie for e in index.dirents.list(ROOT_INODE, 0, 1000)}
    seen: list[bytes] = []
    cookie, step = 0, 0
    while page := index.dirents.list(ROOT_INODE, cookie, 7):
        seen.extend(entry.name for entry in page)
        assert all(cookies.get(e.name, e.cookie) == e.cookie for e in page)
        cookie = page[-1].cookie
        with index.transaction():  # every other name goes, others come, while the listing is on
            index.dirents.remove(ROOT_INODE, b"file %d" % (2 * step))
            index.dirents.insert(ROOT_INODE, b"new %d" % step, ROOT_INODE)
        step += 1
    stable = {b"file %d" % n for n in range(500) if n % 2 or n >= 2 * step}
    assert len(seen) == len(set(seen))
    assert stable <= set(seen)
    with index.transaction():
        for name in set(names(index)):
            inode = index.dirents.remove(ROOT_INODE, name)
            if name.startswith(b"file"):
                assert inode is not None
                index.inodes.delete(inode)
        for number in range(step):
            index.inodes.delete(InodeId(2 + 2 * number))


def test_a_directory_of_100_000_names(index: Index) -> None:
    directory = make_directory(index, b"large")
    inodes = make_many(index, 100_000, directory)
    listed = names(index, directory, page=1000)
    assert len(listed) == len(set(listed)) == 100_000
    assert index.dirents.lookup(directory, b"file 77777") == inodes[77777]
    middle = index.dirents.list(directory, 1 << 61, 3)
    assert len(middle) == 3
    assert all(entry.cookie > 1 << 61 and entry.inode.size == 7 for entry in middle)
    plan = index.database.rows(
        "EXPLAIN QUERY PLAN SELECT d.cookie FROM dirents d CROSS JOIN inodes i ON i.id = d.inode"
        " WHERE d.parent = 1 AND d.cookie > 5 ORDER BY d.cookie LIMIT 10"
    )
    assert not any("TEMP B-TREE" in row[3] for row in plan)
