"""How long a server's "no such article" is believed.

A miss may be a whim: servers that have an article say now and then that they have not, and what is
asked for too often costs time. So the first miss is believed for seconds only, and each further one
that is not contradicted in between for four times as long, up to :data:`LONGEST`.

Owns this memory, bounded in entries and in time. Must not know who is asked instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cachetools import TTLCache

from usenetfs.types import MessageId

FIRST: Final = 10.0
"""Seconds that a first miss is believed."""
GROWTH: Final = 4.0
LONGEST: Final = 600.0
MAX_MISSES: Final = 65_536


@dataclass(frozen=True, slots=True)
class _Miss:
    text: str
    wait: float
    until: float


class Misses:
    """``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: TTLCache[tuple[MessageId, str], _Miss] = TTLCache(
            MAX_MISSES, 2 * LONGEST, timer=clock
        )

    def __repr__(self) -> str:
        return f"<Misses {len(self._known)}>"

    def __len__(self) -> int:
        return len(self._known)

    def note(self, message_id: MessageId, group: str, text: str) -> None:
        """A server of the storage group said ``text`` when asked for the article just now."""
        before = self._known.get((message_id, group))
        wait = FIRST if before is None else min(before.wait * GROWTH, LONGEST)
        self._known[message_id, group] = _Miss(text, wait, self._clock() + wait)

    def believed(self, message_id: MessageId, group: str) -> str | None:
        """What the group said of the article, if it need not be asked again yet."""
        miss = self._known.get((message_id, group))
        return miss.text if miss is not None and self._clock() < miss.until else None

    def forget(self, message_id: MessageId, group: str) -> None:
        """The group has the article, or will have it soon."""
        if self._known.currsize:
            self._known.pop((message_id, group), None)
