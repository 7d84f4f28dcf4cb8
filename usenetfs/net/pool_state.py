"""What one pool decides: which request goes where, what is dialled, checked, closed.

Owns: the connections of one server, the queue of requests that wait for them, the limit (also the
one learned from refusals) and the breaker. :meth:`PoolState.decide` is the only place where any of
that is decided: a synchronous function of the state and the time, which returns a :class:`Plan`.
Must not know: streams, tasks, other servers.

Invariants:

- connections in any state, dialling and closing ones included, never outnumber the limit (after
  the server lowered it, none is added until they are fewer);
- at most ``limit - reserved`` connections work for anybody but waiting readers;
- all but a few connections may have background requests one behind the other, so that a reader
  finds one on which at most one article is before it; where there is one connection only, at most
  two;
- a reader with a share of its own has at most one request on each of those few;
- while programs wait for reads, bodies that nobody waits for (metadata, verification) have half of
  the connections and one request on each: a line that is shared by twenty would be slow for all;
- a POST has its connection to itself, or with one sent ahead; where pipelines never run dry by
  themselves, one is drained for it, but not before lower lanes are served, unless it has waited
  past its patience;
- a request is in exactly one place: the queue, one connection's ``inflight``, or done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from usenetfs.errors import ConnectionLostError, UsenetfsError
from usenetfs.net.connection import Connection, ConnectionState, Request
from usenetfs.net.health import BreakerState, CircuitBreaker
from usenetfs.net.lanes import LaneQueue
from usenetfs.net.settings import ServerSettings
from usenetfs.nntp.grammar import Verb
from usenetfs.types import Lane

MAX_CONNECTION_FAILURES: Final = 3
"""A connection with more failures in a row is replaced (R10)."""
AVOID_PATIENCE: Final = 5.0
"""Seconds after which a request takes the connection it wanted to avoid."""
LIMIT_RAISE: Final = 60.0
"""Seconds after a refusal until one more connection is tried; doubles when that is refused. If it
is not, two more are tried after so long, then four: a server that counted the dead sessions of a
line that broke is soon used as before."""
LIMIT_RAISE_MAX: Final = 900.0
LIMIT_BURST: Final = 10.0
"""Refusals within so many seconds are one."""
LONELY_DEPTH: Final = 2
"""Background bodies outstanding where there is one connection for everybody."""
READER_MEMORY: Final = 2.0
"""Seconds after a reader's request in which more are expected."""
SHALLOW_SHARE: Final = 8
"""One connection in so many takes no background request behind another."""
MOST_TOGETHER: Final = 16
"""Questions with replies of one line that go to one connection, so that they leave together and the
replies come together: each on its own costs either side a system call and a wake."""
BUSY_TICK: Final = 1.0
"""Seconds between looks at the timeouts while anything is outstanding."""
IDLE_TICK: Final = 30.0
RETIRE_TICK: Final = BUSY_TICK / 2
"""Seconds between looks at connections for what time may have done to them: decisions come
thousands of times a second, and only the waiting requests matter to most."""


@dataclass(slots=True)
class Plan:
    """What is to be done. The state has changed already as if it were."""

    send: list[tuple[Connection, Request]] = field(default_factory=list)
    dial: list[Connection] = field(default_factory=list)
    check: list[Connection] = field(default_factory=list)
    end: list[tuple[Connection, UsenetfsError | None]] = field(default_factory=list)
    hopeless: list[Request] = field(default_factory=list)
    """Nobody is there to serve them, and nobody will be soon."""


class PoolState:
    """See the module. ``new_connection`` makes one (in state DIALLING) from its number."""

    def __init__(
        self,
        settings: ServerSettings,
        breaker: CircuitBreaker,
        new_connection: Callable[[int], Connection],
    ) -> None:
        self.settings = settings
        self.breaker = breaker
        self.limit = settings.connections
        self.queue: LaneQueue[Request] = LaneQueue()
        self.connections: dict[int, Connection] = {}
        self._new_connection = new_connection
        self._last_number = 0
        self._raise_at = 0.0
        self._raise_after = LIMIT_RAISE / 2
        self._raise_by = 1
        self._lowered_at = -LIMIT_RAISE
        self._retire_at = 0.0
        self._draining = False
        self._ready: list[Connection] = []
        self._chosen: Connection | None = None
        self._reader_at = -READER_MEMORY

    def ready(self) -> list[Connection]:
        return [c for c in self.connections.values() if c.state is ConnectionState.READY]

    def dialling(self) -> int:
        return sum(c.state is ConnectionState.DIALLING for c in self.connections.values())

    def lower_limit(self, now: float, allowed: int) -> None:
        """The server refused one more connection than ``allowed``."""
        self.limit = max(1, min(self.limit, allowed))
        if now - self._lowered_at > LIMIT_BURST:
            self._raise_after = min(2 * self._raise_after, LIMIT_RAISE_MAX)
        self._raise_by = 1
        self._lowered_at = now
        self._raise_at = now + self._raise_after

    def would_wait(self, request: Request) -> bool:
        """Whether deciding about one more request is idle: another that goes first waits already.

        Every event is followed by a decision, so what waits has found no place. Only where no
        connection can be added, and for requests that are alike in what they may use.
        """
        if request.avoid or len(self.connections) < self.limit:
            return False
        return self.queue.has_waiting(
            request.lane,
            lambda other: (
                (other.verb, other.avoid, other.share) == (request.verb, 0, request.share)
            ),
        )

    def next_look(self, now: float) -> float:
        """When time alone may change something."""
        if self.queue or not all(c.idle for c in self.connections.values()):
            return now + BUSY_TICK
        timeouts = self.settings.timeouts
        times = [now + IDLE_TICK]
        times.extend(c.last_heard + timeouts.idle_check for c in self.connections.values())
        if len(self.connections) > self.settings.warm_connections:
            times.extend(c.last_used + timeouts.idle_close for c in self.connections.values())
        if self.breaker.retry_at > now:
            times.append(self.breaker.retry_at)
        return max(now + 0.05, min(times))

    # --- the decision -------------------------------------------------------------------------

    def decide(self, now: float) -> Plan:
        """Everything that is to be done now."""
        plan = Plan()
        if self.limit < self.settings.connections and now >= self._raise_at:
            self.limit = min(self.limit + self._raise_by, self.settings.connections)
            self._raise_by *= 2
            self._raise_at = now + LIMIT_RAISE
        ready = self.ready()
        if now >= self._retire_at or any(c.failures > MAX_CONNECTION_FAILURES for c in ready):
            ready = self._retire(ready, now, plan)
        self._ready = ready
        while (request := self.queue.pop(now, lambda r: self._finds_place(r, now))) is not None:
            assert self._chosen is not None
            self._chosen.take(request, now)
            plan.send.append((self._chosen, request))
        self._settle_draining()
        self._grow(now, plan)
        if self.breaker.state is BreakerState.OPEN and not self._ready and not self.dialling():
            plan.hopeless = self.queue.drain()
        return plan

    # --- connections that have to go ----------------------------------------------------------

    def _retire(self, ready: list[Connection], now: float, plan: Plan) -> list[Connection]:
        """What time or failures have brought to ``ready``; those that stay."""
        timeouts = self.settings.timeouts
        self._retire_at = now + RETIRE_TICK
        surplus = len(ready) - self.settings.warm_connections
        excess = len(self.connections) - self.limit
        for connection in ready:
            reason = connection.overdue(now)
            if reason is None and connection.failures > MAX_CONNECTION_FAILURES:
                reason = f"{connection.failures} failures in a row"
            if reason is not None:
                plan.end.append(
                    (connection, ConnectionLostError(f"{self.settings.name}: {reason}"))
                )
            elif not connection.idle:
                continue
            elif excess > 0 or (surplus > 0 and now - connection.last_used >= timeouts.idle_close):
                plan.end.append((connection, None))
                surplus -= 1
                excess -= 1
            elif now - connection.last_heard >= timeouts.idle_check:
                plan.check.append(connection)
                connection.checking = True
        ending = [connection for connection, _ in plan.end]
        return [connection for connection in ready if connection not in ending]

    # --- requests to connections --------------------------------------------------------------

    def _finds_place(self, request: Request, now: float) -> bool:
        """Whether there is a connection for the request; it is ``_chosen`` then."""
        if request.verb is Verb.POST:
            fitting = [c for c in self._ready if c.idle] or self._fit_ahead(now)
        else:
            fitting = [c for c in self._ready if self._fits(request, c)]
        if not fitting and request.verb is not Verb.POST:
            return False
        if request.avoid and now - request.queued_at < AVOID_PATIENCE and self.limit > 1:
            fitting = [c for c in fitting if c.number != request.avoid]
        if request.background:
            fitting = self._fit_for_background(request, fitting, now)
        else:
            self._reader_at = now
            if request.share is not None:
                fitting = self._fit_for_share(request, fitting)
        # The first of equals, so that the last ones fall idle and can be closed.
        together = [c for c in fitting if c.joins(request, MOST_TOGETHER)]
        self._chosen = min(together or fitting, key=lambda c: len(c.inflight), default=None)
        if self._chosen is None and request.verb is Verb.POST:
            self._drain_one(request, now)
        return self._chosen is not None

    def _fit_ahead(self, now: float) -> list[Connection]:
        """Connections for a POST that is sent ahead; none while programs wait for reads."""
        if not self.settings.post_ahead or now - self._reader_at < READER_MEMORY:
            return []
        return [c for c in self._ready if c.takes_post_ahead and not c.draining]

    def _fits(self, request: Request, connection: Connection) -> bool:
        """Whether a request that may be pipelined has room on the connection."""
        if connection.posting or (connection.draining and request.background):
            return False
        return len(connection.inflight) < connection.depth(request.verb)

    def _fit_for_background(
        self, request: Request, fitting: list[Connection], now: float
    ) -> list[Connection]:
        used = sum(connection.background for connection in self._ready)
        if used >= self._background_limit():
            fitting = [c for c in fitting if c.background]
        if self.limit == 1:
            bodies = request.verb is not Verb.BODY
            return [c for c in fitting if bodies or len(c.inflight) < LONELY_DEPTH]
        if request.verb is Verb.BODY and self._nobody_waits_for(request, now):
            if used >= max(1, self.limit // 2):
                return []
            return [c for c in fitting if not c.inflight]
        kept = self._kept()
        return [c for c in fitting if not c.inflight or c not in kept]

    def _kept(self) -> list[Connection]:
        """The connections on which nobody may pile up requests."""
        shallow = max(1, self.limit // SHALLOW_SHARE)
        return self._ready[max(1, len(self._ready) - shallow) :]

    def _fit_for_share(self, request: Request, fitting: list[Connection]) -> list[Connection]:
        """Readers who say who they are do not pile up where others want to find room."""
        kept = self._kept()
        return [
            c
            for c in fitting
            if c not in kept or all(other.share != request.share for other in c.inflight)
        ]

    def _nobody_waits_for(self, request: Request, now: float) -> bool:
        """Whether it has to step back because programs read meanwhile."""
        return request.lane > Lane.READAHEAD and now - self._reader_at < READER_MEMORY

    def _background_limit(self) -> int:
        return max(1, self.limit - self.settings.reserved)

    def _drain_one(self, request: Request, now: float) -> None:
        """No connection is idle for this POST: let a pipeline run dry, if it may go first."""
        first = self.queue.first_lane()
        if first is not None and first < request.lane and not self.queue.is_overdue(request, now):
            return
        if any(connection.draining for connection in self._ready):
            return
        if len(self.connections) < self.limit and self.breaker.state is BreakerState.CLOSED:
            return  # a new connection is quicker
        pipelines = [c for c in self._ready if not c.posting]
        if request.background and len(pipelines) > 1:
            pipelines = [c for c in pipelines if c.background] or pipelines
        shortest = min(pipelines, key=lambda c: len(c.inflight), default=None)
        if shortest is not None:
            shortest.draining = self._draining = True

    def _settle_draining(self) -> None:
        """Nothing is kept dry for a POST that has gone."""
        if self._draining and not any(request.verb is Verb.POST for request in self.queue):
            self._draining = False
            for connection in self._ready:
                connection.draining = False

    # --- connections that are wanted ----------------------------------------------------------

    def _grow(self, now: float, plan: Plan) -> None:
        if len(self.connections) >= self.limit:
            return
        dialling = self.dialling()
        behind = sum(max(0, len(c.inflight) - 1) for c in self._ready)
        warm = self.settings.warm_connections - len(self._ready)
        wanted = max(len(self.queue) + behind, warm) - dialling
        if self.breaker.state is not BreakerState.CLOSED and not dialling:
            wanted = max(wanted, 1)  # the probe, whoever waits or not
        if wanted <= 0:
            return
        room = self._ceiling() - len(self.connections)
        for _ in range(min(wanted, room)):
            if not self.breaker.may_dial(now, dialling):
                return
            dialling += 1
            self._last_number += 1
            connection = self._new_connection(self._last_number)
            self.connections[connection.number] = connection
            plan.dial.append(connection)

    def _ceiling(self) -> int:
        """Connections worth having: beyond the background's, one for each request of a reader."""
        readers = sum(not request.background for request in self.queue)
        for connection in self._ready:
            readers += sum(not request.background for request in connection.inflight)
        floor = max(self._background_limit(), self.settings.warm_connections)
        return min(self.limit, floor + readers)
