"""A signal that many tasks may wait for, again and again."""

from __future__ import annotations

import trio


class Pulse:
    """``wait()`` returns at the first ``fire()`` after it was called; nothing is remembered.

    So look at the condition first and wait after, with no checkpoint in between::

        while not condition():
            await pulse.wait()
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = trio.Event()

    def fire(self) -> None:
        """Wake everybody who waits now."""
        self._event.set()
        self._event = trio.Event()

    async def wait(self) -> None:
        await self._event.wait()

    async def wait_at_most(self, seconds: float) -> None:
        """As :meth:`wait`, and returns after ``seconds`` in any case."""
        with trio.move_on_after(seconds):
            await self._event.wait()
