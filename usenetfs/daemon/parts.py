"""Everything that makes up a mounted filesystem, made in order and closed in reverse.

Layers appear here as plain objects; nothing is looked up anywhere else, and constructors get plain
values (``plain_values.py`` takes the settings apart).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from usenetfs.article.keys import KeySet
from usenetfs.checkpoint.catching_up import CatchUp
from usenetfs.checkpoint.publish import Publisher, PublishSettings
from usenetfs.checkpoint.sending import Sender
from usenetfs.config.servers import server_settings
from usenetfs.daemon.plain_values import (
    groups_of,
    make_retries,
    upload_limits,
    upload_settings,
)
from usenetfs.daemon.recent_errors import RecentErrors
from usenetfs.errors import UsenetfsError
from usenetfs.fs.files import Files
from usenetfs.fs.kernel_cache import KernelCache
from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.fs.namespace import Namespace
from usenetfs.fs.operations import Operations
from usenetfs.fs.pending import Pending
from usenetfs.fs.tree_store import TreeStore
from usenetfs.index.index import Index
from usenetfs.net.providers import ProviderSet
from usenetfs.net.retry import RetryManager
from usenetfs.options import DaemonOptions, FsyncLevel
from usenetfs.store.article_cache import ArticleCache
from usenetfs.store.pins import Pins
from usenetfs.store.staging import Staging
from usenetfs.tracker import Tracker
from usenetfs.transfer.content import BlockContent
from usenetfs.transfer.fetch.cache_care import CacheCare
from usenetfs.transfer.fetch.fetcher import Fetcher, open_fetcher
from usenetfs.transfer.fetch.prefetch import Prefetcher
from usenetfs.transfer.staged.blocks import StagedBlocks
from usenetfs.transfer.staged.freeing import Freer
from usenetfs.transfer.staged.stillness import Stillness
from usenetfs.transfer.upload.describe import describer
from usenetfs.transfer.upload.post_check import EARLY
from usenetfs.transfer.upload.poster import Poster
from usenetfs.transfer.upload.rate_limit import LimitedPosts
from usenetfs.transfer.upload.uploader import Uploader
from usenetfs.types import Durability, InodeId

log = logging.getLogger("usenetfs.daemon")

READ_PATIENCE = 60.0
"""Seconds that a read goes on asking while no server can be reached."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The objects of one mounted filesystem."""

    index: Index
    providers: ProviderSet
    cache: ArticleCache
    care: CacheCare
    content: BlockContent
    staged: StagedBlocks
    fetcher: Fetcher
    uploader: Uploader
    publisher: Publisher
    catch_up: CatchUp
    inodes: LiveInodes
    files: Files
    operations: Operations
    posts: LimitedPosts
    store: TreeStore
    kernel: KernelCache
    errors: RecentErrors
    retries: RetryManager
    tracker: Tracker


@asynccontextmanager
async def open_parts(options: DaemonOptions) -> AsyncIterator[Parts]:
    """The parts, with the tasks of providers and fetcher running; nothing is uploaded yet."""
    keys = KeySet.from_master(options.master_key, options.filesystem_id)
    settings = options.settings
    errors = RecentErrors()
    retries = make_retries(settings)
    tracker = Tracker()
    providers = ProviderSet(
        server_settings(settings, options.passwords), redial=retries.policy_of("connect")
    )
    with (
        Index.open(
            options.paths.index,
            directory_key=keys.directory_key,
            read_only=options.view is not None,
            batch=settings.index.batch,
            cache=settings.index.cache,
        ) as index,
        Staging(
            options.paths.staging,
            block_size=index.identity.block_size,
            new_from=index.inodes.last_id() + 1,
        ) as staging,
        ArticleCache(
            options.paths.articles,
            max_bytes=settings.cache.max_size,
            min_free_bytes=settings.cache.min_free,
        ) as cache,
    ):
        async with (
            trio.open_nursery() as nursery,
            open_fetcher(
                providers,
                cache,
                keys=keys,
                filesystem_id=options.filesystem_id,
                memory=settings.cache.memory_size,
                patience=READ_PATIENCE,
                retries=retries,
                tracker=tracker,
            ) as fetcher,
        ):
            await nursery.start(providers.run)
            yield _wire(
                options, keys, index, staging, cache, providers, fetcher, retries, errors, tracker
            )
            nursery.cancel_scope.cancel()
        _release_numbers(index)


def _release_numbers(index: Index) -> None:
    """The next start goes on without a gap in the numbers; where that fails it skips some."""
    try:
        with index.transaction():
            index.articles.release_reserved()
    except UsenetfsError as error:
        log.info("reserved article numbers are left unused: %s", error)


def _wire(
    options: DaemonOptions,
    keys: KeySet,
    index: Index,
    staging: Staging,
    cache: ArticleCache,
    providers: ProviderSet,
    fetcher: Fetcher,
    retries: RetryManager,
    errors: RecentErrors,
    tracker: Tracker,
) -> Parts:
    settings = options.settings
    block_size = index.identity.block_size
    staged = StagedBlocks(index, staging, block_size=block_size, settle=settings.staging.settle)
    content = BlockContent(index, staged, fetcher, block_size=block_size)
    freer = Freer(index, staged)
    posts, uploader = _make_uploader(
        options, keys, index, staged, content, freer, providers, retries, errors, tracker
    )
    inodes = LiveInodes(index, read_only=options.read_only)
    pending = Pending(index, inodes, staged)
    namespace = Namespace(index, inodes, staged, pending)
    stillness = Stillness()
    files = Files(
        index,
        inodes,
        staged,
        content,
        freer,
        stillness=stillness,
        staging_limit=settings.staging.max_size,
        min_free=settings.staging.min_free,
        pending=pending,
        reach=_fsync_target(options.fsync or settings.staging.fsync, uploader),
    )
    uploader.save = files.save
    prefetcher = Prefetcher(
        index, fetcher, block_size=block_size, budget=settings.cache.memory_size // 3
    )
    content.on_small = prefetcher.small_file
    care = CacheCare(index, fetcher, cache, Pins(options.paths.pins))
    publisher = _make_publisher(options, keys, index, files, providers, retries, errors, tracker)
    catch_up = _make_catch_up(options, index, files, uploader, publisher, stillness, errors)
    operations = _make_operations(
        options, index, inodes, namespace, files, staged, prefetcher, care, errors, tracker
    )
    operations.may_change = lambda: not publisher.fenced.is_set()
    kernel = KernelCache(inodes)
    store = TreeStore(
        index,
        inodes,
        namespace,
        files,
        staged,
        content,
        kernel,
        hash_key=keys.hash_key,
        has_capability=operations.has_capability,
    )
    return Parts(
        index=index,
        providers=providers,
        cache=cache,
        care=care,
        content=content,
        staged=staged,
        fetcher=fetcher,
        uploader=uploader,
        publisher=publisher,
        catch_up=catch_up,
        inodes=inodes,
        files=files,
        operations=operations,
        posts=posts,
        store=store,
        kernel=kernel,
        errors=errors,
        retries=retries,
        tracker=tracker,
    )


def _make_uploader(
    options: DaemonOptions,
    keys: KeySet,
    index: Index,
    staged: StagedBlocks,
    content: BlockContent,
    freer: Freer,
    providers: ProviderSet,
    retries: RetryManager,
    errors: RecentErrors,
    tracker: Tracker,
) -> tuple[LimitedPosts, Uploader]:
    """The way from staging to the servers, and the gate in it."""
    settings = options.settings
    posts = LimitedPosts(providers, upload_limits(settings.upload))
    poster = Poster(
        posts,
        keys=keys,
        filesystem_id=options.filesystem_id,
        groups=groups_of(options),
        new_attempt=index.new_attempt,
        retries=retries,
        describe=describer(index),
        report=errors.report,
    )
    uploader = Uploader(
        index,
        staged,
        content,
        freer,
        poster,
        providers,
        hash_key=keys.hash_key,
        settings=upload_settings(settings, providers, retries),
        report=errors.report,
        tracker=tracker,
    )
    return posts, uploader


def _make_publisher(
    options: DaemonOptions,
    keys: KeySet,
    index: Index,
    files: Files,
    providers: ProviderSet,
    retries: RetryManager,
    errors: RecentErrors,
    tracker: Tracker,
) -> Publisher:
    """The writer's side of the chain."""
    settings = options.settings.checkpoint
    return Publisher(
        index,
        _make_sender(options, keys, providers, retries),
        keys=keys,
        settings=PublishSettings(
            interval=settings.interval,
            copies=settings.copies,
            piece_size=index.identity.block_size,
            spool=options.paths.data,
        ),
        save=files.save,
        report=errors.report,
        tracker=tracker,
    )


def _make_catch_up(
    options: DaemonOptions,
    index: Index,
    files: Files,
    uploader: Uploader,
    publisher: Publisher,
    stillness: Stillness,
    errors: RecentErrors,
) -> CatchUp:
    """What sees to it that nothing is left out of checkpoints for ever."""
    settings = options.settings.checkpoint
    return CatchUp(
        index,
        uploader,
        publisher,
        stillness,
        save=files.save,
        most_held=max(settings.max_held, 2 * settings.interval),
        report=errors.report,
    )


def _make_operations(
    options: DaemonOptions,
    index: Index,
    inodes: LiveInodes,
    namespace: Namespace,
    files: Files,
    staged: StagedBlocks,
    prefetcher: Prefetcher,
    care: CacheCare,
    errors: RecentErrors,
    tracker: Tracker,
) -> Operations:
    """What answers the kernel."""
    operations = Operations(
        index,
        inodes,
        namespace,
        files,
        staged,
        prefetcher,
        care,
        read_only=options.read_only,
        writeback=options.writeback,
        report=errors.report,
    )
    operations.observe = tracker.observe
    return operations


def _make_sender(
    options: DaemonOptions, keys: KeySet, providers: ProviderSet, retries: RetryManager
) -> Sender:
    """What posts the articles of the chain."""
    return Sender(
        providers,
        keys=keys,
        filesystem_id=options.filesystem_id,
        groups=groups_of(options),
        retries=retries,
        first=options.settings.upload.check_delay / EARLY,
        deadline=options.settings.upload.check_timeout,
    )


def _fsync_target(
    level: FsyncLevel, uploader: Uploader
) -> Callable[[InodeId], Awaitable[None]] | None:
    """What ``fsync`` waits for once the local disk has everything."""
    if level == "local":
        return None
    state = Durability.POSTED if level == "posted" else Durability.SEEN
    return lambda inode: uploader.reach(inode, state)
