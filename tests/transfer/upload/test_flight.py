"""Articles on their way: how many at once, against servers with latency."""

from __future__ import annotations

import os
from pathlib import Path

import trio
from trio.testing import MockClock

from tests.transfer.world import BLOCK, FakeServers, opened_world, uploading
from usenetfs.article.wire import OutgoingArticle
from usenetfs.net.providers import PostResult
from usenetfs.transfer.upload.post_check import CheckTimes
from usenetfs.transfer.upload.settings import UploadSettings
from usenetfs.types import Lane


class DistantServers(FakeServers):
    """A round trip takes ``latency`` seconds, however many are under way."""

    def __init__(self, latency: float) -> None:
        super().__init__()
        self.latency = latency
        self.at_once = 0
        self.most_at_once = 0

    async def post(self, article: OutgoingArticle, *, lane: Lane = Lane.UPLOAD) -> PostResult:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await trio.sleep(2 * self.latency)
        self.at_once -= 1
        return await super().post(article, lane=lane)


async def _upload(path: Path, servers: FakeServers, settings: UploadSettings, blocks: int) -> None:
    async with opened_world(path, servers, upload=settings) as world:
        inode = world.new_file(blocks * BLOCK)
        world.write(inode, 0, os.urandom(blocks * BLOCK))
        async with uploading(world):
            await world.uploader.sync()
        assert world.index.check() == []


async def test_with_latency_more_are_posted_at_once(
    tmp_path: Path, patient_clock: MockClock
) -> None:
    servers = DistantServers(latency=0.5)
    settings = UploadSettings(most_posters=16, check=CheckTimes(first=0.5))
    await _upload(tmp_path, servers, settings, blocks=250)
    assert servers.most_at_once > 8


async def test_a_configured_number_is_kept(tmp_path: Path, patient_clock: MockClock) -> None:
    servers = DistantServers(latency=0.5)
    settings = UploadSettings(posters=3, most_posters=16, check=CheckTimes(first=0.5))
    await _upload(tmp_path, servers, settings, blocks=40)
    assert servers.most_at_once == 3


async def test_the_limit_can_be_lowered_while_it_runs(
    tmp_path: Path, patient_clock: MockClock
) -> None:
    servers = DistantServers(latency=0.5)
    settings = UploadSettings(most_posters=16, check=CheckTimes(first=0.5))
    async with opened_world(tmp_path, servers, upload=settings) as world:
        world.uploader.flight.set_most(2)
        inode = world.new_file(40 * BLOCK)
        world.write(inode, 0, os.urandom(40 * BLOCK))
        async with uploading(world):
            await world.uploader.sync()
    assert servers.most_at_once <= 2
