"""Small files in shared files of staging: data, giving back, what a crash or a bad disk leaves."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.places import (
    BLOCK,
    ONE,
    SIZE,
    TWO,
    allocated,
    block,
    descriptors,
    files_below,
    small,
)
from usenetfs.errors import DiskFullError, LocalStorageError
from usenetfs.store import shared_files, syscalls
from usenetfs.store.shared_files import SharedFiles
from usenetfs.store.shared_table import PAGE, entry_offset
from usenetfs.store.staging import Swept
from usenetfs.types import InodeId


def shared_below(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "shared").iterdir())


@pytest.fixture
def shared(tmp_path: Path) -> SharedFiles:
    return SharedFiles(str(tmp_path / "shared"), slot_bytes=BLOCK)


# --- data ----------------------------------------------------------------------------------------


def test_small_new_files_lie_together_and_read_back(tmp_path: Path) -> None:
    before = descriptors()
    with small(tmp_path, new_from=1) as store:
        for inode in range(1, 600):
            store.write(InodeId(inode), block(0), 0, inode.to_bytes(2, "big") * 50)
        assert files_below(tmp_path) == []
        assert shared_below(tmp_path) == ["1", "2", "3"]
        assert descriptors() == before + 3
        assert store.usage() == allocated(tmp_path) > 599 * PAGE
        for inode in range(1, 600):
            assert store.read(InodeId(inode), block(0), 0, 102) == (
                inode.to_bytes(2, "big") * 50 + b"\0\0"
            )
        assert set(store.inodes()) == set(range(1, 600))
        store.discard_inode(ONE)
        assert store.read(ONE, block(0), 0, 9) == bytes(9)
    assert descriptors() == before


def test_a_file_that_grows_has_its_beginning_here_and_the_rest_in_its_own(tmp_path: Path) -> None:
    content = bytearray(os.urandom(SIZE))
    with small(tmp_path, new_from=1) as store:
        store.write_span(ONE, 0, content[:5000])
        store.write_span(ONE, 5000, content[5000:])
        assert files_below(tmp_path) == ["01/1.0", "01/1.1", "01/1.2"]
        assert shared_below(tmp_path) == ["1"]
        assert store.read_span(ONE, 0, SIZE) == content
        store.zero(ONE, block(0), 100, 200)
        store.zero(ONE, block(1), 7, BLOCK)
        store.discard(ONE, map(block, range(2, SIZE // BLOCK)))
        content[100:200], content[BLOCK + 7 :] = bytes(100), bytes(SIZE - BLOCK - 7)
        assert store.read_span(ONE, 0, SIZE) == content
        store.zero(ONE, block(0), 300, BLOCK)
        store.discard(ONE, [block(1)])
        content[300:] = bytes(SIZE - 300)
        assert store.read_span(ONE, 0, SIZE) == content
        store.discard(ONE, [block(0)])
        assert store.read_span(ONE, 0, SIZE) == bytes(SIZE)
        store.reclaim()
        assert files_below(tmp_path) == shared_below(tmp_path) == []


def test_who_begins_large_or_is_not_new_has_a_file_of_its_own(tmp_path: Path) -> None:
    with small(tmp_path, new_from=10) as store:
        store.write_span(ONE, 0, b"x")
        store.write_span(InodeId(20), 0, bytes(BLOCK + 1))
        store.write_span(InodeId(19), 0, b"x")  # 20 has one, so 19 may have one as well
        store.write_span(InodeId(21), 5, b"x" * (BLOCK - 5))
        assert files_below(tmp_path) == ["01/1.0", "13/19.0", "14/20.0"]
        assert store.read(InodeId(21), block(0), 4, 2) == b"\0x"
    with small(tmp_path) as store:
        assert store.read(InodeId(21), block(0), 4, 2) == b"\0x"
        store.write_span(InodeId(22), 0, b"x")
        assert "16/22.0" in files_below(tmp_path)


def test_when_all_shared_files_are_full_files_have_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_files, "SLOTS", 2)
    with small(tmp_path, new_from=1) as store:
        store._shared = SharedFiles(str(tmp_path / "shared"), slot_bytes=BLOCK, max_files=2)
        for inode in range(1, 7):
            store.write_span(InodeId(inode), 0, bytes([inode]))
        assert shared_below(tmp_path) == ["1", "2"]
        assert files_below(tmp_path) == ["05/5.0", "06/6.0"]
        assert [store.read_span(InodeId(i), 0, 1) for i in range(1, 7)] == [
            bytes([inode]) for inode in range(1, 7)
        ]


# --- giving back ---------------------------------------------------------------------------------


def test_the_file_being_filled_is_kept_until_half_of_it_was_discarded(tmp_path: Path) -> None:
    with small(tmp_path, new_from=1) as store:
        for inode in range(1, 5):
            store.write_span(InodeId(inode), 0, b"x" * BLOCK)
        store.discard_inode(ONE)
        assert store.reclaimable() == 0
        store.discard_inode(InodeId(2))
        assert store.reclaimable() == 1
        used = store.usage()
        store.reclaim()
        assert store.reclaimable() == 0
        assert store.usage() == used - 2 * BLOCK
        assert set(store.inodes()) == {3, 4}
        assert store.read_span(InodeId(4), 0, BLOCK) == b"x" * BLOCK
        store.write_span(InodeId(5), 0, b"y")
        assert shared_below(tmp_path) == ["1", "2"]


def test_a_write_after_a_discard_is_not_freed_with_it(shared: SharedFiles) -> None:
    shared.write(1, 0, b"a" * BLOCK)
    shared.write(2, 0, b"b" * BLOCK)
    assert shared.discard(1)
    assert shared.discard(2)
    shared.write(1, 100, b"new")
    shared.reclaim()
    assert shared.read(1, 0, BLOCK) == (bytes(100) + b"new").ljust(BLOCK, b"\0")
    assert shared.read(2, 0, BLOCK) == bytes(BLOCK)
    assert not shared.discard(2)
    shared.close()


def test_who_writes_while_the_slot_is_given_back_gets_another(
    shared: SharedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(_: int) -> None:
        shared.write(1, 3, b"meanwhile")

    shared.write(1, 0, b"a" * 100)
    shared.note_tail(1)
    shared.write(2, 0, b"b" * 100)
    assert shared.discard(1)
    monkeypatch.setattr(os, "fdatasync", meanwhile)
    shared.reclaim()
    assert shared.read(1, 0, 13) == b"\0\0\0meanwhile\0"
    assert shared.has_tail(1)
    shared.close()
    again = SharedFiles(str(tmp_path / "shared"), slot_bytes=BLOCK)
    assert again.read(1, 0, 13) == b"\0\0\0meanwhile\0"
    assert again.read(2, 0, 2) == b"bb"
    again.close()


@pytest.mark.parametrize("inodes", [(1,), (1, 2)])
def test_a_failure_to_give_back_leaves_it_for_the_next_time(
    shared: SharedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inodes: tuple[int, ...]
) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.EIO, "broken")

    shared.write(1, 0, b"a")
    shared.write(2, 0, b"b")
    for inode in inodes:
        assert shared.discard(inode)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        patch.setattr(shared_files, "sync_directory", fail)
        with pytest.raises(LocalStorageError, match="cannot free space"):
            shared.reclaim()
    assert shared.reclaimable() == 1
    shared.write(1, 5, b"new")
    shared.reclaim()
    assert shared.read(1, 0, 9) == b"\0\0\0\0\0new\0"
    shared.close()
    again = SharedFiles(str(tmp_path / "shared"), slot_bytes=BLOCK)
    assert again.read(1, 0, 9) == b"\0\0\0\0\0new\0"
    again.close()


def test_a_file_that_cannot_be_changed_keeps_no_other_from_being_given_back(
    shared: SharedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fdatasync = os.fdatasync

    def fail_for_one(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), (tmp_path / "shared/1").stat()):
            raise OSError(errno.EIO, "broken")
        fdatasync(descriptor)

    for inode in range(1, 600):
        shared.write(inode, 0, b"a")
    assert shared.discard(1)
    assert shared.discard(300)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail_for_one)
        with pytest.raises(LocalStorageError, match="cannot free space"):
            shared.reclaim()
    assert (shared.reach(1), shared.reach(300)) == (BLOCK, 0)
    shared.reclaim()
    assert shared.reach(1) == 0
    shared.close()


def test_where_holes_cannot_be_punched_space_is_freed_by_whole_files(
    shared: SharedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_files, "punch_hole", lambda *_: False)
    shared.write(1, 0, b"a" * BLOCK)
    shared.write(2, 0, b"b" * BLOCK)
    shared.zero(2, 10, 20)
    assert shared.read(2, 0, 30) == b"b" * 10 + bytes(10) + b"b" * 10
    shared.discard(1)
    shared.write(1, 5, b"c")
    assert shared.read(1, 0, 9) == b"\0\0\0\0\0c\0\0\0"
    shared.discard(1)
    shared.reclaim()
    assert shared_below(tmp_path) == ["1"]
    shared.discard(2)
    shared.reclaim()
    assert shared_below(tmp_path) == []
    assert shared.allocated() == 0
    shared.close()


# --- what is found at the next start -------------------------------------------------------------


def test_sweeping_frees_what_the_index_does_not_know(tmp_path: Path) -> None:
    with small(tmp_path, new_from=1) as store:
        for inode in (ONE, TWO, InodeId(300)):
            store.write_span(inode, 0, b"a" * BLOCK)
        store.write_span(ONE, BLOCK, b"behind")
    with small(tmp_path, new_from=301) as store:
        assert set(store.inodes()) == {ONE, TWO, 300}
        swept = store.sweep(lambda inode, _: [] if inode == TWO else [block(0), block(1)])
        assert swept == Swept(files_removed=0, bytes_freed=BLOCK)
        assert set(store.inodes()) == {ONE, 300}
        assert store.read_span(ONE, 0, BLOCK + 6) == b"a" * BLOCK + b"behind"
        store.sweep(lambda *_: [])
        assert files_below(tmp_path) == shared_below(tmp_path) == []


def _writes(shared: SharedFiles) -> Callable[[int], None]:
    return lambda _: shared.write(7, 0, b"new")


def test_the_last_slot_of_an_inode_counts(
    shared: SharedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.write(7, 0, b"old")
    shared.write(8, 0, b"other")
    before = (tmp_path / "shared/1").read_bytes()
    assert shared.discard(7)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", _writes(shared))
        shared.reclaim()
    shared.close()
    (tmp_path / "shared/1").write_bytes(before)  # as a power cut may bring it back
    again = SharedFiles(str(tmp_path / "shared"), slot_bytes=BLOCK)
    assert again.read(7, 0, 3) == b"new"
    assert again.read(8, 0, 5) == b"other"
    assert again.reclaimable() == 1
    again.reclaim()
    again.close()
    assert bytes(before[entry_offset(0) : entry_offset(1)]) != bytes(16)
    assert (tmp_path / "shared/1").read_bytes()[entry_offset(0) : entry_offset(1)] == bytes(16)


def test_the_form_on_disk(shared: SharedFiles, tmp_path: Path) -> None:
    shared.write(0x0102030405, 1, b"x")
    shared.close()
    content = (tmp_path / "shared/1").read_bytes()
    assert content[:32].hex() == (
        "756e667373687231002000007fe929a8050403020100000018b694ba00000000"
    )
    assert content[32:] == bytes(PAGE - 32) + b"\0x"
    assert (tmp_path / "shared/1").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o700


def test_what_a_power_cut_tore_is_nobodys(shared: SharedFiles, tmp_path: Path) -> None:
    shared.write(1, 0, b"one")
    shared.write(2, 0, b"two")
    shared.close()
    with (tmp_path / "shared/1").open("r+b") as file:
        file.seek(entry_offset(0))
        file.write(b"\x03")
    (tmp_path / "shared/2").write_bytes(b"")
    (tmp_path / "shared/notes").write_text("somebody else's")
    again = SharedFiles(str(tmp_path / "shared"), slot_bytes=BLOCK)
    assert again.inodes() == [2]
    again.reclaim()
    again.write(9, 0, b"x")
    assert shared_below(tmp_path) == ["1", "3", "notes"]
    again.close()


def test_a_version_that_is_not_known_is_said(tmp_path: Path) -> None:
    before = descriptors()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/1").write_bytes(b"unfsshr2" + bytes(PAGE))
    with pytest.raises(LocalStorageError, match="version that is not known") as caught:
        small(tmp_path)
    assert "newer usenetfs" in (caught.value.hint or "")
    assert descriptors() == before


# --- durability and bad disks --------------------------------------------------------------------


def test_one_sync_serves_all_that_were_written_before(
    shared: SharedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda _: done.append("data"))
    monkeypatch.setattr(shared_files, "sync_directory", lambda _: done.append("names"))
    for inode in range(1, 100):
        shared.write(inode, 0, b"x")
    for inode in range(1, 100):
        shared.sync(inode)
    shared.sync(1000)
    assert done == ["data", "names"]
    shared.write(50, 0, b"y")
    shared.sync(49)
    assert done == ["data", "names"]
    shared.zero(50, 0, 1)
    assert shared.unsynced() == 1
    shared.sync_all()
    shared.sync(50)
    shared.sync_all()
    assert done == ["data", "names", "data"]
    shared.close()


def test_who_was_not_synced_with_the_others_stays_so_until_it_is_discarded(
    shared: SharedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    shared.write(1, 0, b"x")
    shared.write(2, 0, b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(LocalStorageError, match="cannot sync"):
            shared.sync(1)
    syncs: list[Callable[[], None]] = [
        lambda: shared.sync(2),
        lambda: shared.sync(1),
        shared.sync_all,
    ]
    for sync in syncs:
        with pytest.raises(LocalStorageError, match="cannot sync") as caught:
            sync()
        assert "write the file again" in (caught.value.hint or "")
    shared.write(3, 0, b"x")
    shared.sync(3)
    assert shared.discard(1)
    shared.sync(1)
    shared.write(1, 0, b"y")
    shared.sync(1)
    assert shared.discard(2)
    shared.reclaim()
    shared.sync_all()
    shared.close()


def test_names_that_failed_to_sync_are_synced_again(
    shared: SharedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fail(path: str) -> None:
        synced.append(path)
        if len(synced) == 1:
            raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(shared_files, "sync_directory", fail)
    shared.write(1, 0, b"x")
    with pytest.raises(LocalStorageError, match="cannot sync the directory"):
        shared.sync(1)
    shared.sync(1)
    shared.sync(1)
    assert len(synced) == 2
    shared.close()


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_full_disk_leaves_what_was_there(
    shared: SharedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    real, left = syscalls.write_all, [writes]

    def fill(descriptor: int, data: bytes, offset: int) -> None:
        if not left[0]:
            raise OSError(errno.ENOSPC, "full")
        left[0] -= 1
        real(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(shared_files, "write_all", fill)
        with pytest.raises(DiskFullError):
            shared.write(1, 0, b"x")
    assert shared.read(1, 0, 1) == b"\0"
    shared.write(1, 0, b"y")
    shared.write(2, 0, b"z")
    shared.close()
    again = SharedFiles(str(tmp_path / "shared"), slot_bytes=BLOCK)
    assert (again.read(1, 0, 1), again.read(2, 0, 1)) == (b"y", b"z")
    again.discard(1)
    again.discard(2)
    again.reclaim()
    assert shared_below(tmp_path) == []
    again.close()


def test_nothing_is_begun_after_the_end(shared: SharedFiles) -> None:
    shared.close()
    with pytest.raises(ValueError, match="closed"):
        shared.write(1, 0, b"x")
