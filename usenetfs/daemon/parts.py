"""Everything that makes up a mounted filesystem, made in order and closed in reverse.

Layers appear here as plain objects; nothing is looked up anywhere else, and constructors get plain
values (the settings are taken apart here).
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import trio

from usenetfs.article.keys import KeySet
from usenetfs.article.newsgroups import GroupRule, NewsgroupChoice
from usenetfs.checkpoint.publish import Publisher, PublishSettings
from usenetfs.checkpoint.sending import Sender
from usenetfs.config.models import RetrySection, Settings, UploadSection
from usenetfs.config.servers import server_settings
from usenetfs.daemon.recent_errors import RecentErrors
from usenetfs.errors import ConfigurationError, UsenetfsError
from usenetfs.fs.files import Files
from usenetfs.fs.kernel_cache import KernelCache
from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.fs.namespace import Namespace
from usenetfs.fs.operations import Operations
from usenetfs.fs.tree_store import TreeStore
from usenetfs.index.index import Index
from usenetfs.net.providers import ProviderSet
from usenetfs.net.retry import RetryManager, RetryPolicy, Strategy
from usenetfs.options import DaemonOptions, FsyncLevel
from usenetfs.store.article_cache import ArticleCache
from usenetfs.store.pins import Pins
from usenetfs.store.staging import Staging
from usenetfs.transfer.cache_care import CacheCare
from usenetfs.transfer.content import BlockContent
from usenetfs.transfer.describe import describer
from usenetfs.transfer.fetcher import Fetcher, open_fetcher
from usenetfs.transfer.freeing import Freer
from usenetfs.transfer.limits import QuietHours, UploadLimits
from usenetfs.transfer.post_check import CheckTimes
from usenetfs.transfer.poster import Poster
from usenetfs.transfer.prefetch import Prefetcher
from usenetfs.transfer.rate_limit import LimitedPosts
from usenetfs.transfer.sizing import first_workers
from usenetfs.transfer.staged import StagedBlocks
from usenetfs.transfer.upload import Uploader, UploadSettings
from usenetfs.types import Codec, Durability, InodeId

log = logging.getLogger("usenetfs.daemon")

READ_PATIENCE = 60.0
"""Seconds that a read goes on asking while no server can be reached."""

MOST_POSTERS = 64
"""Articles posted at once, whatever the servers allow: each takes memory."""


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
    files: Files
    operations: Operations
    posts: LimitedPosts
    store: TreeStore
    kernel: KernelCache
    errors: RecentErrors
    retries: RetryManager


@asynccontextmanager
async def open_parts(options: DaemonOptions) -> AsyncIterator[Parts]:
    """The parts, with the tasks of providers and fetcher running; nothing is uploaded yet."""
    keys = KeySet.from_master(options.master_key, options.filesystem_id)
    settings = options.settings
    errors = RecentErrors()
    retries = make_retries(settings)
    providers = ProviderSet(
        server_settings(settings, options.passwords), redial=retries.policy_of("connect")
    )
    with (
        Index.open(
            options.paths.index,
            directory_key=keys.directory_key,
            read_only=options.view is not None,
        ) as index,
        Staging(options.paths.staging, block_size=index.identity.block_size) as staging,
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
            ) as fetcher,
        ):
            await nursery.start(providers.run)
            yield _wire(options, keys, index, staging, cache, providers, fetcher, retries, errors)
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
) -> Parts:
    settings = options.settings
    block_size = index.identity.block_size
    staged = StagedBlocks(index, staging, block_size=block_size, settle=settings.staging.settle)
    content = BlockContent(index, staged, fetcher, block_size=block_size)
    freer = Freer(index, staged)
    posts = LimitedPosts(providers, upload_limits(settings.upload))
    poster = Poster(
        posts,
        keys=keys,
        filesystem_id=options.filesystem_id,
        groups=_groups(options),
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
        settings=_upload_settings(settings, providers, retries),
        report=errors.report,
    )
    inodes = LiveInodes(index, read_only=options.read_only)
    namespace = Namespace(index, inodes, staged)
    files = Files(
        index,
        inodes,
        staged,
        content,
        freer,
        staging_limit=settings.staging.max_size,
        reach=_fsync_target(options.fsync or settings.staging.fsync, uploader),
    )
    prefetcher = Prefetcher(
        index, fetcher, block_size=block_size, budget=settings.cache.memory_size // 3
    )
    content.on_small = prefetcher.small_file
    care = CacheCare(index, fetcher, cache, Pins(options.paths.pins))
    publisher = Publisher(
        index,
        open_sender(options, keys, providers, retries),
        keys=keys,
        settings=PublishSettings(
            interval=settings.checkpoint.interval,
            copies=settings.checkpoint.copies,
            piece_size=block_size,
            spool=options.paths.data,
        ),
        save=files.save,
        report=errors.report,
    )
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
        files=files,
        operations=operations,
        posts=posts,
        store=store,
        kernel=kernel,
        errors=errors,
        retries=retries,
    )


def open_sender(
    options: DaemonOptions, keys: KeySet, providers: ProviderSet, retries: RetryManager
) -> Sender:
    """What posts the articles of the chain."""
    return Sender(
        providers,
        keys=keys,
        filesystem_id=options.filesystem_id,
        groups=_groups(options),
        retries=retries,
        first=options.settings.upload.check_delay,
        deadline=options.settings.upload.check_timeout,
    )


def _groups(options: DaemonOptions) -> NewsgroupChoice:
    """Where to post; who only looks posts nothing, and needs no groups."""
    if options.view is not None:
        return NewsgroupChoice(["alt.binaries.test"])
    return newsgroup_choice(options.settings)


def newsgroup_choice(settings: Settings) -> NewsgroupChoice:
    if not settings.posting.groups:
        raise ConfigurationError(
            "no newsgroup to post to is configured",
            hint='add to the configuration: [posting] groups = ["alt.binaries.test"]',
        )
    rules = [
        GroupRule(
            groups=rule.groups,
            patterns=() if rule.pattern is None else (rule.pattern,),
            min_size=rule.min_size,
            max_size=rule.max_size,
        )
        for rule in settings.posting.rules
    ]
    return NewsgroupChoice(settings.posting.groups, rules)


def make_retries(settings: Settings) -> RetryManager:
    """Policies by kind. Where nothing else is configured, data that is only here is posted for
    ever, and a fetch ends by the patience of who reads."""
    network = settings.network
    policy = RetryPolicy(
        strategy=Strategy(network.retry_strategy),
        retries=network.retries,
        first=network.retry_delay,
        ceiling=network.retry_max_delay,
        jitter=network.retry_jitter,
    )
    endless = replace(policy, retries=None)
    return RetryManager(
        policy,
        kinds={
            "connect": replace(_changed(policy, network.retry.connect), retries=None),
            "fetch": _changed(endless, network.retry.fetch),
            "post": _changed(endless, network.retry.post),
            "stat": replace(_changed(policy, network.retry.stat), retries=None),
        },
    )


def _changed(policy: RetryPolicy, section: RetrySection) -> RetryPolicy:
    """The policy with what the section gives."""
    return RetryPolicy(
        strategy=policy.strategy if section.strategy is None else Strategy(section.strategy),
        retries=policy.retries if section.retries is None else section.retries,
        first=policy.first if section.delay is None else section.delay,
        ceiling=policy.ceiling if section.max_delay is None else section.max_delay,
        jitter=policy.jitter if section.jitter is None else section.jitter,
    )


def upload_limits(upload: UploadSection) -> UploadLimits:
    """The settings as the gate of posts takes them."""
    hours = None if upload.quiet_hours is None else QuietHours.parse(upload.quiet_hours)
    return UploadLimits(upload.rate, hours, upload.quiet_rate)


def _upload_settings(
    settings: Settings, providers: ProviderSet, retries: RetryManager
) -> UploadSettings:
    upload = settings.upload
    workers = upload.workers or first_workers(os.cpu_count() or 1)
    most = min(providers.upload_connections, MOST_POSTERS)
    return UploadSettings(
        codec=Codec[upload.codec.upper()],
        level=upload.level,
        workers=workers,
        posters=None if upload.connections is None else min(upload.connections, most),
        most_posters=most,
        staging_limit=settings.staging.max_size,
        check=CheckTimes(
            first=upload.check_delay,
            deadline=upload.check_timeout,
            verify=settings.staging.free_at == "verified",
            again=partial(retries.wait_after, "stat"),
        ),
    )


def _fsync_target(
    level: FsyncLevel, uploader: Uploader
) -> Callable[[InodeId], Awaitable[None]] | None:
    """What ``fsync`` waits for once the local disk has everything."""
    if level == "local":
        return None
    state = Durability.POSTED if level == "posted" else Durability.SEEN
    return lambda inode: uploader.reach(inode, state)
