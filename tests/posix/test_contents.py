"""Contents: flags of open, offsets, sizes, holes, maps, space."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from scripts.world import Mount
from tests.posix.test_names import fails, file

pytestmark = [pytest.mark.fuse]

BLOCK = 716_800


def test_append_goes_to_the_end_whoever_wrote_before(here: Path) -> None:
    path = file(here / "file", b"start")
    first = os.open(path, os.O_WRONLY | os.O_APPEND)
    second = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(first, b"-one")
    os.write(second, b"-two")
    os.lseek(first, 0, os.SEEK_SET)
    os.write(first, b"-three")
    os.close(first)
    os.close(second)
    assert path.read_bytes() == b"start-one-two-three"


def test_truncating_open_and_modes_of_access(here: Path) -> None:
    path = file(here / "file", b"content")
    reading = os.open(path, os.O_RDONLY)
    fails(errno.EBADF, os.write, reading, b"x")
    fails(errno.EINVAL, os.ftruncate, reading, 0)
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    assert os.read(reading, 10) == b""
    os.close(reading)
    writing = os.open(path, os.O_WRONLY)
    fails(errno.EBADF, os.read, writing, 1)
    os.close(writing)
    assert path.stat().st_size == 0


def test_reads_end_where_the_file_ends(here: Path) -> None:
    path = file(here / "file", b"0123456789")
    with path.open("rb", buffering=0) as opened:
        assert os.pread(opened.fileno(), 100, 7) == b"789"
        assert os.pread(opened.fileno(), 100, 10) == b""
        assert os.pread(opened.fileno(), 100, 1 << 40) == b""


def test_holes_read_as_zeros_and_take_no_space(here: Path) -> None:
    path = here / "sparse"
    with path.open("w+b", buffering=0) as opened:
        os.pwrite(opened.fileno(), b"end", 5 * BLOCK)
        assert os.fstat(opened.fileno()).st_size == 5 * BLOCK + 3
        assert os.pread(opened.fileno(), BLOCK, BLOCK - 10) == bytes(BLOCK)
        os.ftruncate(opened.fileno(), 100)
        os.ftruncate(opened.fileno(), 6 * BLOCK)
        assert os.pread(opened.fileno(), 100, 5 * BLOCK) == bytes(100), "the old end is back"


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_truncation_at_every_kind_of_place(here: Path, size: int) -> None:
    content = os.urandom(2 * BLOCK + 5)
    path = file(here / "file", content)
    os.truncate(path, size)
    assert path.read_bytes() == content[:size]
    os.truncate(path, size + 10)
    assert path.read_bytes() == content[:size] + bytes(10)


def test_sizes_to_the_maximum_and_no_further(here: Path) -> None:
    path = here / "file"
    path.touch()
    fails(errno.EFBIG, os.truncate, path, (1 << 63) - 1)
    fails(errno.EINVAL, os.truncate, path, -1)
    large = 1 << 44
    os.truncate(path, large)
    assert path.stat().st_size == large
    with path.open("r+b", buffering=0) as opened:
        os.pwrite(opened.fileno(), b"far", large - 3)
        assert os.pread(opened.fileno(), 10, large - 5) == b"\0\0far"


def test_direct_io_sees_and_is_seen(here: Path) -> None:
    path = file(here / "file", bytes(8192))
    buffer = mmap.mmap(-1, 4096)
    buffer[:] = b"d" * 4096
    direct = os.open(path, os.O_RDWR | os.O_DIRECT)
    try:
        assert os.pwrite(direct, buffer, 4096) == 4096
        assert path.read_bytes() == bytes(4096) + b"d" * 4096
        path.write_bytes(b"w" * 8192)
        assert os.preadv(direct, [buffer], 0) == 4096
        assert buffer[:] == b"w" * 4096
    finally:
        os.close(direct)


def test_shared_maps_write_and_private_ones_do_not(here: Path) -> None:
    path = file(here / "file", b"-" * 10_000)
    with path.open("r+b") as opened:
        with mmap.mmap(opened.fileno(), 0, flags=mmap.MAP_SHARED) as shared:
            shared[5000:5006] = b"shared"
            shared.flush()
            assert os.pread(opened.fileno(), 6, 5000) == b"shared"
            os.pwrite(opened.fileno(), b"written", 0)
            assert shared[:7] == b"written"
        with mmap.mmap(opened.fileno(), 0, flags=mmap.MAP_PRIVATE) as private:
            private[:7] = b"private"
    assert path.read_bytes()[:7] == b"written"


def test_space_and_limits_mean_something(mount: Mount) -> None:
    told = os.statvfs(mount.path)
    assert told.f_namemax == 255
    assert told.f_bsize >= 4096
    assert told.f_blocks >= told.f_bfree >= told.f_bavail > 0
    assert told.f_files >= told.f_ffree > 0


def test_blocks_are_counted(here: Path) -> None:
    assert file(here / "file", bytes(10_000)).stat().st_blocks >= 10_000 // 512
    (here / "empty").touch()
    assert (here / "empty").stat().st_blocks == 0
