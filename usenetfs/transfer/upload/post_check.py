"""Whether an article that a server took is really there.

A 240 is not proof: servers drop posts silently, or show them minutes later. So each posted
article is asked for by STAT after a delay, then again after growing delays; once seen, it is
*seen*; not seen by the deadline, it is given up, and what it held is uploaded again.

The STAT goes over another connection than the one that posted (``ProviderSet.stat`` sees to that),
to the server that took the article first and then to the others: *seen* says that a reader who
comes anew finds the article somewhere, not that it has spread. Where the account has one connection
there is no other, and the same one is asked.

Two kinds of article are looked for in the same way, but a STAT does not settle them: they are
fetched and opened, and must carry our salt. One that a crash left in doubt (recorded, perhaps sent,
no answer known); and one that the server says it has under another Message-ID than ours, because
then its word is all we have that what lies there is our article. ``CheckTimes.verify`` asks for the
same of every article.

Whoever waits for the last articles of many does not wait for the whole delay
(:meth:`PostChecker.hurry`): they are asked for once before it is over. Finding nothing then means
nothing; the regular check comes at its time.

The checker keeps times and Message-IDs; it never holds up uploading. What follows from
an outcome is the caller's, through the :class:`Outcomes` it gives.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio

from usenetfs.errors import (
    ArticleMissingError,
    NoHealthyServersError,
    PostNotSeenError,
    UsenetfsError,
)
from usenetfs.transfer.pulse import Pulse
from usenetfs.types import ArticleId, Lane, MessageId

log = logging.getLogger("usenetfs.upload")

AT_ONCE = 32
"""Checks under way at once; at a round trip of 30 ms that is some 1,000 articles a second."""

TOGETHER = 0.1
"""Seconds: checks fall due at multiples of it. Those of one moment are sent, and answered, together
(``net/pool.py``); each on its own costs either side as much as ten of them."""

MIN_WAIT = 0.5
"""Seconds between two checks of one article, at least."""

EARLY = 4
"""The part of the first delay after which an article is asked for that somebody waits for."""


class StatSource(Protocol):
    """What the checker needs of ``net.ProviderSet``."""

    async def stat(self, message_id: MessageId, *, lane: Lane) -> str | None: ...


class Outcomes(Protocol):
    """What is done with what the checker finds; plain calls, on the event loop."""

    def seen(self, article: ArticleId, *, verified: bool) -> None:
        """The article is on a server. ``verified``: it was fetched whole, and opened."""

    def not_seen(self, article: ArticleId, error: UsenetfsError) -> None:
        """The article is not there, and ``error`` says which, where and since when."""

    async def settle_doubt(self, article: ArticleId, message_id: MessageId) -> bool:
        """Fetch the article and open it; True if it is ours. ArticleMissingError, others."""


@dataclass(frozen=True, slots=True)
class CheckTimes:
    """Seconds: the wait before the first check, the longest wait, and when to give up.

    ``doubt_deadline`` is the deadline for articles that a crash left in doubt. ``verify``: a STAT
    is not enough, each article is fetched and opened before it counts as seen. ``again``: the wait
    after so many checks of an article; None: twice the last one, up to ``ceiling``.
    """

    first: float = 0.5
    ceiling: float = 60.0
    deadline: float = 600.0
    doubt_deadline: float = 20.0
    verify: bool = False
    again: Callable[[int], float] | None = None


@dataclass(order=True, slots=True)
class _Check:
    due: float
    article: ArticleId = field(compare=False)
    message_id: MessageId = field(compare=False)
    server: str = field(compare=False)
    """That took it; "" where nobody knows whether one did."""
    since: float = field(compare=False)
    wait: float = field(compare=False)
    deadline: float = field(compare=False)
    opened: bool = field(compare=False)
    """Whether only opening the article settles it."""
    hurried: bool = field(compare=False, default=False)
    """Whether it had its early check, or has it next."""
    tries: int = field(compare=False, default=0)


class PostChecker:
    """See the module. :meth:`run` works until cancelled."""

    def __init__(
        self,
        source: StatSource,
        outcomes: Outcomes,
        times: CheckTimes,
        *,
        report: Callable[[UsenetfsError], None],
    ) -> None:
        """``report`` is told why a check could not be made."""
        self._report = report
        self._source = source
        self._outcomes = outcomes
        self._times = times
        self._heap: list[_Check] = []
        self._under_way = 0
        self._pulse = Pulse()

    def __repr__(self) -> str:
        return f"<PostChecker waiting={len(self._heap)}>"

    @property
    def waiting(self) -> int:
        """Articles whose next check is not under way."""
        return len(self._heap)

    def posted(
        self, article: ArticleId, message_id: MessageId, server: str, *, rewritten: bool = False
    ) -> None:
        """``server`` took the article: look for it after the first delay. ``rewritten``: the id is
        the server's."""
        times = self._times
        opened = rewritten or times.verify
        self._add(article, message_id, server, times.first, times.deadline, opened=opened)

    def in_doubt(self, article: ArticleId, message_id: MessageId) -> None:
        """Nobody knows whether the article was taken: look for it at once."""
        self._add(article, message_id, "", 0.0, self._times.doubt_deadline, opened=True)

    def hurry(self) -> None:
        """Somebody waits, and there is nothing left to send: ask, besides, for each article whose
        first check is not made yet, once a quarter of the delay is over."""
        now = trio.current_time()
        for check in self._heap:
            if not (check.hurried or check.tries or check.opened):
                check.hurried = True
                check.due = min(check.due, max(now, check.since + check.wait / EARLY))
        heapq.heapify(self._heap)
        self._pulse.fire()

    def _add(
        self,
        article: ArticleId,
        message_id: MessageId,
        server: str,
        wait: float,
        deadline: float,
        *,
        opened: bool,
    ) -> None:
        now = trio.current_time()
        due = _moment(now + wait) if wait else now
        self._push(_Check(due, article, message_id, server, now, wait, now + deadline, opened))

    def _push(self, check: _Check) -> None:
        heapq.heappush(self._heap, check)
        if self._heap[0] is check:
            self._pulse.fire()

    async def run(self) -> None:
        """Check what is due, several at once. One task watches the time, so that a new article
        wakes nobody before its turn."""
        async with trio.open_nursery() as nursery:
            while True:
                for check in await self._due():
                    nursery.start_soon(self._work, check)

    async def _due(self) -> list[_Check]:
        """All that is due, as far as there is room for it; it is under way from now on."""
        while True:
            now, due = trio.current_time(), []
            while self._heap and self._heap[0].due <= now and self._under_way < AT_ONCE:
                due.append(heapq.heappop(self._heap))
                self._under_way += 1
            if due:
                return due
            if self._heap and self._under_way < AT_ONCE:
                await self._pulse.wait_at_most(self._heap[0].due - now)
            else:
                await self._pulse.wait()

    async def _work(self, check: _Check) -> None:
        try:
            if not await self._is_over(check):
                self._later(check)
        except UsenetfsError as error:
            self._postpone(check, error)
        finally:
            if self._under_way == AT_ONCE:
                self._pulse.fire()
            self._under_way -= 1

    def _postpone(self, check: _Check, error: UsenetfsError) -> None:
        """The check came to nothing, or what it found could not be written down. That is not the
        article's fault, so its deadline moves with the time lost."""
        log.info("a posted article cannot be checked now (%s): again later", error)
        self._report(error)
        check.deadline += max(check.wait, MIN_WAIT)
        self._again(check)

    async def _is_over(self, check: _Check) -> bool:
        try:
            return await self._look(check)
        except UsenetfsError as error:
            if _has_answered(check, error):
                return False
            raise

    async def _look(self, check: _Check) -> bool:
        """Whether the check is over."""
        if check.opened:
            try:
                ours = await self._outcomes.settle_doubt(check.article, check.message_id)
            except ArticleMissingError:
                return False
            if ours:
                self._outcomes.seen(check.article, verified=True)
            else:
                self._outcomes.not_seen(check.article, _missing(check, "what is there is not ours"))
            return True
        server = await self._source.stat(check.message_id, lane=Lane.METADATA)
        if server is None:
            return False
        self._outcomes.seen(check.article, verified=False)
        return True

    def _later(self, check: _Check) -> None:
        if trio.current_time() >= check.deadline:
            waited = trio.current_time() - check.since
            error = _missing(check, f"it did not appear on any server in {waited:.0f} s")
            log.warning("%s: its data is sent again", error)
            self._outcomes.not_seen(check.article, error)
        else:
            self._again(check)

    def _again(self, check: _Check) -> None:
        regular = _moment(check.since + check.wait)
        if check.hurried and not check.tries and check.due < regular:  # it was the early one
            check.due = regular
            self._push(check)
            return
        check.tries += 1
        again, ceiling = self._times.again, self._times.ceiling
        wait = min(check.wait * 2, ceiling) if again is None else again(check.tries)
        check.wait = max(wait, MIN_WAIT)
        check.due = _moment(trio.current_time() + check.wait)
        self._push(check)


def _moment(time: float) -> float:
    """The first moment at or after ``time`` at which checks fall due."""
    return math.ceil(time / TOGETHER) * TOGETHER


def _has_answered(check: _Check, error: UsenetfsError) -> bool:
    """Whether the server that took the article said that it has it not, and only others failed."""
    return isinstance(error, NoHealthyServersError) and check.server in error.missing


def _missing(check: _Check, what: str) -> PostNotSeenError:
    before = f"{check.server} accepted it, and " if check.server else ""
    error = PostNotSeenError(f"{before}{what}", server=check.server or None)
    error.concerning(check.message_id)
    return error
