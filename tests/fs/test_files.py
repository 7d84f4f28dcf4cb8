"""What cutting and syncing a file mean, also when the disk is full in the middle of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.transfer.world import BLOCK, FakeServers, World, opened_world, uploading
from usenetfs.errors import DiskFullError
from usenetfs.fs import files as files_module
from usenetfs.fs.durability import NAMES, durability_attribute
from usenetfs.fs.files import Files
from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.fs.pending import Pending
from usenetfs.transfer.staged.stillness import Stillness
from usenetfs.types import ROOT_INODE, Durability, InodeId


@asynccontextmanager
async def opened_files(
    path: Path, *, limit: int = 1 << 30
) -> AsyncIterator[tuple[World, Files, LiveInodes]]:
    async with opened_world(path, FakeServers()) as world:
        inodes = LiveInodes(world.index)
        files = Files(
            world.index,
            inodes,
            world.staged,
            world.content,
            world.freer,
            stillness=Stillness(),
            staging_limit=limit,
            min_free=0,
            pending=Pending(world.index, inodes, world.staged),
        )
        yield world, files, inodes


async def content(files: Files, inode: InodeId) -> bytes:
    return bytes(await files.read(inode, 0, 1 << 20))


def fill_the_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next commit fails; those after it do not."""
    before = world.index.database.before_commit

    def full() -> None:
        world.index.database.before_commit = before
        raise DiskFullError("no space left")

    monkeypatch.setattr(world.index.database, "before_commit", full)


@pytest.mark.parametrize("size", [0, 10, BLOCK, BLOCK + 10])
async def test_a_truncation_whose_commit_fails_has_changed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    data = os.urandom(3 * BLOCK)
    async with opened_files(tmp_path) as (world, files, _):
        inode = world.new_file()
        await files.write(inode, 0, data)
        fill_the_disk(world, monkeypatch)
        with pytest.raises(DiskFullError):
            files.resize(inode, size)
        assert await content(files, inode) == data, "writes that were not saved yet are there"
        files.save()
        assert await content(files, inode) == data
        files.resize(inode, size)
        assert await content(files, inode) == data[:size]
        files.resize(inode, len(data))
        assert await content(files, inode) == data[:size] + bytes(len(data) - size)
        files.save()
        assert world.index.check() == []


async def test_a_long_file_is_cut_in_steps_that_each_leave_a_valid_file(
    tmp_path: Path, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(30 * BLOCK)
    async with opened_files(tmp_path) as (world, files, inodes), uploading(world):
        world.index.batch = 4
        inode = world.new_file()
        await files.write(inode, 0, data)
        files.save()
        await world.uploader.sync()
        sizes = []
        resize = files.resize

        def noted(target: InodeId, size: int) -> None:
            resize(target, size)
            sizes.append(size)
            assert world.index.check() == []

        monkeypatch.setattr(files, "resize", noted)
        await files.resize_in_steps(inode, 10)
        assert sizes == sorted(sizes, reverse=True)
        assert len(sizes) >= 7
        assert inodes.get(inode).size == 10
        assert await content(files, inode) == data[:10]
        await files.resize_in_steps(inode, 2 * BLOCK)
        assert await content(files, inode) == data[:10] + bytes(2 * BLOCK - 10)


async def test_a_hole_is_cut_and_extended_without_steps(tmp_path: Path) -> None:
    async with opened_files(tmp_path) as (world, files, inodes):
        inode = world.new_file()
        await files.resize_in_steps(inode, 1 << 40)
        assert inodes.get(inode).size == 1 << 40
        await files.resize_in_steps(inode, 5)
        assert await content(files, inode) == bytes(5)


async def test_writers_wait_for_room_and_readers_do_not(
    tmp_path: Path, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "MEASURED_EVERY", BLOCK)
    async with opened_files(tmp_path, limit=8 * BLOCK) as (world, files, _):
        done = trio.Event()
        first, second = world.new_file(), world.new_file()
        data = os.urandom(40 * BLOCK)
        await files.write(first, 0, b"read me")

        async def write() -> None:
            for start in range(0, len(data), BLOCK):
                await files.write(second, start, data[start : start + BLOCK])
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await trio.sleep(30)
            assert not done.is_set()
            assert files.waiting_writers == 1
            assert world.staged.usage() <= 11 * BLOCK
            with trio.fail_after(1):
                assert await content(files, first) == b"read me"
            async with uploading(world):
                with trio.fail_after(120):
                    await done.wait()
        assert files.waiting_writers == 0
        assert await content(files, second) == data


async def test_attributes_of_what_is_no_file(tmp_path: Path, patient_clock: MockClock) -> None:
    async with opened_files(tmp_path) as (world, files, inodes), uploading(world):
        root = inodes.get(ROOT_INODE)
        inode = world.new_file()
        await files.write(inode, 0, b"x" * 100)
        files.save()

        async def attribute(name: bytes, of: InodeId) -> bytes | None:
            return await durability_attribute(world.index, inodes.get(of), b"user.usenetfs." + name)

        assert await attribute(b"state", ROOT_INODE) == b"staged"
        assert await attribute(b"bytes.staged", ROOT_INODE) == b"100"
        await world.uploader.reach(inode, Durability.SEEN)
        assert await attribute(b"state", ROOT_INODE) == b"seen"
        assert await attribute(b"bytes.seen", inode) == b"100"
        assert await attribute(b"bytes.staged", inode) == b"0"
        assert await attribute(b"nonsense", inode) is None
        directory = replace(root, id=InodeId(99))
        assert [await durability_attribute(world.index, directory, name) for name in NAMES] == [
            None
        ] * len(NAMES)
