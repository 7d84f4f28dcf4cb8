"""Who of pyfuse3's workers reads the next request of the kernel.

pyfuse3 passes the turn from worker to worker by a lock, whether the last one waits for anything or
not: three switches of tasks a request. Most requests of a filesystem are answered at once, so here
a worker keeps its turn until its handler has to wait. Creating, writing and closing a small file on
a filesystem that does nothing took 160 us of processor time by the lock and takes 54 so.

A program that waits for one answer asks for the next thing a few microseconds after it. So the
worker lingers for a moment before it goes to sleep: being woken costs more than that, much more
where the processor is a virtual one and was halted meanwhile. Unpacking 2,400 files took 3.6 s, of
which nobody worked for more than one, and takes 1.9 so, and less processor time
(``make bench-metadata ARGS='--only untar'``, two cores, nothing else at work).

Owns: whose turn it is, and who waits for one. Invariants:

- One worker at most has the turn: it waits for the kernel, or runs a handler that has not waited.
- When a handler waits for the first time, the guard says so (:meth:`Turns.hand_over`), and the
  worker that came last has the turn next: the same few buffers are used again and again.
- Nobody keeps the turn for longer than :data:`UNINTERRUPTED` and one :data:`LINGER` without letting
  other tasks run.
- When the kernel lets go of the mount every worker hears of it, or the session would not end.

It replaces one function of pyfuse3's, if that is there and the session's descriptor can be told;
otherwise everything is as pyfuse3 does it. It knows no request.
"""

from __future__ import annotations

import logging
import os
import select
import time
from typing import Final

import pyfuse3
import trio

log = logging.getLogger("usenetfs.performance")

UNINTERRUPTED: Final = 0.001
"""Seconds that requests may follow each other without a chance for other tasks."""

LINGER: Final = 50e-6
"""Seconds that a worker looks for the next request before it sleeps. 100 and 200 us gain nothing
over it; while nobody asks for anything it costs nothing."""

LOOK: Final = 1.0
"""Seconds between two looks whether the kernel has let go between our poll and our read."""

REPLACED: Final = "_wait_fuse_readable"
"""The function of pyfuse3's: true when there is something to read, false when there never will
be."""


class Turns:
    """The turns at reading from ``descriptor``."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._reader: trio.lowlevel.Task | None = None
        self._parked: list[trio.lowlevel.Task] = []
        self._over = False
        self._closing = False
        self._rested = time.perf_counter()

    def __repr__(self) -> str:
        state = "over" if self._over else "taken" if self._reader is not None else "free"
        return f"<Turns {state}, {len(self._parked)} wait>"

    async def wait(self) -> bool:
        """Called by a worker that is done with its last request; returns when there is another."""
        me = trio.lowlevel.current_task()
        if self._reader is None:
            self._reader = me
        elif self._reader is not me and not self._over:
            await self._park(me)
        if time.perf_counter() - self._rested > UNINTERRUPTED:
            await trio.lowlevel.checkpoint()
            self._rested = time.perf_counter()
        while not self._over and not self._readable_soon():
            try:
                await trio.lowlevel.wait_readable(self._descriptor)
            except trio.ClosedResourceError:
                self._closing = True
                self._end()
            self._rested = time.perf_counter()
        return not self._closing  # what is read when it is over is that it is over

    def hand_over(self) -> None:
        """The handler of whoever has the turn is about to wait."""
        if self._reader is not trio.lowlevel.current_task():
            return
        self._reader = None
        if self._parked:
            self._reader = self._parked.pop()
            trio.lowlevel.reschedule(self._reader)

    async def watch(self) -> None:
        """Until cancelled: nobody is left waiting when the kernel has let go.

        A worker that finds that out by reading ends without another call of :meth:`wait`.
        """
        while not self._over:
            await trio.sleep(LOOK)
            self._readable()

    async def _park(self, me: trio.lowlevel.Task) -> None:
        def give_up(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._parked.remove(me)
            return trio.lowlevel.Abort.SUCCEEDED

        self._parked.append(me)
        await trio.lowlevel.wait_task_rescheduled(give_up)

    def _readable_soon(self) -> bool:
        until = time.perf_counter() + LINGER
        while not self._readable():
            if time.perf_counter() > until:
                return False
        return True

    def _readable(self) -> bool:
        found = self._poll.poll(0)
        if found and found[0][1] & ~select.POLLIN:
            self._end()
        return bool(found)

    def _end(self) -> None:
        self._over = True
        while self._parked:
            trio.lowlevel.reschedule(self._parked.pop())


def take_over() -> Turns | None:
    """Let pyfuse3's workers take turns as this module says; after its ``init``, before ``main``.

    None, and nothing is changed, where that cannot be.
    """
    descriptor = session_descriptor()
    if descriptor is None or not hasattr(pyfuse3, REPLACED):
        log.info("this pyfuse3 is not known: its workers take turns by its own lock")
        return None
    turns = Turns(descriptor)
    setattr(pyfuse3, REPLACED, turns.wait)
    return turns


def session_descriptor() -> int | None:
    """The descriptor of the only session of this process; None if it cannot be told."""
    found = []
    try:
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                    found.append(int(name))
            except FileNotFoundError:
                continue  # the listing's own
    except OSError:
        return None
    return found[0] if len(found) == 1 else None
