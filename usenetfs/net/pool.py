"""All connections to one server: their tasks, and what happens to requests.

Owns: the tasks (one timer, and one for each connection: dial, serve, report), what is measured of
the server, and what becomes of requests whose connection ended. Everything that has to be *decided*
is decided in :mod:`usenetfs.net.pool_state`; whatever happens here (a request comes, its caller
goes, replies arrive, a dial ends, a session ends, time passes) changes a fact and calls
:meth:`Pool.update`, which asks for a plan and carries it out without waiting, so that nothing can
come between.

Every request ends: answered, failed with the server's reason, or failed because the client stops.
Must not know: other servers, what an article means.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from typing import Final

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
from usenetfs.net.pool_state import BUSY_TICK, PoolState
from usenetfs.net.retry import RetryPolicy
from usenetfs.net.retry_rules import AtOnce, rule_of
from usenetfs.net.settings import ServerSettings
from usenetfs.net.status import ServerStatus
from usenetfs.net.stream import Dialer, NetworkDialer
from usenetfs.nntp.client import Response
from usenetfs.nntp.grammar import Verb
from usenetfs.types import Lane

__all__ = ["Pool", "ServerStatus"]

log = logging.getLogger("usenetfs.net")

MAX_LOST: Final = 2
"""A request whose connection ended under it more often than this fails."""
STALE_AFTER: Final = 5.0
"""Seconds of silence after which a session that ends was probably gone before it was used."""
USELESS_WITHIN: Final = 5.0
"""Seconds: a session that the server ends sooner, and that was asked nothing, failed. One that ends
later has idled for too long."""
FATAL: Final = (AuthenticationError, TlsError, QuotaError)
"""Dialling again soon would not help."""


class Pool:
    """See the module. :meth:`run` drives it; requests made before wait for it."""

    def __init__(
        self,
        settings: ServerSettings,
        *,
        dialer: Dialer | None = None,
        redial: RetryPolicy | None = None,
    ) -> None:
        self.settings = settings
        self.health = Health()
        self.breaker = CircuitBreaker(redial or RetryPolicy())
        self.last_error: UsenetfsError | None = None
        self.errors = 0
        self.requests: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()
        self._dialer = dialer if dialer is not None else NetworkDialer()
        self._traits = Traits()
        self._state = PoolState(settings, self.breaker, self._new_connection)
        self._nursery: trio.Nursery | None = None
        self._stopped = False
        self._gathering = False
        """A task will decide for all that came in this turn of the loop."""
        self._kick = trio.Event()
        self._timer_at = 0.0
        self._bytes_up = self._bytes_down = 0

    def __repr__(self) -> str:
        states = Counter(c.state for c in self._connections.values())
        counts = ", ".join(f"{states[state]} {state.value}" for state in ConnectionState)
        return (
            f"<Pool {self.name}: {counts}, limit {self.limit}, {len(self._state.queue)} waiting, "
            f"breaker {self.breaker.state.value}>"
        )

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def limit(self) -> int:
        """Connections allowed now."""
        return self._state.limit

    @property
    def standing(self) -> int:
        """0: a request made now is served; 1: it waits for a probe; 2: it has no chance."""
        if self.breaker.state is BreakerState.CLOSED or self._state.ready():
            return 0
        due = trio.current_time() >= self.breaker.retry_at
        return 1 if due or self.breaker.state is BreakerState.HALF_OPEN else 2

    @property
    def _connections(self) -> dict[int, Connection]:
        return self._state.connections

    def expected_time(self, *, posting: bool = False) -> float:
        """What choosing among servers goes by; see ``Health.expected_time``."""
        owed = sum(len(connection.inflight) for connection in self._connections.values())
        ahead = len(self._state.queue) + owed
        now = trio.current_time()
        return self.health.expected_time(now, ahead, self.limit, posting=posting)

    def status(self) -> ServerStatus:
        """A snapshot, from memory."""
        ready = self._state.ready()
        return ServerStatus(
            name=self.name,
            state=self._state_word(bool(ready)),
            health=self.health.score(trio.current_time()),
            open=len(ready),
            busy=sum(not connection.idle for connection in ready),
            limit=self.limit,
            waiting=len(self._state.queue),
            latency=self.health.latency.value,
            errors=self.errors,
            last_error=None if self.last_error is None else self.last_error.message,
            bytes_up=self._bytes_up + sum(c.bytes_up for c in self._connections.values()),
            bytes_down=self._bytes_down + sum(c.bytes_down for c in self._connections.values()),
            requests=dict(self.requests),
            retries=dict(self.retries),
        )

    def _state_word(self, ready: bool) -> str:
        if self.breaker.state is not BreakerState.CLOSED:
            return "degraded" if ready else "down"
        if not ready:
            return "idle" if self.last_error is None else "unknown"
        return "healthy" if self.health.score(trio.current_time()) > 0.5 else "degraded"

    # --- requests --------------------------------------------------------------------------------

    async def perform(self, request: Request) -> Response:
        """The server's reply, whatever it says. Raises when no reply could be had.

        A caller that is cancelled leaves nothing behind that matters: its reply is thrown away.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._stopped or self.standing == 2:
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise self._unavailable()
        request.queued_at = trio.current_time()
        must_wait = self._state.would_wait(request)
        self._state.queue.push(request)
        if not must_wait:
            await self._decide_soon(request)
        try:
            await request.done.wait()
        except trio.Cancelled:
            self._abandon(request)
            raise
        if request.error is not None:
            # Several requests may have failed for one reason; each caller gets an error of its own.
            raise copy.copy(request.error) from request.error
        response, request.response = request.response, None
        # The response knows its request: a cycle would keep its body until the collector comes by.
        assert response is not None
        return response

    async def _decide_soon(self, request: Request) -> None:
        """What comes in one turn of the loop is decided, and sent, together; a reader's at once."""
        if not request.background:
            self.update()
        elif not self._gathering:
            self._gathering = True
            try:
                await trio.lowlevel.cancel_shielded_checkpoint()
            finally:
                self._gathering = False
            self.update()

    def move(self, request: Request, lane: Lane) -> None:
        """Put a request that still waits for a connection into another lane."""
        if self._state.queue.remove(request):
            request.lane = lane
            self._state.queue.push(request)
            self.update()
        else:
            request.lane = lane

    def _abandon(self, request: Request) -> None:
        request.abandoned = True
        if not self._state.queue.remove(request):
            connection = self._connections.get(request.connection)
            if connection is not None and request in connection.inflight:
                connection.abandon(request)
        self.update()

    def _unavailable(self) -> UsenetfsError:
        if self._stopped:
            return ConnectionLostError("the news client has stopped", server=self.name)
        if self.last_error is None:
            return ConnectError(f"{self.name} is not reachable", server=self.name)
        wait = max(0.0, self.breaker.retry_at - trio.current_time())
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
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await self._watch_time()
        finally:
            self._nursery = None
            self._stopped = True
            stopped = self._unavailable()
            for request in self._state.queue.drain():
                request.fail(stopped)

    async def _watch_time(self) -> None:
        while True:
            self.update()
            self._kick = trio.Event()
            self._timer_at = self._state.next_look(trio.current_time())
            with trio.move_on_at(self._timer_at):
                await self._kick.wait()

    def update(self) -> None:
        """Decide, and do what was decided. Never waits."""
        if self._nursery is None:
            return
        now = trio.current_time()
        plan = self._state.decide(now)
        for connection, error in plan.end:
            connection.end(error)
        commands: dict[Connection, bytes] = {}
        for connection, request in plan.send:
            try:
                command = connection.command(request)
            except UsenetfsError as error:
                request.fail(error)
            else:
                commands[connection] = commands.get(connection, b"") + command
        for connection, together in commands.items():
            connection.send(together)
        for connection in plan.check:
            connection.check()
        for connection in plan.dial:
            self._nursery.start_soon(self._live, connection)
        if plan.hopeless:
            self._fail(plan.hopeless, self._unavailable())
        if self._timer_at > now + BUSY_TICK and (plan.send or plan.dial or self._state.queue):
            self._kick.set()

    def _fail(self, requests: list[Request], error: UsenetfsError) -> None:
        for request in requests:
            request.fail(error)

    def _new_connection(self, number: int) -> Connection:
        return Connection(
            number,
            self.settings,
            self._traits,
            dialer=self._dialer,
            on_reply=self._on_reply,
            on_replies=self._on_replies,
        )

    # --- what happens ----------------------------------------------------------------------------

    def _on_reply(self, connection: Connection, request: Request, response: Response) -> None:
        """One reply; :meth:`update` follows once all that came together are taken."""
        now = trio.current_time()
        if request.ahead and not request.committed:
            self._give_up_post_ahead(f"{response.code} {response.text}")
            if not request.abandoned:
                self._state.queue.push_front(request)
            return
        if connection.round_trip.value is not None:
            self.health.latency.add(connection.round_trip.value)
        fine = response.code < 500 and response.code not in {400, 403}
        if response.verb is Verb.BODY and response.code == 222:
            fine = response.crc_ok
            if connection.interval.value:
                self.health.rate.add(response.wire_size / connection.interval.value)
        if response.verb is Verb.POST and response.code == 240:
            self.health.post_time.add(now - request.sent_at)
        if fine:
            connection.failures = 0
            self.health.succeeded(now)
        else:
            self.errors += 1
            connection.failures += 1
            self.health.failed(now)
        self.requests[request.verb.name] += 1
        if not request.abandoned:
            request.succeed(response)

    def _give_up_post_ahead(self, reason: str) -> None:
        """A server that was said to cope does not; the article itself is in no way concerned."""
        if not self._traits.post_ahead_failed:
            self._traits.post_ahead_failed = True
            log.warning(
                "%s does not take a POST sent ahead (%s): one after the other from now on; "
                "set post_ahead = false for it",
                self.name,
                reason,
            )

    def _on_replies(self) -> None:
        self.breaker.succeeded()
        self.update()

    async def _live(self, connection: Connection) -> None:
        """One connection from dialling to its end."""
        error: UsenetfsError | None = ConnectionLostError("the news client has stopped")
        try:
            error = await self._open(connection)
            if error is None:
                self.update()
                error = await connection.serve()
        finally:
            connection.state = ConnectionState.CLOSING
            connection.close_now()
            del self._connections[connection.number]
            self._bytes_up += connection.bytes_up
            self._bytes_down += connection.bytes_down
            self._settle_owed(connection, error)
        self.update()

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
            self.breaker.admitted()
            return None
        error.server = self.name
        connection.state = ConnectionState.CLOSING
        self._dial_failed(error)
        return error

    def _dial_failed(self, error: UsenetfsError) -> None:
        now = trio.current_time()
        if isinstance(error, TooManyConnectionsError | AuthenticationError) and (
            self._lower_limit(now, error)
        ):
            return
        self._failed(now, error, fatal=isinstance(error, FATAL))

    def _lower_limit(self, now: float, error: UsenetfsError) -> bool:
        """Learn the limit from a connection that was refused or ended; whether there is one."""
        allowed = len(self._state.ready())
        if isinstance(error, TooManyConnectionsError):
            # Those that are being dialled meanwhile may have been let in; each that has not been
            # comes by here.
            allowed += self._state.dialling()
        # Else who is logged in already and is refused once more has too many, whatever the words.
        if allowed:
            self._state.lower_limit(now, allowed)
            log.info("%s allows %d connections now: %s", self.name, allowed, error)
        return bool(allowed)

    def _failed(self, now: float, error: UsenetfsError, *, fatal: bool) -> None:
        """The server could not be reached, or let us in and was of no use. ``fatal``: and will not
        soon; one refusal after a login that worked does not say that."""
        was = self.breaker.state
        self._note(error)
        self.health.failed(now)
        self.breaker.failed(now, fatal=fatal)
        if was is BreakerState.CLOSED and self.breaker.state is BreakerState.OPEN:
            wait = self.breaker.retry_at - now
            log.warning("%s is given up for %.0f s, then tried again: %s", self.name, wait, error)

    def _settle_owed(self, connection: Connection, error: UsenetfsError | None) -> None:
        """Decide what becomes of the requests that an ended connection owed a reply."""
        owed = [request for request in connection.inflight if not request.abandoned]
        connection.inflight.clear()
        now = trio.current_time()
        useless = not connection.answered and now - connection.last_used < USELESS_WITHIN
        if error is not None and (owed or connection.checking or useless):
            if isinstance(error, TooManyConnectionsError) and self._lower_limit(now, error):
                pass  # it works, only not as often as we thought
            elif connection.answered or self._stopping:
                self._note(error)
                self.health.failed(now)
            else:
                self._failed(now, error, fatal=isinstance(error, QuotaError))
            log.info("a connection to %s ended (%d replies owed): %s", self.name, len(owed), error)
        reason = error or ConnectionLostError(f"{self.name}: the connection was closed")
        if error is not None and owed and owed[0].ahead and not owed[0].committed:
            self._give_up_post_ahead(str(error))
        stale = connection.last_heard + STALE_AFTER < connection.head_since
        for request in reversed(owed):
            if request.committed:
                request.fail(
                    PostInDoubtError(
                        f"{self.name}: the reply to an article was lost ({reason})",
                        server=self.name,
                    )
                )
            elif request.ahead and not self._stopping:
                self._state.queue.push_front(request)  # it was our own fault
            elif request.lost >= MAX_LOST or self._stopping or not _another_may(reason):
                request.fail(reason)
            else:
                request.lost += not stale
                self.retries[reason.error_code] += 1
                self._state.queue.push_front(request)

    @property
    def _stopping(self) -> bool:
        return self._nursery is None or self._nursery.cancel_scope.cancel_called or self._stopped

    def _note(self, error: UsenetfsError) -> None:
        self.errors += 1
        self.last_error = error


def _another_may(error: UsenetfsError) -> bool:
    """Whether another connection to the same server may do what one that ended did not."""
    return rule_of(error).at_once is AtOnce.OTHER_CONNECTION
