"""Verification: every article that files rest on is asked for, and what is lost is found.

::

    count ─→ choose ─→ ask (several at once, the last lane) ─→ judge ─→ note, record
                                                     └ lost? asked once more, whole
    ─→ which parts of which files rest on what is lost

Invariants: before an article counts as lost, every spool was asked twice, the second time for the
article itself, because a server may deny by STAT what it gives by BODY; what could not be asked is
neither lost nor present; an article counts as *verified* in the index only if it opened and all
its members are right, and no longer once it is lost.

Memory is bounded whatever the filesystem holds: articles are read from the index in steps, and
what was chosen and what is lost takes a bit each.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from usenetfs.article.keys import KeySet
from usenetfs.article.message_ids import message_id
from usenetfs.errors import IntegrityError
from usenetfs.health.asking import Asker
from usenetfs.health.choice import Choice, Extent, Wish
from usenetfs.health.contents import Contents, ContentsReader, serves_all
from usenetfs.health.damage import Damage, LostArticles
from usenetfs.health.tally import Findings
from usenetfs.health.verdict import Answers, Outcome, judge, reasons
from usenetfs.index.articles import Article
from usenetfs.index.index import Index
from usenetfs.store.article_cache import ArticleCache
from usenetfs.transfer.fetch.tree_articles import files_below
from usenetfs.types import ArticleId, Durability

log = logging.getLogger("usenetfs.download")

QUESTIONS: Final = 32
"""STATs under way at once."""

BODIES: Final = 8
"""Articles fetched at once; each takes some 3 MB until it is checked."""

SECOND_LOOK: Final = 0.5
"""Seconds after which everybody is asked again for what nobody has."""

REST: Final = 2.0
"""While others have work to do: times what an article took, before the next is asked for."""

LONGEST_REST: Final = 1.0
"""Seconds."""

RECORD: Final = 32
"""Articles in a transaction that says what they are."""

MAX_NAMED: Final = 20
"""Lost articles that the log names; the files are told of one by one anyway."""


@dataclass(frozen=True, slots=True)
class Terms:
    """``window``: seconds that an article takes to arrive everywhere, at most. ``may_record`` says
    whether the index may be changed; ``busy``, whether others have work to do now: then one
    article is asked for at a time, with rests (lanes keep the line free, not the processor)."""

    window: float
    may_record: Callable[[], bool]
    busy: Callable[[], bool] = lambda: False


class Verification:
    """One run; see the module."""

    def __init__(
        self,
        index: Index,
        asker: Asker,
        cache: ArticleCache,
        wish: Wish,
        findings: Findings,
        *,
        keys: KeySet,
        filesystem_id: bytes,
        terms: Terms,
        rng: random.Random | None = None,
    ) -> None:
        self._index = index
        self._asker = asker
        self._cache = cache
        self._wish = wish
        self.findings = findings
        self._keys = keys
        self._contents = ContentsReader(keys, filesystem_id)
        self._terms = terms
        self._choice = Choice(index, wish, rng=rng or random.Random())  # noqa: S311 - no secret
        self.lost = LostArticles()
        self._one_at_a_time = trio.Lock()
        self._verified: list[ArticleId] = []
        self._doubted: list[ArticleId] = []

    def __repr__(self) -> str:
        return f"<Verification {self._wish} {self.findings.done} of {self.findings.found}>"

    async def run(self, phase: Callable[[str], None]) -> None:
        """All of it; ``phase`` is told what comes next."""
        phase("counting")
        extent = await self._count()
        phase("reading" if self._wish.data else "asking")
        try:
            await self._ask_all(extent)
        finally:
            self._record()
        if len(self.lost):
            phase("files")
            damage = Damage(self._index, self.lost, self.findings, cached=self._is_cached)
            await damage.find(self._wish.top)

    async def _count(self) -> Extent:
        findings, extent = self.findings, Extent(0, 0, 0)
        for extent in self._choice.count():
            findings.found = self._choice.wanted(extent)
            part = findings.found / extent.articles if extent.articles else 0.0
            findings.found_bytes = round(extent.bytes * part)
            await trio.lowlevel.checkpoint()
        await self._count_pending()
        findings.counting = False
        return extent

    async def _count_pending(self) -> None:
        """What is not on a server yet, or not seen there: it is the upload's business."""
        waiting = (Durability.STAGED, Durability.POSTED)
        if self._wish.top is None:
            totals = self._index.durability_totals()
            self.findings.bytes_pending = sum(totals[state].bytes for state in waiting)
            return
        for files in files_below(self._index, self._wish.top):
            for _, row in files:
                staged = self._index.staged_bytes_of(row.id)
                self.findings.bytes_pending += sum(staged[state] for state in waiting)
            await trio.lowlevel.checkpoint()

    # --- asking ----------------------------------------------------------------------------------

    async def _ask_all(self, extent: Extent) -> None:
        workers = BODIES if self._wish.data else QUESTIONS
        to_ask, asked = trio.open_memory_channel[Article](0)
        async with trio.open_nursery() as nursery:
            for _ in range(workers):
                nursery.start_soon(self._work, asked.clone())
            asked.close()
            async with to_ask:
                for step in self._choice.steps(extent):
                    await trio.lowlevel.checkpoint()
                    for article in step:
                        await to_ask.send(article)

    async def _work(self, asked: trio.MemoryReceiveChannel[Article]) -> None:
        async with asked:
            async for article in asked:
                if not self._terms.busy():
                    await self._check(article)
                    continue
                async with self._one_at_a_time:
                    started = trio.current_time()
                    await self._check(article)
                    took = trio.current_time() - started
                    await trio.sleep(min(REST * took, LONGEST_REST))

    async def _check(self, article: Article) -> None:
        """Ask for one article, as it is in the index when the answer comes."""
        while True:
            outcome, answers, contents = await self._ask(article)
            row = self._index.articles.get(article.id)
            if row is None:
                self.findings.skip(article.size)
                return
            if row.attempt == article.attempt:
                break
            article = row  # posted anew meanwhile, under another Message-ID
        self.findings.note(outcome, answers, article.size)
        if contents is not None:
            self.findings.bytes_read += article.size
        await self._follow(row, outcome, answers, contents)
        if len(self._verified) + len(self._doubted) >= RECORD:
            self._record()

    async def _ask(self, article: Article) -> tuple[Outcome, Answers, Contents | None]:
        wanted = self._index.articles.message_id(article.id)
        wanted = wanted or message_id(self._keys.message_id_key, article.id, article.attempt)
        fresh = abs(time.time() - article.posted) < self._terms.window
        contents: Contents | None = None

        async def open_body(body: bytearray) -> Contents:
            return await self._contents.open(article.id, body)

        if self._wish.data:
            answers, contents = await self._asker.read(wanted, open_body)
        else:
            answers = await self._asker.stat(wanted)
        outcome = judge(answers, fresh=fresh)
        if outcome is Outcome.LOST:
            await trio.sleep(SECOND_LOOK)
            answers, contents = await self._asker.read(wanted, open_body)
            outcome = judge(answers, fresh=fresh)
        return outcome, answers, contents

    async def _follow(
        self, article: Article, outcome: Outcome, answers: Answers, contents: Contents | None
    ) -> None:
        """What the outcome means for the index and for the files."""
        if contents is not None:
            if await serves_all(self._index, article, contents):
                if article.state is not Durability.VERIFIED:
                    self._verified.append(article.id)
                return
            self._lose(article, "it does not hold what the index says")
            self.lost.add_part(article.id, contents.hashes)
            self.findings.outcomes[outcome] -= 1
            self.findings.outcomes[Outcome.LOST] += 1
        elif outcome is Outcome.LOST:
            why = reasons(answers)
            self._lose(article, why)
            self.lost.add(article.id, f"no server has the article whole ({why})")

    def _lose(self, article: Article, why: str) -> None:
        if article.state is Durability.VERIFIED:
            self._doubted.append(article.id)
        named = len(self.lost)
        if named < MAX_NAMED:
            wanted = message_id(self._keys.message_id_key, article.id, article.attempt)
            log.warning("article %s is lost (%s)", wanted, why)
        elif named == MAX_NAMED:
            log.warning("further lost articles are not named here")

    def _record(self) -> None:
        """Commit what was found out about articles. No await: callers may be cancelled."""
        verified, doubted, self._verified, self._doubted = self._verified, self._doubted, [], []
        if (verified or doubted) and self._terms.may_record():
            self._index.mark_checked(verified, doubted)

    async def _is_cached(self, article: ArticleId) -> bool:
        """Whether the disk cache has an article, and it opens."""
        if not self._cache.contains(article):
            return False
        body = await trio.to_thread.run_sync(self._cache.get, article)
        if body is None:
            return False
        try:
            await self._contents.open(article, body)
        except IntegrityError:
            return False
        return True
