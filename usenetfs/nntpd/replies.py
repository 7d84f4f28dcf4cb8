"""The sending half of a session: replies in order, each at its time.

Owns the queue of replies that are decided and not sent, and its bound. Invariants: replies leave
in the order in which they were given; each no earlier than ``due``, and waiting for one delays no
``due`` of those behind it, so that latency costs pipelined commands nothing. A client that takes
nothing for ``patience`` seconds loses the connection; for one that has ended its side nothing is
held back any more, so that a session outlives its client by no fault. Must not know: what the
replies mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import trio

from usenetfs.nntpd.counters import ServerCounters
from usenetfs.nntpd.wire import FilePart, Wire

QUEUED_REPLIES = 64
"""A client that asks faster than it reads waits."""


@dataclass(slots=True)
class Reply:
    """``head`` and perhaps a part of the spool, at ``due``; at most ``rate`` octets a second."""

    head: bytes
    due: float
    part: FilePart | None = None
    rate: float = math.inf
    sent: trio.Event | None = None
    """Set once the reply is in the kernel's hands."""


class ReplyQueue:
    """What the session puts in, :meth:`send_all` sends. Leaving it lets the sender finish."""

    def __init__(self, wire: Wire, counters: ServerCounters, *, patience: float) -> None:
        self._wire = wire
        self._counters = counters
        self._patience = patience
        self._in, self._out = trio.open_memory_channel[Reply](QUEUED_REPLIES)
        self._hurried = trio.Event()

    def __repr__(self) -> str:
        return f"<ReplyQueue {self._in.statistics().current_buffer_used} waiting>"

    async def put(self, reply: Reply) -> None:
        await self._in.send(reply)

    def hurry(self) -> None:
        """The client will send nothing more: what it is still owed goes out without delay."""
        self._hurried.set()

    async def drained(self) -> None:
        """Return when everything given so far has been sent."""
        last = Reply(b"", -math.inf, sent=trio.Event())
        await self.put(last)
        assert last.sent is not None
        await last.sent.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """What was put in is still sent; then the sender ends."""
        self._in.close()

    async def send_all(self) -> None:
        """Send until the queue is closed and empty."""
        async with self._out:
            async for reply in self._out:
                await self._wait_until(reply.due)
                await self._send(reply)
                if reply.sent is not None:
                    reply.sent.set()

    async def _wait_until(self, time: float) -> None:
        with trio.move_on_at(time):
            await self._hurried.wait()

    async def _send(self, reply: Reply) -> None:
        self._counters.bytes_sent += len(reply.head) + (reply.part.length if reply.part else 0)
        if math.isfinite(reply.rate):
            await self._drip(reply)
            return
        with trio.move_on_after(self._patience) as patience:
            if reply.head:
                await self._wire.send(reply.head, more=reply.part is not None)
            if reply.part is not None:
                await self._wire.send_part(reply.part)
        if patience.cancelled_caught:
            raise trio.BrokenResourceError("the client takes nothing")

    async def _drip(self, reply: Reply) -> None:
        """Ten pieces a second; slow replies are in memory whole."""
        view = memoryview(reply.head)
        size = max(1, int(reply.rate / 10))
        while view:
            with trio.move_on_after(self._patience) as patience:
                await self._wire.send(view[:size])
            if patience.cancelled_caught:
                raise trio.BrokenResourceError("the client takes nothing")
            view = view[size:]
            await self._wait_until(trio.current_time() + size / reply.rate)
