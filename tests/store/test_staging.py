"""Staging against a model in memory, and each promise that its docstring makes."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from usenetfs.errors import DiskFullError, LocalStorageError
from usenetfs.store import group_files, staging, syncing, syscalls
from usenetfs.store.staging import Staging, Swept
from usenetfs.types import BlockNumber, InodeId

BLOCK = 8192
PER_FILE = 3
BLOCKS = 8
SIZE = BLOCK * BLOCKS
ONE = InodeId(1)
TWO = InodeId(258)
"""In the bucket after the one of inode 1; 257 shares it."""


def block(number: int) -> BlockNumber:
    return BlockNumber(number)


def small(directory: Path, *, max_open: int = 4) -> Staging:
    return Staging(directory, block_size=BLOCK, blocks_per_file=PER_FILE, max_open=max_open)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def files_below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*.*"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Staging]:
    before = descriptors()
    with small(tmp_path) as opened:
        yield opened
    assert descriptors() == before


class StagingMachine(RuleBasedStateMachine):
    """Every operation, on two inodes in a few groups, with two descriptors only."""

    inodes = st.sampled_from([InodeId(1), InodeId(257), InodeId(300)])
    offsets = st.integers(0, SIZE - 1)
    lengths = st.one_of(st.integers(0, 100), st.integers(0, SIZE))

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.store = small(self.directory, max_open=2)
        self.model: dict[int, bytearray] = {}
        self.fill = 0

    def content(self, inode: int) -> bytearray:
        return self.model.setdefault(inode, bytearray(SIZE))

    def data(self, length: int) -> bytes:
        self.fill = self.fill % 255 + 1
        return bytes([self.fill]) * length

    @rule(inode=inodes, offset=offsets, length=lengths)
    def write_span(self, inode: InodeId, offset: int, length: int) -> None:
        data = self.data(min(length, SIZE - offset))
        self.store.write_span(inode, offset, memoryview(data))
        self.content(inode)[offset : offset + len(data)] = data

    @rule(inode=inodes, number=st.integers(0, BLOCKS - 1), start=st.integers(0, BLOCK))
    def write(self, inode: InodeId, number: int, start: int) -> None:
        data = self.data(BLOCK - start)
        self.store.write(inode, block(number), start, data)
        at = number * BLOCK + start
        self.content(inode)[at : at + len(data)] = data

    @rule(
        inode=inodes,
        number=st.integers(0, BLOCKS - 1),
        ends=st.tuples(st.integers(0, BLOCK), st.integers(0, BLOCK)),
    )
    def zero(self, inode: InodeId, number: int, ends: tuple[int, int]) -> None:
        start, end = sorted(ends)
        self.store.zero(inode, block(number), start, end)
        self.content(inode)[number * BLOCK + start : number * BLOCK + end] = bytes(end - start)

    @rule(inode=inodes, offset=offsets)
    def truncate(self, inode: InodeId, offset: int) -> None:
        self.store.truncate(inode, offset)
        self.content(inode)[offset:] = bytes(SIZE - offset)

    @rule(inode=inodes, numbers=st.sets(st.integers(0, BLOCKS - 1)))
    def discard(self, inode: InodeId, numbers: set[int]) -> None:
        mark = self.store.read_mark()
        self.store.discard(inode, map(block, numbers))
        assert self.store.discarded_since(inode, mark)
        for number in numbers:
            self.content(inode)[number * BLOCK : (number + 1) * BLOCK] = bytes(BLOCK)

    @rule(inode=inodes)
    def discard_inode(self, inode: InodeId) -> None:
        self.store.discard_inode(inode)
        self.model.pop(inode, None)

    @rule()
    def reclaim(self) -> None:
        self.store.reclaim()
        assert self.store.reclaimable() == 0

    @rule(inode=inodes)
    def sync(self, inode: InodeId) -> None:
        self.store.sync(inode)

    @rule()
    def sync_all(self) -> None:
        self.store.sync_all()

    @rule()
    def reopen_and_sweep(self) -> None:
        self.store.close()
        self.store = small(self.directory, max_open=2)
        self.store.sweep(self.live)
        assert self.store.usage() == allocated(self.directory)

    def live(self, inode: InodeId, group: int) -> set[BlockNumber]:
        content = self.content(inode)
        numbers = range(group * PER_FILE, min((group + 1) * PER_FILE, BLOCKS))
        return {block(n) for n in numbers if any(content[n * BLOCK : (n + 1) * BLOCK])}

    @rule(inode=inodes, offset=offsets, length=lengths)
    def read_span(self, inode: InodeId, offset: int, length: int) -> None:
        expected = bytes(self.content(inode)[offset : offset + length]).ljust(length, b"\0")
        assert self.store.read_span(inode, offset, length) == expected

    @precondition(lambda self: self.store.reclaimable() == 0)
    @rule()
    def nothing_is_kept_for_nothing(self) -> None:
        self.store.sweep(self.live)
        assert set(self.store.inodes()) == {i for i, content in self.model.items() if any(content)}

    @invariant()
    def everything_reads_back(self) -> None:
        for inode, content in self.model.items():
            assert self.store.read_span(InodeId(inode), 0, SIZE) == content

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)


TestModel = StagingMachine.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def allocated(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*.*"))


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
    store.truncate(ONE, 3)
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


def test_a_reader_learns_that_its_block_was_discarded(
    store: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_RECENT", 2)
    mark = store.read_mark()
    assert not store.discarded_since(ONE, mark)
    store.discard(ONE, [block(0)])
    assert store.discarded_since(ONE, mark)
    assert not store.discarded_since(TWO, mark)
    assert not store.discarded_since(ONE, store.read_mark())
    later = store.read_mark()
    for inode in (5, 6, 7):
        store.truncate(InodeId(inode), 0)
    # Too many to remember each: those forgotten are suspected.
    assert store.discarded_since(TWO, mark)
    assert store.discarded_since(InodeId(7), later)


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


# --- durability ----------------------------------------------------------------------------------


def test_sync_syncs_what_was_written_and_no_more(
    store: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real_fdatasync, real_directory = os.fdatasync, syscalls.sync_directory

    def fdatasync(descriptor: int) -> None:
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        real_fdatasync(descriptor)

    def sync_directory(path: str) -> None:
        done.append(os.path.basename(path))
        real_directory(path)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    monkeypatch.setattr(syncing, "sync_directory", sync_directory)
    store.write_span(ONE, 0, b"x" * 4 * BLOCK)
    store.write_span(TWO, 0, b"x")
    store.sync(ONE)
    store.sync(ONE)
    assert done == ["1.0", "1.1", "01"]
    store.write_span(ONE, 0, b"y")
    store.sync(ONE)
    assert done == ["1.0", "1.1", "01", "1.0"]
    store.sync_all()
    store.sync_all()
    assert done == ["1.0", "1.1", "01", "1.0", "258.0", "02"]
    store.zero(ONE, block(0), 0, 1)
    store.sync_all()
    assert done[6:] == ["1.0"]


def test_a_file_that_failed_to_sync_stays_failed_until_it_is_gone(
    store: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    store.write_span(ONE, 0, b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(LocalStorageError, match="cannot sync"):
            store.sync(ONE)
    with pytest.raises(LocalStorageError, match="cannot sync"):
        store.sync(ONE)
    with pytest.raises(LocalStorageError, match="cannot sync"):
        store.sync_all()
    store.discard_inode(ONE)
    store.reclaim()
    store.sync(ONE)
    store.write_span(ONE, 0, b"x")
    store.sync_all()


def test_a_directory_that_failed_to_sync_is_synced_again(
    store: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fail(path: str) -> None:
        synced.append(path)
        if len(synced) == 1:
            raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(syncing, "sync_directory", fail)
    store.write_span(ONE, 0, b"x")
    with pytest.raises(LocalStorageError, match="cannot sync the directory"):
        store.sync(ONE)
    store.sync(ONE)
    store.sync(ONE)
    assert len(synced) == 2


def test_many_unsynced_files_are_synced_with_their_filesystem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(syncing, "_MANY", 5)
    monkeypatch.setattr(syncing, "sync_filesystem", lambda _: done.append("all"))
    monkeypatch.setattr(os, "fdatasync", lambda _: done.append("one"))
    with small(tmp_path) as store:
        for inode in range(1, 8):
            store.write(InodeId(inode), block(0), 0, b"x")
        store.sync(ONE)
        store.sync(ONE)
        assert done == ["one", "one"]
        store.sync_all()
        assert done == ["one", "one", "all"]
        store.sync(ONE)
        store.write(ONE, block(0), 0, b"x")
        store.sync(ONE)
        assert done == ["one", "one", "all", "one"]


def test_a_failed_sync_of_the_filesystem_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(syncing, "_MANY", 1)
    monkeypatch.setattr(syncing, "sync_filesystem", fail)
    with small(tmp_path) as store:
        for inode in range(1, 4):
            store.write(InodeId(inode), block(0), 0, b"x")
        with pytest.raises(LocalStorageError, match="cannot sync the filesystem"):
            store.sync_all()
        store.sync_all()
        store.sync_all()
    assert len(calls) == 2


CHILD = """
import sys
from pathlib import Path
from usenetfs.store.staging import Staging
store = Staging(Path(sys.argv[1]), block_size=8192, blocks_per_file=3)
number = 0
while True:
    for inode in range(1, 20):
        number += 1
        store.write_span(inode, number * 5000 % 60000, number.to_bytes(8, "big") * 600)
        store.sync(inode)
        print(number, inode, number * 5000 % 60000, flush=True)
    store.discard(20, range(8))
    store.reclaim()
"""


def test_what_was_synced_survives_a_kill(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, tmp_path], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        acknowledged = [tuple(map(int, child.stdout.readline().split())) for _ in range(100)]
        child.kill()
        rest = child.stdout.read().splitlines()
    whole = [tuple(map(int, line.split())) for line in rest if line.count(" ") == 2]
    model: dict[int, bytearray] = {}
    unsure = (acknowledged + whole)[-1][0] + 1
    for number, inode, offset in acknowledged + whole:
        content = model.setdefault(inode, bytearray(SIZE))
        content[offset : offset + 4800] = number.to_bytes(8, "big") * 600
    with small(tmp_path) as store:
        for inode, content in model.items():
            if inode != (unsure - 1) % 19 + 1:
                assert store.read_span(InodeId(inode), 0, SIZE) == content
        assert store.usage() == allocated(tmp_path)


# --- descriptors and threads ---------------------------------------------------------------------


def test_no_more_descriptors_than_allowed(tmp_path: Path) -> None:
    before = descriptors()
    with small(tmp_path, max_open=3) as store:
        for inode in range(1, 50):
            store.write(InodeId(inode), block(0), 0, inode.to_bytes(2, "big"))
            assert descriptors() <= before + 3
        used = store.usage()
        assert used == allocated(tmp_path)
        for inode in range(1, 50):
            assert store.read(InodeId(inode), block(0), 0, 2) == inode.to_bytes(2, "big")
            store.discard_inode(InodeId(inode))
        store.reclaim()
        assert store.usage() == 0
    assert descriptors() == before


def test_a_file_in_use_is_never_closed(tmp_path: Path) -> None:
    files = group_files.GroupFiles(
        str(tmp_path), max_open=1, block_size=BLOCK, on_created=lambda _: None
    )
    for bucket in range(5):
        (tmp_path / f"{bucket:02x}").mkdir()
    writers = [files.pin_writer((inode, 0), 0, 10, create=True) for inode in range(5)]
    first = writers[0]
    assert first is not None
    os.pwrite(first.descriptor, b"still open", 0)
    files.close()
    os.pwrite(first.descriptor, b"STILL OPEN", 0)
    for file in writers:
        assert file is not None
        files.unpin_writer(file)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(file.descriptor)
    assert (tmp_path / "00/0.0").read_bytes() == b"STILL OPEN"


def run_threads(*bodies: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def guarded(body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def test_writers_readers_reclaim_and_sync_at_the_same_time(tmp_path: Path) -> None:
    """One writer thread stands for the event loop; the others do what threads do."""
    store = small(tmp_path, max_open=2)
    inodes = [InodeId(number) for number in (1, 257, 3, 4)]
    model = {inode: bytearray(SIZE) for inode in inodes}
    done = threading.Event()
    rounds: list[int] = []

    def loop() -> None:
        dice = random.Random(7)
        try:
            for number_of_round in range(3000):
                inode, number = dice.choice(inodes), dice.randrange(BLOCKS)
                at = number * BLOCK
                if dice.random() < 0.5:
                    store.discard(inode, [block(number)])
                    model[inode][at : at + BLOCK] = bytes(BLOCK)
                elif dice.random() < 0.1:
                    store.discard_inode(inode)
                    model[inode][:] = bytes(SIZE)
                start = dice.randrange(BLOCK)
                data = bytes([dice.randrange(1, 256)]) * dice.randrange(1, BLOCK - start + 1)
                store.write(inode, block(number), start, data)
                model[inode][at + start : at + start + len(data)] = data
                assert store.read(inode, block(number), 0, BLOCK) == model[inode][at : at + BLOCK]
                store.usage()
                rounds.append(number_of_round)
        finally:
            done.set()

    def repeat(action: Callable[[random.Random], object]) -> Callable[[], None]:
        def body() -> None:
            dice = random.Random(9)
            while not done.is_set():
                action(dice)

        return body

    def read(dice: random.Random) -> None:
        assert len(store.read_span(dice.choice(inodes), dice.randrange(SIZE), 9000)) == 9000

    run_threads(
        loop,
        repeat(lambda _: store.reclaim()),
        repeat(lambda _: store.reclaim()),
        repeat(read),
        repeat(lambda dice: store.sync(dice.choice(inodes))),
    )
    assert len(rounds) == 3000
    store.reclaim()
    for inode, content in model.items():
        assert store.read_span(inode, 0, SIZE) == content
        store.discard_inode(inode)
    store.reclaim()
    assert files_below(tmp_path) == []
    assert store.usage() < 1 << 20
    assert store.recount() == 0
    store.close()


def test_a_second_sync_waits_for_the_first(store: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave, order = threading.Event(), threading.Event(), list[str]()

    def slow(_: int) -> None:
        entered.set()
        assert leave.wait(30)
        order.append("on the disk")

    monkeypatch.setattr(os, "fdatasync", slow)
    store.write(ONE, block(0), 0, b"x")

    def second() -> None:
        assert entered.wait(30)
        release = threading.Timer(0.05, leave.set)
        release.start()
        store.sync(ONE)
        store.sync_all()
        order.append("second returned")
        release.join()

    run_threads(lambda: store.sync(ONE), second)
    assert order == ["on the disk", "second returned"]
