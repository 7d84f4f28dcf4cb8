"""Staging: data, discarding and errors, each promise that its docstring makes."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.places import (
    BLOCK,
    ONE,
    SIZE,
    TWO,
    block,
    files_below,
    small,
)
from usenetfs.errors import DiskFullError, LocalStorageError
from usenetfs.store import group_files
from usenetfs.store.staging import Staging, Swept

# --- data ----------------------------------------------------------------------------------------


def test_blocks_lie_at_their_natural_offsets(store: Staging, tmp_path: Path) -> None:
    store.write(TWO, block(1), 10, b"one")
    store.write(TWO, block(4), 0, b"two")
    assert files_below(tmp_path) == ["02/258.0", "02/258.1"]
    assert (tmp_path / "02/258.0").read_bytes() == bytes(BLOCK + 10) + b"one"
    assert (tmp_path / "02/258.1").read_bytes() == bytes(BLOCK) + b"two"
    assert (tmp_path / "02/258.0").stat().st_mode & 0o777 == 0o600
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert store.read(TWO, block(1), 8, 7) == b"\0\0one\0\0"
    assert "open=2" in repr(store)


def test_one_write_may_span_groups(store: Staging) -> None:
    data = random.Random(1).randbytes(BLOCK * 7)
    store.write_span(ONE, 1000, data)
    assert store.read_span(ONE, 1000, len(data)) == data
    assert store.read_span(ONE, 999, 2) == b"\0" + data[:1]


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, BLOCK + 1), (BLOCK, 1), (5, -1)])
def test_what_is_not_within_a_block_is_refused(store: Staging, start: int, length: int) -> None:
    with pytest.raises(ValueError, match="not within a block"):
        store.read(ONE, block(0), start, length)
    with pytest.raises(ValueError, match="negative"):
        store.write_span(ONE, -1, b"x")
    with pytest.raises(ValueError, match="cannot be read"):
        store.read_span(ONE, -1, 1)


def test_reading_what_was_never_written_makes_nothing(store: Staging, tmp_path: Path) -> None:
    assert store.read(ONE, block(0), 0, 5) == bytes(5)
    store.zero(ONE, block(0), 0, 5)
    store.sync(ONE)
    store.discard_inode(ONE)
    store.reclaim()
    assert files_below(tmp_path) == []
    assert store.reclaimable() == 0


# --- discarding ----------------------------------------------------------------------------------


def test_discarded_blocks_are_freed_and_empty_files_removed(store: Staging, tmp_path: Path) -> None:
    store.write_span(ONE, 0, bytes([7]) * SIZE)
    store.sync(ONE)
    assert store.usage() >= SIZE
    store.discard(ONE, map(block, (0, 1, 3, 4, 5)))
    assert store.read_span(ONE, 0, 2 * BLOCK) == bytes(2 * BLOCK)
    store.reclaim()
    assert files_below(tmp_path) == ["01/1.0", "01/1.2"]
    assert store.usage() <= 3 * BLOCK + 4096
    assert store.read(ONE, block(2), 0, BLOCK) == bytes([7]) * BLOCK
    store.discard(ONE, [block(2)])
    store.discard(ONE, [block(6)])
    store.discard(ONE, [block(7)])
    store.reclaim()
    assert files_below(tmp_path) == []
    assert store.usage() == 0


def test_a_write_after_a_discard_is_not_freed_with_it(store: Staging) -> None:
    store.write(ONE, block(0), 0, b"a" * BLOCK)
    store.write(ONE, block(1), 0, b"b" * BLOCK)
    store.discard(ONE, [block(0), block(1)])
    store.write(ONE, block(0), 100, b"new")
    store.reclaim()
    assert store.read(ONE, block(0), 0, BLOCK) == (bytes(100) + b"new").ljust(BLOCK, b"\0")
    assert store.read(ONE, block(1), 0, BLOCK) == bytes(BLOCK)


def test_where_holes_cannot_be_punched_space_is_freed_by_whole_files(
    store: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_files, "punch_hole", lambda *_: False)
    store.write_span(ONE, 0, b"x" * 3 * BLOCK)
    store.zero(ONE, block(0), 10, 20)
    assert store.read(ONE, block(0), 0, 30) == b"x" * 10 + bytes(10) + b"x" * 10
    store.discard(ONE, [block(0), block(2)])
    store.reclaim()
    assert store.read_span(ONE, 0, 3 * BLOCK) == bytes(BLOCK) + b"x" * BLOCK + bytes(BLOCK)
    store.write(ONE, block(2), 5, b"y")
    assert store.read(ONE, block(2), 0, 10) == b"\0\0\0\0\0y\0\0\0\0"
    store.discard(ONE, [block(1), block(2)])
    store.reclaim()
    assert files_below(tmp_path) == []


def test_a_failure_to_free_space_keeps_the_blocks_discarded(
    store: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: int) -> bool:
        raise OSError(errno.EIO, "broken")

    store.write_span(ONE, 0, b"x" * 2 * BLOCK)
    store.discard(ONE, [block(0)])
    with monkeypatch.context() as patch:
        patch.setattr(group_files, "punch_hole", fail)
        with pytest.raises(LocalStorageError, match=r"cannot free space in .*/01/1\.0"):
            store.reclaim()
        with pytest.raises(LocalStorageError, match="cannot free space"):
            store.write(ONE, block(0), 0, b"y")
        with pytest.raises(LocalStorageError, match="cannot free space"):
            store.zero(ONE, block(1), 0, 1)
    assert store.read(ONE, block(0), 0, BLOCK) == bytes(BLOCK)
    store.reclaim()
    assert store.read_span(ONE, 0, 2 * BLOCK) == bytes(BLOCK) + b"x" * BLOCK


def test_a_file_that_cannot_be_freed_keeps_no_other_from_it(
    store: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def fail_for_one(path: str) -> None:
        if path.endswith("/01/1.0"):
            raise OSError(errno.EIO, "broken")
        unlink(path)

    for inode in (ONE, TWO):
        store.write(inode, block(0), 0, b"x")
        store.discard_inode(inode)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail_for_one)
        with pytest.raises(LocalStorageError, match=r"cannot remove .*/01/1\.0"):
            store.reclaim()
    assert files_below(tmp_path) == ["01/1.0"]
    store.reclaim()
    assert files_below(tmp_path) == []


def test_sweeping_removes_what_the_index_does_not_know(tmp_path: Path) -> None:
    with small(tmp_path) as store:
        store.write_span(ONE, 0, b"a" * 4 * BLOCK)
        store.write_span(TWO, 0, b"b" * BLOCK)
    (tmp_path / "01/notes.txt").write_text("somebody else's")
    (tmp_path / "01/2.0").write_text("in the wrong bucket")
    with small(tmp_path) as store:
        assert set(store.inodes()) == {ONE, TWO}
        swept = store.sweep(lambda inode, _: [block(1)] if inode == ONE else [])
        assert swept == Swept(files_removed=2, bytes_freed=4 * BLOCK)
        assert store.read_span(ONE, 0, 4 * BLOCK) == bytes(BLOCK) + b"a" * BLOCK + bytes(2 * BLOCK)
    assert files_below(tmp_path) == ["01/1.0", "01/2.0", "01/notes.txt"]


# --- errors --------------------------------------------------------------------------------------


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 2 MiB of its own."""
    point = tmp_path / "small disk"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", point], check=True)
    yield point
    subprocess.run(["umount", point], check=True)


def test_a_full_disk_is_said_and_gets_over(full_disk: Path) -> None:
    with small(full_disk) as store:
        with pytest.raises(DiskFullError, match="No space left") as caught:
            store.write_span(ONE, 0, b"x" * (3 << 20))
        assert caught.value.recoverable
        assert str(full_disk) in (caught.value.hint or "")
        assert store.usage() > 1 << 20
        with pytest.raises(DiskFullError):
            store.write_span(TWO, 0, b"x" * (1 << 20))
        store.discard_inode(ONE)
        store.reclaim()
        store.write_span(TWO, 0, b"y" * (1 << 20))
        assert store.read_span(TWO, 0, 1 << 20) == b"y" * (1 << 20)


def test_a_file_limit_continues_after_the_short_write(store: Staging, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(LocalStorageError, match=r"cannot write .*File too large") as caught:
            store.write_span(ONE, 0, b"x" * 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert "ulimit -f" in (caught.value.hint or "")
    assert (tmp_path / "01/1.0").stat().st_size == 10_000


def test_a_vanished_directory_is_said(store: Staging, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "01")
    with pytest.raises(LocalStorageError, match=r"cannot open .*/01/1\.0") as caught:
        store.write(ONE, block(0), 0, b"x")
    assert "put it back" in (caught.value.hint or "")
    with pytest.raises(LocalStorageError, match="cannot list"):
        list(store.inodes())


def test_a_directory_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalStorageError, match="cannot prepare"):
        small(tmp_path / "file")
    with pytest.raises(ValueError, match="at least 1"):
        Staging(tmp_path, max_open=0)


def test_after_close_nothing_is_opened(tmp_path: Path) -> None:
    store = small(tmp_path)
    store.write(ONE, block(0), 0, b"x")
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.read(ONE, block(0), 0, 1)
