"""Files that change all the time: what a sync promises, that it ends, and what it costs writers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.checkpoint.chains import Reader, once_only, publisher_of
from tests.fs.store_world import StoreWorld, opened_store
from tests.transfer.world import BLOCK, ExpectLog, FakeServers
from usenetfs.article.wire import OutgoingArticle
from usenetfs.checkpoint.catching_up import (
    LONGEST_PAUSE,
    MOST_HELD,
    SMALL,
    STILL,
    CatchUp,
    pause_before,
    stillness_of,
)
from usenetfs.checkpoint.publish import Publisher
from usenetfs.errors import FencedError
from usenetfs.fs.namespace import Owner
from usenetfs.index.inodes import Inode
from usenetfs.types import ROOT_INODE, InodeId

NOBODY = Owner(0, 0)

PAUSE = 0.15
"""Seconds between two changes of a busy file: less than an article takes to be seen."""


@pytest.fixture
def clock() -> MockClock:
    """Jumps over sleeps, but only when nothing has happened for 3 ms: threads get their time."""
    return MockClock(autojump_threshold=0.003)


@dataclass
class Busy:
    """A filesystem that is written to while it is published."""

    store: StoreWorld
    publisher: Publisher
    catch_up: CatchUp
    servers: FakeServers
    reader: Reader

    def make(self, name: bytes) -> InodeId:
        return self.store.namespace.make(ROOT_INODE, name, 0o100644, NOBODY).id

    async def append(self, inode: InodeId) -> None:
        size = self.store.store.inode(inode).size
        await self.store.files.write(inode, size, b"%09d\n" % (size // 10))

    async def append_for_ever(self, inode: InodeId, longest: list[float]) -> None:
        """A line every :data:`PAUSE`; ``longest``: the longest that one took."""
        while True:
            started = trio.current_time()
            await self.append(inode)
            longest[:] = [max([*longest, trio.current_time() - started])]
            await trio.sleep(PAUSE)

    async def save_for_ever(self, name: bytes) -> None:
        """The file is replaced every :data:`PAUSE`, by rename."""
        number = 0
        while True:
            new = self.make(name + b".new")
            await self.store.files.write(new, 0, b"%09d\n" % number)
            await self.store.store.move(ROOT_INODE, name + b".new", ROOT_INODE, name)
            number += 1
            await trio.sleep(PAUSE)

    async def in_a_stillness(self) -> None:
        """Return in the next one."""
        while not self.store.stillness.on:  # noqa: ASYNC110 - nothing tells of its beginning
            await trio.sleep(0.01)

    def published(self, name: bytes) -> Inode | None:
        """A file as the newest checkpoint has it."""
        state = self.reader.state(self.reader.last())
        rows = state.one(
            "SELECT i.id, mode, uid, gid, nlink, size, rdev, atime_ns, mtime_ns, ctime_ns"
            " FROM inodes i JOIN dirents d ON d.inode = i.id WHERE d.name = ?",
            name,
        )
        return Inode(*rows[0]) if rows else None  # type: ignore[arg-type]


@asynccontextmanager
async def busy_world(path: Path, *, most_held: float = 60.0) -> AsyncIterator[Busy]:
    """With uploads running, and nothing published yet."""
    servers = FakeServers()
    once_only(servers)
    async with opened_store(path, servers) as store:
        index = store.world.index
        publisher = publisher_of(index, servers, path, interval=4.0, save=store.files.save)
        catch_up = CatchUp(
            index,
            store.world.uploader,
            publisher,
            store.stillness,
            save=store.files.save,
            most_held=most_held,
            report=store.world.errors.append,
        )
        async with trio.open_nursery() as nursery:
            store.world.uploader.save = store.files.save
            nursery.start_soon(store.world.uploader.run)
            nursery.start_soon(store.files.save_regularly)
            yield Busy(store, publisher, catch_up, servers, Reader(servers))
            nursery.cancel_scope.cancel()


# --- deciding ------------------------------------------------------------------------------------


def test_writers_wait_from_the_third_try_on() -> None:
    few = {"causes": 1, "staged": 100, "speed": 0.0}
    assert [stillness_of(n, **few) for n in (1, 2, 3, 9)] == [0, 0, STILL, STILL]  # type: ignore[arg-type]
    assert [pause_before(n) for n in (1, 2, 3, 4, 5)] == [0, 0, 0, 1, 2]
    assert pause_before(1000) == LONGEST_PAUSE


def test_nobody_waits_for_what_would_end_in_vain() -> None:
    assert stillness_of(3, causes=MOST_HELD + 1, staged=0, speed=1e9) == 0
    assert stillness_of(3, causes=1, staged=SMALL, speed=0.0) == STILL
    assert stillness_of(3, causes=1, staged=SMALL + 1, speed=0.0) == 0
    assert stillness_of(3, causes=1, staged=100 << 20, speed=1e8) == STILL


# --- sync ----------------------------------------------------------------------------------------


async def test_a_log_that_grows_without_pause_is_in_the_checkpoint(
    tmp_path: Path, clock: MockClock
) -> None:
    async with busy_world(tmp_path) as busy, trio.open_nursery() as nursery:
        log = busy.make(b"log")
        longest: list[float] = []
        nursery.start_soon(busy.append_for_ever, log, longest)
        await trio.sleep(1)
        before = busy.store.store.inode(log).size
        number = await busy.catch_up.sync()
        assert number == busy.reader.last()
        published = busy.published(b"log")
        assert published is not None
        assert published.size >= before
        assert longest[0] < STILL
        now = busy.store.store.inode(log).size
        await trio.sleep(1)
        assert busy.store.store.inode(log).size > now + 30, "the writer does not go on"
        nursery.cancel_scope.cancel()


async def test_a_document_saved_by_rename_without_pause_is_in_the_checkpoint(
    tmp_path: Path, clock: MockClock
) -> None:
    async with busy_world(tmp_path) as busy, trio.open_nursery() as nursery:
        nursery.start_soon(busy.save_for_ever, b"document")
        await trio.sleep(1)
        before = busy.store.store.lookup(ROOT_INODE, b"document")
        assert before is not None
        await busy.catch_up.sync()
        published = busy.published(b"document")
        assert published is not None
        assert published.id >= before.id
        assert published.size == 10
        nursery.cancel_scope.cancel()


async def test_a_file_changed_faster_than_it_can_be_read_is_in_the_checkpoint(
    tmp_path: Path,
) -> None:
    """No clock of its own: it is the time that reading takes that counts."""
    async with busy_world(tmp_path) as busy, trio.open_nursery() as nursery:
        counter = busy.make(b"counter")
        done = 0

        async def count() -> None:
            nonlocal done
            while True:
                done += 1
                await busy.store.files.write(counter, 0, b"%09d\n" % done)
                await trio.lowlevel.checkpoint()

        nursery.start_soon(count)
        await trio.sleep(0.5)
        with trio.fail_after(30):
            await busy.catch_up.sync()
        assert done > 1000
        assert busy.published(b"counter") is not None
        nursery.cancel_scope.cancel()


async def test_a_file_rewritten_once_while_the_sync_works_makes_nobody_wait(
    tmp_path: Path, clock: MockClock
) -> None:
    """The case that is not rare: the second checkpoint has it."""
    async with busy_world(tmp_path) as busy:
        file = busy.make(b"file")
        await busy.append(file)
        rewritten = False

        def rewrite(article: OutgoingArticle) -> None:
            nonlocal rewritten
            if not rewritten:
                rewritten = True
                busy.store.world.staged.write(file, 0, b"anew")
                busy.store.namespace.link(file, ROOT_INODE, b"other name")

        busy.servers.after_post = rewrite
        held = busy.store.stillness.over
        busy.store.stillness.over = lambda *_: pytest.fail("writers wait")  # type: ignore[method-assign]
        await busy.catch_up.sync()
        busy.store.stillness.over = held  # type: ignore[method-assign]
        assert busy.published(b"file") is not None


async def test_a_sync_with_nothing_new_makes_no_checkpoint(
    tmp_path: Path, clock: MockClock
) -> None:
    async with busy_world(tmp_path) as busy:
        busy.make(b"file")
        number = await busy.catch_up.sync()
        assert await busy.catch_up.sync() == number == busy.reader.last()


async def test_a_sync_does_not_wait_for_files_made_after_it(
    tmp_path: Path, clock: MockClock
) -> None:
    """Their content never arrives."""
    async with busy_world(tmp_path) as busy:
        await busy.append(busy.make(b"before"))
        lost = b""

        def lose(article: OutgoingArticle) -> None:
            nonlocal lost
            if not lost:
                busy.servers.after_post = lambda _: None
                lost = b"x"
                after = busy.make(b"after")
                busy.store.world.staged.write(after, 0, bytes(BLOCK))

        busy.servers.after_post = lose
        with trio.fail_after(60):
            await busy.catch_up.sync()
        assert busy.published(b"before") is not None


async def test_servers_that_take_nothing_hold_up_the_sync_and_nobody_else(
    tmp_path: Path, clock: MockClock, expect_log: ExpectLog
) -> None:
    expect_log("posting failed|cannot be uploaded|is tried again")
    async with busy_world(tmp_path) as busy, trio.open_nursery() as nursery:
        log = busy.make(b"log")
        longest: list[float] = []
        await busy.append(log)
        await busy.catch_up.sync()
        nursery.start_soon(busy.append_for_ever, log, longest)
        await trio.sleep(1)
        busy.servers.down = True
        with trio.move_on_after(40) as scope:
            await busy.catch_up.sync()
        assert scope.cancelled_caught
        assert longest[0] < 0.1
        busy.servers.down = False
        with trio.fail_after(120):
            await busy.catch_up.sync()
        busy.store.world.errors.clear()
        nursery.cancel_scope.cancel()


async def test_servers_that_fail_in_a_stillness_end_it_in_time(
    tmp_path: Path, clock: MockClock, expect_log: ExpectLog
) -> None:
    expect_log("posting failed|cannot be uploaded|is tried again")
    async with busy_world(tmp_path) as busy, trio.open_nursery() as nursery:
        log = busy.make(b"log")
        longest: list[float] = []
        nursery.start_soon(busy.append_for_ever, log, longest)
        await trio.sleep(1)

        async def fail() -> None:
            await busy.in_a_stillness()
            busy.servers.down = True
            await trio.sleep(30)
            busy.servers.down = False

        nursery.start_soon(fail)
        with trio.fail_after(300):
            await busy.catch_up.sync()
        assert STILL - 1 < longest[0] <= STILL + 0.1
        assert busy.published(b"log") is not None
        busy.store.world.errors.clear()
        nursery.cancel_scope.cancel()


async def test_a_writer_that_is_fenced_holds_nobody(
    tmp_path: Path, clock: MockClock, expect_log: ExpectLog
) -> None:
    async with busy_world(tmp_path) as busy, trio.open_nursery() as nursery:
        log = busy.make(b"log")
        longest: list[float] = []
        nursery.start_soon(busy.append_for_ever, log, longest)
        await trio.sleep(1)

        async def fence() -> None:
            await busy.in_a_stillness()
            busy.publisher.fenced.set()

        nursery.start_soon(fence)
        with pytest.raises(FencedError), trio.fail_after(60):
            await busy.catch_up.sync()
        assert not busy.store.stillness.on
        nursery.cancel_scope.cancel()


async def test_reading_and_names_never_wait(tmp_path: Path, clock: MockClock) -> None:
    async with busy_world(tmp_path) as busy, trio.open_nursery() as nursery:
        log = busy.make(b"log")
        nursery.start_soon(busy.append_for_ever, log, [])
        await trio.sleep(1)
        looked = trio.Event()

        async def look() -> None:
            await busy.in_a_stillness()
            with trio.fail_after(0.01):
                assert await busy.store.files.read(log, 0, 10) == b"000000000\n"
                busy.make(b"made meanwhile")
                await busy.store.store.move(ROOT_INODE, b"made meanwhile", ROOT_INODE, b"moved")
            assert busy.store.stillness.on
            looked.set()

        nursery.start_soon(look)
        await busy.catch_up.sync()
        assert looked.is_set()
        nursery.cancel_scope.cancel()


async def test_what_is_waited_for_is_told(tmp_path: Path, clock: MockClock) -> None:
    async with busy_world(tmp_path) as busy, trio.open_nursery() as nursery:
        log = busy.make(b"log")
        nursery.start_soon(busy.append_for_ever, log, [])
        await trio.sleep(1)
        seen = []

        async def watch() -> None:
            while True:
                seen.append(busy.catch_up.awaited())
                await trio.sleep(0.05)

        nursery.start_soon(watch)
        await busy.catch_up.sync()
        assert {each.paths for each in seen} == {(), (b"/log",)}
        assert busy.catch_up.awaited().files == 0
        nursery.cancel_scope.cancel()


# --- what nobody asked for -----------------------------------------------------------------------


async def test_what_is_held_back_for_long_is_published_without_a_sync(
    tmp_path: Path, clock: MockClock
) -> None:
    async with busy_world(tmp_path, most_held=12.0) as busy, trio.open_nursery() as nursery:
        log = busy.make(b"log")
        longest: list[float] = []
        nursery.start_soon(busy.append_for_ever, log, longest)
        nursery.start_soon(busy.publisher.run)
        nursery.start_soon(busy.catch_up.run)
        await trio.sleep(11.5)
        assert busy.published(b"log") is None
        sizes = []
        for _ in range(3):
            await trio.sleep(16)
            published = busy.published(b"log")
            assert published is not None
            sizes.append(published.size)
        assert sizes[0] < sizes[1] < sizes[2]
        assert longest[0] < STILL
        nursery.cancel_scope.cancel()


async def test_a_fault_in_catching_up_does_not_end_it(
    tmp_path: Path,
    clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    expect_log: ExpectLog,
) -> None:
    expect_log("a fault of usenetfs")
    async with busy_world(tmp_path, most_held=12.0) as busy, trio.open_nursery() as nursery:
        log = busy.make(b"log")
        nursery.start_soon(busy.append_for_ever, log, [])
        nursery.start_soon(busy.publisher.run)
        settle: Callable[..., object] = busy.store.world.uploader.settle

        async def fail(inodes: object) -> None:
            monkeypatch.setattr(busy.store.world.uploader, "settle", settle)
            raise RuntimeError("a fault")

        monkeypatch.setattr(busy.store.world.uploader, "settle", fail)
        nursery.start_soon(busy.catch_up.run)
        await trio.sleep(30)
        assert busy.published(b"log") is not None
        assert len(busy.store.world.errors) == 1
        busy.store.world.errors.clear()
        nursery.cancel_scope.cancel()
