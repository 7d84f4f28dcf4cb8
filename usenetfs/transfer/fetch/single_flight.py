"""One piece of work for all who want its result at the same time.

The work runs in a nursery given at construction, not in the first caller's task: so a caller that
is cancelled takes nothing away from the others. A failure reaches everybody who waited, and is
forgotten with the work: the next caller starts anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import trio

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Flight(Generic[V]):
    """Once ``done``, ``value`` is set, or ``error`` says why not."""

    __slots__ = ("done", "error", "value")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.value: list[V] = []
        self.error: Exception = trio.BrokenResourceError("the work was cancelled")


class SingleFlight(Generic[K, V]):
    """At most one flight per key. Not thread-safe: one event loop."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._flights: dict[K, _Flight[V]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: K) -> bool:
        return key in self._flights

    def __repr__(self) -> str:
        return f"<SingleFlight {len(self)} under way>"

    async def do(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """The result of ``work()``, or of the flight for ``key`` that is already under way."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            self._nursery.start_soon(self._fly, key, flight, work)
        await flight.done.wait()
        if not flight.value:
            raise flight.error
        return flight.value[0]

    async def _fly(self, key: K, flight: _Flight[V], work: Callable[[], Awaitable[V]]) -> None:
        try:
            flight.value.append(await work())
        except Exception as error:  # noqa: BLE001 - handed to every waiter, who raise it
            flight.error = error
        finally:
            del self._flights[key]
            flight.done.set()
