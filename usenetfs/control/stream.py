"""Server-sent events: the status again and again, for whoever watches.

Owns the form of the stream and the number of those who watch. Invariants: each client has its own
loop and no queue, a slow one gets fewer events and never holds anybody up; there are at most
:data:`MAX_WATCHERS` at a time; what is sent is what ``/v1/status`` answers.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final, Protocol

import trio

from usenetfs.control.endpoints import EVENTS_TYPE
from usenetfs.control.message import Message
from usenetfs.control.model import HistoryReport, StatusReport
from usenetfs.errors import FilesystemBusyError, UsageError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

log = logging.getLogger("usenetfs.control")

MAX_WATCHERS: Final = 32
MIN_INTERVAL: Final = 0.2
MAX_INTERVAL: Final = 3600.0


class Watched(Protocol):
    """Whom they watch."""

    async def status(self) -> StatusReport: ...

    async def history(self) -> HistoryReport: ...


class Watchers:
    """Those who watch one daemon."""

    def __init__(self, facade: Watched) -> None:
        self._facade = facade
        self.count = 0

    def __repr__(self) -> str:
        return f"<Watchers {self.count}>"

    def watch(self, interval: str | None) -> EventSource:
        """An answer that lasts. UsageError for an interval that is none, FilesystemBusyError."""
        try:
            seconds = 1.0 if interval is None else float(interval)
        except ValueError:
            seconds = -1.0
        if not MIN_INTERVAL <= seconds <= MAX_INTERVAL:
            raise UsageError(
                f"interval must be a number of seconds, {MIN_INTERVAL:g} to {MAX_INTERVAL:g}"
            )
        if self.count >= MAX_WATCHERS:
            raise FilesystemBusyError(
                f"{self.count} others watch already", hint="close some of the pages"
            )
        return EventSource(self, self._facade, seconds)


class EventSource:
    """An ASGI response."""

    def __init__(self, watchers: Watchers, facade: Watched, interval: float) -> None:
        self._watchers = watchers
        self._facade = facade
        self._interval = interval

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", EVENTS_TYPE.encode()),
            (b"cache-control", b"no-store"),
        ]
        self._watchers.count += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when_gone, receive, nursery.cancel_scope)
                async with contextlib.aclosing(self._events()) as events:
                    async for body in events:
                        await send({"type": "http.response.body", "body": body, "more_body": True})
        except Exception:
            log.exception("the control API failed in the middle of its events")
        finally:
            self._watchers.count -= 1

    async def _events(self) -> AsyncGenerator[bytes]:
        yield encode("history", await self._facade.history())
        told: float | None = None
        while True:
            status = await self._facade.status()
            yield encode("status", status)
            for problem in status.recent_errors:
                if told is not None and problem.time > told:
                    yield encode("problem", problem)
            times = [problem.time for problem in status.recent_errors]
            told = max((told or 0.0, *times))
            await trio.sleep(self._interval)


def encode(event: str, message: Message) -> bytes:
    """One event."""
    data = json.dumps(message.to_json(), separators=(",", ":"))
    return f"event: {event}\ndata: {data}\n\n".encode("ascii")


async def _cancel_when_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            scope.cancel()
            return
