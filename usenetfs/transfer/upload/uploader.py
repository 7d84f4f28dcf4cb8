"""The write path behind staging: settled blocks become articles on the servers.

The stages, each bounded, in the order of the data::

    claim ─→ read + hash ─→ known? ─→ compress ─→ pack ─→ record ─→ seal + yEnc ─→ post
                              │ link                                                 │
                              ↓                                                      ↓
                            freed ←──────────────── seen ←── delayed STAT ←── posted

:class:`Uploader` owns the stages up to the record, and is the only caller of the index's
transitions up to there; from the record on an article is :class:`Flight`'s. What is held in memory
is bounded by the two queues, the open articles of the packer, and one batch a worker.

A batch crosses to a thread twice, however many blocks it has: once to be read, hashed and
compressed, once to be sealed and encoded. Between the two its records are committed together.

While programs write as fast as they can, uploads give way to them (``giving_way.py``).

An error in a stage never ends the uploader: the claims it concerned are given up, so the blocks are
dirty again, and after a rest they are tried anew; the error is reported.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import trio

from usenetfs.errors import UsenetfsError
from usenetfs.index.index import Index
from usenetfs.tracker import Kind, Tracker
from usenetfs.transfer.content import BlockContent
from usenetfs.transfer.pulse import Pulse
from usenetfs.transfer.staged.blocks import StagedBlocks
from usenetfs.transfer.staged.freeing import Freer
from usenetfs.transfer.staged.hot_blocks import Claim, Key
from usenetfs.transfer.upload.drafts import draft
from usenetfs.transfer.upload.flight import Flight, UploadCounts
from usenetfs.transfer.upload.giving_way import GivingWay
from usenetfs.transfer.upload.ledger import Outcome
from usenetfs.transfer.upload.packer import Packer, PreparedSegment
from usenetfs.transfer.upload.post_check import PostChecker, StatSource
from usenetfs.transfer.upload.poster import Poster, Recorded
from usenetfs.transfer.upload.prepare import (
    Buffer,
    Stubborn,
    compress_all,
    read_and_hash,
    read_hash_compress,
)
from usenetfs.transfer.upload.queues import BoundedQueue
from usenetfs.transfer.upload.settings import UploadSettings
from usenetfs.transfer.upload.sizing import PosterSizing, first_posters
from usenetfs.types import ArticleId, Codec, Durability, InodeId, Lane, SegmentHash

log = logging.getLogger("usenetfs.upload")

MAX_BATCH = 64
"""Blocks prepared in one turn of a worker; small files come in batches."""

BATCH_BLOCKS = 4
"""Full blocks that a batch may amount to: the hops cost little then, and memory stays small."""

REST = 5.0
"""Seconds that the feeder rests after an error, before blocks given up are claimed again."""

GATHER = 0.05
"""Seconds that the first of some small files waits for the others: claiming them one by one costs
more than uploading them."""

PREFERRED = 100
"""Files that go before others at once: the queue of each is looked at for every batch."""

SETTLING_DELAY = 0.2
"""Seconds that a block waits for others to share its article, while somebody waits for some."""

GIVE_WAY = 0.1
"""Seconds between two looks at how fast programs write."""

FAST = frozenset({Codec.NONE, Codec.ZSTD})
"""Codecs that cost less than asking first whether the content is known."""

Article = list[PreparedSegment]
Prepared = tuple[Claim, int, SegmentHash, Codec, Buffer]


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
        tracker: Tracker | None = None,
    ) -> None:
        self._index = index
        self._staged = staged
        self._content = content
        self._freer = freer
        self._hash_key = hash_key
        self._settings = settings
        self._report = report
        self._tracker = tracker or Tracker()
        self._packer = Packer(block_size=staged.block_size, delay=settings.pack_delay)
        self.counts = UploadCounts()
        most = settings.posters or settings.most_posters
        first = settings.posters or first_posters(settings.workers, most)
        self.flight = Flight(
            index,
            poster,
            servers,
            check=settings.check,
            sizing=PosterSizing(first, most),
            tuned=settings.posters is None,
            counts=self.counts,
            on_landed=self._landed,
            report=report,
            tracker=self._tracker,
        )
        self.batches: BoundedQueue[list[Claim]] = BoundedQueue(
            max_bytes=BATCH_BLOCKS * staged.block_size
        )
        self._stubborn = Stubborn()
        self._giving_way = GivingWay(settings.staging_limit)
        self._in_flight: dict[SegmentHash, PreparedSegment] = {}
        self._hashes: dict[ArticleId, list[SegmentHash]] = {}
        self._work = Pulse()
        self._hurry = Pulse()
        self._progress = Pulse()
        self._preparing = 0
        self._feeding = False
        self._filling = 0
        self._settling = 0
        self._rest_until = float("-inf")
        staged.on_dirty = self._work.fire
        self.save: Callable[[], None] = lambda: None
        """Commits what is in memory only; called before blocks are claimed while somebody waits."""

    def __repr__(self) -> str:
        return f"<Uploader preparing={self._preparing} packing={self.packing} {self.flight!r}>"

    @property
    def posters(self) -> int:
        """Articles that may be posted at once."""
        return self.flight.posters

    @property
    def checker(self) -> PostChecker:
        """What asks for posted articles."""
        return self.flight.checker

    @property
    def packing(self) -> int:
        """Segments waiting for others to share their article."""
        return self._packer.waiting

    # --- the pipeline ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Upload whatever is dirty, for as long as nobody cancels."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._feed)
            for _ in range(self._settings.workers):
                nursery.start_soon(self._prepare_batches)
            nursery.start_soon(self._close_articles)
            nursery.start_soon(self.flight.run)
            nursery.start_soon(self._freer.run)

    async def sync(self) -> None:
        """Return when everything saved before the call was seen on the servers."""
        point = self._staged.force()
        async with self._hurrying():
            while not self._index.staging.settled(point):
                await self._progress.wait_at_most(1.0)
        await self._freer.free_now()

    async def reach(self, inode: InodeId, state: Durability) -> None:
        """Return when what was saved of a file before the call is posted, or seen."""
        point = self._staged.force()
        posted = state is Durability.POSTED
        async with self._hurrying():
            while self._index.staging.behind(inode, point, posted=posted):
                await self._progress.wait_at_most(1.0)

    async def settle(self, inodes: Collection[InodeId]) -> None:
        """Return when what was saved of these before the call was seen; it goes before all else."""
        point = self._staged.force()
        left = list(inodes)
        self._staged.prefer(left[:PREFERRED])
        self._settling += 1
        try:
            async with self._hurrying():
                while left:
                    if self._index.staging.unsettled(point, left[-1]):
                        await self._progress.wait_at_most(1.0)
                    else:
                        left.pop()
        finally:
            self._settling -= 1
            self._staged.prefer(())

    @asynccontextmanager
    async def _hurrying(self) -> AsyncIterator[None]:
        """Somebody waits: nothing is held back to be packed better, nobody is given way to."""
        with self.flight.urgent():
            self._work.fire()
            self._hurry.fire()
            yield

    @contextmanager
    def filling_the_line(self) -> Iterator[None]:
        """Whoever stages meanwhile waits for the servers, so uploads do not give way to it."""
        self._filling += 1
        self._work.fire()
        self._hurry.fire()
        try:
            yield
        finally:
            self._filling -= 1

    async def _feed(self) -> None:
        """Claim settled blocks and hand them on, oldest first."""
        while True:
            rest = self._rest_until - trio.current_time()
            if rest > 0:
                await trio.sleep(rest)
            if self._must_give_way():
                await self._hurry.wait_at_most(GIVE_WAY)
                continue
            batch = self._claim()
            was_feeding, self._feeding = self._feeding, bool(batch)
            if batch:
                size = sum(claim.staged_end for claim in batch)
                await self.batches.put(batch, count=len(batch), octets=size)
                continue
            if was_feeding:
                self._progress.fire()  # open articles need not wait for more
            await self._work.wait_at_most(self._staged.settle)
            if not self.flight.is_urgent:
                await self._hurry.wait_at_most(GATHER)

    def _claim(self) -> list[Claim]:
        """A batch. While somebody waits, what is written all the time must not slip away: it is
        saved at this moment, so that it may be claimed, and steady until it was read."""
        if self.flight.is_urgent:
            with suppress(UsenetfsError):  # whoever saves regularly tells of it
                self.save()
        batch = self._staged.claim(
            max_blocks=MAX_BATCH, max_bytes=BATCH_BLOCKS * self._staged.block_size
        )
        if self.flight.is_urgent:
            self._staged.steady.begin(claim.key for claim in batch)
        return batch

    def _must_give_way(self) -> bool:
        if self.flight.is_urgent or self._filling or self._staged.pressed:
            return False
        return self._giving_way.should_wait(
            self._staged.changes, trio.current_time(), self._staged.usage()
        )

    async def _prepare_batches(self) -> None:
        while True:
            batch = await self.batches.get()
            self._preparing += 1
            full: list[Article] = []
            with self._giving_up(batch), self._tracker.timed(Kind.UPLOAD, "prepare"):
                await self._prepare(batch, full)
            self._staged.steady.end(claim.key for claim in batch)
            await self._send_off(full)  # also after an error: they hold other batches' blocks too
            self._preparing -= 1
            self._progress.fire()

    async def _prepare(self, batch: Sequence[Claim], full: list[Article]) -> None:
        """Read, hash, link what is known, compress and pack the rest; adds to ``full``."""
        try:
            prepared = await self._read(batch)
        except Exception:
            if len(batch) == 1:
                raise
            # Else those beside a block that cannot be read would be claimed with it each time.
            for claim in batch:
                with self._giving_up([claim]):
                    await self._prepare([claim], full)
            return
        now = trio.current_time()
        for claim, length, digest, codec, payload in prepared:
            if self._drop_torn(claim) or self._link(claim, length, digest):
                continue
            view = payload if isinstance(payload, bytes) else memoryview(payload)
            segment = PreparedSegment(digest, codec, length, view, [claim])
            self._in_flight[digest] = segment
            full += self._packer.add(segment, now)

    async def _read(self, batch: Sequence[Claim]) -> list[Prepared]:
        bases = [
            b""
            if claim.whole
            else await self._content.base(claim.inode, claim.number, lane=Lane.METADATA)
            for claim in batch
        ]
        if self._settings.codec in FAST:
            return await self._prepare_at_once(batch, bases)
        return await self._prepare_what_is_new(batch, bases)

    async def _prepare_at_once(
        self, batch: Sequence[Claim], bases: Sequence[Buffer]
    ) -> list[Prepared]:
        settings = self._settings
        prepared = await trio.to_thread.run_sync(
            read_hash_compress,
            self._staged,
            self._hash_key,
            batch,
            bases,
            settings.codec,
            settings.level,
            self._stubborn,
        )
        return [(claim, *rest) for claim, rest in zip(batch, prepared, strict=True)]

    async def _prepare_what_is_new(
        self, batch: Sequence[Claim], bases: Sequence[Buffer]
    ) -> list[Prepared]:
        settings = self._settings
        raws = await trio.to_thread.run_sync(
            read_and_hash, self._staged, self._hash_key, batch, bases
        )
        fresh = [
            (claim, raw)
            for claim, raw in zip(batch, raws, strict=True)
            if not self._drop_torn(claim) and not self._link(claim, len(raw[0]), raw[1])
        ]
        contents = [raw[0] for _, raw in fresh]
        compressed = await trio.to_thread.run_sync(
            compress_all, contents, settings.codec, settings.level
        )
        return [
            (claim, len(content), digest, codec, payload)
            for (claim, (content, digest)), (codec, payload) in zip(fresh, compressed, strict=True)
        ]

    def _drop_torn(self, claim: Claim) -> bool:
        if not self._staged.torn(claim):
            return False
        self._staged.give_up(claim)
        return True

    def _link(self, claim: Claim, length: int, digest: SegmentHash) -> bool:
        """Whether the content is on the servers, or on its way: then the block joins it."""
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
            claim.inode, claim.number, claim.generation, known.id, length
        ):
            return False
        self._staged.recorded(claim)
        self._freed([claim.key])
        self.counts.blocks_linked += 1
        return True

    async def _close_articles(self) -> None:
        """Send articles off that waited long enough; all of them while somebody waits for sync."""
        while True:
            idle = not self._feeding and not self._preparing and not self.batches
            leaving = (
                self._packer.flush()
                if self.flight.is_urgent and idle
                else self._packer.due(
                    trio.current_time(), SETTLING_DELAY if self._settling else None
                )
            )
            await self._send_off(leaving)
            if not leaving:
                await self._progress.wait_at_most(0.5)

    # --- from packed to recorded -----------------------------------------------------------------

    async def _send_off(self, articles: Sequence[Article]) -> None:
        """Commit the articles' records in one transaction, and launch them."""
        if not articles:
            await trio.lowlevel.checkpoint()
            return
        recorded: list[Recorded] = []
        with self._giving_up(articles=articles):
            await self._reserve_numbers(len(articles))
            recorded = self._record(articles)
        if recorded:
            await self.flight.launch(recorded)

    async def _reserve_numbers(self, count: int) -> None:
        """A number that was on the wire is never used again, not even after a power cut."""
        numbers = self._index.articles
        if not numbers.must_reserve(count):
            await trio.lowlevel.checkpoint()
            return
        with self._index.transaction():
            mark = numbers.reserve(count)
        await trio.to_thread.run_sync(self._index.sync)
        numbers.reserved(mark)

    def _record(self, articles: Sequence[Article]) -> list[Recorded]:
        """Those for which somebody still waits."""
        wanted = [[segment for segment in a if self._wanted(segment)] for a in articles]
        drafts = [
            draft(self._index.articles.allocate(), segments) for segments in wanted if segments
        ]
        counts = self._index.record_articles([record for record, _, _ in drafts])
        recorded = []
        for (record, sealing, segments), waiting in zip(drafts, counts, strict=True):
            article = record.article.id
            for slot, segment in enumerate(segments):
                segment.article, segment.slot = article, slot
                for claim in segment.claims:
                    self._staged.recorded(claim)
                self.counts.blocks_uploaded += len(segment.claims)
                segment.payload = b""
            self._hashes[article] = [segment.hash for segment in segments]
            if waiting:
                self.flight.follow(sealing, segments[0].claims[0].dirtied_ns)
                recorded.append(sealing)
            else:
                self._forget(article)
        return recorded

    def _wanted(self, segment: PreparedSegment) -> bool:
        """Whether a claim of the segment still stands; cancelled ones are dropped."""
        for claim in segment.claims:
            if claim.cancelled:
                self._staged.recorded(claim)
        segment.claims = [claim for claim in segment.claims if not claim.cancelled]
        if not segment.claims and self._in_flight.get(segment.hash) is segment:
            del self._in_flight[segment.hash]
        return bool(segment.claims)

    # --- outcomes --------------------------------------------------------------------------------

    def _landed(self, outcome: Outcome) -> None:
        """Articles were seen or came to nothing: their blocks point to them or are dirty again."""
        self._freed(outcome.settled.freed)
        self._staged.dirty_again(outcome.settled.requeued)
        for article in outcome.landed:
            self._forget(article)
        self._progress.fire()

    def _freed(self, keys: Sequence[Key]) -> None:
        self._staged.settled_on_servers(keys)
        self._freer.add(keys)

    def _forget(self, article: ArticleId) -> None:
        for digest in self._hashes.pop(article, ()):
            segment = self._in_flight.get(digest)
            if segment is not None and segment.article == article:
                del self._in_flight[digest]

    # --- after an error --------------------------------------------------------------------------

    @contextmanager
    def _giving_up(
        self, claims: Sequence[Claim] = (), *, articles: Sequence[Article] = ()
    ) -> Iterator[None]:
        """Whatever fails inside concerns these claims alone, and those of ``articles``: all that
        have joined them by then."""
        try:
            yield
        except UsenetfsError as error:
            given_up = self._give_up([*claims, *_claims_of(articles)])
            log.warning("%d blocks cannot be uploaded now: %s", given_up, error)
            self._report(error)
        except Exception as error:
            given_up = self._give_up([*claims, *_claims_of(articles)])
            log.exception("a fault of usenetfs stopped the upload of %d blocks", given_up)
            self._report(UsenetfsError(f"internal error while uploading: {error!r}"))

    def _give_up(self, claims: Sequence[Claim]) -> int:
        self._rest_until = trio.current_time() + REST
        for claim in claims:
            self._staged.give_up(claim)
        given_up = set(map(id, claims))
        for digest, segment in list(self._in_flight.items()):
            if segment.article is None and given_up.issuperset(map(id, segment.claims)):
                del self._in_flight[digest]
        return len(claims)


def _claims_of(articles: Sequence[Article]) -> Iterator[Claim]:
    return (claim for article in articles for segment in article for claim in segment.claims)
