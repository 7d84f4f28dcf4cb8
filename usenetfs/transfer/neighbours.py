"""Small files read one after the other: which articles will be wanted next.

Pure decisions, in article numbers. Files that were stored together share articles, and articles are
numbered in the order in which they were filled. So whoever reads a tree (``cp -r``, ``tar``,
``grep -r``) walks through the numbers, whatever order the directories give, only with some noise.
Such a walk is a *trail*; while it goes on, the next articles are fetched ahead, the more the longer
it gets. Somebody who reads one small file here and there makes no trail and costs nothing.

A few trails are followed at a time: several programs may read trees at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from usenetfs.types import ArticleId

MAX_TRAILS: Final = 8
BEHIND: Final = 16
AHEAD: Final = 8
"""Articles that a read may be before or behind the furthest of its trail."""
CONFIRMATIONS: Final = 1
"""Steps forward that make a trail."""
FIRST_WINDOW: Final = 2


@dataclass(slots=True)
class _Trail:
    at: int
    """The furthest article that was read."""
    ahead: int
    """The furthest that was asked for."""
    window: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Fetch up to ``count`` articles behind ``after``; tell :meth:`Neighbours.asked` the last."""

    after: ArticleId
    count: int


class Neighbours:
    """See the module."""

    def __init__(self) -> None:
        self._trails: list[_Trail] = []
        """The one used last comes last."""
        self._last: int | None = None

    def __repr__(self) -> str:
        return f"<Neighbours {[(trail.at, trail.window) for trail in self._trails]}>"

    def on_read(self, article: ArticleId, most: int) -> Wanted | None:
        """A small file in ``article`` is read; ``most``: articles ahead that are allowed."""
        if article == self._last:
            return None
        self._last = article
        trail = self._trail_of(article)
        if article <= trail.at:
            return None
        trail.at = article
        trail.steps += 1
        if trail.steps < CONFIRMATIONS:
            return None
        left = max(0, trail.ahead - article)
        if not trail.window:
            trail.window = min(FIRST_WINDOW, most)
        elif left <= trail.window // 2:
            trail.window = min(2 * trail.window, most)
        trail.ahead = max(trail.ahead, article)
        if left > trail.window // 2 or left >= trail.window:
            return None
        return Wanted(ArticleId(trail.ahead), trail.window - left)

    def asked(self, last: ArticleId) -> None:
        """The articles up to ``last`` were asked for, for the trail that was read last."""
        self._trails[-1].ahead = max(self._trails[-1].ahead, last)

    def _trail_of(self, article: int) -> _Trail:
        for number, trail in enumerate(self._trails):
            if trail.at - BEHIND <= article <= max(trail.at, trail.ahead) + AHEAD:
                self._trails.append(self._trails.pop(number))
                return trail
        if len(self._trails) >= MAX_TRAILS:
            del self._trails[0]
        trail = _Trail(article, article)
        self._trails.append(trail)
        return trail
