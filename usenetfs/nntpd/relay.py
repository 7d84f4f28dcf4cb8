"""A TCP relay that makes a near server a distant one.

Every octet is held for half the round trip in each direction, however much is under way, so the
delay limits no throughput by itself; a rate may limit it. Used by tests and benchmarks where the
kernel cannot be asked for a delay.

Memory: what is held is bounded by ``window`` octets a direction and connection; when that is full
the relay stops reading, as a long line with a full window would.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import trio

RECEIVE = 256 * 1024


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """``round_trip`` in seconds, ``rate`` in octets a second and direction."""

    target_host: str
    target_port: int
    round_trip: float = 0.0
    rate: float = math.inf
    window: int = 64 << 20
    host: str = "127.0.0.1"
    port: int = 0


class Relay:
    """A relay that listens. ``connections``: open now."""

    def __init__(self, settings: RelaySettings) -> None:
        self.settings = settings
        self.port = 0
        self.connections = 0
        self._scopes: set[trio.CancelScope] = set()

    def cut(self) -> int:
        """End every connection, as a line that breaks would; how many there were."""
        scopes = list(self._scopes)
        for scope in scopes:
            scope.cancel()
        return len(scopes)

    async def run(self, *, task_status: trio.TaskStatus[Relay] = trio.TASK_STATUS_IGNORED) -> None:
        """Relay until cancelled."""
        listeners = await trio.open_tcp_listeners(self.settings.port, host=self.settings.host)
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started(self)
        await trio.serve_listeners(self._connect, listeners)

    async def _connect(self, near: trio.SocketStream) -> None:
        try:
            far = await trio.open_tcp_stream(self.settings.target_host, self.settings.target_port)
        except OSError:
            await near.aclose()
            return
        self.connections += 1
        scope = trio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                async with near, far, trio.open_nursery() as nursery:
                    nursery.start_soon(self._one_way, near, far)
                    nursery.start_soon(self._one_way, far, near)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # one side went away, and the nursery ended the other
        finally:
            self._scopes.discard(scope)
            self.connections -= 1

    async def _one_way(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        held: deque[tuple[float, bytes]] = deque()
        state = _Direction()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, held, state, sink)
            while True:
                while state.octets >= self.settings.window:
                    await state.changed()
                data = await source.receive_some(RECEIVE)
                held.append((trio.current_time() + self.settings.round_trip / 2, data))
                state.octets += len(data)
                state.fire()
                if not data:
                    return

    async def _deliver(
        self, held: deque[tuple[float, bytes]], state: _Direction, sink: trio.SocketStream
    ) -> None:
        free_at = 0.0
        while True:
            while not held:
                await state.changed()
            due, data = held.popleft()
            free_at = max(free_at, due) + len(data) / self.settings.rate
            await trio.sleep_until(free_at if math.isfinite(self.settings.rate) else due)
            if not data:
                await sink.send_eof()
                return
            await sink.send_all(data)
            state.octets -= len(data)
            state.fire()


class _Direction:
    """Octets held, and a signal when that changes."""

    def __init__(self) -> None:
        self.octets = 0
        self._event = trio.Event()

    def fire(self) -> None:
        self._event.set()
        self._event = trio.Event()

    async def changed(self) -> None:
        await self._event.wait()
