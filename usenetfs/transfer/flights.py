"""Articles on their way: one fetch each, however many wait for it.

A *flight* runs in a nursery given at construction, not in the task of who asked first: so a caller
that is cancelled takes nothing away from the others. A failure reaches everybody who waited, and is
forgotten with the flight: the next caller starts anew.

Who comes later may be in a greater hurry: a reader who joins what was asked for ahead of time
raises the flight's urgency, and with it the request's lane while it has no connection yet. What
nobody waits for may be cancelled as long as it costs nothing, that is before its request has left.

A flight may have several *runners* (a second one hedges the first); the first result counts and
ends the others, an error counts only when the last of them fails.

It does not know what fetching means. Not thread-safe: one event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable, Iterator

import trio

from usenetfs.article.container import Container
from usenetfs.net.urgency import Urgency
from usenetfs.types import ArticleId, Lane, MessageId

log = logging.getLogger("usenetfs.download")


class Flight:
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
        return f"<Flight {self.article} {self.urgency!r} waiting={self.waiting}>"

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


Work = Callable[[Flight], Awaitable[Container]]


class Flights:
    """At most one flight an article. ``work`` fetches it, in ``nursery``."""

    def __init__(self, nursery: trio.Nursery, work: Work) -> None:
        self._nursery = nursery
        self._work = work
        self._flights: dict[ArticleId, Flight] = {}
        self.on_done: Callable[[ArticleId], None] = lambda article: None
        """Called when an article came, failed, or was given up."""
        self.reader_waits = trio.Event()
        """Set while (and some time after) a reader waits for a flight."""

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[Flight]:
        return iter(list(self._flights.values()))

    def __contains__(self, article: ArticleId) -> bool:
        return article in self._flights

    def __repr__(self) -> str:
        return f"<Flights {len(self)} under way>"

    def start(
        self,
        article: ArticleId,
        attempt: int,
        lane: Lane,
        *,
        rewritten: MessageId | None = None,
        share: Hashable = None,
    ) -> Flight:
        """The flight of an article, begun now or under way already; it is as urgent as ``lane``."""
        flight = self._flights.get(article)
        if flight is None:
            flight = Flight(article, attempt, rewritten, lane, share)
            self._flights[article] = flight
            self.run(flight, self._work)
        else:
            flight.urgency.hurry(lane)
        return flight

    async def wait(self, flight: Flight) -> Container:
        """The article, or the error that fetching it ended with."""
        flight.waiting += 1
        if flight.urgency.lane is Lane.READER:
            self.reader_waits.set()
        try:
            await flight.done.wait()
        finally:
            flight.waiting -= 1
        if flight.container is None:
            raise flight.error
        return flight.container

    def run(self, flight: Flight, work: Work) -> None:
        """One (more) runner for a flight."""
        flight.runners += 1
        self._nursery.start_soon(self._run, flight, work, flight.new_scope())

    async def _run(self, flight: Flight, work: Work, scope: trio.CancelScope) -> None:
        try:
            with scope:
                container = await work(flight)
                if not flight.done.is_set():
                    flight.container = container
                    self._finish(flight)
        except Exception as error:  # noqa: BLE001 - handed to every waiter, who raise it
            if not flight.done.is_set():
                flight.error = error
        finally:
            flight.runners -= 1
            if not flight.runners and not flight.done.is_set():
                if not flight.waiting:
                    log.info("a fetch ahead of time came to nothing: %s", flight.error)
                self._finish(flight)

    def _finish(self, flight: Flight) -> None:
        if self._flights.get(flight.article) is flight:
            del self._flights[flight.article]
        flight.end()
        self.on_done(flight.article)

    def cancel_unsent(self, article: ArticleId) -> bool:
        """Give up a flight for which nobody waits and whose request has not left; whether it was
        one."""
        flight = self._flights.get(article)
        if flight is None or flight.waiting or flight.urgency.lane is Lane.READER:
            return False
        if flight.urgency.server is None or flight.urgency.sent():
            return False
        self._finish(flight)
        return True
