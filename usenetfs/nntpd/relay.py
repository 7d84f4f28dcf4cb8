"""A TCP relay that makes a near server a distant one.

Every octet is held for half the round trip in each direction, however much is under way, so the
delay limits no throughput by itself; a rate may limit it. Used by tests and benchmarks where the
kernel cannot be asked for a delay.

Octets wait in pipes of the kernel, spliced in and out: they are never copied into this process, and
a gigabyte costs a quarter of a CPU second (by ``recv`` and ``send`` it was one, and the relay was
what benchmarks measured).

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
import contextlib
import errno
import fcntl
import math
import os
import resource
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

RECEIVE: Final = 1 << 20
"""Octets in one pipe at most: what an unprivileged process may ask for."""
MAX_CHUNKS: Final = 128
"""Pipes (two descriptors each) under way in one direction of one connection."""
DESCRIPTORS: Final = 65_536
"""What the program asks for: far lines hold many pipes."""
FLAGS: Final = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE


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
        self._pipes = _Pipes()
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
        try:
            await trio.serve_listeners(self._connect, listeners)
        finally:
            self._pipes.close()

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
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._deliver, held, line, sink)
                await self._collect(held, source)
        finally:
            for chunk in held.chunks:
                chunk.pipe.close()

    async def _collect(self, held: _Held, source: trio.SocketStream) -> None:
        while True:
            while held.octets >= self.settings.window or len(held.chunks) >= MAX_CHUNKS:
                await held.changed()
            pipe = self._pipes.take()
            if pipe is None:  # no descriptors left
                if not held.chunks:
                    raise trio.BrokenResourceError("too many connections for a relay")
                await held.changed()
                continue
            try:
                count = await pipe.fill(source, self.settings.window - held.octets)
            except BaseException:
                pipe.close()
                raise
            due = trio.current_time() + self.settings.round_trip / 2
            held.chunks.append(_Chunk(due, pipe, count))
            held.octets += count
            held.fire()
            if not count:
                return

    async def _deliver(self, held: _Held, line: _Line, sink: trio.SocketStream) -> None:
        while True:
            while not held.chunks:
                await held.changed()
            chunk = held.chunks[0]
            await trio.sleep_until(line.pass_by(chunk.due, chunk.count / self.settings.rate))
            if not chunk.count:
                await sink.send_eof()
                return
            await chunk.pipe.drain(sink, chunk.count)
            held.chunks.popleft()
            self._pipes.put(chunk.pipe)
            held.octets -= chunk.count
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


class _Pipe:
    """A pipe of the kernel that octets wait in, so that they are never copied to here and back."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(PermissionError):  # as small as it is, it will do
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, RECEIVE)

    async def fill(self, source: trio.SocketStream, limit: int) -> int:
        """Wait for octets and take what there is, as far as it fits; 0 at the end."""
        await trio.lowlevel.checkpoint()  # a fast source must not keep the others out
        while True:
            try:
                return os.splice(source.socket.fileno(), self._in, min(limit, RECEIVE), flags=FLAGS)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(source.socket)
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def drain(self, sink: trio.SocketStream, count: int) -> None:
        """Send all that is in it."""
        while count:
            try:
                count -= os.splice(self._out, sink.socket.fileno(), count, flags=FLAGS)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(sink.socket)
            except OSError as error:
                raise trio.BrokenResourceError from error

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)


class _Pipes:
    """Pipes that are empty and at hand."""

    def __init__(self) -> None:
        self._free: list[_Pipe] = []

    def take(self) -> _Pipe | None:
        """None: this process may have no more descriptors."""
        if self._free:
            return self._free.pop()
        try:
            return _Pipe()
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            return None

    def put(self, pipe: _Pipe) -> None:
        self._free.append(pipe)

    def close(self) -> None:
        for pipe in self._free:
            pipe.close()
        self._free.clear()


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Octets that came together, in a pipe of their own. ``count`` 0: the end."""

    due: float
    pipe: _Pipe
    count: int


@dataclass(slots=True)
class _Held:
    """Octets under way in one direction of one connection, and a signal when that changes."""

    chunks: deque[_Chunk] = field(default_factory=deque)
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

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, DESCRIPTORS)), hard))

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            relay: Relay = await nursery.start(Relay(settings).run)
            sys.stdout.write(f"{settings.host}:{relay.port}\n")
            sys.stdout.flush()

    trio.run(run)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
