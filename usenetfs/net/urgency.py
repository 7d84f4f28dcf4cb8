"""How urgent one fetch is, as its caller may change it while the fetch waits.

A caller that passes an :class:`Urgency` to ``ProviderSet.fetch`` can look at how far it came and,
when somebody begins to wait for what was asked ahead of time, :meth:`~Urgency.hurry`: a request
that has no connection yet moves to the more urgent lane. Must not know: pools, articles.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from usenetfs.types import Lane


class Urgency:
    """Belongs to one fetch."""

    __slots__ = ("_move", "alternatives", "lane", "sent", "sent_at", "server")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.server: str | None = None
        """Who is being asked."""
        self.alternatives = 0
        """How many others could be asked, too."""
        self.sent: Callable[[], bool] = lambda: False
        """Whether the request has left for the server that is being asked."""
        self.sent_at: float | None = None
        """When it was first seen to have left; kept by :meth:`waiting_since_sent`."""
        self._move: Callable[[Lane], None] = lambda lane: None

    def __repr__(self) -> str:
        return f"<Urgency {self.lane.name} at {self.server}, sent={self.sent()}>"

    def asking(
        self,
        server: str,
        alternatives: int,
        sent: Callable[[], bool],
        move: Callable[[Lane], None],
    ) -> None:
        """A request was made to ``server``. ``move`` puts it into another lane."""
        self.server, self.alternatives, self.sent, self._move = server, alternatives, sent, move
        self.sent_at = None

    def hurry(self, lane: Lane) -> None:
        """Somebody waits in ``lane``: raise the fetch to it, never lower it."""
        if lane < self.lane:
            self.lane = lane
            self._move(lane)

    def waiting_since_sent(self) -> float:
        """Seconds since the request was first seen to have left, 0 before that."""
        if not self.sent():
            return 0.0
        now = trio.current_time()
        if self.sent_at is None:
            self.sent_at = now
        return now - self.sent_at
