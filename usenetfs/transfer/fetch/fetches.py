"""Articles on their way: one fetch each, however many wait for it.

A *fetch* runs in a nursery given at construction, not in the task of who asked first: so a caller
that is cancelled takes nothing away from the others. A failure reaches everybody who waited, and is
forgotten with the fetch: the next caller starts anew.

Who comes later may be in a greater hurry: a reader who joins what was asked for ahead of time
raises the fetch's urgency, and with it the request's lane while it has no connection yet. What
nobody waits for may be cancelled as long as it costs nothing, that is before its request has left.

A fetch may have several *runners* (a second one hedges the first); the first result counts and
ends the others, an error counts only when the last of them fails.

It does not know what fetching means. Not thread-safe: one event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable, Iterator

import trio

from usenetfs.article.container import Container
from usenetfs.errors import UsenetfsError
from usenetfs.net.urgency import Urgency
from usenetfs.types import ArticleId, Lane, MessageId

log = logging.getLogger("usenetfs.download")


class Fetch:
    """One article. Once ``done``, ``container`` is set, or ``error`` says why not."""

    __slots__ = (
        "_scopes",
        "article",
        "attempt",
        "container",
        "done",
        "error",
        "hedged",
        "keep",
        "rewritten",
        "runners",
        "share",
        "urgency",
        "waiting",
    )

    def __init__(
        self,
        article: ArticleId,
        attempt: int,
        rewritten: MessageId | None,
        lane: Lane,
        share: Hashable,
    ) -> None:
        self.article = article
        self.attempt = attempt
        self.rewritten = rewritten
        self.share = share
        self.urgency = Urgency(lane)
        self.waiting = 0
        self.runners = 0
        self.hedged = False
        self.keep = False
        """It must get into the disk cache."""
        self.done = trio.Event()
        self.container: Container | None = None
        self.error: Exception = trio.BrokenResourceError("the fetch was cancelled")
        self._scopes: list[trio.CancelScope] = []

    def __repr__(self) -> str:
        return f"<Fetch {self.article} {self.urgency!r} waiting={self.waiting}>"

    def new_scope(self) -> trio.CancelScope:
        """For one runner."""
        scope = trio.CancelScope()
        self._scopes.append(scope)
        return scope

    def end(self) -> None:
        """No runner is needed any more; the last one may be about to end by itself."""
        self.done.set()
        if self.runners > 1 or self.container is None:
            for scope in self._scopes:
                scope.cancel()


Work = Callable[[Fetch], Awaitable[Container]]


class Fetches:
    """At most one fetch an article. ``work`` fetches it, in ``nursery``."""

    def __init__(self, nursery: trio.Nursery, work: Work) -> None:
        self._nursery = nursery
        self._work = work
        self._fetches: dict[ArticleId, Fetch] = {}
        self.on_done: Callable[[ArticleId], None] = lambda article: None
        """Called when an article came, failed, or was given up."""
        self.reader_waits = trio.Event()
        """Set while (and some time after) a reader waits for a fetch."""

    def __len__(self) -> int:
        return len(self._fetches)

    def __iter__(self) -> Iterator[Fetch]:
        return iter(list(self._fetches.values()))

    def __contains__(self, article: ArticleId) -> bool:
        return article in self._fetches

    def __repr__(self) -> str:
        return f"<Fetches {len(self)} under way>"

    def start(
        self,
        article: ArticleId,
        attempt: int,
        lane: Lane,
        *,
        rewritten: MessageId | None = None,
        share: Hashable = None,
    ) -> Fetch:
        """The fetch of an article, begun now or under way already; it is as urgent as ``lane``."""
        fetch = self._fetches.get(article)
        if fetch is None:
            fetch = Fetch(article, attempt, rewritten, lane, share)
            self._fetches[article] = fetch
            self.run(fetch, self._work)
        else:
            fetch.urgency.hurry(lane)
        return fetch

    async def wait(self, fetch: Fetch) -> Container:
        """The article, or the error that fetching it ended with."""
        fetch.waiting += 1
        if fetch.urgency.lane is Lane.READER:
            self.reader_waits.set()
        try:
            await fetch.done.wait()
        finally:
            fetch.waiting -= 1
        if fetch.container is None:
            raise fetch.error
        return fetch.container

    def run(self, fetch: Fetch, work: Work) -> None:
        """One (more) runner for a fetch."""
        fetch.runners += 1
        self._nursery.start_soon(self._run, fetch, work, fetch.new_scope())

    async def _run(self, fetch: Fetch, work: Work, scope: trio.CancelScope) -> None:
        try:
            with scope:
                container = await work(fetch)
                if not fetch.done.is_set():
                    fetch.container = container
                    self._finish(fetch)
        except Exception as error:  # noqa: BLE001 - handed to every waiter, who raise it
            if not fetch.done.is_set():
                fetch.error = error
        finally:
            fetch.runners -= 1
            if not fetch.runners and not fetch.done.is_set():
                if not isinstance(fetch.error, UsenetfsError | trio.BrokenResourceError):
                    log.error("a fault of usenetfs in a fetch", exc_info=fetch.error)
                elif not fetch.waiting:
                    log.info("a fetch ahead of time came to nothing: %s", fetch.error)
                self._finish(fetch)

    def _finish(self, fetch: Fetch) -> None:
        if self._fetches.get(fetch.article) is fetch:
            del self._fetches[fetch.article]
        fetch.end()
        self.on_done(fetch.article)

    def cancel_unsent(self, article: ArticleId) -> bool:
        """Give up a fetch for which nobody waits and whose request has not left; whether it was
        one."""
        fetch = self._fetches.get(article)
        if fetch is None or fetch.waiting or fetch.urgency.lane is Lane.READER:
            return False
        if fetch.urgency.server is None or fetch.urgency.sent():
            return False
        self._finish(fetch)
        return True
