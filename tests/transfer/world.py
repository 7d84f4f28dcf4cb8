"""A filesystem's innards without kernel and network: real index, staging and pipeline over a fake
set of servers that keeps articles in memory and can be told to misbehave."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from usenetfs.article.keys import KeySet
from usenetfs.article.newsgroups import NewsgroupChoice
from usenetfs.article.wire import OutgoingArticle
from usenetfs.article.yenc import decode_body
from usenetfs.errors import (
    ArticleMissingError,
    EncodingError,
    NoHealthyServersError,
    UsenetfsError,
)
from usenetfs.index.index import Index
from usenetfs.net.providers import FetchedBody, PostResult
from usenetfs.net.retry import RetryManager, RetryPolicy
from usenetfs.net.urgency import Urgency
from usenetfs.store.article_cache import ArticleCache
from usenetfs.store.staging import Staging
from usenetfs.tracker import Tracker
from usenetfs.transfer.content import BlockContent
from usenetfs.transfer.fetch.fetcher import Fetcher, open_fetcher
from usenetfs.transfer.staged.blocks import StagedBlocks
from usenetfs.transfer.staged.freeing import Freer
from usenetfs.transfer.upload.describe import describer
from usenetfs.transfer.upload.post_check import CheckTimes
from usenetfs.transfer.upload.poster import Poster
from usenetfs.transfer.upload.settings import UploadSettings
from usenetfs.transfer.upload.uploader import Uploader
from usenetfs.types import ROOT_INODE, InodeId, Lane, MessageId

ExpectLog = Callable[[str], None]
BLOCK = 8192
KEYS = KeySet.from_master(bytes(range(32)), bytes(16))
FILESYSTEM_ID = bytes(16)


def _nothing(article: OutgoingArticle) -> None:
    """What happens around a post unless a test says otherwise."""


def _unaltered(body: bytes) -> bytes:
    return body


def _kept(message_id: MessageId) -> MessageId:
    return message_id


class FakeServers:
    """Implements what transfer/ asks of ``net.ProviderSet``."""

    def __init__(self) -> None:
        self.articles: dict[MessageId, bytes] = {}
        self.calls: Counter[str] = Counter()
        self.before_post: Callable[[OutgoingArticle], None] = _nothing
        """May raise what a server would."""
        self.after_post: Callable[[OutgoingArticle], None] = _nothing
        self.invisible: set[MessageId] = set()
        self.damaged: set[MessageId] = set()
        """Their yEnc is cut short on every server."""
        self.rename: Callable[[MessageId], MessageId] = _kept
        """The id that an article is stored under, and that the reply to its POST tells."""
        self.altered: dict[str, Callable[[bytes], bytes]] = {}
        """By server: what it makes of the bodies it gives."""
        self.servers = ("one", "two")
        self.down = False
        self.away: set[str] = set()
        """Servers that cannot be reached for a body."""
        self.gate: trio.Event | None = None
        """Fetches wait for it."""
        self.unsent = False
        """Whether requests that wait have not left yet."""
        self.remembers = False
        """Whether it is remembered that an article is missing, so that nobody is asked."""

    async def post(self, article: OutgoingArticle, *, lane: Lane = Lane.UPLOAD) -> PostResult:
        await trio.lowlevel.checkpoint()
        self.calls["post"] += 1
        self._check_up()
        self.before_post(article)
        body = article.wire[article.wire.index(b"\r\n\r\n") + 4 :]
        stored_as = self.rename(article.message_id)
        self.articles.setdefault(stored_as, bytes(decode_body(body)))
        self.after_post(article)
        return PostResult("one", stored_as)

    def storage_groups(self) -> dict[str, frozenset[str]]:
        return {server: frozenset({server}) for server in self.servers}

    async def stat(
        self, message_id: MessageId, *, lane: Lane, exclude: AbstractSet[str] = frozenset()
    ) -> str | None:
        await trio.lowlevel.checkpoint()
        self.calls["stat"] += 1
        self._check_up()
        found = message_id in self.articles and message_id not in self.invisible
        return "one" if found else None

    async def fetch(
        self,
        message_id: MessageId,
        *,
        lane: Lane,
        exclude: AbstractSet[str] = frozenset(),
        fresh: bool = False,
        share: Hashable = None,
        urgency: Urgency | None = None,
    ) -> FetchedBody:
        await trio.lowlevel.checkpoint()
        self.calls["fetch"] += 1
        if urgency is not None:
            urgency.asking("one", 1, lambda: not self.unsent, lambda lane: None)
        if self.gate is not None:
            await self.gate.wait()
        self._check_up()
        if message_id in self.damaged:
            raise EncodingError("one sent a damaged article")
        reasons = {server: "left out" for server in self.servers if server in exclude}
        for server in self.servers:
            if server in self.away:
                reasons[server] = "refused"
            elif server not in exclude and message_id in self.articles:
                alter = self.altered.get(server, _unaltered)
                body = bytearray(alter(self.articles[message_id]))
                return FetchedBody(body, server, message_id, len(body))
        if self.away - exclude or len(reasons) == len(self.servers):
            raise NoHealthyServersError("nobody can be asked", reasons=reasons)
        error = ArticleMissingError("430 no such article")
        error.remembered = self.remembers and not fresh
        raise error

    def _check_up(self) -> None:
        if self.down:
            raise NoHealthyServersError("all down", reasons={"one": "refused", "two": "refused"})


@dataclass(slots=True)
class World:
    """One opened filesystem."""

    index: Index
    staging: Staging
    staged: StagedBlocks
    fetcher: Fetcher
    content: BlockContent
    freer: Freer
    uploader: Uploader
    servers: FakeServers
    cache: ArticleCache
    tracker: Tracker
    errors: list[UsenetfsError] = field(default_factory=list)

    def new_file(self, size: int = 0) -> InodeId:
        """An inode to write to."""
        with self.index.transaction():
            inode = self.index.inodes.insert(0o100644, 0, 0, 1, 0, size, (1, 1, 1)).id
            self.index.dirents.insert(ROOT_INODE, b"file-%d" % inode, inode)
            return inode

    def delete(self, inode: InodeId) -> None:
        """Take away the name and everything else."""
        with self.index.transaction():
            self.index.dirents.remove(ROOT_INODE, b"file-%d" % inode)
            self.staged.forget_inode(inode)
            self.index.inodes.delete(inode)
        self.staged.deleted(inode)

    def write(self, inode: InodeId, offset: int, data: bytes) -> None:
        """Write and save."""
        self.staged.write(inode, offset, data)
        self.save()

    def save(self) -> None:
        with self.index.transaction():
            blocks = self.staged.save()
        self.staged.saved(blocks)

    async def read(self, inode: InodeId, offset: int, length: int) -> bytes:
        return bytes(await self.content.read(inode, offset, length, lane=Lane.READER))


@asynccontextmanager
async def opened_world(
    path: Path,
    servers: FakeServers,
    *,
    check: CheckTimes | None = None,
    settle: float = 2.0,
    groups: NewsgroupChoice | None = None,
    upload: UploadSettings | None = None,
) -> AsyncIterator[World]:
    """Open (or make) the filesystem at ``path``; nothing runs until ``uploader.run`` is started."""
    database = path / "index.db"
    if not database.exists():
        Index.create(
            database,
            filesystem_id=FILESYSTEM_ID,
            name="t",
            block_size=BLOCK,
            directory_key=KEYS.directory_key,
        ).close()
    with (
        Index.open(database, directory_key=KEYS.directory_key) as index,
        Staging(path / "staging", block_size=BLOCK, new_from=index.inodes.last_id() + 1) as staging,
        ArticleCache(path / "cache", max_bytes=1 << 20, min_free_bytes=0) as cache,
    ):
        policy = RetryPolicy(first=0.5, retries=None)
        retries = RetryManager(kinds={"post": policy, "fetch": policy})
        tracker = Tracker(clock=trio.current_time)
        async with open_fetcher(
            servers,
            cache,
            keys=KEYS,
            filesystem_id=FILESYSTEM_ID,
            memory=1 << 20,
            patience=5.0,
            retries=retries,
            tracker=tracker,
        ) as fetcher:
            staged = StagedBlocks(
                index, staging, block_size=BLOCK, settle=settle, clock=trio.current_time
            )
            content = BlockContent(index, staged, fetcher, block_size=BLOCK)
            freer = Freer(index, staged)
            poster = Poster(
                servers,
                keys=KEYS,
                filesystem_id=FILESYSTEM_ID,
                groups=groups or NewsgroupChoice(["alt.binaries.test"]),
                describe=describer(index),
                new_attempt=index.new_attempt,
                retries=retries,
            )
            errors: list[UsenetfsError] = []
            uploader = Uploader(
                index,
                staged,
                content,
                freer,
                poster,
                servers,
                hash_key=KEYS.hash_key,
                settings=upload
                or UploadSettings(
                    pack_delay=1.0, check=check or CheckTimes(first=0.5, deadline=30.0)
                ),
                report=errors.append,
                tracker=tracker,
            )
            yield World(
                index,
                staging,
                staged,
                fetcher,
                content,
                freer,
                uploader,
                servers,
                cache,
                tracker,
                errors,
            )


async def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Return when the condition holds; TooSlowError after ``seconds``."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await trio.sleep(0.01)


@asynccontextmanager
async def uploading(world: World) -> AsyncIterator[None]:
    """Run the uploader for the time of the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.uploader.run)
        yield
        nursery.cancel_scope.cancel()


async def stored_file(world: World, data: bytes) -> InodeId:
    """A file that is only on the servers."""
    async with uploading(world):
        inode = world.new_file(len(data))
        world.write(inode, 0, data)
        await world.uploader.sync()
    world.fetcher.drop_memory()
    world.servers.calls.clear()
    return inode


async def drop_caches(world: World) -> None:
    world.fetcher.drop_memory()
    await trio.to_thread.run_sync(world.cache.drop_all)


async def comes_back(world: World, inode: InodeId, data: bytes | bytearray) -> None:
    """From the servers alone."""
    await drop_caches(world)
    assert await world.read(inode, 0, len(data)) == data
