"""The connections to one server, and who may use which.

All decisions are made by :meth:`Pool._decide`, a synchronous function over the pool's state: it
gives waiting requests to connections and returns how many connections to dial and which to close.
Whatever happens (a request comes, a reply comes, a dial ends, a second passes) changes a fact and
calls it. I/O happens afterwards, in the tasks of the connections.

Invariants:

- dialling, ready and closing connections together are never more than the limit;
- a POST gets a connection of its own; everything else is pipelined as deep as the connection says;
- background work (all but waiting readers) never holds the last ``reserved`` connections;
- every request ends: answered, failed with the server's reason, or handed back when the server is
  given up. Requests wait in a queue only while a connection exists or may be dialled.

A refusal for too many connections lowers the limit to what is open; it rises again by one every
:data:`LIMIT_RECOVERY` seconds.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import trio

from usenetfs.errors import (
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    PostInDoubtError,
    QuotaError,
    TlsError,
    TooManyConnectionsError,
    UsenetfsError,
)
from usenetfs.net.connection import Connection, ConnectionState, Request, Traits
from usenetfs.net.health import BreakerState, CircuitBreaker, Health
from usenetfs.net.lanes import LaneQueue
from usenetfs.net.settings import ServerSettings
from usenetfs.net.stream import Dialer, NetworkDialer
from usenetfs.nntp.client import Response
from usenetfs.nntp.grammar import Verb

log = logging.getLogger("usenetfs.net")

TICK = 1.0
"""Seconds between two looks at what time brings (idle checks, timeouts, probes)."""

MAX_LOST = 3
"""Connections that may end under a request before it fails."""

MAX_FAILURES = 3
"""Server errors in a row after which a connection is replaced (R10)."""

LIMIT_RECOVERY = 300.0

FATAL = (AuthenticationError, TlsError, QuotaError)
"""Dialling again soon would not help."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """How a server stands. ``latency`` in seconds; ``health`` from 0 to 1."""

    name: str
    state: str
    health: float
    open: int
    busy: int
    limit: int
    waiting: int
    latency: float | None
    errors: int
    last_error: str | None
    bytes_up: int
    bytes_down: int


class Pool:
    """See the module. :meth:`run` drives it; requests made before wait for it."""

    def __init__(self, settings: ServerSettings, *, dialer: Dialer | None = None) -> None:
        self.settings = settings
        self.health = Health()
        self.breaker = CircuitBreaker()
        self.last_error: UsenetfsError | None = None
        self.errors = 0
        self._dialer = dialer if dialer is not None else NetworkDialer()
        self._traits = Traits()
        self._queue: LaneQueue[Request] = LaneQueue()
        self._connections: dict[int, Connection] = {}
        self._last_number = 0
        self._limit = settings.connections
        self._limited_at = 0.0
        self._nursery: trio.Nursery | None = None
        self._bytes_up = self._bytes_down = 0

    def __repr__(self) -> str:
        states = [connection.state for connection in self._connections.values()]
        counts = {state.value: states.count(state) for state in ConnectionState if state in states}
        return (
            f"<Pool {self.settings.name} {counts or 'empty'} limit={self._limit} "
            f"waiting={len(self._queue)} breaker={self.breaker.state.value}>"
        )

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def limit(self) -> int:
        """Connections allowed now."""
        return self._limit

    @property
    def available(self) -> bool:
        """Whether a request made now has a chance."""
        return (
            any(c.state is ConnectionState.READY for c in self._connections.values())
            or self.breaker.state is not BreakerState.OPEN
            or trio.current_time() >= self.breaker.retry_at
        )

    def expected_time(self) -> float:
        """What choosing among servers goes by; see ``Health.expected_time``."""
        owed = sum(len(connection.inflight) for connection in self._connections.values())
        return self.health.expected_time(trio.current_time(), len(self._queue) + owed, self._limit)

    def status(self) -> ServerStatus:
        """A snapshot, from memory."""
        ready = [c for c in self._connections.values() if c.state is ConnectionState.READY]
        return ServerStatus(
            name=self.name,
            state=self._state_word(bool(ready)),
            health=self.health.score(trio.current_time()),
            open=len(ready),
            busy=sum(not connection.idle for connection in ready),
            limit=self._limit,
            waiting=len(self._queue),
            latency=self.health.latency.value,
            errors=self.errors,
            last_error=None if self.last_error is None else self.last_error.message,
            bytes_up=self._bytes_up + sum(c.bytes_up for c in self._connections.values()),
            bytes_down=self._bytes_down + sum(c.bytes_down for c in self._connections.values()),
        )

    def _state_word(self, ready: bool) -> str:
        if self.breaker.state is not BreakerState.CLOSED:
            return "down"
        if not ready:
            return "idle" if self.last_error is None else "unknown"
        return "healthy" if self.health.score(trio.current_time()) > 0.5 else "degraded"

    # --- requests --------------------------------------------------------------------------------

    async def perform(self, request: Request) -> Response:
        """The server's reply, whatever it says. Raises when no reply could be had.

        A caller that is cancelled leaves nothing behind that matters: its reply is thrown away.
        """
        if not self.available:
            await trio.lowlevel.checkpoint()
            raise self._unavailable()
        request.queued_at = trio.current_time()
        self._queue.push(request)
        self._act()
        try:
            await request.done.wait()
        except trio.Cancelled:
            self._abandon(request)
            raise
        if request.error is not None:
            raise request.error
        assert request.response is not None
        return request.response

    def _abandon(self, request: Request) -> None:
        if self._queue.remove(request):
            return
        for connection in self._connections.values():
            if request in connection.inflight:
                connection.abandon(request)

    def _unavailable(self) -> UsenetfsError:
        wait = max(0.0, self.breaker.retry_at - trio.current_time())
        if self.last_error is None:
            return ConnectError(f"{self.name} is not reachable", server=self.name)
        error = type(self.last_error)(
            f"{self.last_error.message} (tried again in {wait:.0f} s)",
            hint=self.last_error.hint,
            server=self.name,
        )
        error.__cause__ = self.last_error
        return error

    # --- driving ---------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the connections until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                while True:
                    self._act()
                    await trio.sleep(TICK)
                    self._pass_time()
            finally:
                self._nursery = None
                self._fail_waiting(ConnectionLostError("the news client is closing"))

    def _act(self) -> None:
        """Decide, and start what was decided."""
        if self._nursery is None:
            return
        for connection in self._decide(trio.current_time()):
            self._nursery.start_soon(self._live, connection)

    # --- the decision ----------------------------------------------------------------------------

    def _decide(self, now: float) -> list[Connection]:
        """Give requests to connections; returns new connections, to be dialled."""
        while (request := self._queue.pop(now, lambda r: self._place(r) is not None)) is not None:
            connection = self._place(request)
            assert connection is not None
            connection.draining = False
            connection.submit(request)
        self._make_way_for_posts()
        return [self._new_connection() for _ in range(self._dials_wanted(now))]

    def _place(self, request: Request) -> Connection | None:
        """The connection that should take the request now."""
        ready = [c for c in self._connections.values() if c.state is ConnectionState.READY]
        if request.background and not self._background_may_grow(ready):
            ready = [connection for connection in ready if connection.background]
        if request.verb is Verb.POST:
            fitting = [connection for connection in ready if connection.idle]
        else:
            fitting = [
                connection
                for connection in ready
                if not connection.posting
                and not connection.draining
                and len(connection.inflight) < connection.depth(request.verb)
            ]
            if request.avoid and self._limit > 1:
                fitting = [c for c in fitting if c.number != request.avoid]
        return min(fitting, key=lambda c: len(c.inflight), default=None)

    def _background_may_grow(self, ready: list[Connection]) -> bool:
        """Whether background work may take one more connection."""
        used = sum(connection.background for connection in ready)
        return used < max(1, self._limit - self.settings.reserved)

    def _make_way_for_posts(self) -> None:
        """A POST needs an idle connection: while pipelines are full, let one run dry."""
        ready = [c for c in self._connections.values() if c.state is ConnectionState.READY]
        waiting = sum(request.verb is Verb.POST for request in self._queue)
        if not waiting or len(self._connections) < self._limit:
            return
        if any(connection.draining or connection.posting for connection in ready):
            return
        busiest_last = sorted(ready, key=lambda connection: len(connection.inflight))
        if len(busiest_last) > 1 or (busiest_last and self._queue.first_lane() is not None):
            busiest_last[0].draining = True

    def _dials_wanted(self, now: float) -> int:
        connections = self._connections.values()
        dialling = sum(c.state is ConnectionState.DIALLING for c in connections)
        living = dialling + sum(c.state is ConnectionState.READY for c in connections)
        wanted = max(len(self._queue), self.settings.warm_connections - living) - dialling
        wanted = min(wanted, self._limit - len(self._connections))
        if wanted <= 0 or not self.breaker.may_dial(now, dialling):
            return 0
        return 1 if self.breaker.state is BreakerState.HALF_OPEN else wanted

    def _new_connection(self) -> Connection:
        self._last_number += 1
        connection = Connection(
            self._last_number,
            self.settings,
            self._traits,
            dialer=self._dialer,
            on_reply=self._on_reply,
            on_replies=self._act,
        )
        self._connections[connection.number] = connection
        return connection

    # --- what happens ----------------------------------------------------------------------------

    def _pass_time(self) -> None:
        """Idle checks, overdue replies, surplus connections, the limit's recovery."""
        now = trio.current_time()
        timeouts = self.settings.timeouts
        if self._limit < self.settings.connections and now - self._limited_at >= LIMIT_RECOVERY:
            self._limit += 1
            self._limited_at = now
        for connection in list(self._connections.values()):
            if connection.state is not ConnectionState.READY:
                continue
            reason = connection.overdue(now)
            if reason is not None:
                connection.end(ConnectionLostError(f"{self.name}: {reason}", server=self.name))
            elif (
                connection.idle
                and now - connection.last_used >= timeouts.idle_close
                and (len(self._connections) > self.settings.warm_connections)
            ):
                connection.end(None)
            elif connection.idle and now - connection.last_heard >= timeouts.idle_check:
                connection.check()

    def _on_reply(self, connection: Connection, request: Request, response: Response) -> None:
        now = trio.current_time()
        if connection.round_trip.value is not None:
            self.health.latency.add(connection.round_trip.value)
        if response.verb is Verb.BODY and response.code == 222 and connection.interval.value:
            self.health.rate.add(response.wire_size / connection.interval.value)
        if response.code >= 500:
            self._count_failure(connection, now)
        else:
            connection.failures = 0
            self.health.succeeded(now)
        if not request.abandoned:
            request.succeed(response)

    def _count_failure(self, connection: Connection, now: float) -> None:
        self.health.failed(now)
        self.errors += 1
        connection.failures += 1
        if connection.failures > MAX_FAILURES:
            connection.end(
                ConnectionLostError(
                    f"{self.name}: {connection.failures} failures in a row", server=self.name
                )
            )

    async def _live(self, connection: Connection) -> None:
        """One connection from dialling to its end."""
        try:
            error = await self._open(connection)
            if error is None:
                self._act()
                error = await connection.serve()
        finally:
            connection.state = ConnectionState.CLOSING
            connection.close_now()
            del self._connections[connection.number]
            self._bytes_up += connection.bytes_up
            self._bytes_down += connection.bytes_down
        self._bury(connection, error)
        self._act()

    async def _open(self, connection: Connection) -> UsenetfsError | None:
        """Dial; the error if that failed."""
        timeout = self.settings.timeouts.connect
        error: UsenetfsError
        try:
            with trio.fail_after(timeout):
                await connection.open()
        except trio.TooSlowError:
            error = ConnectError(f"{self.name} did not let us in within {timeout:g} s")
        except UsenetfsError as failure:
            error = failure
        else:
            self.breaker.succeeded()
            self.health.succeeded(trio.current_time())
            return None
        error.server = self.name
        self._dial_failed(error)
        return error

    def _dial_failed(self, error: UsenetfsError) -> None:
        now = trio.current_time()
        ready = sum(c.state is ConnectionState.READY for c in self._connections.values())
        if isinstance(error, TooManyConnectionsError) and ready:
            log.info("%s allows %d connections now: %s", self.name, ready, error)
            self._limit, self._limited_at = ready, now
            return
        self._note(error)
        self.health.failed(now)
        self.breaker.failed(now, fatal=isinstance(error, FATAL), retry_after=error.retry_after)

    def _bury(self, connection: Connection, error: UsenetfsError | None) -> None:
        """Decide what becomes of the requests that an ended connection owed a reply."""
        if error is not None and connection.inflight:
            self._note(error)
            self.health.failed(trio.current_time())
        reason = error or ConnectionLostError(f"{self.name}: the connection was closed")
        for request in reversed(connection.inflight):
            request.lost += 1
            if request.abandoned:
                continue
            if request.verb is Verb.POST and request.committed:
                request.fail(
                    PostInDoubtError(
                        f"{self.name}: the reply to an article was lost ({reason})",
                        server=self.name,
                    )
                )
            elif request.lost >= MAX_LOST or isinstance(error, FATAL):
                request.fail(reason)
            else:
                self._queue.push_front(request)
        connection.inflight.clear()
        alive = any(c.state is not ConnectionState.CLOSING for c in self._connections.values())
        if self.breaker.state is BreakerState.OPEN and not alive:
            self._fail_waiting(self._unavailable())

    def _note(self, error: UsenetfsError) -> None:
        self.errors += 1
        self.last_error = error
        log.warning("%s: %s", self.name, error)

    def _fail_waiting(self, error: UsenetfsError) -> None:
        for request in self._queue.drain():
            request.fail(error)
