"""The write path behind staging: settled blocks become articles on the servers.

The stages, each bounded, in the order of the data::

    claim ─→ read + hash ─→ known? ─→ compress ─→ pack ─→ record ─→ seal + yEnc ─→ post
                              │ link                                                 │
                              ↓                                                      ↓
                            freed ←──────────────── seen ←── delayed STAT ←── posted

:class:`Uploader` owns the workers and the two channels between them, and is the only caller of the
index's transitions. What it holds in memory is bounded by the channels, the open articles of the
packer, and one batch a worker.

An error in a stage never ends the uploader: the claims it concerned are given up, so the blocks are
dirty again, and after a rest they are tried anew; the error is reported.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from usenetfs.article.seal import new_salt
from usenetfs.errors import UsenetfsError
from usenetfs.index.articles import ArticleState, NewArticle, NewMember, StagedLink
from usenetfs.index.index import Index
from usenetfs.index.transitions import Settled
from usenetfs.transfer.content import BlockContent
from usenetfs.transfer.freeing import Freer
from usenetfs.transfer.packer import Packer, PreparedSegment
from usenetfs.transfer.post_check import CheckTimes, PostChecker, StatSource
from usenetfs.transfer.poster import Poster, Recorded, pack_segments
from usenetfs.transfer.prepare import Raw, compress_all, read_and_hash
from usenetfs.transfer.pulse import Pulse
from usenetfs.transfer.staged import Claim, Key, StagedBlocks
from usenetfs.types import ArticleId, Codec, Lane, MessageId, SegmentHash

log = logging.getLogger("usenetfs.upload")

MAX_BATCH = 64
"""Blocks prepared in one turn of a worker; small files come in batches."""

REST = 5.0
"""Seconds that the feeder rests after an error, before blocks given up are claimed again."""

Article = list[PreparedSegment]


@dataclass(frozen=True, slots=True)
class UploadSettings:
    """``level``: None for the codec's default. ``pack_delay``: seconds that a block may wait for
    others to share its article. ``workers``: batches prepared at once. ``posters``: articles
    posted at once."""

    codec: Codec = Codec.ZSTD
    level: int | None = None
    pack_delay: float = 5.0
    workers: int = 2
    posters: int = 4
    check: CheckTimes = field(default_factory=CheckTimes)


@dataclass(slots=True)
class UploadCounts:
    """Since the start."""

    articles_posted: int = 0
    bytes_posted: int = 0
    """Octets sent, headers and encoding included."""
    blocks_linked: int = 0
    """Blocks whose content was known already."""
    active_posts: int = 0


class Uploader:
    """See the module. :meth:`run` works until cancelled; ``report`` is told of errors."""

    def __init__(
        self,
        index: Index,
        staged: StagedBlocks,
        content: BlockContent,
        freer: Freer,
        poster: Poster,
        servers: StatSource,
        *,
        hash_key: bytes,
        settings: UploadSettings,
        report: Callable[[UsenetfsError], None],
    ) -> None:
        self._index = index
        self._staged = staged
        self._content = content
        self._freer = freer
        self._poster = poster
        self._hash_key = hash_key
        self._settings = settings
        self._report = report
        self._packer = Packer(block_size=staged.block_size, delay=settings.pack_delay)
        self.checker = PostChecker(servers, self, settings.check)
        self._in_flight: dict[SegmentHash, PreparedSegment] = {}
        self._hashes: dict[ArticleId, list[SegmentHash]] = {}
        self._salts: dict[ArticleId, bytes] = {}
        self._work = Pulse()
        self._progress = Pulse()
        self._preparing = 0
        self._feeding = False
        self._urgent = 0
        self._rest_until = float("-inf")
        self.counts = UploadCounts()
        staged.on_dirty = self._work.fire

    def __repr__(self) -> str:
        return (
            f"<Uploader preparing={self._preparing} packing={self._packer.waiting} "
            f"posting={self.counts.active_posts} checking={self.checker.waiting}>"
        )

    @property
    def posters(self) -> int:
        """Articles that may be posted at once."""
        return self._settings.posters

    @property
    def packing(self) -> int:
        """Segments waiting for others to share their article."""
        return self._packer.waiting

    # --- the pipeline ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Upload whatever is dirty, for as long as nobody cancels."""
        self._resume()
        batches_in, batches_out = trio.open_memory_channel[list[Claim]](0)
        articles_in, articles_out = trio.open_memory_channel[Article](1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._feed, batches_in)
            for _ in range(self._settings.workers):
                nursery.start_soon(self._prepare_batches, batches_out.clone(), articles_in.clone())
            nursery.start_soon(self._close_articles, articles_in.clone())
            for _ in range(self._settings.posters):
                nursery.start_soon(self._post_articles, articles_out.clone())
            nursery.start_soon(self.checker.run)
            nursery.start_soon(self._freer.run)

    async def sync(self) -> None:
        """Return when everything saved before the call was seen on the servers."""
        point = self._staged.force()
        self._urgent += 1
        try:
            while not self._index.staging.settled(point):
                await self._progress.wait_at_most(1.0)
        finally:
            self._urgent -= 1
        await self._freer.free_now()

    async def _feed(self, batches: trio.MemorySendChannel[list[Claim]]) -> None:
        """Claim settled blocks and hand them on, oldest first."""
        async with batches:
            while True:
                rest = self._rest_until - trio.current_time()
                if rest > 0:
                    await trio.sleep(rest)
                batch = self._staged.claim(max_blocks=MAX_BATCH, max_bytes=self._staged.block_size)
                was_feeding, self._feeding = self._feeding, bool(batch)
                if batch:
                    await batches.send(batch)
                    continue
                if was_feeding:
                    self._progress.fire()  # open articles need not wait for more
                await self._work.wait_at_most(self._staged.settle)

    async def _prepare_batches(
        self,
        batches: trio.MemoryReceiveChannel[list[Claim]],
        articles: trio.MemorySendChannel[Article],
    ) -> None:
        async with batches, articles:
            async for batch in batches:
                self._preparing += 1
                full: list[Article] = []
                with self._giving_up(batch):
                    await self._prepare(batch, full)
                for article in full:  # also after an error: they hold other batches' blocks too
                    await articles.send(article)
                self._preparing -= 1
                self._progress.fire()

    async def _prepare(self, batch: Sequence[Claim], full: list[Article]) -> None:
        """Read, hash, link what is known, compress and pack the rest; adds to ``full``."""
        bases = [
            b""
            if claim.whole
            else await self._content.base(claim.inode, claim.number, lane=Lane.METADATA)
            for claim in batch
        ]
        raws = await trio.to_thread.run_sync(
            read_and_hash, self._staged, self._hash_key, batch, bases
        )
        fresh = [
            (claim, raw)
            for claim, raw in zip(batch, raws, strict=True)
            if not self._drop_torn(claim) and not self._link(claim, raw)
        ]
        contents = [raw[0] for _, raw in fresh]
        compressed = await trio.to_thread.run_sync(
            compress_all, contents, self._settings.codec, self._settings.level
        )
        now = trio.current_time()
        for (claim, (content, digest)), (codec, payload) in zip(fresh, compressed, strict=True):
            if self._link(claim, (content, digest)):
                continue
            view = payload if isinstance(payload, bytes) else memoryview(payload)
            segment = PreparedSegment(digest, codec, len(content), view, [claim])
            self._in_flight[digest] = segment
            full += self._packer.add(segment, now)

    def _drop_torn(self, claim: Claim) -> bool:
        if not self._staged.torn(claim):
            return False
        self._staged.give_up(claim)
        return True

    def _link(self, claim: Claim, raw: Raw) -> bool:
        """Whether the content is on the servers, or on its way: then the block joins it."""
        content, digest = raw
        pending = self._in_flight.get(digest)
        if pending is not None:
            if pending.article is None:
                pending.claims.append(claim)
                return True
            if not self._index.link_staged(
                claim.inode, claim.number, claim.generation, pending.article, pending.slot
            ):
                return False
            self._staged.recorded(claim)
            self.counts.blocks_linked += 1
            return True
        known = self._index.segments.by_hash(digest)
        if known is None or not self._index.link_known(
            claim.inode, claim.number, claim.generation, known.id, len(content)
        ):
            return False
        self._staged.recorded(claim)
        self._freed([claim.key])
        self.counts.blocks_linked += 1
        return True

    async def _close_articles(self, articles: trio.MemorySendChannel[Article]) -> None:
        """Send articles off that waited long enough; all of them while somebody waits for sync."""
        async with articles:
            while True:
                idle = not self._feeding and not self._preparing
                leaving = (
                    self._packer.flush()
                    if self._urgent and idle
                    else self._packer.due(trio.current_time())
                )
                for article in leaving:
                    await articles.send(article)
                if not leaving:
                    await self._progress.wait_at_most(0.5)

    async def _post_articles(self, articles: trio.MemoryReceiveChannel[Article]) -> None:
        async with articles:
            async for article in articles:
                claims = [claim for segment in article for claim in segment.claims]
                self.counts.active_posts += 1
                recorded = None
                with self._giving_up(claims):
                    recorded = self._record(article)
                if recorded is not None:
                    await self._post_recorded(recorded)
                self.counts.active_posts -= 1

    def _record(self, segments: Article) -> Recorded | None:
        """Commit the article's record; None if nobody waits for it any more."""
        segments = [segment for segment in segments if self._wanted(segment)]
        if not segments:
            return None
        article, salt = self._index.articles.allocate(), new_salt()
        plaintext = pack_segments(segments, os.urandom(4))
        members = [
            NewMember(
                segment.claims[0].inode,
                segment.claims[0].number,
                segment.claims[0].generation,
                segment.hash,
                segment.codec,
                segment.raw_length,
                len(segment.payload),
            )
            for segment in segments
        ]
        links = [
            StagedLink(claim.inode, claim.number, claim.generation, slot)
            for slot, segment in enumerate(segments)
            for claim in segment.claims[1:]
        ]
        waiting = self._index.record_article(
            NewArticle(article, 0, salt, len(plaintext), members), links
        )
        for slot, segment in enumerate(segments):
            segment.article, segment.slot = article, slot
            for claim in segment.claims:
                self._staged.recorded(claim)
            segment.payload = b""
        self._hashes[article] = [segment.hash for segment in segments]
        if not waiting:
            self._forget(article)
            return None
        return Recorded(article, 0, salt, plaintext)

    def _wanted(self, segment: PreparedSegment) -> bool:
        """Whether a claim of the segment still stands; cancelled ones are dropped."""
        for claim in segment.claims:
            if claim.cancelled:
                self._staged.recorded(claim)
        segment.claims = [claim for claim in segment.claims if not claim.cancelled]
        if not segment.claims and self._in_flight.get(segment.hash) is segment:
            del self._in_flight[segment.hash]
        return bool(segment.claims)

    async def _post_recorded(self, recorded: Recorded) -> None:
        """Post; an article whose fate is unknown because something failed here is in doubt."""
        try:
            posted = await self._poster.post(recorded)
            if posted is None:
                self._forget(recorded.article)
                return
            expected = self._poster.message_id(recorded.article, posted.attempt)
            rewritten = posted.message_id if posted.message_id != expected else None
            self._index.mark_posted(recorded.article, posted.server, rewritten, time.time_ns())
        except Exception as error:
            log.exception("posting an article failed: it is looked for before it is sent again")
            self._report(
                error
                if isinstance(error, UsenetfsError)
                else UsenetfsError(f"internal error while posting: {error!r}")
            )
            self._doubt(recorded.article)
            return
        self.counts.articles_posted += 1
        self.counts.bytes_posted += posted.size
        if rewritten is not None:
            self._salts[recorded.article] = posted.salt
        self.checker.posted(recorded.article, posted.message_id, rewritten=rewritten is not None)

    def _doubt(self, article: ArticleId) -> None:
        for flown in self._index.in_flight():
            if flown.id == article:
                self._salts[article] = flown.salt
                self.checker.in_doubt(article, self._poster.message_id(article, flown.attempt))

    # --- outcomes (called by the checker) --------------------------------------------------------

    def seen(self, article: ArticleId) -> None:
        """The article is on the servers: its blocks point to it, and staging may let go."""
        self._settle(self._index.mark_seen(article, time.time_ns()))
        self._forget(article)

    def not_seen(self, article: ArticleId) -> None:
        """The article did not appear: its blocks are dirty again."""
        self._settle(self._index.forget_article(article))
        self._forget(article)

    async def settle_doubt(self, article: ArticleId, message_id: MessageId) -> bool:
        """Whether the article is on the servers and ours."""
        return await self._poster.carries(article, self._salts[article], message_id)

    def _settle(self, settled: Settled) -> None:
        self._freed(settled.freed)
        self._staged.dirty_again(settled.requeued)
        self._progress.fire()

    def _freed(self, keys: Sequence[Key]) -> None:
        self._staged.settled_on_servers(keys)
        self._freer.add(keys)

    def _forget(self, article: ArticleId) -> None:
        self._salts.pop(article, None)
        for digest in self._hashes.pop(article, ()):
            segment = self._in_flight.get(digest)
            if segment is not None and segment.article == article:
                del self._in_flight[digest]

    # --- after a restart, after an error ---------------------------------------------------------

    def _resume(self) -> None:
        """Take up what the last run left in flight."""
        for article in self._index.in_flight():
            message_id = article.message_id or self._poster.message_id(article.id, article.attempt)
            self._salts[article.id] = article.salt
            if article.state is ArticleState.POSTED:
                rewritten = article.message_id is not None
                self.checker.posted(article.id, message_id, rewritten=rewritten)
            else:
                self.checker.in_doubt(article.id, message_id)

    @contextmanager
    def _giving_up(self, claims: Sequence[Claim]) -> Iterator[None]:
        """Whatever fails inside concerns these claims alone."""
        try:
            yield
        except UsenetfsError as error:
            log.warning("%d blocks cannot be uploaded now: %s", len(claims), error)
            self._report(error)
            self._give_up(claims)
        except Exception as error:
            log.exception("a fault of usenetfs stopped the upload of %d blocks", len(claims))
            self._report(UsenetfsError(f"internal error while uploading: {error!r}"))
            self._give_up(claims)

    def _give_up(self, claims: Sequence[Claim]) -> None:
        self._rest_until = trio.current_time() + REST
        for claim in claims:
            self._staged.give_up(claim)
        given_up = set(map(id, claims))
        for digest, segment in list(self._in_flight.items()):
            if segment.article is None and given_up.issuperset(map(id, segment.claims)):
                del self._in_flight[digest]
