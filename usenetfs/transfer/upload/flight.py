"""Recorded articles on their way: sealed, queued, posted, looked for, settled.

:class:`Flight` takes over an article once its record is committed and keeps it until it was seen or
came to nothing; what that means for blocks it tells its owner. How many are posted at once is found
from the speed (``sizing.py``).

An article whose fate is unknown, because something failed here or the process died, is *in doubt*:
it is looked for before its content is sent again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio

from usenetfs.errors import UsenetfsError
from usenetfs.index.articles import ArticleState
from usenetfs.index.index import Index
from usenetfs.index.transitions import PostedArticle
from usenetfs.tracker import Kind, Operation, Tracker, on_behalf_of
from usenetfs.transfer.upload.ledger import Ledger, Outcome
from usenetfs.transfer.upload.post_check import CheckTimes, PostChecker, StatSource
from usenetfs.transfer.upload.poster import Posted, Poster, Recorded, Sealed
from usenetfs.transfer.upload.queues import BoundedQueue
from usenetfs.transfer.upload.sizing import PosterSizing
from usenetfs.types import ArticleId, MessageId, split_article_id

log = logging.getLogger("usenetfs.upload")

QUEUE_BYTES: Final = 12 << 20
"""Octets of sealed articles that wait for a poster."""

INTERVAL: Final = 0.25
"""Seconds over which the speed is measured, at least."""

IDLE_INTERVAL: Final = 1.0
"""Seconds between two looks while nothing is sent."""

ENOUGH_ARTICLES: Final = 4
"""Articles per poster that a measurement rests on; fewer make it noise."""

LONGEST_INTERVAL: Final = 10.0

NAMED: Final = 32
"""Files of an article that are kept in mind; an article may hold hundreds."""

IN_A_LINE: Final = 20
"""Articles whose end is told in one line of the log."""


@dataclass(slots=True)
class UploadCounts:
    """Since the start."""

    articles_posted: int = 0
    bytes_posted: int = 0
    """Octets sent, headers and encoding included."""
    blocks_linked: int = 0
    """Blocks whose content was known already."""
    blocks_uploaded: int = 0
    """Blocks whose content went into an article; one that is rewritten counts again."""
    active_posts: int = 0


class Flight:
    """See the module. ``on_landed`` hears of what was written down; :meth:`run` until cancelled.

    ``tuned``: whether ``sizing`` may change its number.
    """

    def __init__(
        self,
        index: Index,
        poster: Poster,
        servers: StatSource,
        *,
        check: CheckTimes,
        sizing: PosterSizing,
        tuned: bool,
        counts: UploadCounts,
        on_landed: Callable[[Outcome], None],
        report: Callable[[UsenetfsError], None],
        tracker: Tracker,
    ) -> None:
        self._index = index
        self._poster = poster
        self._sizing = sizing
        self._tuned = tuned
        self._counts = counts
        self._on_landed = on_landed
        self._report = report
        self.checker = PostChecker(servers, self, check, report=report)
        self.queue: BoundedQueue[Sealed] = BoundedQueue(max_bytes=QUEUE_BYTES)
        self._ledger = Ledger(index, on_written=self._written, report=report)
        self._slots = trio.CapacityLimiter(sizing.size)
        self._ran_dry = False
        self._salts: dict[ArticleId, bytes] = {}
        self._tracker = tracker
        self._urgent = 0
        self._operations: dict[ArticleId, Operation] = {}

    def __repr__(self) -> str:
        return (
            f"<Flight {self.queue!r} posting={self._counts.active_posts}/{self.posters} "
            f"checking={self.checker.waiting}>"
        )

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits until what is under way is seen."""
        return self._urgent > 0

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Somebody waits: the last articles are asked for earlier."""
        self._urgent += 1
        self._hurry_when_idle()
        try:
            yield
        finally:
            self._urgent -= 1

    def _hurry_when_idle(self) -> None:
        if self._urgent and not self.queue and not self._counts.active_posts:
            self.checker.hurry()

    @property
    def posters(self) -> int:
        """Articles that may be posted at once."""
        return self._sizing.size

    async def run(self) -> None:
        """Post and look for what is launched, and for what the last run left."""
        self._resume()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._post_articles)
            nursery.start_soon(self._ledger.run)
            nursery.start_soon(self.checker.run)
            if self._tuned:
                nursery.start_soon(self._tune)

    # --- out -------------------------------------------------------------------------------------

    def follow(self, recorded: Recorded, dirtied_ns: int) -> None:
        """The record of an article was committed; its first block was written at ``dirtied_ns``,
        perhaps in an earlier run."""
        age = max(0, time.time_ns() - dirtied_ns) / 1e9
        inodes = tuple(dict.fromkeys(member.inode for member, _ in recorded.members))
        more = max(0, len(inodes) - NAMED)
        octets = sum(member.raw_length for member, _ in recorded.members)
        operation = self._tracker.begin(
            Kind.UPLOAD, _label(recorded), inodes=inodes[:NAMED], more=more, octets=octets, age=age
        )
        operation.passed("stage", "seal")
        self._operations[recorded.article] = operation

    def _passed(self, article: ArticleId, stage: str, following: str) -> Operation | None:
        operation = self._operations.get(article)
        if operation is not None:
            operation.passed(stage, following)
        return operation

    def _ended(
        self, article: ArticleId, error: UsenetfsError | None = None, *, cancelled: bool = False
    ) -> None:
        """It came to nothing."""
        operation = self._operations.pop(article, None)
        if operation is not None:
            operation.end(error, cancelled=cancelled)
            _log_ended([operation])

    async def launch(self, recorded: Sequence[Recorded]) -> None:
        """Seal articles whose records are committed, and queue them; waits for room."""
        for article in recorded:
            self._salts[article.article] = article.salt
        try:
            sealed = await self._poster.seal(recorded)
        except Exception as error:
            log.exception("articles could not be sealed: their blocks are uploaded anew")
            self._report(_reported(error))
            for article in recorded:
                self._doubt(article.article)
            return
        for one in sealed:
            self._passed(one.article, "seal", "queue")
            await self.queue.put(one, count=one.segments, octets=one.octets)

    async def _post_articles(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                self._ran_dry |= not self.queue
                sealed = await self.queue.get()
                await self._slots.acquire_on_behalf_of(sealed)
                nursery.start_soon(self._post, sealed)

    async def _post(self, sealed: Sealed) -> None:
        self._counts.active_posts += 1
        operation = self._passed(sealed.article, "queue", "post")
        try:
            with on_behalf_of(operation):
                posted = await self._poster.post(sealed)
        except Exception as error:
            log.exception("posting an article failed: it is looked for before it is sent again")
            self._report(_reported(error))
            self._doubt(sealed.article)
        else:
            self._posted(sealed.article, posted)
        finally:
            self._counts.active_posts -= 1
            self._slots.release_on_behalf_of(sealed)
            self._hurry_when_idle()

    def _posted(self, article: ArticleId, posted: Posted | None) -> None:
        if posted is None:  # nobody waits for it any more
            self._salts.pop(article, None)
            self._ended(article, cancelled=True)
            self._on_landed(Outcome.nothing(article))
            return
        self._passed(article, "post", "check")
        self._counts.articles_posted += 1
        self._counts.bytes_posted += posted.size
        self._salts[article] = posted.salt
        other_id = posted.message_id if posted.rewritten else None
        self._ledger.posted(PostedArticle.now(article, posted.server, other_id))
        self.checker.posted(article, posted.message_id, posted.server, rewritten=posted.rewritten)

    # --- how many --------------------------------------------------------------------------------

    async def _tune(self) -> None:
        while True:
            self._ran_dry = not self.queue
            before, began = self._counts.bytes_posted, trio.current_time()
            wanted = self._counts.articles_posted + ENOUGH_ARTICLES * self._sizing.size
            await trio.sleep(INTERVAL)
            with trio.move_on_after(LONGEST_INTERVAL):
                while self._counts.articles_posted < wanted and not self._ran_dry:  # noqa: ASYNC110 - a measurement takes time
                    await trio.sleep(INTERVAL / 5)
            sent = self._counts.bytes_posted - before
            rate = sent / (trio.current_time() - began)
            self._resize(self._sizing.measured(rate, dry=self._ran_dry))
            if not sent and not self.queue:
                await trio.sleep(IDLE_INTERVAL)

    def set_most(self, most: int) -> None:
        """At most so many at once from now on; what is under way goes on."""
        self._sizing.limit(most)
        if not self._tuned:
            self._sizing.size = self._sizing.most
        self._resize(self._sizing.size)

    def _resize(self, size: int) -> None:
        if self._slots.total_tokens != size:
            log.debug("posting %d articles at once", size)
            self._slots.total_tokens = size

    # --- what became of them (called by the checker and the ledger) ------------------------------

    def seen(self, article: ArticleId, *, verified: bool) -> None:
        """The article is on the servers."""
        self._ledger.seen(article, verified=verified)

    def not_seen(self, article: ArticleId, error: UsenetfsError) -> None:
        """The article did not appear: its blocks are dirty again."""
        self._report(error)
        self._ended(article, error)
        self._ledger.write()
        settled = self._index.forget_article(article)
        self._written(Outcome(settled, (article,)))

    async def settle_doubt(self, article: ArticleId, message_id: MessageId) -> bool:
        """Whether the article is on the servers and ours."""
        with on_behalf_of(self._operations.get(article)):
            return await self._poster.carries(article, self._salts[article], message_id)

    def _written(self, outcome: Outcome) -> None:
        seen = []
        for article in outcome.landed:
            self._salts.pop(article, None)
            operation = self._operations.pop(article, None)
            if operation is not None:
                operation.passed("check")
                operation.end()
                seen.append(operation)
        _log_ended(seen)
        self._on_landed(outcome)

    def _doubt(self, article: ArticleId) -> None:
        self._passed(article, "post", "doubt")
        flown = self._index.articles.get_in_flight(article)
        if flown is not None:
            self._salts[article] = flown.salt
            self.checker.in_doubt(article, self._poster.message_id(article, flown.attempt))

    def _resume(self) -> None:
        """Take up what the last run left in flight."""
        for article in self._index.in_flight():
            message_id = article.message_id or self._poster.message_id(article.id, article.attempt)
            self._salts[article.id] = article.salt
            self._operations[article.id] = self._tracker.begin(
                Kind.UPLOAD, f"{_numbers(article.id)} (of an earlier run)", stage="check"
            )
            if article.state is ArticleState.POSTED:
                rewritten = article.message_id is not None
                server = article.server or ""
                self.checker.posted(article.id, message_id, server, rewritten=rewritten)
            else:
                self.checker.in_doubt(article.id, message_id)


def _label(recorded: Recorded) -> str:
    """``article 1/17 (inode 12 block 3 and 4 more)``."""
    first, others = recorded.members[0][0], len(recorded.members) - 1
    more = f" and {others} more" if others else ""
    return f"{_numbers(recorded.article)} (inode {first.inode} block {first.block}{more})"


def _numbers(article: ArticleId) -> str:
    epoch, number = split_article_id(article)
    return f"article {epoch}/{number}"


def _log_ended(operations: Sequence[Operation]) -> None:
    """Some in a line: a line costs more than what is in it."""
    for at in range(0, len(operations), IN_A_LINE):
        log.info("%s", "; ".join(map(_story, operations[at : at + IN_A_LINE])))


def _story(operation: Operation) -> str:
    """``3f2a-17 article 1/17 (inode 12 block 3): done, stage 2.01 seal 0.01 … s``."""
    stages = " ".join(f"{stage} {seconds:.2f}" for stage, seconds in operation.stages.items())
    return f"{operation.id} {operation.name}: {operation.outcome}, {stages} s"


def _reported(error: Exception) -> UsenetfsError:
    if isinstance(error, UsenetfsError):
        return error
    return UsenetfsError(f"internal error while posting: {error!r}")
