"""How fast a server is with so many connections: the client's own machinery, for a few seconds.

Owns a :class:`ProviderSet` of one server for the time of a measurement. What goes up is made by the
caller; what comes down is what went up, or articles that are known. Bounded by octets and by
seconds, whichever comes first. Must not know: what the figures are for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import trio

from usenetfs.article.wire import OutgoingArticle
from usenetfs.errors import UsenetfsError
from usenetfs.net.providers import ProviderSet
from usenetfs.net.settings import ServerSettings
from usenetfs.types import Lane, MessageId

MAX_PROBLEMS = 3
"""Of one measurement that are told; the rest say the same."""
GRACE = 20.0
"""Seconds that requests under way get when the time is over."""


@dataclass(slots=True)
class Measured:
    """``upload`` and ``download`` in octets a second; None where nothing went through.

    ``connections``: that were open at once.
    """

    connections: int = 0
    upload: float | None = None
    download: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    problems: list[str] = field(default_factory=list)

    def complain(self, error: UsenetfsError) -> None:
        if len(self.problems) < MAX_PROBLEMS and str(error) not in self.problems:
            self.problems.append(str(error))


async def measure(
    settings: ServerSettings,
    count: int,
    *,
    octets: int,
    typical: int,
    seconds: float,
    make: Callable[[], Awaitable[OutgoingArticle]] | None,
    known: list[MessageId],
) -> Measured:
    """Up (where ``make`` is given) and down with ``count`` connections.

    ``known`` grows by what was posted; ``typical`` is the size of an article there. Problems are
    part of the result; nothing is raised but what is a fault of ours.
    """
    chosen = replace(settings, connections=count, warm_connections=count, reserved_connections=0)
    measured = Measured()
    async with trio.open_nursery() as nursery:
        providers = ProviderSet([chosen])
        await nursery.start(providers.run)
        await _warm(providers, count, settings.timeouts.connect)
        measured.connections = providers.statuses()[0].open
        if not measured.connections:
            status = providers.statuses()[0]
            measured.problems.append(status.last_error or "no connection was to be had")
        else:
            if make is not None:
                work = _Work(octets, seconds, measured)
                measured.upload = await work.rate(
                    count, lambda: _post(providers, make, known, work)
                )
            if known:
                work = _Work(octets, seconds, measured)
                queue = deque(known)
                depth = count * min(4, settings.max_pipeline)
                measured.download = await work.rate(
                    depth, lambda: _fetch(providers, queue, work, typical)
                )
        status = providers.statuses()[0]
        measured.bytes_up, measured.bytes_down = status.bytes_up, status.bytes_down
        nursery.cancel_scope.cancel()
    return measured


async def _warm(providers: ProviderSet, count: int, seconds: float) -> None:
    """Until all connections are open, the server said that it has enough, or it takes too long."""
    with trio.move_on_after(seconds):
        while True:
            status = providers.statuses()[0]
            if status.open >= min(count, status.limit) or status.state == "down":
                return
            await trio.sleep(0.01)


class _Work:
    """Octets and seconds that are left, and what was done."""

    def __init__(self, octets: int, seconds: float, measured: Measured) -> None:
        self._left = octets
        self._until = trio.current_time() + seconds
        self._began = self._ended = trio.current_time()
        self._done = 0
        self.measured = measured

    @property
    def over(self) -> bool:
        return trio.current_time() >= self._until

    def take(self, octets: int) -> bool:
        """Whether something of about so many octets may be sent; they are taken then."""
        if self.over or self._left <= 0:
            return False
        self._left -= octets
        return True

    def did(self, octets: int, taken: int) -> None:
        """So many went over, where ``taken`` had been taken for them."""
        self._left += taken - octets
        self._done += octets
        self._ended = trio.current_time()

    async def rate(self, tasks: int, one: Callable[[], Awaitable[bool]]) -> float | None:
        """Run ``one`` in so many tasks until each says that there is no more."""
        with trio.move_on_at(self._until + GRACE) as patience:
            async with trio.open_nursery() as nursery:
                for _ in range(tasks):
                    nursery.start_soon(_until_over, one)
        if patience.cancelled_caught:
            self.measured.problems.append("requests were not answered in time")
        elapsed = self._ended - self._began
        return self._done / elapsed if self._done and elapsed > 0 else None


async def _until_over(one: Callable[[], Awaitable[bool]]) -> None:
    while await one():
        pass


async def _post(
    providers: ProviderSet,
    make: Callable[[], Awaitable[OutgoingArticle]],
    known: list[MessageId],
    work: _Work,
) -> bool:
    article = await make()
    if not work.take(len(article.wire)):
        return False
    try:
        result = await providers.post(article)
    except UsenetfsError as error:
        work.measured.complain(error)
        return False
    known.append(result.message_id)
    work.did(len(article.wire), len(article.wire))
    return True


async def _fetch(
    providers: ProviderSet, queue: deque[MessageId], work: _Work, typical: int
) -> bool:
    """The next article; those that are there go around until the octets are used up."""
    if not queue or not work.take(typical):
        return False
    message_id = queue.popleft()
    try:
        body = await providers.fetch(message_id, lane=Lane.READER, fresh=True)
    except UsenetfsError as error:
        work.measured.complain(error)
        return bool(queue)
    work.did(body.wire_size, typical)
    queue.append(message_id)
    return True
