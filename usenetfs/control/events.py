"""Answers that last: one JSON object a line, for as long as the work goes on.

Owns the queue between work that must not wait and a client that may be slow. Invariants: the queue
is bounded (what does not fit is counted and said so); a client that goes away cancels the work; the
last line is ``{"event": "end", …}`` or ``{"event": "error", …}``, and a stream without one broke
off.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from usenetfs.control.model import ErrorReport
from usenetfs.errors import UsenetfsError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

log = logging.getLogger("usenetfs.control")

Event = dict[str, Any]
Emit = Callable[[Event], None]
Job = Callable[[Emit], Awaitable[None]]

EVENTS_TYPE: Final = "application/x-ndjson"
MAX_QUEUED: Final = 10_000


class EventQueue:
    """Events on their way to one client. :meth:`put` never waits."""

    def __init__(self, capacity: int = MAX_QUEUED) -> None:
        self._capacity = capacity
        self._events: deque[Event] = deque()
        self._omitted = 0
        self._closed = False
        self._arrived = trio.Event()

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: Event) -> None:
        """Queue an event; when there are too many, it is only counted."""
        if len(self._events) >= self._capacity:
            self._omitted += 1
        else:
            last = self._events[-1]["event"] if self._events else None
            if last == event["event"] == "progress":
                self._events.pop()  # nobody wants the older one
            self._events.append(event)
        self._arrived.set()

    def close(self) -> None:
        """Nothing more comes."""
        self._closed = True
        self._arrived.set()

    async def take(self) -> list[Event]:
        """What there is, once there is something; nothing at the end."""
        while not self._events and not self._closed:
            self._arrived = trio.Event()
            await self._arrived.wait()
        events = list(self._events)
        self._events.clear()
        if self._omitted:
            events.append({"event": "omitted", "count": self._omitted})
            self._omitted = 0
        await trio.lowlevel.checkpoint()
        return events


class EventStream:
    """An ASGI response: runs ``job`` and sends what it emits, until it ends or the client does."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._queue = EventQueue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", EVENTS_TYPE.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_gone, receive, nursery.cancel_scope)
            nursery.start_soon(self._run)
            while events := await self._queue.take():
                body = b"".join(json.dumps(event).encode("ascii") + b"\n" for event in events)
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            nursery.cancel_scope.cancel()

    async def _run(self) -> None:
        try:
            await self._job(self._queue.put)
        except UsenetfsError as error:
            report = ErrorReport(error.error_code, error.message, error.hint, error.recoverable)
            self._queue.put({"event": "error", **report.to_json()})
        except Exception:
            log.exception("the control API failed in the middle of an answer")
            report = ErrorReport("internal", "the daemon failed at this; its log says more")
            self._queue.put({"event": "error", **report.to_json()})
        finally:
            self._queue.close()

    async def _cancel_when_gone(self, receive: Receive, scope: trio.CancelScope) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                scope.cancel()
                return
