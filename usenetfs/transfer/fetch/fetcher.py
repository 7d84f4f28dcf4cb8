"""Articles, opened: from memory, from the disk cache, from the servers, in that order.

The fetcher owns the memory of recently opened articles and the rule of who is asked next when an
article is missing or wrong. What it hands out has passed its seal: **bytes that did not open are
never returned**, and an article that opened but is another one than the block map says is an error
too. Servers have whims: before that error, all are asked once more.

Sealed bodies are what the disk cache holds, so a body read from there passes the same check as one
from a server, and a cache that somebody damaged costs a fetch and nothing else.

While a reader waits, a fetch that takes longer than is usual is *hedged*: another server is asked
for the same article, and the first answer counts (``hedging.py`` says when).

It does not know files, staging, or FUSE.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Hashable
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Protocol

import trio
from cachetools import LRUCache
from tenacity import stop_any

from usenetfs.article.compression import decompress
from usenetfs.article.container import Container, Kind, unpack
from usenetfs.article.keys import KeySet
from usenetfs.article.message_ids import message_id as computed_message_id
from usenetfs.article.seal import SEAL_OVERHEAD, open_seal_into
from usenetfs.errors import (
    ArticleMissingError,
    DataUnavailableError,
    EncodingError,
    IntegrityError,
    NetworkError,
    SealError,
    UsenetfsError,
    WrongArticleError,
)
from usenetfs.index.blocks import BlockLocation
from usenetfs.net.providers import FetchedBody
from usenetfs.net.retry import RetryManager, StopAt
from usenetfs.net.urgency import Urgency
from usenetfs.store.article_cache import ArticleCache
from usenetfs.store.cache_writer import CacheWriter
from usenetfs.tracker import Kind as Operations
from usenetfs.tracker import Tracker
from usenetfs.transfer.fetch.article_memory import ArticleMemory
from usenetfs.transfer.fetch.buffers import BufferPool
from usenetfs.transfer.fetch.fetches import Fetch, Fetches
from usenetfs.transfer.fetch.hedging import Lateness
from usenetfs.transfer.fetch.in_flight import InFlight
from usenetfs.transfer.fetch.single_flight import SingleFlight
from usenetfs.types import ArticleId, Codec, Lane, MessageId, split_article_id

log = logging.getLogger("usenetfs.download")

INLINE_DECOMPRESS = {Codec.ZSTD: 256 * 1024, Codec.ZLIB: 64 * 1024, Codec.LZMA: 16 * 1024}
"""Segments of up to so many raw bytes are decompressed on the loop (a quarter of a millisecond);
above, a thread costs less than the wait for the loop."""

BUFFER = 736 * 1024
"""Bytes of a buffer for an opened article: a full one with its padding."""

SECOND_LOOK = 0.5
"""Seconds after which all servers are asked again for what none of them gave."""

WATCH = 0.05
"""Seconds between two looks at what readers wait for."""

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
        share: Hashable = None,
        urgency: Urgency | None = None,
    ) -> FetchedBody: ...


class Fetcher:
    """``patience``: seconds to go on asking while no server can be reached, before giving up.

    ``memory``: bytes of opened articles and decompressed segments kept.
    """

    def __init__(
        self,
        source: ArticleSource,
        cache: ArticleCache | None,
        writer: CacheWriter | None,
        *,
        keys: KeySet,
        filesystem_id: bytes,
        memory: int,
        patience: float,
        retries: RetryManager,
        nursery: trio.Nursery,
        tracker: Tracker | None = None,
    ) -> None:
        self._source = source
        self._cache = cache
        self._writer = writer
        self._keys = keys
        self._filesystem_id = filesystem_id
        self._patience = patience
        self._retries = retries
        self._tracker = tracker or Tracker()
        self._containers = ArticleMemory(memory // 2)
        self._segments: LRUCache[tuple[ArticleId, int], bytes] = LRUCache(
            memory // 4, getsizeof=len
        )
        self._buffers = BufferPool(size=BUFFER, count=memory // BUFFER)
        self._fetches = Fetches(nursery, self._load)
        self._expansions: SingleFlight[tuple[ArticleId, int], bytes] = SingleFlight(nursery)
        self.lateness = Lateness()
        self.latency = 0.0
        """Seconds that a fetch takes, averaged; 0 before the first."""
        self.in_flight = InFlight()
        """How many articles a reader should have under way."""
        self.bytes_fetched = 0
        """Sealed bytes that came from servers."""

    def __repr__(self) -> str:
        return (
            f"<Fetcher memory={self._containers.currsize + self._segments.currsize} "
            f"fetches={len(self._fetches)}>"
        )

    def tell_when_done(self, tell: Callable[[ArticleId], None]) -> None:
        """Have ``tell`` called with each article whose fetch has ended, however it did."""
        self._fetches.on_done = tell

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

    def segment_at_hand(self, location: BlockLocation) -> Buffer | None:
        """The raw content of the segment if it takes no waiting. None also when it is wrong: then
        :meth:`segment` says so."""
        key = location.article, location.slot
        if location.codec is not Codec.NONE:
            expanded = self._segments.get(key)
            if expanded is not None:
                return expanded
        container = self._containers.read(location.article)
        if container is None or location.raw_length > INLINE_DECOMPRESS.get(
            location.codec, location.raw_length
        ):
            return None
        try:
            payload = _payload_of(container, location)
        except IntegrityError:
            return None
        return self._decompress_here(location, payload)

    def _decompress_here(self, location: BlockLocation, payload: memoryview) -> Buffer:
        if location.codec is Codec.NONE:
            return payload
        raw = decompress(location.codec, payload, location.raw_length)
        self._keep_segment(location, raw)
        return raw

    def _keep_segment(self, location: BlockLocation, raw: bytes) -> None:
        if len(raw) <= self._segments.maxsize:
            self._segments[location.article, location.slot] = raw

    async def segment(
        self, location: BlockLocation, *, lane: Lane, share: Hashable = None
    ) -> Buffer:
        """The raw content of the segment at ``location``. ``share``: who of a lane it is for; they
        take turns.

        Raises DataUnavailableError when no server could give it, IntegrityError when what all
        of them gave is wrong.
        """
        key = location.article, location.slot
        if location.codec is not Codec.NONE:
            expanded = self._segments.get(key)
            if expanded is not None:
                return expanded
        container = await self.container(
            location.article,
            location.attempt,
            lane=lane,
            rewritten=location.message_id,
            share=share,
        )
        try:
            payload = _payload_of(container, location)
        except IntegrityError as error:
            wanted = self._message_id(location.article, location.attempt, location.message_id)
            raise error.concerning(wanted) from None
        if location.raw_length <= INLINE_DECOMPRESS.get(location.codec, location.raw_length):
            return self._decompress_here(location, payload)
        raw = await self._expansions.do(key, partial(self._expand, location, payload))
        self._keep_segment(location, raw)
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
        share: Hashable = None,
    ) -> Container:
        """The opened article; one fetch, however many ask. ``rewritten``: its Message-ID, where
        a server made another one of ours."""
        container = self._containers.read(article)
        if container is not None:
            return container
        while True:
            fetch = self._fetches.start(article, attempt, lane, rewritten=rewritten, share=share)
            try:
                return await self._fetches.wait(fetch)
            except UsenetfsError:
                # What was under way may have asked for it under an earlier Message-ID.
                if (fetch.attempt, fetch.rewritten) == (attempt, rewritten):
                    raise

    def _message_id(
        self, article: ArticleId, attempt: int, rewritten: MessageId | None
    ) -> MessageId:
        return rewritten or computed_message_id(self._keys.message_id_key, article, attempt)

    def has(self, article: ArticleId) -> bool:
        """Whether the article is in memory, or on its way there."""
        return article in self._containers or article in self._fetches

    def prefetch(
        self,
        article: ArticleId,
        attempt: int,
        *,
        rewritten: MessageId | None = None,
        share: Hashable = None,
    ) -> bool:
        """Fetch an article because it will be wanted; False: it is here, or on its way."""
        if self.has(article):
            return False
        self._fetches.start(article, attempt, Lane.READAHEAD, rewritten=rewritten, share=share)
        return True

    def cancel_prefetch(self, article: ArticleId) -> bool:
        """It will not be wanted after all: give it up if it has cost nothing yet."""
        return self._fetches.cancel_unsent(article)

    async def cache_only(
        self, article: ArticleId, attempt: int, *, rewritten: MessageId | None = None
    ) -> int:
        """Fetch an article into the disk cache, behind everybody else; its octets, 0 if the cache
        had no room. Raises as :meth:`segment` does."""
        assert self._cache is not None
        for _ in range(2):
            too_late = article in self._fetches  # perhaps: its body may be here already
            fetch = self._fetches.start(article, attempt, Lane.VERIFY, rewritten=rewritten)
            fetch.keep = True
            container = await self._fetches.wait(fetch)
            if self._cache.contains(article):
                return container.size
            if not too_late:
                break
        return 0

    def forget(self, article: ArticleId) -> None:
        """Take an article out of memory; it can be fetched again."""
        self._containers.drop(article)
        for key in [key for key in self._segments if key[0] == article]:
            del self._segments[key]

    async def _load(self, fetch: Fetch) -> Container:
        container = await self._from_cache(fetch.article)
        if container is None:
            epoch, number = split_article_id(fetch.article)
            inodes = (fetch.share,) if isinstance(fetch.share, int) else ()
            with self._tracker.track(
                Operations.FETCH, f"article {epoch}/{number}", inodes=inodes
            ) as operation:
                container = await self._from_servers(fetch, fetch.urgency, frozenset())
                operation.octets = container.size
                log.debug("article %d/%d is fetched, %d bytes", epoch, number, container.size)
        for_cache_alone = fetch.keep and fetch.urgency.lane is Lane.VERIFY
        if not for_cache_alone:
            self._containers.keep(fetch.article, container, ahead=not fetch.waiting)
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

    async def _from_servers(
        self, fetch: Fetch, urgency: Urgency, exclude: frozenset[str]
    ) -> Container:
        article = fetch.article
        wanted = self._message_id(article, fetch.attempt, fetch.rewritten)
        wrong: dict[str, str] = {}
        may_look_again = not exclude
        fresh = False
        while True:
            started = trio.current_time()
            try:
                body = await self._patiently(wanted, fetch, urgency, exclude, wrong, fresh=fresh)
            except (ArticleMissingError, EncodingError, NetworkError) as error:
                if not may_look_again or not _may_be_a_whim(error, wrong):
                    raise _unavailable(error, wrong).concerning(wanted) from error
                log.info("nobody gave an article (%s): all are asked once more", error)
                may_look_again, fresh = False, True
                wrong.clear()
                await trio.sleep(SECOND_LOOK)
                continue
            try:
                container = self._open(article, body.data)
            except IntegrityError as error:
                log.warning(
                    "%s gave a wrong article (%s): the next server is asked", body.server, error
                )
                wrong[body.server] = str(error)
                continue
            self._note_duration(started, trio.current_time())
            self.bytes_fetched += len(body.data)
            if self._cache is not None and fetch.keep:
                await trio.to_thread.run_sync(self._cache.put, article, body.data)
            elif self._writer is not None:
                self._writer.put(article, body.data)
            return container

    def _note_duration(self, began: float, ended: float) -> None:
        seconds = ended - began
        self.latency += (seconds - self.latency) * (0.1 if self.latency else 1.0)
        self.in_flight.took(seconds, ended)
        self.lateness.took(seconds)

    async def _patiently(
        self,
        wanted: MessageId,
        fetch: Fetch,
        urgency: Urgency,
        exclude: frozenset[str],
        wrong: dict[str, str],
        *,
        fresh: bool,
    ) -> FetchedBody:
        """Fetch; while the network is away, try again until patience or the retries end."""
        patience_ends = trio.current_time() + self._patience
        return await self._retries.run(
            "fetch",
            lambda: self._source.fetch(
                wanted,
                lane=urgency.lane,
                exclude=exclude.union(wrong),
                fresh=fresh,
                share=fetch.share,
                urgency=urgency,
            ),
            may_retry=lambda error: (
                isinstance(error, NetworkError) and error.recoverable and not wrong
            ),
            stop=lambda: stop_any(self._retries.policy_of("fetch").stop(), StopAt(patience_ends)),
        )

    # --- hedging ---------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Until cancelled, look for readers who wait too long, and ask another server for them."""
        while True:
            await self._fetches.reader_waits.wait()
            awaited = [f for f in self._fetches if f.waiting and f.urgency.lane is Lane.READER]
            if not awaited:
                self._fetches.reader_waits = trio.Event()
                continue
            for fetch in awaited:
                waited = fetch.urgency.waiting_since_sent()
                if (
                    not fetch.hedged
                    and fetch.urgency.alternatives
                    and self.lateness.may_hedge(waited)
                ):
                    self._hedge(fetch, waited)
            await trio.sleep(WATCH)

    def _hedge(self, fetch: Fetch, waited: float) -> None:
        slow = fetch.urgency.server
        assert slow is not None
        fetch.hedged = True
        log.info("%s takes %.2f s for an article: another server is asked, too", slow, waited)

        async def ask_another(fetch: Fetch) -> Container:
            container = await self._from_servers(fetch, Urgency(Lane.READER), frozenset({slow}))
            self._containers.keep(fetch.article, container, ahead=not fetch.waiting)
            return container

        self._fetches.run(fetch, ask_another)

    def _open(self, article: ArticleId, body: Buffer) -> Container:
        if len(body) < SEAL_OVERHEAD:
            raise SealError(f"a body of {len(body)} bytes is shorter than its seal")
        room = self._buffers.take(len(body) - SEAL_OVERHEAD)
        open_seal_into(self._keys.data_key, self._filesystem_id, article, Kind.DATA, body, room)
        return unpack(room)


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


def _may_be_a_whim(
    error: ArticleMissingError | EncodingError | NetworkError, wrong: dict[str, str]
) -> bool:
    """Whether servers gave answers just now that they may not stand by. Where none could be
    reached there were none, and patience has ended already."""
    if isinstance(error, ArticleMissingError):
        return not error.remembered
    return isinstance(error, EncodingError) or bool(wrong)


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
    tracker: Tracker | None = None,
) -> AsyncIterator[Fetcher]:
    """A fetcher with a nursery of its own, whose work is cancelled at the end of the block."""
    with nullcontext() if cache is None else CacheWriter(cache) as writer:
        async with trio.open_nursery() as nursery:
            fetcher = Fetcher(
                source,
                cache,
                writer,
                keys=keys,
                filesystem_id=filesystem_id,
                memory=memory,
                patience=patience,
                retries=retries,
                nursery=nursery,
                tracker=tracker,
            )
            nursery.start_soon(fetcher.watch)
            try:
                yield fetcher
            finally:
                nursery.cancel_scope.cancel()
