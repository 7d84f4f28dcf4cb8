"""A TCP relay that makes a near server a distant one.

Every octet is held for half the round trip in each direction, however much is under way, so the
delay limits no throughput by itself; a rate may limit it. Used by tests and benchmarks where the
kernel cannot be asked for a delay.

Memory: what is held is bounded by ``window`` octets a direction and connection; when that is full
the relay stops reading, as a long line with a full window would. All connections share one line,
so ``rate`` is that of all together.

As a program, for clients that are not Python::

    python -m usenetfs.nntpd.relay --target HOST:PORT [--listen PORT] [--round-trip SECONDS]
        [--rate OCTETS]

prints ``host:port`` when it listens, and relays until it is ended.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

RECEIVE = 256 * 1024


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """``round_trip`` in seconds, ``rate`` in octets a second for each direction."""

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
        self._up = _Line()
        self._down = _Line()

    def __repr__(self) -> str:
        return f"<Relay port={self.port} connections={self.connections}>"

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
                    nursery.start_soon(self._one_way, near, far, self._up)
                    nursery.start_soon(self._one_way, far, near, self._down)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # one side went away, and the nursery ended the other
        finally:
            self._scopes.discard(scope)
            self.connections -= 1

    async def _one_way(
        self, source: trio.SocketStream, sink: trio.SocketStream, line: _Line
    ) -> None:
        held = _Held()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, held, line, sink)
            while True:
                while held.octets >= self.settings.window:
                    await held.changed()
                data = await source.receive_some(RECEIVE)
                due = trio.current_time() + self.settings.round_trip / 2
                held.chunks.append((due, data))
                held.octets += len(data)
                held.fire()
                if not data:
                    return

    async def _deliver(self, held: _Held, line: _Line, sink: trio.SocketStream) -> None:
        while True:
            while not held.chunks:
                await held.changed()
            due, data = held.chunks.popleft()
            await trio.sleep_until(line.pass_by(due, len(data) / self.settings.rate))
            if not data:
                await sink.send_eof()
                return
            await sink.send_all(data)
            held.octets -= len(data)
            held.fire()


@dataclass(slots=True)
class _Line:
    """One direction of the line that all connections share."""

    free_at: float = 0.0

    def pass_by(self, due: float, duration: float) -> float:
        """When something that takes ``duration`` of the line, and not before ``due``, is over."""
        if not duration:
            return due
        self.free_at = max(self.free_at, due) + duration
        return self.free_at


@dataclass(slots=True)
class _Held:
    """Octets under way in one direction of one connection, and a signal when that changes."""

    chunks: deque[tuple[float, bytes]] = field(default_factory=deque)
    octets: int = 0
    event: trio.Event = field(default_factory=trio.Event)

    def fire(self) -> None:
        self.event.set()
        self.event = trio.Event()

    async def changed(self) -> None:
        await self.event.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; see the module."""
    parser = argparse.ArgumentParser(description="Relay TCP over a long line.")
    parser.add_argument("--target", required=True, metavar="HOST:PORT")
    parser.add_argument("--listen", type=int, default=0, metavar="PORT", help="0: any free one")
    parser.add_argument("--round-trip", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--rate", type=float, default=math.inf, metavar="OCTETS", help="a second")
    options = parser.parse_args(arguments)
    host, _, port = options.target.rpartition(":")
    settings = RelaySettings(
        host, int(port), options.round_trip, rate=options.rate, port=options.listen
    )

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            relay: Relay = await nursery.start(Relay(settings).run)
            sys.stdout.write(f"{settings.host}:{relay.port}\n")
            sys.stdout.flush()

    trio.run(run)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
