"""What the article cache keeps and what it gives up: S3-FIFO by bytes.

Owns: sizes and order of the articles that are cached. Pure: no disk, no clock, no lock.

S3-FIFO (Yang et al., SOSP 2023): what is new enters a small queue of a tenth of the space and
leaves the cache at its end, unless it was asked for meanwhile; then it moves to the main queue,
where being asked for buys further rounds. So one pass over much data (a backup, a player, a virus
scanner) goes through the small queue and leaves what is hot alone. What left the small queue and
comes back soon (a *ghost*: its id alone is remembered) enters the main queue at once.

Invariant: a key is in one of small, main and held. Pinned entries that reach the end of a queue are
*held* aside until they are unpinned, so eviction never walks over them twice.

Memory: 220 bytes an article and 100 a ghost, of which there are at most as many: 20 GiB of full
articles take 10 MB.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from usenetfs.types import ArticleId

SMALL_SHARE: Final = 10
"""The small queue gets one part in so many."""

MAX_ASKED: Final = 3
"""Rounds in the main queue that being asked for can buy."""

FEWEST_GHOSTS: Final = 1024


class _Entry:
    __slots__ = ("asked", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.asked = 0


class Eviction:
    """The order in which articles are given up. ``max_bytes`` only sizes the small queue; keeping
    below it is for the caller, with :meth:`evict`."""

    def __init__(self, max_bytes: int) -> None:
        self.bytes = 0
        """The sizes of all entries together."""
        self.pinned_bytes = 0
        """Of these, what may not be evicted."""
        self._small_limit = max_bytes // SMALL_SHARE
        self._small_bytes = 0
        self._small: OrderedDict[ArticleId, _Entry] = OrderedDict()
        self._main: OrderedDict[ArticleId, _Entry] = OrderedDict()
        self._held: OrderedDict[ArticleId, _Entry] = OrderedDict()
        self._ghosts: OrderedDict[ArticleId, None] = OrderedDict()
        self._pins: Counter[ArticleId] = Counter()

    def __repr__(self) -> str:
        return (
            f"<Eviction small={len(self._small)} main={len(self._main)} held={len(self._held)}"
            f" ghosts={len(self._ghosts)} bytes={self.bytes}>"
        )

    def __len__(self) -> int:
        return len(self._small) + len(self._main) + len(self._held)

    def __contains__(self, article: ArticleId) -> bool:
        return article in self._main or article in self._small or article in self._held

    def ask(self, article: ArticleId) -> bool:
        """The article is wanted. False: it is not here."""
        entry = self._main.get(article) or self._small.get(article) or self._held.get(article)
        if entry is None:
            return False
        if entry.asked < MAX_ASKED:
            entry.asked += 1
        return True

    def insert(self, article: ArticleId, size: int, *, proven: bool = False) -> None:
        """The article is here now. ``proven``: it served an earlier run, so not on probation.

        What is here already stays as it was.
        """
        if article in self:
            return
        self.bytes += size
        if article in self._pins:
            self.pinned_bytes += size
        entry = _Entry(size)
        if article in self._ghosts:
            del self._ghosts[article]
            proven = True
        if proven:
            self._main[article] = entry
        else:
            self._small[article] = entry
            self._small_bytes += size

    def remove(self, article: ArticleId) -> None:
        """The article is no longer here, for another reason than room."""
        entry = self._small.pop(article, None)
        if entry is not None:
            self._small_bytes -= entry.size
        else:
            entry = self._main.pop(article, None) or self._held.pop(article, None)
        if entry is not None:
            self.bytes -= entry.size
            if article in self._pins:
                self.pinned_bytes -= entry.size

    def clear(self) -> None:
        """Nothing is here any more. Pins stay."""
        for queue in (self._small, self._main, self._held):
            queue.clear()
        self._ghosts.clear()
        self.bytes = self._small_bytes = self.pinned_bytes = 0

    def pin(self, article: ArticleId) -> None:
        """Don't evict the article, whether it is here yet or not. Pins count."""
        if article not in self._pins:
            self.pinned_bytes += self._size_of(article)
        self._pins[article] += 1

    def unpin(self, article: ArticleId) -> None:
        """Takes one pin away. KeyError: there is none."""
        if not self._pins[article]:
            del self._pins[article]
            raise KeyError(article)
        self._pins[article] -= 1
        if not self._pins[article]:
            del self._pins[article]
            self.pinned_bytes -= self._size_of(article)
            entry = self._held.pop(article, None)
            if entry is not None:
                self._main[article] = entry

    def _size_of(self, article: ArticleId) -> int:
        entry = self._main.get(article) or self._small.get(article) or self._held.get(article)
        return entry.size if entry is not None else 0

    def evict(self, needed: int) -> list[ArticleId]:
        """Gives up articles of at least ``needed`` bytes together, or all that may be."""
        victims: list[ArticleId] = []
        target = self.bytes - needed
        # Each step takes an entry out, or takes one of its few rounds away: so it ends.
        while self.bytes > target and (self._small or self._main):
            from_small = self._small and (self._small_bytes > self._small_limit or not self._main)
            victim = self._step_small() if from_small else self._step_main()
            if victim is not None:
                victims.append(victim)
        return victims

    def _step_small(self) -> ArticleId | None:
        article, entry = self._small.popitem(last=False)
        self._small_bytes -= entry.size
        if article in self._pins:
            self._held[article] = entry
            return None
        if entry.asked:
            entry.asked = 0
            self._main[article] = entry
            return None
        self.bytes -= entry.size
        self._ghosts[article] = None
        if len(self._ghosts) > max(FEWEST_GHOSTS, len(self._main)):
            self._ghosts.popitem(last=False)
        return article

    def _step_main(self) -> ArticleId | None:
        article, entry = self._main.popitem(last=False)
        if article in self._pins:
            self._held[article] = entry
            return None
        if entry.asked:
            entry.asked -= 1
            self._main[article] = entry
            return None
        self.bytes -= entry.size
        return article
