"""The write path behind staging, against servers that keep their word and servers that do not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.transfer.world import (
    BLOCK,
    ExpectLog,
    FakeServers,
    comes_back,
    drop_caches,
    opened_world,
    until,
    uploading,
)
from usenetfs.article.wire import OutgoingArticle
from usenetfs.errors import (
    DiskFullError,
    DuplicateArticleError,
    LocalStorageError,
    NetworkError,
    PostInDoubtError,
    PostRejectedError,
)
from usenetfs.index.articles import ArticleState
from usenetfs.index.transitions import NewRecord
from usenetfs.transfer.upload.post_check import CheckTimes
from usenetfs.types import BlockNumber, InodeId, MessageId


@pytest.fixture
def servers() -> FakeServers:
    return FakeServers()


async def test_what_is_written_comes_back_from_the_servers(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(3 * BLOCK + 100)
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(len(data))
        world.write(inode, 0, data)
        await world.uploader.sync()
        assert world.staging.usage() == 0
        await comes_back(world, inode, data)
        assert await world.read(inode, BLOCK - 10, 20) == data[BLOCK - 10 : BLOCK + 10]
        assert world.index.check() == []


async def test_small_files_share_an_article(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers) as world, uploading(world):
        files = [(world.new_file(100), os.urandom(100)) for _ in range(40)]
        for inode, data in files:
            world.write(inode, 0, data)
        await world.uploader.sync()
        await drop_caches(world)
        for inode, data in files:
            assert await world.read(inode, 0, 100) == data
    assert servers.calls["post"] <= 3
    assert servers.calls["fetch"] == servers.calls["post"]


async def test_equal_blocks_are_sent_once(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    block = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world, uploading(world):
        first = world.new_file(3 * BLOCK)
        world.write(first, 0, block * 3)
        await world.uploader.sync()
        second = world.new_file(BLOCK)
        world.write(second, 0, block)
        await world.uploader.sync()
        assert await world.read(second, 0, BLOCK) == block
        assert world.index.check() == []
    assert servers.calls["post"] == 1


async def test_overwriting_part_of_an_uploaded_block(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = bytearray(os.urandom(2 * BLOCK))
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(len(data))
        world.write(inode, 0, bytes(data))
        await world.uploader.sync()
        world.write(inode, 100, b"x" * 50)
        data[100:150] = b"x" * 50
        assert await world.read(inode, 0, len(data)) == data
        await world.uploader.sync()
        await comes_back(world, inode, data)


async def test_a_block_written_while_it_is_sent_stays_dirty_and_is_sent_again(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    old, new = os.urandom(BLOCK), os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(BLOCK)

        def rewrite(_: OutgoingArticle) -> None:
            servers.after_post = lambda _: None
            world.write(inode, 0, new)

        servers.after_post = rewrite
        world.write(inode, 0, old)
        await world.uploader.sync()
        assert await world.read(inode, 0, BLOCK) == new
        await world.uploader.sync()
        await drop_caches(world)
        assert await world.read(inode, 0, BLOCK) == new
        assert world.index.check() == []
    assert servers.calls["post"] == 2


async def test_a_write_that_fails_half_way_while_the_block_is_sent(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the disk took of it is uploaded too: a file does not go back to what it was."""
    old, new = os.urandom(BLOCK), os.urandom(2 * BLOCK)
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(BLOCK)
        write_span = world.staging.write_span

        def take_half_a_block(inode: InodeId, offset: int, data: bytes) -> None:
            write_span(inode, offset, data[: BLOCK // 2])
            raise DiskFullError("no space left")

        def fail_to_rewrite(_: OutgoingArticle) -> None:
            servers.after_post = lambda _: None
            with monkeypatch.context() as patch:
                patch.setattr(world.staging, "write_span", take_half_a_block)
                with pytest.raises(DiskFullError):
                    world.staged.write(inode, 0, new)

        servers.after_post = fail_to_rewrite
        world.write(inode, 0, old)
        await world.uploader.sync()
        now = await world.read(inode, 0, BLOCK)
        assert now == new[: BLOCK // 2] + old[BLOCK // 2 :]
        world.save()
        await world.uploader.sync()
        assert world.staging.usage() == 0
        await comes_back(world, inode, now)


async def test_what_the_disk_took_of_a_block_that_never_came_to_be_is_freed(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_world(tmp_path, servers) as world:
        inode = world.new_file()
        write_span = world.staging.write_span

        def take_half(inode: InodeId, offset: int, data: bytes) -> None:
            write_span(inode, offset, data[: len(data) // 2])
            raise DiskFullError("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(world.staging, "write_span", take_half)
            with pytest.raises(DiskFullError):
                world.staged.write(inode, 3 * BLOCK, os.urandom(2 * BLOCK))
        assert world.staging.usage() > 0
        await world.freer.free_now()
        assert world.staging.usage() == 0


async def test_a_write_whose_ground_cannot_be_cleaned_leaves_nothing(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise LocalStorageError("cannot free space: Input/output error")

    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(10)
        with monkeypatch.context() as patch:
            patch.setattr(world.staging, "zero", fail)
            with pytest.raises(LocalStorageError):
                world.staged.write(inode, 50, b"x")
        assert world.staged.get(inode, BlockNumber(0)) is None
        with world.index.transaction():
            cut = world.staged.cut(inode, 5)
        world.staged.cut_done(inode, 5, cut)
        assert world.index.staging.counts().total.count == 0


async def test_a_file_cut_while_it_is_sent(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(BLOCK)

        def cut(_: OutgoingArticle) -> None:
            servers.after_post = lambda _: None
            with world.index.transaction():
                kept = world.staged.cut(inode, 10)
            world.staged.cut_done(inode, 10, kept)

        servers.after_post = cut
        data = os.urandom(BLOCK)
        world.write(inode, 0, data)
        await world.uploader.sync()
        await drop_caches(world)
        assert await world.read(inode, 0, BLOCK) == data[:10] + bytes(BLOCK - 10)


async def test_a_block_cut_while_it_waits_for_company_is_uploaded_as_it_is_then(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(100)
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(10)
        world.write(inode, 0, data)
        await until(lambda: world.uploader.packing == 1)
        with world.index.transaction():
            cut = world.staged.cut(inode, 10)
        world.staged.cut_done(inode, 10, cut)
        with trio.fail_after(60):
            await world.uploader.sync()
        await comes_back(world, inode, data[:10])


async def test_a_block_written_again_after_it_was_cut_settles_with_one_article(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world:
        inode = world.new_file(BLOCK)
        world.write(inode, 0, data)
        with world.index.transaction():
            kept = world.staged.cut(inode, 10)
        world.staged.cut_done(inode, 10, kept)
        world.write(inode, 10, data[10:])
        async with uploading(world):
            await world.uploader.sync()
            assert world.index.staging.counts().total.count == 0
            await comes_back(world, inode, data)
    assert servers.calls["post"] == 1


async def test_a_file_deleted_while_it_is_sent(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(BLOCK)

        def delete(_: OutgoingArticle) -> None:
            world.delete(inode)

        servers.after_post = delete
        world.write(inode, 0, os.urandom(BLOCK))
        await world.uploader.sync()
        await trio.sleep(5)
        assert world.index.in_flight() == []
        assert world.index.check() == []
        assert world.staging.usage() == 0


async def test_network_trouble_is_waited_out_under_the_same_id(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    expect_log: ExpectLog,
) -> None:
    expect_log("posting failed")
    seen: list[str] = []

    def fail_twice(article: OutgoingArticle) -> None:
        seen.append(article.message_id)
        if len(seen) < 3:
            raise NetworkError("cut") if len(seen) == 1 else PostInDoubtError("reply lost")

    servers.before_post = fail_twice
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(BLOCK)
        world.write(inode, 0, os.urandom(BLOCK))
        await world.uploader.sync()
    assert len(seen) == 3
    assert len(set(seen)) == 1


async def test_a_rejected_article_goes_out_under_a_new_id(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    expect_log: ExpectLog,
) -> None:
    expect_log("was rejected")
    seen: list[str] = []

    def reject_first(article: OutgoingArticle) -> None:
        seen.append(article.message_id)
        if len(seen) == 1:
            raise PostRejectedError("441 not today")

    servers.before_post = reject_first
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(BLOCK)
        world.write(inode, 0, data)
        await world.uploader.sync()
        await comes_back(world, inode, data)
    assert len(set(seen)) == 2


async def test_a_duplicate_of_our_own_counts_as_posted(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    expect_log: ExpectLog,
) -> None:
    expect_log("posting failed")

    def lose_reply(article: OutgoingArticle) -> None:
        servers.after_post = lambda _: None
        servers.before_post = refuse
        raise PostInDoubtError("reply lost")

    def refuse(article: OutgoingArticle) -> None:
        raise DuplicateArticleError("441 435 duplicate", server="one")

    servers.after_post = lose_reply
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(BLOCK)
        world.write(inode, 0, data)
        await world.uploader.sync()
        await comes_back(world, inode, data)
    assert len(servers.articles) == 1


async def test_somebody_elses_article_under_our_id_is_not_ours(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    expect_log: ExpectLog,
) -> None:
    expect_log("not ours|rejected")
    taken: list[str] = []

    def take_the_id(article: OutgoingArticle) -> None:
        if not taken:
            taken.append(article.message_id)
            servers.articles[article.message_id] = os.urandom(500)
            raise DuplicateArticleError("441 435 duplicate", server="one")

    servers.before_post = take_the_id
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(BLOCK)
        world.write(inode, 0, data)
        await world.uploader.sync()
        await comes_back(world, inode, data)


async def test_an_article_under_another_id_is_opened_before_it_counts_and_found_again(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    servers.rename = lambda message_id: MessageId(f"<r.{message_id[1:]}")
    data = os.urandom(2 * BLOCK)
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(len(data))
        world.write(inode, 0, data)
        await world.uploader.sync()
        assert servers.calls["fetch"] == servers.calls["post"] == 2, "a STAT proves nothing here"
        assert all(name.startswith("<r.") for name in servers.articles)
        await comes_back(world, inode, data)
        assert world.index.check() == []
    async with opened_world(tmp_path, servers) as world:
        await comes_back(world, inode, data)


async def test_an_id_that_is_told_and_belongs_to_another_article_frees_nothing(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    expect_log: ExpectLog,
) -> None:
    expect_log("is not ours")
    other = MessageId("<other@server.test>")
    servers.articles[other] = os.urandom(BLOCK)
    servers.rename = lambda _: other
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(BLOCK)
        world.write(inode, 0, data)
        await trio.sleep(10)
        assert servers.calls["post"] >= 1
        assert world.staging.usage() > 0
        servers.rename = lambda message_id: message_id
        await world.uploader.sync()
        await comes_back(world, inode, data)


async def test_an_article_damaged_under_our_id_goes_out_under_another(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    expect_log: ExpectLog,
) -> None:
    """A server may have kept what arrived before the line was cut: no waiting makes that whole."""
    expect_log("posting failed|is damaged|was rejected")
    lost: list[MessageId] = []

    def lose_reply(article: OutgoingArticle) -> None:
        if article.message_id in servers.articles:
            raise DuplicateArticleError("441 435 duplicate", server="one")
        if not lost:
            lost.append(article.message_id)
            servers.articles[article.message_id] = b"the first half"
            servers.damaged.add(article.message_id)
            raise PostInDoubtError("reply lost")

    servers.before_post = lose_reply
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(BLOCK)
        world.write(inode, 0, data)
        with trio.fail_after(60):
            await world.uploader.sync()
        await comes_back(world, inode, data)
    assert len(servers.articles) == 2


async def test_what_is_not_seen_in_time_is_sent_again(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    expect_log: ExpectLog,
) -> None:
    expect_log("did not appear")

    def drop_silently(article: OutgoingArticle) -> None:
        servers.after_post = lambda _: None
        servers.invisible.add(article.message_id)

    servers.after_post = drop_silently
    check = CheckTimes(first=0.5, ceiling=5.0, deadline=20.0)
    async with opened_world(tmp_path, servers, check=check) as world, uploading(world):
        inode = world.new_file(BLOCK)
        world.write(inode, 0, os.urandom(BLOCK))
        await world.uploader.sync()
    assert servers.calls["post"] == 2


async def test_a_crash_before_posting_uploads_anew(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    expect_log: ExpectLog,
) -> None:
    expect_log("posting failed|did not appear")
    data = os.urandom(2 * BLOCK)
    servers.down = True
    async with opened_world(tmp_path, servers) as world:
        inode = world.new_file(len(data))
        world.write(inode, 0, data)
        async with uploading(world):
            world.staged.force()
            await trio.sleep(20)
        assert [a.state for a in world.index.in_flight()] == [ArticleState.PENDING] * 2
    servers.down = False
    async with opened_world(tmp_path, servers) as world, uploading(world):
        await world.uploader.sync()
        await comes_back(world, inode, data)
        assert world.index.check() == []


async def test_a_crash_after_posting_sends_nothing_twice(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    expect_log: ExpectLog,
) -> None:
    expect_log("posting failed|did not appear")
    data = os.urandom(BLOCK)

    def lose_reply_for_good(article: OutgoingArticle) -> None:
        servers.down = True
        raise PostInDoubtError("reply lost")

    servers.after_post = lose_reply_for_good
    async with opened_world(tmp_path, servers) as world:
        inode = world.new_file(BLOCK)
        world.write(inode, 0, data)
        async with uploading(world):
            await trio.sleep(10)
        assert [a.state for a in world.index.in_flight()] == [ArticleState.PENDING]
    servers.down = False
    posts = len(servers.articles)
    async with opened_world(tmp_path, servers) as world, uploading(world):
        await world.uploader.sync()
        await comes_back(world, inode, data)
    assert len(servers.articles) == posts == 1


async def test_blocks_of_an_open_file_settle_first(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers, settle=10.0) as world, uploading(world):
        inode = world.new_file(BLOCK)
        world.staged.opened(inode)
        for _ in range(20):
            world.write(inode, 0, os.urandom(BLOCK))
            await trio.sleep(1)
        assert servers.calls["post"] == 0
        world.staged.closed(inode)
        await trio.sleep(5)
        assert servers.calls["post"] == 1


async def test_staging_is_freed_only_after_the_log_is_synced(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    async with opened_world(tmp_path, servers) as world:
        sync, discard = world.index.sync, world.staging.discard

        def noted_sync() -> None:
            events.append("sync")
            sync()

        def noted_discard(inode: InodeId, blocks: Iterable[BlockNumber]) -> None:
            events.append("free")
            discard(inode, blocks)

        monkeypatch.setattr(world.index, "sync", noted_sync)
        monkeypatch.setattr(world.staging, "discard", noted_discard)
        async with uploading(world):
            inode = world.new_file(BLOCK)
            world.write(inode, 0, os.urandom(BLOCK))
            await world.uploader.sync()
    assert events.index("sync") < events.index("free")


async def test_what_is_given_up_anew_during_the_sync_is_freed_after_the_next(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit that took the newer row away may have come too late for this one."""
    async with opened_world(tmp_path, servers) as world:
        key = (world.new_file(BLOCK), BlockNumber(0))
        world.staging.write(*key, 0, os.urandom(BLOCK))
        sync = world.index.sync

        def give_up_meanwhile() -> None:
            monkeypatch.setattr(world.index, "sync", sync)
            sync()
            trio.from_thread.run_sync(world.freer.add, [key])

        monkeypatch.setattr(world.index, "sync", give_up_meanwhile)
        world.freer.add([key])
        await world.freer.free_now()
        assert world.staging.usage() > 0
        await world.freer.free_now()
        assert world.staging.usage() == 0


async def test_what_the_disk_does_not_let_go_is_not_given_up_again_and_again(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    expect_log: ExpectLog,
) -> None:
    expect_log("could not be freed now")
    async with opened_world(tmp_path, servers) as world:
        key = (world.new_file(BLOCK), BlockNumber(0))
        world.staging.write(*key, 0, os.urandom(BLOCK))

        def fail() -> None:
            raise LocalStorageError("cannot free space: Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(world.staging, "reclaim", fail)
            world.freer.add([key])
            await world.freer.free_now()
        assert repr(world.freer) == "<Freer waiting=0 files=0>"
        await world.freer.free_now()
        assert world.staging.usage() == 0


async def test_a_block_written_again_before_it_is_freed_keeps_its_bytes(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    first, second = os.urandom(BLOCK), os.urandom(100)
    async with opened_world(tmp_path, servers) as world:
        inode = world.new_file(BLOCK)
        world.write(inode, 0, first)
        async with uploading(world):
            await until(lambda: world.staged.get(inode, BlockNumber(0)) is None)
            world.write(inode, 50, second)
            await trio.sleep(3)
            assert await world.read(inode, 0, BLOCK) == first[:50] + second + first[150:]


async def test_an_error_of_the_index_loses_no_block(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    expect_log: ExpectLog,
) -> None:
    expect_log("cannot be uploaded now")
    async with opened_world(tmp_path, servers) as world:
        record = world.index.record_articles
        failures = 3

        def fail_at_first(records: Iterable[NewRecord]) -> list[int]:
            nonlocal failures
            if failures:
                failures -= 1
                raise DiskFullError("no space left")
            return record(records)

        monkeypatch.setattr(world.index, "record_articles", fail_at_first)
        files = [(world.new_file(3000), os.urandom(3000)) for _ in range(30)]
        for inode, data in files:
            world.write(inode, 0, data)
        async with uploading(world):
            await world.uploader.sync()
            await drop_caches(world)
            for inode, data in files:
                assert await world.read(inode, 0, 3000) == data
        assert world.errors
        assert world.index.check() == []


async def test_what_is_saved_later_than_it_was_written_is_not_forgotten(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers) as world, uploading(world):
        early, late = world.new_file(100), world.new_file(BLOCK)
        world.staged.write(early, 0, b"x" * 100)
        world.staged.write(late, 0, os.urandom(BLOCK))
        with world.index.transaction():
            blocks = world.staged.save(late)
        world.staged.saved(blocks)
        await until(lambda: servers.calls["post"] == 1)
        world.save()
        await world.uploader.sync()
        assert world.staged.get(early, BlockNumber(0)) is None


async def test_a_block_that_cannot_be_read_holds_up_no_other(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    expect_log: ExpectLog,
) -> None:
    expect_log("^1 blocks cannot be uploaded now: cannot read")
    async with opened_world(tmp_path, servers) as world:
        files = [(world.new_file(100), os.urandom(100)) for _ in range(10)]
        bad, _ = files.pop(3)
        read = world.staging.read
        healed = False

        def read_but_one(inode: InodeId, block: BlockNumber, start: int, length: int) -> bytes:
            if inode == bad and not healed:
                raise LocalStorageError("cannot read: Input/output error")
            return read(inode, block, start, length)

        monkeypatch.setattr(world.staging, "read", read_but_one)
        for inode, data in files:
            world.write(inode, 0, data)
        world.write(bad, 0, b"x" * 100)
        async with uploading(world):
            await until(lambda: world.index.staging.files() == [bad], seconds=60)
            assert world.errors
            healed = True
            with trio.fail_after(60):
                await world.uploader.sync()
            for inode, data in files:
                await comes_back(world, inode, data)


async def test_who_joins_a_segment_whose_article_cannot_be_recorded_is_uploaded_too(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    expect_log: ExpectLog,
) -> None:
    expect_log("^2 blocks cannot be uploaded now: no space left")
    data = os.urandom(BLOCK)
    async with opened_world(tmp_path, servers) as world:
        one, two = world.new_file(BLOCK), world.new_file(BLOCK)
        reserve = world.uploader._reserve_numbers
        failed = False

        async def fail_once(count: int) -> None:
            nonlocal failed
            if failed:
                return await reserve(count)
            failed = True
            world.write(two, 0, data)
            (segment,) = world.uploader._in_flight.values()
            await until(lambda: len(segment.claims) == 2)
            raise DiskFullError("no space left")

        monkeypatch.setattr(world.uploader, "_reserve_numbers", fail_once)
        world.write(one, 0, data)
        async with uploading(world):
            await until(lambda: failed)
            with trio.fail_after(60):
                await world.uploader.sync()
            await comes_back(world, one, data)
            await comes_back(world, two, data)
    assert servers.calls["post"] == 1
