"""Finding the end of the chain by asking which checkpoints are there.

A chain has checkpoints 0, 1, … *e*; *e* is found with few questions: steps that grow fourfold until
one is not there, then halving, then a few looks beyond. Some checkpoints may be lost for good
(all their copies), so a gap is believed to be the end only if :data:`BEYOND` finds nothing after
it; whatever is found there starts the search anew from that point, so a gap costs questions and
hides nothing, unless it swallows all of these places.

Pure but for the question itself. Must not know what a checkpoint is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

Probe = Callable[[int], Awaitable[bool]]
"""Whether checkpoint *n* is there, in any copy."""

BEYOND: Final = (2, 3, 5, 9, 17)
"""How far after the last one found is looked again; the next one is known not to be there."""

GROWTH: Final = 4

_WIDEST: Final = 30
"""A chain whose beginning has expired is looked for at powers of two up to this one."""


async def find_end(probe: Probe, *, known: int = -1) -> int | None:
    """The last checkpoint that is there; None if there is none.

    ``known``: one that is known to be there; −1: none. Below 60 questions for 100,000 checkpoints,
    a question per copy and all, where nothing is lost.
    """
    answers: dict[int, bool] = {}

    async def there(number: int) -> bool:
        if number not in answers:
            answers[number] = await probe(number)
        return answers[number]

    low = known
    while True:
        low = await _gallop(there, low)
        further = await _beyond(there, low)
        if further is None and low < 0:
            further = await _anywhere(there)
        if further is None:
            return None if low < 0 else low
        low = further


async def _gallop(there: Probe, low: int) -> int:
    """A checkpoint that is there and whose successor is not; ``low`` if its successor is not."""
    step = 1
    while await there(low + step):
        low, step = low + step, step * GROWTH
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        if await there(middle):
            low = middle
        else:
            high = middle
    return low


async def _beyond(there: Probe, low: int) -> int | None:
    for distance in reversed(BEYOND):
        if await there(low + distance):
            return low + distance
    return None


async def _anywhere(there: Probe) -> int | None:
    """Any checkpoint, where the first ones are gone."""
    for exponent in range(_WIDEST, 4, -1):
        if await there(1 << exponent):
            return 1 << exponent
    return None
