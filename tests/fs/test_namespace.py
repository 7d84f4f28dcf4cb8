"""Names: what each call changes, checked against the index after each."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from usenetfs.errors import DiskFullError, PosixError
from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.fs.namespace import Namespace, Owner
from usenetfs.fs.pending import Pending
from usenetfs.index.index import Index
from usenetfs.store.staging import Staging
from usenetfs.transfer.staged.blocks import StagedBlocks
from usenetfs.types import ROOT_INODE, InodeId

ME = Owner(1000, 1000)
DIRECTORY = stat.S_IFDIR | 0o755
FILE = stat.S_IFREG | 0o644


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index.create(
        tmp_path / "index.db",
        filesystem_id=bytes(16),
        name="t",
        block_size=8192,
        directory_key=bytes(16),
    ) as index:
        yield index
        assert index.check() == []


@pytest.fixture
def inodes(index: Index) -> LiveInodes:
    return LiveInodes(index)


@pytest.fixture
def names(index: Index, inodes: LiveInodes, tmp_path: Path) -> Iterator[Namespace]:
    with Staging(tmp_path / "staging", block_size=8192) as staging:
        staged = StagedBlocks(index, staging, block_size=8192, settle=1.0)
        pending = Pending(index, inodes, staged)
        yield Namespace(index, inodes, staged, pending)
        pending.commit()


def links(inodes: LiveInodes, inode: InodeId) -> int:
    return inodes.get(inode).nlink


def raises(number: int) -> pytest.RaisesExc[PosixError]:
    return pytest.RaisesExc(PosixError, check=lambda error: error.number == number)


def test_what_is_made_is_found(names: Namespace) -> None:
    made = names.make(ROOT_INODE, b"a", FILE, ME)
    assert names.lookup(ROOT_INODE, b"a") == made
    assert names.lookup(ROOT_INODE, b"b") is None
    assert (made.uid, made.gid, made.nlink, made.size) == (1000, 1000, 1, 0)


def test_a_full_disk_is_no_reason_not_to_list(
    names: Namespace, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = names.make(ROOT_INODE, b"d", DIRECTORY, ME)
    inside = names.make(there.id, b"f", FILE, ME)
    assert names.list(there.id, 0, 10) == [(names.list(there.id, 0, 1)[0][0], b"f", inside)]
    names.make(ROOT_INODE, b"new", FILE, ME)

    def full() -> None:
        raise DiskFullError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(index.database, "before_commit", full)
        assert [name for _, name, _ in names.list(there.id, 0, 10)] == [b"f"]
        with pytest.raises(DiskFullError):
            names.list(ROOT_INODE, 0, 10)
    assert {name for _, name, _ in names.list(ROOT_INODE, 0, 10)} == {b"d", b"new"}


def test_names_are_bytes_of_any_kind(names: Namespace) -> None:
    for name in (b"\xff\xfe", b" ", b"-", "\N{SNOWMAN}".encode(), b"x" * 255):
        made = names.make(ROOT_INODE, name, FILE, ME)
        assert names.lookup(ROOT_INODE, name) == made


@pytest.mark.parametrize(
    ("name", "number"),
    [(b"x" * 256, errno.ENAMETOOLONG), (b"", errno.EINVAL), (b"a/b", errno.EINVAL)],
)
def test_impossible_names(names: Namespace, name: bytes, number: int) -> None:
    with raises(number):
        names.make(ROOT_INODE, name, FILE, ME)


def test_a_taken_name(names: Namespace) -> None:
    names.make(ROOT_INODE, b"a", FILE, ME)
    with raises(errno.EEXIST):
        names.make(ROOT_INODE, b"a", DIRECTORY, ME)
    with raises(errno.EEXIST):
        names.symlink(ROOT_INODE, b"a", b"x", ME)
    with raises(errno.EEXIST):
        names.make(ROOT_INODE, b"..", FILE, ME)


def test_link_counts_of_directories(names: Namespace, inodes: LiveInodes) -> None:
    outer = names.make(ROOT_INODE, b"d", DIRECTORY, ME)
    inner = names.make(outer.id, b"e", DIRECTORY, ME)
    assert links(inodes, ROOT_INODE) == 3
    assert links(inodes, outer.id) == 3
    assert links(inodes, inner.id) == 2
    assert names.rmdir(outer.id, b"e").nlink == 0
    assert links(inodes, outer.id) == 2


def test_dot_and_dot_dot(names: Namespace) -> None:
    outer = names.make(ROOT_INODE, b"d", DIRECTORY, ME)
    inner = names.make(outer.id, b"e", DIRECTORY, ME)
    found = names.lookup(inner.id, b"..")
    assert found is not None
    assert found.id == outer.id
    found = names.lookup(inner.id, b".")
    assert found is not None
    assert found.id == inner.id


def test_a_directory_with_entries_stays(names: Namespace) -> None:
    directory = names.make(ROOT_INODE, b"d", DIRECTORY, ME)
    names.make(directory.id, b"f", FILE, ME)
    with raises(errno.ENOTEMPTY):
        names.rmdir(ROOT_INODE, b"d")


def test_removing_the_wrong_kind(names: Namespace) -> None:
    names.make(ROOT_INODE, b"d", DIRECTORY, ME)
    names.make(ROOT_INODE, b"f", FILE, ME)
    with raises(errno.EISDIR):
        names.unlink(ROOT_INODE, b"d")
    with raises(errno.ENOTDIR):
        names.rmdir(ROOT_INODE, b"f")
    with raises(errno.ENOENT):
        names.unlink(ROOT_INODE, b"x")


def test_hard_links(names: Namespace) -> None:
    made = names.make(ROOT_INODE, b"a", FILE, ME)
    assert names.link(made.id, ROOT_INODE, b"b").nlink == 2
    assert names.unlink(ROOT_INODE, b"a").nlink == 1
    found = names.lookup(ROOT_INODE, b"b")
    assert found is not None
    assert found.id == made.id
    directory = names.make(ROOT_INODE, b"d", DIRECTORY, ME)
    with raises(errno.EPERM):
        names.link(directory.id, ROOT_INODE, b"e")


def test_set_group_id_directories_pass_their_group_on(names: Namespace) -> None:
    shared = names.make(ROOT_INODE, b"d", DIRECTORY | stat.S_ISGID, Owner(0, 50))
    assert names.make(shared.id, b"f", FILE, ME).gid == 50
    inner = names.make(shared.id, b"e", DIRECTORY, ME)
    assert inner.gid == 50
    assert inner.mode & stat.S_ISGID


def test_renaming_a_file_over_another(names: Namespace) -> None:
    moved = names.make(ROOT_INODE, b"a", FILE, ME)
    target = names.make(ROOT_INODE, b"b", FILE, ME)
    replaced = names.rename(ROOT_INODE, b"a", ROOT_INODE, b"b")
    assert replaced is not None
    assert (replaced.id, replaced.nlink) == (target.id, 0)
    found = names.lookup(ROOT_INODE, b"b")
    assert found is not None
    assert found.id == moved.id
    assert names.lookup(ROOT_INODE, b"a") is None


def test_renaming_onto_another_name_of_the_same_file_does_nothing(names: Namespace) -> None:
    made = names.make(ROOT_INODE, b"a", FILE, ME)
    names.link(made.id, ROOT_INODE, b"b")
    assert names.rename(ROOT_INODE, b"a", ROOT_INODE, b"b") is None
    assert names.lookup(ROOT_INODE, b"a") is not None
    assert names.lookup(ROOT_INODE, b"b") is not None


def test_moving_a_directory_moves_its_link(names: Namespace, inodes: LiveInodes) -> None:
    one = names.make(ROOT_INODE, b"one", DIRECTORY, ME)
    two = names.make(ROOT_INODE, b"two", DIRECTORY, ME)
    names.make(one.id, b"d", DIRECTORY, ME)
    names.rename(one.id, b"d", two.id, b"d")
    assert (links(inodes, one.id), links(inodes, two.id)) == (2, 3)


def test_renaming_over_directories(names: Namespace, inodes: LiveInodes) -> None:
    names.make(ROOT_INODE, b"d", DIRECTORY, ME)
    empty = names.make(ROOT_INODE, b"empty", DIRECTORY, ME)
    full = names.make(ROOT_INODE, b"full", DIRECTORY, ME)
    names.make(full.id, b"x", FILE, ME)
    names.make(ROOT_INODE, b"f", FILE, ME)
    with raises(errno.ENOTEMPTY):
        names.rename(ROOT_INODE, b"d", ROOT_INODE, b"full")
    with raises(errno.EISDIR):
        names.rename(ROOT_INODE, b"f", ROOT_INODE, b"empty")
    with raises(errno.ENOTDIR):
        names.rename(ROOT_INODE, b"d", ROOT_INODE, b"f")
    replaced = names.rename(ROOT_INODE, b"d", ROOT_INODE, b"empty")
    assert replaced is not None
    assert (replaced.id, replaced.nlink) == (empty.id, 0)
    assert links(inodes, ROOT_INODE) == 4


def test_rename_without_replacing(names: Namespace) -> None:
    names.make(ROOT_INODE, b"a", FILE, ME)
    names.make(ROOT_INODE, b"b", FILE, ME)
    with raises(errno.EEXIST):
        names.rename(ROOT_INODE, b"a", ROOT_INODE, b"b", replace_existing=False)


def test_exchanging_a_file_and_a_directory(names: Namespace, inodes: LiveInodes) -> None:
    outer = names.make(ROOT_INODE, b"outer", DIRECTORY, ME)
    directory = names.make(ROOT_INODE, b"d", DIRECTORY, ME)
    file = names.make(outer.id, b"f", FILE, ME)
    names.exchange(ROOT_INODE, b"d", outer.id, b"f")
    found = names.lookup(ROOT_INODE, b"d")
    assert found is not None
    assert found.id == file.id
    found = names.lookup(outer.id, b"f")
    assert found is not None
    assert found.id == directory.id
    assert (links(inodes, ROOT_INODE), links(inodes, outer.id)) == (3, 3)


def test_every_entry_is_listed_once_while_others_come_and_go(names: Namespace) -> None:
    wanted = {b"file-%d" % number for number in range(100)}
    for name in wanted:
        names.make(ROOT_INODE, name, FILE, ME)
    seen: list[bytes] = []
    after = 2
    while page := names.list(ROOT_INODE, after, 7):
        for cookie, name, _row in page:
            seen.append(name)
            after = cookie
        names.make(ROOT_INODE, b"new-%d" % len(seen), FILE, ME)
    assert {name for name in seen if name.startswith(b"file-")} == wanted
    assert len(seen) == len(set(seen))


def test_nothing_is_made_in_a_removed_directory(names: Namespace) -> None:
    directory = names.make(ROOT_INODE, b"d", DIRECTORY, ME)
    names.rmdir(ROOT_INODE, b"d")
    with raises(errno.ENOENT):
        names.make(directory.id, b"f", FILE, ME)
