"""Small files read one after the other: which articles will be wanted next.

Pure decisions, in article numbers. Files that were stored together share articles, and articles are
numbered in the order in which they were filled. So whoever reads a tree (``cp -r``, ``tar``,
``grep -r``) walks through the numbers, but not one by one: within a directory the order of reading
has nothing to do with the order of storing. What is read jumps about in a range that moves.

Such a walk is a *trail*: a range of articles that were read or asked for. As soon as two articles
near each other were read, what lies between them and a little on both sides is asked for; each time
reading comes near an end of the range, the range grows there, by twice as much as the last time.
Somebody who reads one small file here and there makes no trail and costs nothing.

A few trails are followed at a time: several programs may read trees at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from usenetfs.types import ArticleId

MAX_TRAILS: Final = 8
NEAR: Final = 12
"""Articles that a read may be outside of a trail's range and still belong to it."""
FIRST_WINDOW: Final = 2
"""Articles by which a range grows at first."""


@dataclass(slots=True)
class _Trail:
    """``low`` and ``high`` inclusive; ``up`` and ``down``: by how much the range grew there."""

    low: int
    high: int
    up: int = 0
    down: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The articles from ``first`` to ``last``, inclusive."""

    first: ArticleId
    last: ArticleId


class Neighbours:
    """See the module."""

    def __init__(self) -> None:
        self._trails: list[_Trail] = []
        """The one used last comes last."""
        self._last: int | None = None

    def __repr__(self) -> str:
        return f"<Neighbours {[(trail.low, trail.high) for trail in self._trails]}>"

    def on_read(self, article: ArticleId, most: int) -> Sequence[Wanted]:
        """A small file in ``article`` is read; ``most``: articles that a range may grow by."""
        if article == self._last:
            return ()
        self._last = article
        trail = self._trail_of(article)
        if trail is None or most <= 0:
            return ()
        wanted = []
        if article > trail.high - trail.up // 2:
            trail.up = min(2 * trail.up or FIRST_WINDOW, most)
            high = max(trail.high, article) + trail.up
            wanted.append(Wanted(ArticleId(trail.high + 1), ArticleId(high)))
            trail.high = high
        if article < trail.low + trail.down // 2 and trail.low > 0:
            trail.down = min(2 * trail.down or FIRST_WINDOW, most)
            low = max(0, min(trail.low, article) - trail.down)
            wanted.append(Wanted(ArticleId(low), ArticleId(trail.low - 1)))
            trail.low = low
        return wanted

    def _trail_of(self, article: int) -> _Trail | None:
        """The trail that the article belongs to; None if it begins a new one."""
        for number, trail in enumerate(self._trails):
            if trail.low - NEAR <= article <= trail.high + NEAR:
                self._trails.append(self._trails.pop(number))
                return trail
        if len(self._trails) >= MAX_TRAILS:
            del self._trails[0]
        self._trails.append(_Trail(article, article))
        return None
