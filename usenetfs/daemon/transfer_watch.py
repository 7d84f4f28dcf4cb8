"""Telling how a transfer goes on, while it does."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import trio

from usenetfs.control.events import Event
from usenetfs.daemon.reasons import raise_the_reason
from usenetfs.daemon.speed import SpeedMeter
from usenetfs.tracker import Kind, Tracker

INTERVAL: Final = 0.5
"""Seconds between two reports of progress."""


class Told(Protocol):
    """What the work counts: ``trees.Tally``, or one like it. Octets."""

    @property
    def emit(self) -> Callable[[Event], None]: ...
    @property
    def counting(self) -> bool: ...
    @property
    def found_bytes(self) -> int: ...
    @property
    def bytes_done(self) -> int: ...
    @property
    def bytes_skipped(self) -> int: ...

    def progress(self, phase: str, **more: Any) -> Event:
        """Where it stands."""
        ...


class Watch:
    """``pending``: octets that count as done and are not safe yet. ``tracker`` is told of it as an
    operation of ``kind``."""

    def __init__(
        self,
        tally: Told,
        phase: str,
        pending: Callable[[], int],
        *,
        tracker: Tracker,
        kind: Kind,
        name: str,
    ) -> None:
        self.phase = phase
        self._tracker = tracker
        self._kind = kind
        self._name = name
        self._tally = tally
        self._pending = pending
        self._started = time.monotonic()
        self._speed = SpeedMeter(lambda: max(tally.bytes_done - pending() - tally.bytes_skipped, 0))

    async def over(
        self,
        work: Callable[[], Awaitable[None]],
        counting: Callable[..., Awaitable[None]],
        *arguments: Any,
    ) -> None:
        """Report while ``work`` goes on, ``counting(*arguments)`` beside it; then that it ended."""
        with self._tracker.track(self._kind, self._name) as operation:
            operation.progress = self._event
            await self._over(work, counting, *arguments)
            operation.octets = self._tally.bytes_done

    async def _over(
        self,
        work: Callable[[], Awaitable[None]],
        counting: Callable[..., Awaitable[None]],
        *arguments: Any,
    ) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._report)
                nursery.start_soon(counting, *arguments)
                await work()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise_the_reason(group)
        self._tally.emit(self._event())
        end = self._tally.progress("finished", seconds=time.monotonic() - self._started)
        self._tally.emit({**end, "event": "end"})

    async def _report(self) -> None:
        while True:
            self._tally.emit(self._event())
            await trio.sleep(INTERVAL)
            self._speed.sample()

    def _event(self) -> Event:
        tally, pending, speed = self._tally, self._pending(), self._speed.report()
        left = max(tally.found_bytes - tally.bytes_done, 0) + pending
        seconds = left / speed.now if speed.now > 1024 else None
        return tally.progress(
            self.phase,
            pending=pending,
            speed=speed.now,
            time_left=None if tally.counting and left else seconds,
        )
