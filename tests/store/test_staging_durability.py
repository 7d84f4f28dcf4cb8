"""Staging: what a sync promises, and what descriptors and threads do to it."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.places import (
    BLOCK,
    BLOCKS,
    ONE,
    SIZE,
    TWO,
    allocated,
    block,
    descriptors,
    files_below,
    small,
)
from usenetfs.errors import LocalStorageError
from usenetfs.store import group_files, syncing, syscalls
from usenetfs.store.staging import Staging
from usenetfs.types import InodeId

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
new_from = int(sys.argv[2]) or None
store = Staging(Path(sys.argv[1]), block_size=8192, blocks_per_file=3, new_from=new_from)
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


@pytest.mark.parametrize("new_from", [0, 1], ids=["own files", "shared"])
def test_what_was_synced_survives_a_kill(tmp_path: Path, new_from: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, tmp_path, str(new_from)], stdout=subprocess.PIPE, text=True
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


@pytest.mark.parametrize("new_from", [None, 1], ids=["own files", "shared"])
def test_writers_readers_reclaim_and_sync_at_the_same_time(
    tmp_path: Path, new_from: int | None
) -> None:
    """One writer thread stands for the event loop; the others do what threads do."""
    store = small(tmp_path, max_open=2, new_from=new_from)
    inodes = [InodeId(number) for number in (1, 257, 3, 4)]
    model = {inode: bytearray(SIZE) for inode in inodes}
    done = threading.Event()
    rounds: list[int] = []

    def loop() -> None:
        dice = random.Random(7)
        try:
            if new_from:
                for inode in inodes:
                    store.write(inode, block(0), 0, b"x")
                    model[inode][:1] = b"x"
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
