"""What happened to articles, written to the index in batches.

Each article brings two commits after it is sent: it was posted, it was seen. At a hundred articles
a second the commits would cost more than the articles, so what comes within :data:`DELAY` is
committed together.

Losing such a batch in a crash loses no data: an article whose 240 was not written down is in doubt,
and is looked for at the next start (``index/transitions.py``).

An error keeps the batch, which is tried again; nothing of it is lost or applied twice, because a
transaction applies all of it or nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from usenetfs.errors import UsenetfsError
from usenetfs.index.index import Index
from usenetfs.index.transitions import PostedArticle, Settled
from usenetfs.transfer.pulse import Pulse
from usenetfs.types import ArticleId

log = logging.getLogger("usenetfs.upload")

DELAY = 0.05
"""Seconds that an outcome may wait for others."""

REST = 1.0
"""Seconds after an error."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a commit of the ledger changed."""

    settled: Settled
    landed: tuple[ArticleId, ...]
    """Articles that are no longer in flight."""

    @classmethod
    def nothing(cls, article: ArticleId) -> Outcome:
        """The article was dropped, and nobody had waited for it."""
        return cls(Settled(), (article,))


class Ledger:
    """``on_written`` hears of each commit; ``report`` of errors. :meth:`run` until cancelled."""

    def __init__(
        self,
        index: Index,
        *,
        on_written: Callable[[Outcome], None],
        report: Callable[[UsenetfsError], None],
    ) -> None:
        self._index = index
        self._on_written = on_written
        self._report = report
        self._posted: list[PostedArticle] = []
        self._seen: list[ArticleId] = []
        self._verified: list[ArticleId] = []
        self._work = Pulse()

    def __repr__(self) -> str:
        return f"<Ledger posted={len(self._posted)} seen={len(self._seen)}>"

    def posted(self, article: PostedArticle) -> None:
        """A server answered 240."""
        self._posted.append(article)
        self._work.fire()

    def seen(self, article: ArticleId, *, verified: bool) -> None:
        """The article is on the servers. ``verified``: it was fetched whole and opened."""
        self._seen.append(article)
        if verified:
            self._verified.append(article)
        self._work.fire()

    async def run(self) -> None:
        """Write what comes, in batches."""
        while True:
            if not self._posted and not self._seen:
                await self._work.wait()
            await trio.sleep(DELAY)
            try:
                self.write()
            except UsenetfsError as error:
                log.warning("what was posted cannot be written down: %s; it is tried again", error)
                self._report(error)
                await trio.sleep(REST)

    def write(self) -> None:
        """Commit what is waiting. Raises as the index does, and then nothing has changed."""
        if not self._posted and not self._seen:
            return
        settled = self._index.mark_outcomes(
            self._posted, self._seen, self._verified, time.time_ns()
        )
        seen: Sequence[ArticleId] = self._seen
        self._posted, self._seen, self._verified = [], [], []
        self._on_written(Outcome(settled, tuple(seen)))
