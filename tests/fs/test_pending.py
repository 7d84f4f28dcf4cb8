"""New names and closed files that the tables do not have yet, and what a death leaves of them."""

from __future__ import annotations

import errno
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from usenetfs.errors import DiskFullError, PosixError
from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.fs.namespace import Namespace, Owner
from usenetfs.fs.pending import Pending
from usenetfs.index.index import Index
from usenetfs.index.inodes import Inode
from usenetfs.store.staging import Staging
from usenetfs.transfer.staged.blocks import StagedBlocks
from usenetfs.types import ROOT_INODE, BlockNumber, InodeId

KEY = b"k" * 32
BLOCK = 8192
FILE = stat.S_IFREG | 0o644
OWNER = Owner(1, 2)


@dataclass
class Disk:
    """An index, staging, and what is in memory above them."""

    folder: Path
    index: Index
    staging: Staging
    staged: StagedBlocks
    inodes: LiveInodes
    pending: Pending
    names: Namespace

    @classmethod
    def open(cls, folder: Path) -> Disk:
        path = folder / "index"
        if not path.exists():
            folder.mkdir()
            Index.create(
                path, filesystem_id=bytes(16), name="t", block_size=BLOCK, directory_key=KEY
            ).close()
        index = Index.open(path, directory_key=KEY)
        staging = Staging(folder / "staging", block_size=BLOCK)
        staged = StagedBlocks(index, staging, block_size=BLOCK, settle=1.0)
        staged.sweep()
        inodes = LiveInodes(index)
        pending = Pending(index, inodes, staged)
        names = Namespace(index, inodes, staged, pending)
        return cls(folder, index, staging, staged, inodes, pending, names)

    def close(self) -> None:
        self.index.close()
        self.staging.close()

    def make(self, name: bytes, data: bytes = b"") -> Inode:
        row = self.names.make(ROOT_INODE, name, FILE, OWNER)
        if data:
            self.write(row.id, 0, data)
        return row

    def write(self, inode: InodeId, offset: int, data: bytes) -> None:
        self.staged.write(inode, offset, data)
        self.inodes.wrote(inode, offset + len(data))

    def content(self, name: bytes) -> bytes | None:
        row = self.names.lookup(ROOT_INODE, name)
        if row is None:
            return None
        hot = self.staged.get(row.id, BlockNumber(0))
        return b"" if hot is None else self.staged.read(hot, 0, row.size)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    opened = Disk.open(tmp_path / "one")
    yield opened
    opened.close()


@pytest.fixture
def after(disk: Disk, tmp_path: Path) -> Iterator[list[Disk]]:
    """What :func:`died` opened."""
    opened: list[Disk] = []
    yield opened
    for other in opened:
        assert other.index.check() == []
        other.close()


def died(disk: Disk, after: list[Disk]) -> Disk:
    """The daemon dies now; what the next mount finds."""
    folder = disk.folder.with_name(f"after {len(after)}")
    shutil.copytree(disk.folder, folder)
    after.append(Disk.open(folder))
    return after[-1]


def test_a_closed_file_survives_the_death_of_the_daemon(disk: Disk, after: list[Disk]) -> None:
    row = disk.make(b"new", b"content")
    disk.pending.closed(row.id)
    assert disk.index.dirents.lookup(ROOT_INODE, b"new") is None, "no transaction was needed"
    found = died(disk, after)
    assert found.content(b"new") == b"content"
    assert found.inodes.get(row.id).size == 7
    assert died(found, after).content(b"new") == b"content"


def test_what_was_written_after_the_close_needs_another(disk: Disk, after: list[Disk]) -> None:
    row = disk.make(b"new", b"content")
    disk.pending.closed(row.id)
    disk.write(row.id, 7, b" and more")
    assert died(disk, after).content(b"new") == b"content"
    disk.pending.closed(row.id)
    assert died(disk, after).content(b"new") == b"content and more"


def test_a_file_that_is_open_may_be_lost_whole(disk: Disk, after: list[Disk]) -> None:
    disk.make(b"open", b"content")
    closed = disk.make(b"closed")
    disk.pending.closed(closed.id)
    found = died(disk, after)
    assert found.content(b"open") is None
    assert found.content(b"closed") == b""


def test_a_second_close_of_the_same_says_nothing_new(disk: Disk) -> None:
    row = disk.make(b"new", b"content")
    disk.pending.closed(row.id)
    size = (disk.folder / "index-closed").stat().st_size
    disk.pending.closed(row.id)
    assert (disk.folder / "index-closed").stat().st_size == size


def test_an_old_file_rewritten_and_closed(disk: Disk, after: list[Disk]) -> None:
    row = disk.make(b"file", b"content")
    disk.pending.commit()
    disk.write(row.id, 0, b"CONTENT!")
    disk.pending.closed(row.id)
    assert disk.pending
    assert died(disk, after).content(b"file") == b"CONTENT!"
    disk.pending.commit()
    assert not disk.pending
    assert died(disk, after).content(b"file") == b"CONTENT!"


def test_any_transaction_finds_what_was_told_before_it(disk: Disk, after: list[Disk]) -> None:
    row = disk.make(b"new", b"content")
    disk.pending.closed(row.id)
    with disk.index.transaction():
        assert disk.index.dirents.lookup(ROOT_INODE, b"new") == row.id
        assert disk.index.inodes.get(row.id) is not None
        assert disk.index.staging.get(row.id, BlockNumber(0)) is not None
    assert not disk.pending
    assert died(disk, after).content(b"new") == b"content"


def test_a_name_is_taken_before_the_tables_have_it(disk: Disk) -> None:
    disk.make(b"new")
    with pytest.raises(PosixError) as raised:
        disk.make(b"new")
    assert raised.value.number == errno.EEXIST
    directory = stat.S_IFDIR | 0o755
    with pytest.raises(PosixError) as raised:
        disk.names.make(ROOT_INODE, b"new", directory, OWNER)
    assert raised.value.number == errno.EEXIST


def test_what_is_done_with_names_includes_the_new_ones(disk: Disk, after: list[Disk]) -> None:
    for name in (b"listed", b"linked", b"moved", b"gone"):
        disk.pending.closed(disk.make(name, name).id)
    assert [name for _, name, _ in disk.names.list(ROOT_INODE, 2, 10)]
    disk.make(b"late", b"late")
    found = disk.names.lookup(ROOT_INODE, b"linked")
    assert found is not None
    disk.names.link(found.id, ROOT_INODE, b"other")
    disk.names.rename(ROOT_INODE, b"moved", ROOT_INODE, b"late")
    disk.names.unlink(ROOT_INODE, b"gone")
    later = died(disk, after)
    assert later.content(b"listed") == b"listed"
    assert later.content(b"other") == b"linked"
    assert later.content(b"late") == b"moved"
    assert later.content(b"gone") is None


def test_a_directory_with_a_new_file_is_not_empty(disk: Disk) -> None:
    directory = disk.names.make(ROOT_INODE, b"directory", stat.S_IFDIR | 0o755, OWNER)
    disk.names.make(directory.id, b"new", FILE, OWNER)
    with pytest.raises(PosixError) as raised:
        disk.names.rmdir(ROOT_INODE, b"directory")
    assert raised.value.number == errno.ENOTEMPTY


def test_a_commit_that_fails_is_tried_again(
    disk: Disk, after: list[Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = disk.make(b"new", b"content")
    disk.pending.closed(row.id)

    def full() -> None:
        raise DiskFullError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(disk.index.database, "before_commit", full)
        with pytest.raises(DiskFullError):
            disk.pending.commit()
    assert disk.content(b"new") == b"content"
    assert died(disk, after).content(b"new") == b"content"
    disk.pending.commit()
    assert not disk.pending
    assert disk.index.dirents.lookup(ROOT_INODE, b"new") == row.id


def test_without_a_journal_a_close_is_a_transaction(
    disk: Disk, after: list[Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk.index.closed, "note", lambda closed: False)
    row = disk.make(b"new", b"content")
    disk.pending.closed(row.id)
    assert disk.index.dirents.lookup(ROOT_INODE, b"new") == row.id
    assert died(disk, after).content(b"new") == b"content"


def test_numbers_of_lost_files_may_be_used_again_and_their_bytes_may_not(
    disk: Disk, after: list[Disk]
) -> None:
    """What was never closed is nowhere: the next file of that number begins empty."""
    lost = disk.make(b"lost", b"secret")
    found = died(disk, after)
    row = found.make(b"next")
    assert row.id == lost.id
    found.write(row.id, 4, b"!")
    assert found.content(b"next") == b"\0\0\0\0!"
    found.pending.commit()
