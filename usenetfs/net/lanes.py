"""Who goes next: requests that wait for a connection, in lanes.

Rules, in the order in which they are applied:

1. what has waited past its lane's patience is *overdue*; one overdue request goes first out of
   every :data:`OVERDUE_SHARE` that leave, so that nothing starves for ever, and a reader is held
   up by it at most once in so many;
2. otherwise the lowest lane goes first: readers, read-ahead, metadata, uploads, verification;
3. within a lane the *shares* (one per open file, say) take turns, and within a share it is first
   come, first served, so that a reader who asks for much does not shut out one who asks for
   little.

A pure data structure: no clock (times are arguments), no I/O, never waits. What it holds is
bounded by its callers: each waiting request belongs to a task that waits for it.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Final, Generic, Protocol, TypeVar

from usenetfs.types import Lane

PATIENCE: Final[dict[Lane, float]] = {
    Lane.READER: math.inf,  # always first anyway
    Lane.METADATA: 2.0,
    Lane.UPLOAD: 5.0,
    Lane.READAHEAD: 10.0,
    Lane.VERIFY: 15.0,
}
"""Seconds a request waits behind lower lanes before it is overdue."""

OVERDUE_SHARE: Final = 8
"""One in so many of the requests that leave may be an overdue one."""


class Waiting(Protocol):
    """What the queue needs to know of a request."""

    @property
    def lane(self) -> Lane: ...
    @property
    def share(self) -> Hashable: ...
    @property
    def queued_at(self) -> float: ...


T = TypeVar("T", bound=Waiting)
_Shares = OrderedDict[Hashable, deque[T]]


class LaneQueue(Generic[T]):
    """Requests waiting for one server."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, _Shares[T]] = {lane: OrderedDict() for lane in Lane}
        self._length = 0
        self._since_overdue = OVERDUE_SHARE

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        """All of them, lowest lane first; not the exact order in which they will leave."""
        for shares in self._lanes.values():
            for waiting in shares.values():
                yield from waiting

    def __repr__(self) -> str:
        counts = {
            lane.name.lower(): sum(map(len, shares.values()))
            for lane, shares in self._lanes.items()
            if shares
        }
        return f"<LaneQueue {counts}>"

    def push(self, request: T) -> None:
        self._lanes[request.lane].setdefault(request.share, deque()).append(request)
        self._length += 1

    def push_front(self, request: T) -> None:
        """Back to the head of its lane: it had left already, and its connection failed."""
        shares = self._lanes[request.lane]
        shares.setdefault(request.share, deque()).appendleft(request)
        shares.move_to_end(request.share, last=False)
        self._length += 1

    def remove(self, request: T) -> bool:
        """Take out a request whose caller has gone; whether it was here."""
        shares = self._lanes[request.lane]
        waiting = shares.get(request.share)
        if waiting is None or request not in waiting:
            return False
        waiting.remove(request)
        if not waiting:
            del shares[request.share]
        self._length -= 1
        return True

    def pop(self, now: float, allowed: Callable[[T], bool]) -> T | None:
        """The next request for which ``allowed`` holds, if there is one.

        ``allowed`` is asked for the head of each share only, so a share's requests stay in order.
        """
        if not self._length:
            return None
        if self._since_overdue >= OVERDUE_SHARE:
            for lane in self._overdue_lanes(now):
                request = self._take(lane, allowed, overdue_at=now - PATIENCE[lane])
                if request is not None:
                    self._since_overdue = 1
                    return request
        for lane in Lane:
            request = self._take(lane, allowed)
            if request is not None:
                self._since_overdue += 1
                return request
        return None

    def is_overdue(self, request: T, now: float) -> bool:
        return request.queued_at <= now - PATIENCE[request.lane]

    def first_lane(self) -> Lane | None:
        """The lowest lane in which something waits."""
        return next((lane for lane, shares in self._lanes.items() if shares), None)

    def has_waiting(self, lane: Lane, like: Callable[[T], bool]) -> bool:
        """Whether the head of a share of this lane is ``like`` that."""
        return any(like(waiting[0]) for waiting in self._lanes[lane].values())

    def _overdue_lanes(self, now: float) -> list[Lane]:
        """Lanes with something overdue, the one that has lost most patience first."""
        lateness = {
            lane: max((now - waiting[0].queued_at) / PATIENCE[lane] for waiting in shares.values())
            for lane, shares in self._lanes.items()
            if shares
        }
        late = [lane for lane, ratio in lateness.items() if ratio >= 1.0]
        return sorted(late, key=lambda lane: -lateness[lane])

    def _take(
        self, lane: Lane, allowed: Callable[[T], bool], overdue_at: float = math.inf
    ) -> T | None:
        shares = self._lanes[lane]
        for share, waiting in shares.items():
            if waiting[0].queued_at <= overdue_at and allowed(waiting[0]):
                request = waiting.popleft()
                if waiting:
                    shares.move_to_end(share)  # the others' turn first
                else:
                    del shares[share]
                self._length -= 1
                return request
        return None

    def drain(self) -> list[T]:
        """Take out everything."""
        everything = list(self)
        for shares in self._lanes.values():
            shares.clear()
        self._length = 0
        return everything
