"""A power cut takes everything that was not synced, and leaves every hole that was punched.

The worst that a disk may do is acted out: of the index only what its last sync covered survives; of
each staging file only its bytes as of its last sync, and of those not what was freed since. What
``fsync`` had promised must be there in what is left, and after another pass through the servers.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.transfer.world import BLOCK, FakeServers, World, opened_world, uploading
from usenetfs.fs.files import Files
from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.fs.pending import Pending
from usenetfs.transfer.staged.stillness import Stillness
from usenetfs.types import InodeId


class Platter:
    """What is on the disk for good; ``watch`` follows a world's syncs."""

    def __init__(self, path: Path, copy: Path) -> None:
        self._path = path
        self._copy = copy
        (copy / "staging").mkdir(parents=True)

    def watch(self, world: World, patch: pytest.MonkeyPatch) -> None:
        sync_index, fdatasync = world.index.sync, os.fdatasync
        staging = self._path / "staging"

        def synced_index() -> None:
            sync_index()
            for name in ("index.db", "index.db-wal"):
                shutil.copyfile(self._path / name, self._copy / name)

        def synced_file(descriptor: int) -> None:
            fdatasync(descriptor)
            file = Path(f"/proc/self/fd/{descriptor}").readlink()
            if file.is_relative_to(staging) and file.exists():
                self._keep(file)

        patch.setattr(world.index, "sync", synced_index)
        patch.setattr(os, "fdatasync", synced_file)

    def _kept(self, file: Path) -> Path:
        return self._copy / file.relative_to(self._path)

    def _keep(self, file: Path) -> None:
        self._kept(file).parent.mkdir(exist_ok=True)
        shutil.copyfile(file, self._kept(file))

    def cut(self) -> Path:
        """The power is gone; the directory with what is left."""
        for kept in [path for path in (self._copy / "staging").rglob("*") if path.is_file()]:
            now = self._path / kept.relative_to(self._copy)
            if not now.exists():
                kept.unlink()
                continue
            with kept.open("r+b") as old:
                size = old.seek(0, os.SEEK_END)
                for start, end in _holes(now, size):
                    old.seek(start)
                    old.write(bytes(end - start))
        return self._copy


def _holes(path: Path, size: int) -> list[tuple[int, int]]:
    found, at = [], 0
    with path.open("rb") as file:
        while at < size:
            try:
                data = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but a hole behind it
                data = size
            if data > at:
                found.append((at, min(data, size)))
            if data >= size:
                break
            at = os.lseek(file.fileno(), data, os.SEEK_HOLE)
    return found


def _files(world: World) -> Files:
    inodes = LiveInodes(world.index)
    return Files(
        world.index,
        inodes,
        world.staged,
        world.content,
        world.freer,
        stillness=Stillness(),
        staging_limit=1 << 30,
        min_free=0,
        pending=Pending(world.index, inodes, world.staged),
    )


async def _work(world: World, promised: dict[InodeId, bytes], rng: random.Random) -> None:
    """Write, sync and forget about it, again and again, until the power goes."""
    files = _files(world)
    numbers = [world.new_file() for _ in range(6)]
    contents = {inode: bytearray() for inode in numbers}
    while True:
        inode = rng.choice(numbers)
        content = contents[inode]
        promised.pop(inode, None)  # either content would be right until it is synced
        if rng.random() < 0.3 and content:
            size = rng.randrange(len(content))
            files.resize(inode, size)
            del content[size:]
        else:
            start = rng.randrange(len(content) + 1)
            data = rng.randbytes(rng.choice((1, 100, 5000, 2 * BLOCK)))
            await files.write(inode, start, data)
            content[start : start + len(data)] = data
        if rng.random() < 0.6:
            before = bytes(content)
            await files.sync(inode)
            promised[inode] = before
        await trio.sleep(rng.choice((0.0, 0.01, 0.3, 1.0)))


@pytest.mark.parametrize("seed", [0, 2, 4, 7, 9, 11])
async def test_what_was_synced_survives_a_power_cut(
    tmp_path: Path, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    servers = FakeServers()
    promised: dict[InodeId, bytes] = {}
    (tmp_path / "one").mkdir()
    async with opened_world(tmp_path / "one", servers, settle=0.2) as world:
        platter = Platter(tmp_path / "one", tmp_path / "two")
        platter.watch(world, monkeypatch)
        world.index.sync()
        with trio.move_on_after(rng.uniform(1, 25)):
            async with uploading(world):
                await _work(world, promised, rng)
        left = platter.cut()
    assert promised
    async with opened_world(left, servers) as world:
        world.staged.sweep()
        for inode, content in promised.items():
            row = world.index.inodes.get(inode)
            assert row is not None
            assert row.size == len(content)
            assert await world.read(inode, 0, len(content)) == content
        assert world.index.check() == []
        async with uploading(world):
            await world.uploader.sync()
        world.fetcher.drop_memory()
        for inode, content in promised.items():
            assert await world.read(inode, 0, len(content)) == content
        assert world.index.check() == []


@pytest.mark.parametrize("waited", [0, 10])
@pytest.mark.parametrize("size", [3000, 3 * BLOCK])
@pytest.mark.parametrize("length", [None, 0, 100, BLOCK + 100])
async def test_what_a_power_cut_brings_back_is_whole(
    tmp_path: Path,
    patient_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    length: int | None,
    size: int,
    waited: float,
) -> None:
    """Of a file that was synced, and then deleted (``length`` None) or cut, which was not: it is
    there with all its bytes, or as it was made last. Else saving by rename could lose the old file
    before the new one has its name."""
    servers = FakeServers()
    data = random.Random(size).randbytes(size)
    (tmp_path / "one").mkdir()
    async with opened_world(tmp_path / "one", servers) as world:
        platter = Platter(tmp_path / "one", tmp_path / "two")
        platter.watch(world, monkeypatch)
        files = _files(world)
        inode = world.new_file()
        await files.write(inode, 0, data)
        await files.sync(inode)
        if length is None:
            world.delete(inode)
        else:
            files.resize(inode, min(length, size))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.freer.run)
            await trio.sleep(waited)
            nursery.cancel_scope.cancel()
        if waited and not length:
            assert world.staging.usage() == 0
        left = platter.cut()
    async with opened_world(left, servers) as world:
        world.staged.sweep()
        row = world.index.inodes.get(inode)
        if row is None:
            assert waited, "nothing was synced yet"
            return
        assert row.size in (size, length) if waited else row.size == size
        assert await world.read(inode, 0, row.size) == data[: row.size]
