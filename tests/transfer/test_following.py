"""One upload followed from the write to the server and back, by the tracker and in the log (R7)."""

from __future__ import annotations

import logging
import math
import os
import time
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.transfer.world import (
    BLOCK,
    ExpectLog,
    FakeServers,
    drop_caches,
    opened_world,
    uploading,
)
from usenetfs.article.wire import OutgoingArticle
from usenetfs.errors import DataUnavailableError
from usenetfs.net.providers import PostResult
from usenetfs.tracker import Kind, Outcome, current_id
from usenetfs.transfer.upload.flight import NAMED
from usenetfs.transfer.upload.post_check import EARLY, CheckTimes
from usenetfs.types import Lane


class Watched(FakeServers):
    """Notes on whose behalf each call is made."""

    def __init__(self) -> None:
        super().__init__()
        self.on_behalf_of: list[str] = []

    async def post(self, article: OutgoingArticle, *, lane: Lane = Lane.UPLOAD) -> PostResult:
        self.on_behalf_of.append(current_id())
        return await super().post(article, lane=lane)


async def test_an_upload_leaves_one_record_with_its_stages(
    tmp_path: Path, patient_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "usenetfs.upload")
    servers = Watched()
    async with opened_world(tmp_path, servers) as world, uploading(world):
        inode = world.new_file(BLOCK)
        world.write(inode, 0, os.urandom(BLOCK))
        await world.uploader.sync()
        [upload] = world.tracker.recent()
        assert (upload.kind, upload.outcome) == (Kind.UPLOAD, Outcome.DONE)
        assert list(upload.stages) == ["stage", "seal", "queue", "post", "check"]
        assert upload.duration == pytest.approx(sum(upload.stages.values()))
        assert upload.stages["check"] >= 0.5 / EARLY  # of the first delay, as sync waits
        assert (upload.inodes, upload.octets) == ((inode,), BLOCK)
        assert f"inode {inode} block 0" in upload.name
        assert servers.on_behalf_of == [upload.id]
        assert world.tracker.active() == []
        assert world.tracker.stages[Kind.UPLOAD, "prepare"].count == 1
        [line] = [r.getMessage() for r in caplog.records if upload.name in r.getMessage()]
        assert "done" in line
        assert "post" in line
        await drop_caches(world)
        await world.read(inode, 0, 10)
        fetch = world.tracker.recent()[-1]
        assert (fetch.kind, fetch.inodes, fetch.octets >= BLOCK) == (Kind.FETCH, (inode,), True)


async def test_of_many_small_files_some_are_known(tmp_path: Path, patient_clock: MockClock) -> None:
    async with opened_world(tmp_path, FakeServers()) as world, uploading(world):
        for _ in range(NAMED + 5):
            world.write(world.new_file(10), 0, os.urandom(10))
        await world.uploader.sync()
        uploads = world.tracker.recent()
        assert max(len(upload.inodes) for upload in uploads) == NAMED
        assert sum(len(upload.inodes) + upload.more for upload in uploads) == NAMED + 5


async def test_what_is_not_seen_and_what_cannot_be_had_fails_with_its_reason(
    tmp_path: Path, patient_clock: MockClock, expect_log: ExpectLog
) -> None:
    expect_log("did not appear on any server")
    servers = FakeServers()
    check = CheckTimes(first=0.5, deadline=2.0)
    async with opened_world(tmp_path, servers, check=check) as world, uploading(world):
        inode = world.new_file(BLOCK)
        servers.after_post = lambda article: servers.invisible.add(article.message_id)
        world.write(inode, 0, os.urandom(BLOCK))
        with trio.fail_after(60):
            while not world.tracker.failures():  # noqa: ASYNC110 - there is no event for it
                await trio.sleep(0.1)
        [failed] = world.tracker.failures()
        assert (failed.kind, failed.error_code) == (Kind.UPLOAD, "post_not_seen")
        assert "did not appear" in failed.error
        servers.after_post = lambda article: None
        await world.uploader.sync()
        await drop_caches(world)
        servers.articles.clear()
        with pytest.raises(DataUnavailableError):
            await world.read(inode, 0, 10)
        assert world.tracker.failures()[-1].kind is Kind.FETCH


async def test_articles_of_an_earlier_run_are_followed_to_their_end(
    tmp_path: Path, patient_clock: MockClock
) -> None:
    servers = FakeServers()
    async with opened_world(tmp_path, servers) as world:
        inode = world.new_file(BLOCK)
        world.write(inode, 0, os.urandom(BLOCK))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.uploader.run)
            with trio.fail_after(60):
                while not world.uploader.counts.articles_posted:  # noqa: ASYNC110 - as above
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    async with opened_world(tmp_path, servers) as world, uploading(world):
        await world.uploader.sync()
        [resumed] = [o for o in world.tracker.recent() if "earlier run" in o.name]
        assert math.isfinite(resumed.duration or 0)
        assert resumed.outcome is Outcome.DONE


async def test_what_waited_since_an_earlier_run_has_waited_since_then(
    tmp_path: Path, patient_clock: MockClock
) -> None:
    servers = FakeServers()
    async with opened_world(tmp_path, servers) as world:
        inode = world.new_file(BLOCK)
        world.write(inode, 0, os.urandom(BLOCK))
        written_at = time.time()
    async with opened_world(tmp_path, servers) as world, uploading(world):
        await world.uploader.sync()
        [upload] = world.tracker.recent()
        assert upload.duration is not None
        assert 0 <= upload.stages["stage"] <= upload.duration < 3600
        assert abs(upload.started_at - written_at) < 60
