"""Closed files noted beside the index, and taken into its tables when a daemon died."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.errors import DatabaseError
from usenetfs.index.index import Index
from usenetfs.index.inodes import Inode
from usenetfs.index.journal import HEAD, ClosedFile, Journal
from usenetfs.index.staging import StagedBlock
from usenetfs.types import ROOT_INODE, BlockNumber, InodeId

KEY = b"k" * 32


def inode(number: int, *, size: int = 10, mtime: int = 5) -> Inode:
    return Inode(InodeId(number), stat.S_IFREG | 0o644, 1, 2, 1, size, 0, 4, mtime, 6)


def block(number: int, generation: int, length: int = 10) -> StagedBlock:
    return StagedBlock(
        InodeId(number),
        BlockNumber(0),
        generation,
        whole=True,
        extents=((0, length),),
        dirtied_ns=9,
    )


def closed(number: int, name: bytes = b"", generation: int = 1) -> ClosedFile:
    names = ((ROOT_INODE, name),) if name else ()
    return ClosedFile(inode(number), names, (block(number, generation),))


def left(index: Path, last: int = 0) -> list[tuple[int, ClosedFile]]:
    return list(Journal(index, last).records())


INODES = st.builds(
    Inode,
    st.integers(1, 1 << 60).map(InodeId),
    *[st.integers(-(1 << 63), (1 << 63) - 1)] * 9,
)
NAMES = st.tuples(st.integers(1, 1 << 60).map(InodeId), st.binary(min_size=1, max_size=255))
EXTENTS = st.lists(st.integers(0, (1 << 32) - 1), max_size=6, unique=True).map(
    lambda edges: tuple(
        (start, end) for start, end in zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False)
    )
)


@given(INODES, st.lists(NAMES, max_size=3), st.lists(EXTENTS, max_size=4), st.booleans())
def test_what_is_noted_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    row: Inode,
    names: Sequence[tuple[InodeId, bytes]],
    extents: Sequence[tuple[tuple[int, int], ...]],
    whole: bool,
) -> None:
    index = tmp_path_factory.mktemp("journal") / "index"
    blocks = tuple(
        StagedBlock(row.id, BlockNumber(number), number + 3, whole, found, dirtied_ns=number)
        for number, found in enumerate(extents)
    )
    wanted = ClosedFile(row, tuple(names), blocks)
    journal = Journal(index, 7)
    assert journal.note(wanted)
    assert journal.note(wanted)
    journal.close()
    assert left(index, 7) == [(8, wanted), (9, wanted)]
    assert left(index, 8) == []  # the first of them is not the next one


def test_records_that_the_tables_have_are_written_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "index", 0)
    for number in range(5):
        assert journal.note(closed(10 + number, b"a long name " * number))
    journal.taken()
    assert left(tmp_path / "index", 5) == []
    assert journal.note(closed(20))
    assert left(tmp_path / "index", 5) == [(6, closed(20))]
    journal.close()


@pytest.mark.parametrize("cut", [1, 30, 60])
def test_a_record_that_was_torn_ends_the_journal(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path / "index", 0)
    journal.note(closed(10, b"one"))
    journal.note(closed(11, b"two"))
    journal.close()
    path = tmp_path / "index-closed"
    path.write_bytes(path.read_bytes()[:-cut])
    assert left(tmp_path / "index") == [(1, closed(10, b"one"))]


@pytest.mark.parametrize("place", range(HEAD, HEAD + 60, 7))
def test_a_damaged_record_counts_for_nothing(tmp_path: Path, place: int) -> None:
    journal = Journal(tmp_path / "index", 0)
    journal.note(closed(10, b"one"))
    journal.close()
    path = tmp_path / "index-closed"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert left(tmp_path / "index") == []


def test_after_a_power_cut_it_counts_for_nothing(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.write_text("11111111-2222-3333-4444-555555555555\n")
    after.write_text("99999999-2222-3333-4444-555555555555\n")
    journal = Journal(tmp_path / "index", 0, boot_id=before)
    assert journal.note(closed(10))
    journal.close()
    assert list(Journal(tmp_path / "index", 0, boot_id=after).records()) == []
    assert len(list(Journal(tmp_path / "index", 0, boot_id=before).records())) == 1


def test_without_a_boot_to_name_it_takes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "index", 0, boot_id=tmp_path / "absent")
    assert not journal.note(closed(10))
    assert not (tmp_path / "index-closed").exists()


def test_what_is_too_long_is_not_taken(tmp_path: Path) -> None:
    many = tuple(block(10, generation) for generation in range(3000))
    journal = Journal(tmp_path / "index", 0)
    assert not journal.note(ClosedFile(inode(10), (), many))
    assert journal.note(closed(10))
    journal.close()


def test_a_full_disk_takes_nothing_and_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "index", 0)
    assert journal.note(closed(10))
    write = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "full")

    def half(descriptor: int, data: bytes, offset: int) -> int:
        return write(descriptor, data[: len(data) // 2], offset)

    for failing in (full, half):
        monkeypatch.setattr(os, "pwrite", failing)
        assert not journal.note(closed(11))
        monkeypatch.setattr(os, "pwrite", write)
        assert left(tmp_path / "index") == [(1, closed(10))]
    assert journal.note(closed(12))
    assert left(tmp_path / "index") == [(1, closed(10)), (2, closed(12))]
    journal.close()


# --- the tables ----------------------------------------------------------------------------------


def make(folder: Path) -> Index:
    folder.mkdir(exist_ok=True)
    return Index.create(
        folder / "index", filesystem_id=bytes(16), name="t", block_size=8192, directory_key=KEY
    )


def died(index: Index, folder: Path, after: Path) -> Index:
    """The index as a daemon that dies now leaves it, opened again."""
    shutil.copytree(folder, after)
    index.close()
    return Index.open(after / "index", directory_key=KEY)


def test_a_closed_file_is_there_after_the_daemon_died(tmp_path: Path) -> None:
    index = make(tmp_path / "a")
    number = index.inodes.reserve()
    assert index.closed.note(closed(number, b"new", generation=3))
    assert index.closed.behind
    with died(index, tmp_path / "a", tmp_path / "b") as again:
        assert again.dirents.lookup(ROOT_INODE, b"new") == number
        assert again.inodes.get(number) == inode(number)
        assert again.staging.get(number, BlockNumber(0)) == block(number, 3)
        assert again.inodes.totals().files == 1
        assert again.inodes.reserve() == number + 1
        assert again.check() == []
        assert again.closed.carry_out() == 0
    with Index.open(tmp_path / "b" / "index", directory_key=KEY) as once_more:
        assert once_more.closed.carry_out() == 0
        assert once_more.check() == []


def test_records_are_carried_out_in_order(tmp_path: Path) -> None:
    index = make(tmp_path / "a")
    number = index.inodes.reserve()
    index.closed.note(closed(number, b"new"))
    longer = ClosedFile(inode(number, size=20, mtime=50), (), (block(number, 2, length=20),))
    index.closed.note(longer)
    with died(index, tmp_path / "a", tmp_path / "b") as again:
        assert again.inodes.get(number) == longer.inode
        found = again.staging.get(number, BlockNumber(0))
        assert found is not None
        assert found.extents == ((0, 20),)
        assert again.check() == []


def test_what_the_tables_took_is_not_carried_out_again(tmp_path: Path) -> None:
    """Died between the commit and anything after it."""
    index = make(tmp_path / "a")
    number = index.inodes.reserve()
    index.closed.note(closed(number, b"new"))
    newer = inode(number, size=4000, mtime=99)
    with index.transaction():
        index.inodes.insert_rows([newer])
        index.dirents.insert(ROOT_INODE, b"newer", number)
        index.closed.take()
    with died(index, tmp_path / "a", tmp_path / "b") as again:
        assert again.inodes.get(number) == newer
        assert again.dirents.lookup(ROOT_INODE, b"new") is None
        assert again.check() == []


def test_a_transaction_that_fails_leaves_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise DatabaseError("on purpose")

    index = make(tmp_path / "a")
    number = index.inodes.reserve()
    index.closed.note(closed(number, b"new"))
    monkeypatch.setattr(index.database, "before_commit", fail)
    with pytest.raises(DatabaseError, match="on purpose"), index.transaction():
        index.closed.take()
    assert index.closed.behind
    with died(index, tmp_path / "a", tmp_path / "b") as again:
        assert again.dirents.lookup(ROOT_INODE, b"new") == number


@pytest.mark.parametrize("parent", [ROOT_INODE, InodeId(77)])
def test_a_name_that_cannot_be_is_left_out(tmp_path: Path, parent: InodeId) -> None:
    index = make(tmp_path / "a")
    with index.transaction():
        there = index.inodes.insert(stat.S_IFREG | 0o600, 0, 0, 1, 0, 0, (1, 1, 1))
        index.dirents.insert(ROOT_INODE, b"taken", there.id)
    number = index.inodes.reserve()
    index.closed.note(ClosedFile(inode(number), ((parent, b"taken"),), (block(number, 1),)))
    with died(index, tmp_path / "a", tmp_path / "b") as again:
        assert again.dirents.lookup(ROOT_INODE, b"taken") == there.id
        assert again.inodes.get(number) is None
        assert again.check() == []


def test_a_reader_leaves_the_journal_alone(tmp_path: Path) -> None:
    index = make(tmp_path / "a")
    index.closed.note(closed(index.inodes.reserve(), b"new"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    index.close()
    path = tmp_path / "b" / "index"
    with Index.open(path, directory_key=KEY, read_only=True) as reader:
        assert reader.dirents.lookup(ROOT_INODE, b"new") is None
    with Index.open(path, directory_key=KEY) as again:
        assert again.dirents.lookup(ROOT_INODE, b"new") is not None
