"""Articles, opened: from memory, from the disk cache, from the servers, in that order.

The fetcher owns the memory of recently opened articles and the rule of who is asked next when an
article is missing or wrong. What it hands out has passed its seal: **bytes that did not open are
never returned**, and an article that opened but is another one than the block map says is an error
too.

Sealed bodies are what the disk cache holds, so a body read from there passes the same check as one
from a server, and a cache that somebody damaged costs a fetch and nothing else.

It does not know files, staging, or FUSE.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

import trio
from cachetools import LRUCache
from tenacity import stop_any

from usenetfs.article.compression import decompress
from usenetfs.article.container import Container, Kind, unpack
from usenetfs.article.keys import KeySet
from usenetfs.article.message_ids import message_id as computed_message_id
from usenetfs.article.seal import open_seal
from usenetfs.errors import (
    ArticleMissingError,
    DataUnavailableError,
    EncodingError,
    IntegrityError,
    NetworkError,
    WrongArticleError,
)
from usenetfs.index.blocks import BlockLocation
from usenetfs.net.providers import FetchedBody
from usenetfs.net.retry import RetryManager, StopAt
from usenetfs.store.article_cache import ArticleCache
from usenetfs.transfer.single_flight import SingleFlight
from usenetfs.types import ArticleId, Codec, Lane, MessageId

log = logging.getLogger("usenetfs.download")

INLINE_DECOMPRESS = 32 * 1024
"""Segments up to this many stored bytes are decompressed on the loop: a thread costs more."""

MAX_CACHE_WRITES = 16
"""Bodies on their way to the disk cache at once; beyond that, they are not cached."""

Buffer = bytes | bytearray | memoryview


class ArticleSource(Protocol):
    """What the fetcher needs of ``net.ProviderSet``."""

    async def fetch(
        self,
        message_id: MessageId,
        *,
        lane: Lane,
        exclude: AbstractSet[str] = frozenset(),
        fresh: bool = False,
    ) -> FetchedBody: ...


class Fetcher:
    """``patience``: seconds to go on asking while no server can be reached, before giving up.

    ``memory``: bytes of opened articles and decompressed segments kept.
    """

    def __init__(
        self,
        source: ArticleSource,
        cache: ArticleCache | None,
        *,
        keys: KeySet,
        filesystem_id: bytes,
        memory: int,
        patience: float,
        retries: RetryManager,
        nursery: trio.Nursery,
    ) -> None:
        self._source = source
        self._cache = cache
        self._keys = keys
        self._filesystem_id = filesystem_id
        self._patience = patience
        self._retries = retries
        self._nursery = nursery
        self._containers: LRUCache[ArticleId, Container] = LRUCache(
            memory * 3 // 4, getsizeof=lambda container: container.size
        )
        self._segments: LRUCache[tuple[ArticleId, int], bytes] = LRUCache(
            memory // 4, getsizeof=len
        )
        self._fetches: SingleFlight[ArticleId, Container] = SingleFlight(nursery)
        self._expansions: SingleFlight[tuple[ArticleId, int], bytes] = SingleFlight(nursery)
        self._cache_writes = 0
        self.bytes_fetched = 0
        """Sealed bytes that came from servers."""
        self.articles_fetched = 0

    def __repr__(self) -> str:
        return (
            f"<Fetcher memory={self._containers.currsize + self._segments.currsize} "
            f"fetches={len(self._fetches)} cache_writes={self._cache_writes}>"
        )

    @property
    def active(self) -> int:
        """Articles being fetched now."""
        return len(self._fetches)

    @property
    def memory_used(self) -> int:
        """Bytes of opened articles and decompressed segments kept."""
        return int(self._containers.currsize + self._segments.currsize)

    def drop_memory(self) -> None:
        """Forget every opened article; they can be fetched again."""
        self._containers.clear()
        self._segments.clear()

    # --- segments --------------------------------------------------------------------------------

    def at_hand(self, location: BlockLocation) -> bool:
        """Whether the segment is in memory, or already on its way there."""
        article = location.article
        return article in self._containers or article in self._fetches

    async def segment(self, location: BlockLocation, *, lane: Lane) -> Buffer:
        """The raw content of the segment at ``location``.

        Raises DataUnavailableError when no server could give it, IntegrityError when what all
        of them gave is wrong.
        """
        key = location.article, location.slot
        if location.codec is not Codec.NONE:
            expanded = self._segments.get(key)
            if expanded is not None:
                return expanded
        container = await self.container(
            location.article, location.attempt, lane=lane, rewritten=location.message_id
        )
        try:
            payload = _payload_of(container, location)
        except IntegrityError as error:
            wanted = self._message_id(location.article, location.attempt, location.message_id)
            raise error.concerning(wanted) from None
        if location.codec is Codec.NONE:
            return payload
        if len(payload) <= INLINE_DECOMPRESS:
            raw = decompress(location.codec, payload, location.raw_length)
        else:
            raw = await self._expansions.do(key, partial(self._expand, location, payload))
        if len(raw) <= self._segments.maxsize:
            self._segments[key] = raw
        return raw

    async def _expand(self, location: BlockLocation, payload: memoryview) -> bytes:
        return await trio.to_thread.run_sync(
            decompress, location.codec, payload, location.raw_length
        )

    # --- articles --------------------------------------------------------------------------------

    async def container(
        self,
        article: ArticleId,
        attempt: int,
        *,
        lane: Lane,
        rewritten: MessageId | None = None,
    ) -> Container:
        """The opened article; one fetch, however many ask. ``rewritten``: its Message-ID, where
        a server made another one of ours."""
        container = self._containers.get(article)
        if container is not None:
            return container
        return await self._fetches.do(
            article, partial(self._load, article, attempt, rewritten, lane)
        )

    def _message_id(
        self, article: ArticleId, attempt: int, rewritten: MessageId | None
    ) -> MessageId:
        return rewritten or computed_message_id(self._keys.message_id_key, article, attempt)

    async def _load(
        self, article: ArticleId, attempt: int, rewritten: MessageId | None, lane: Lane
    ) -> Container:
        container = await self._from_cache(article)
        if container is None:
            wanted = self._message_id(article, attempt, rewritten)
            container = await self._from_servers(article, wanted, lane)
        if container.size <= self._containers.maxsize:
            self._containers[article] = container
        return container

    async def _from_cache(self, article: ArticleId) -> Container | None:
        if self._cache is None or not self._cache.contains(article):
            return None
        body = await trio.to_thread.run_sync(self._cache.get, article)
        if body is None:
            return None
        try:
            return self._open(article, body)
        except IntegrityError as error:
            log.warning("a cached article is damaged (%s): it is dropped and fetched again", error)
            await trio.to_thread.run_sync(self._cache.discard, article)
            return None

    async def _from_servers(self, article: ArticleId, wanted: MessageId, lane: Lane) -> Container:
        wrong: dict[str, str] = {}
        while True:
            try:
                body = await self._patiently(wanted, lane, wrong)
            except (ArticleMissingError, EncodingError, NetworkError) as error:
                raise _unavailable(error, wrong).concerning(wanted) from error
            try:
                container = self._open(article, body.data)
            except IntegrityError as error:
                log.warning(
                    "%s gave a wrong article (%s): the next server is asked", body.server, error
                )
                wrong[body.server] = str(error)
                continue
            self.articles_fetched += 1
            self.bytes_fetched += len(body.data)
            self._keep(article, body.data)
            return container

    async def _patiently(self, wanted: MessageId, lane: Lane, wrong: dict[str, str]) -> FetchedBody:
        """Fetch; while the network is away, try again until patience or the retries end."""
        patience_ends = trio.current_time() + self._patience
        async for attempt in self._retries.retrying(
            "fetch",
            may_retry=lambda error: (
                isinstance(error, NetworkError) and error.recoverable and not wrong
            ),
            stop=stop_any(self._retries.policy_of("fetch").stop(), StopAt(patience_ends)),
        ):
            with attempt:
                return await self._source.fetch(wanted, lane=lane, exclude=frozenset(wrong))
        raise AssertionError("retrying ends with a result or an error")

    def _open(self, article: ArticleId, body: Buffer) -> Container:
        plaintext = open_seal(self._keys.data_key, self._filesystem_id, article, Kind.DATA, body)
        return unpack(plaintext)

    # --- the disk cache --------------------------------------------------------------------------

    def _keep(self, article: ArticleId, body: Buffer) -> None:
        if self._cache is None or self._cache_writes >= MAX_CACHE_WRITES:
            return
        self._cache_writes += 1
        self._nursery.start_soon(self._write_cache, self._cache, article, body)

    async def _write_cache(self, cache: ArticleCache, article: ArticleId, body: Buffer) -> None:
        try:
            await trio.to_thread.run_sync(cache.put, article, body)
        finally:
            self._cache_writes -= 1


def _payload_of(container: Container, location: BlockLocation) -> memoryview:
    """The stored bytes of a segment, once its table entry says it is the one wanted."""
    if location.slot >= len(container):
        raise WrongArticleError(f"the article has no member {location.slot}")
    member = container.member(location.slot)
    if (member.hash, member.codec, member.raw_length, member.stored_length) != (
        location.hash,
        location.codec,
        location.raw_length,
        location.stored_length,
    ):
        raise WrongArticleError("the article's table does not match the index")
    return container.payload(location.slot)


def _unavailable(
    error: ArticleMissingError | EncodingError | NetworkError, wrong: dict[str, str]
) -> DataUnavailableError:
    reasons = dict(getattr(error, "reasons", {}) or {})
    reasons.update(wrong)
    detail = "; ".join(f"{server}: {reason}" for server, reason in reasons.items()) or str(error)
    detail = detail.removeprefix(f"article {error.message_id}: ")
    return DataUnavailableError(f"no server has the article whole ({detail})")


@asynccontextmanager
async def open_fetcher(
    source: ArticleSource,
    cache: ArticleCache | None,
    *,
    keys: KeySet,
    filesystem_id: bytes,
    memory: int,
    patience: float,
    retries: RetryManager,
) -> AsyncIterator[Fetcher]:
    """A fetcher with a nursery of its own, whose work is cancelled at the end of the block."""
    async with trio.open_nursery() as nursery:
        try:
            yield Fetcher(
                source,
                cache,
                keys=keys,
                filesystem_id=filesystem_id,
                memory=memory,
                patience=patience,
                retries=retries,
                nursery=nursery,
            )
        finally:
            nursery.cancel_scope.cancel()
