"""Which articles a verification asks for: all, those of a tree, or a random part of them.

Reads the index in steps of well below a millisecond. Each article comes once, however many files
share it: :class:`ArticleSet` remembers which came, a bit for each article number, so that a
filesystem of ten million articles costs little more than a megabyte.

It does not know servers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from usenetfs.index.articles import NO_ARTICLE, Article
from usenetfs.index.index import Index
from usenetfs.transfer.fetch.tree_articles import articles_below
from usenetfs.types import ArticleId, Durability, InodeId

STEP: Final = 128
"""Rows looked at between two chances for others: some 300 µs."""

_CHUNK_BITS: Final = 13


class ArticleSet:
    """A set of articles. Numbers are given out one after the other, so a bit each is little."""

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}
        self._count = 0

    def __repr__(self) -> str:
        return f"<ArticleSet of {self._count}>"

    def __len__(self) -> int:
        return self._count

    def __contains__(self, article: ArticleId) -> bool:
        chunk = self._chunks.get(article >> _CHUNK_BITS)
        if chunk is None:
            return False
        place = article & ((1 << _CHUNK_BITS) - 1)
        return bool(chunk[place >> 3] >> (place & 7) & 1)

    def add(self, article: ArticleId) -> bool:
        """Whether it is new."""
        chunk = self._chunks.setdefault(article >> _CHUNK_BITS, bytearray(1 << _CHUNK_BITS - 3))
        place = article & ((1 << _CHUNK_BITS) - 1)
        if chunk[place >> 3] >> (place & 7) & 1:
            return False
        chunk[place >> 3] |= 1 << (place & 7)
        self._count += 1
        return True


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be verified. ``top``: a file or tree; None: everything, the chain included.

    ``data``: each article is fetched whole; ``unverified``: only those that never were; ``share``:
    only so large a part of them, at random (0 to 1).
    """

    top: InodeId | None = None
    data: bool = False
    unverified: bool = False
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Extent:
    """How much there is, by state."""

    seen: int
    verified: int
    bytes: int

    @property
    def articles(self) -> int:
        return self.seen + self.verified


class Choice:
    """The articles of a wish, as the index has them."""

    def __init__(self, index: Index, wish: Wish, *, rng: random.Random) -> None:
        self._index = index
        self._wish = wish
        self._rng = rng
        self._chosen = ArticleSet()

    def __repr__(self) -> str:
        return f"<Choice {self._wish} chosen={len(self._chosen)}>"

    def count(self) -> Iterator[Extent]:
        """Step by step what there is so far; the last one is all of it."""
        seen = verified = octets = 0
        yield Extent(0, 0, 0)
        for step in self._steps():
            for article in step:
                if article.state is Durability.VERIFIED:
                    verified += 1
                else:
                    seen += 1
                octets += article.size
            yield Extent(seen, verified, octets)

    def wanted(self, extent: Extent) -> int:
        """How many of them are asked for."""
        if self._wish.share is None:
            return extent.articles
        return min(extent.articles, -int(-self._wish.share * extent.articles // 1))

    def steps(self, extent: Extent) -> Iterator[list[Article]]:
        """The articles to ask for, none twice. Those that never were fetched whole come first where
        that is what is done now: so an interrupted run has done the more useful half."""
        wanted = self.wanted(extent)
        if not self._wish.data:
            yield from self._some(None, wanted, extent.articles)
            return
        first = min(wanted, extent.seen)
        yield from self._some(Durability.SEEN, first, extent.seen)
        yield from self._some(Durability.VERIFIED, wanted - first, extent.verified)

    def _some(self, state: Durability | None, need: int, left: int) -> Iterator[list[Article]]:
        """``need`` of ``left`` articles, each with the same chance (selection sampling, Knuth
        3.4.2 S). Where all are wanted, those that came since are, too."""
        everything = need >= left and self._wish.share is None
        if not need and not everything:
            return
        for step in self._steps():
            chosen = []
            for article in step:
                if article.id in self._chosen or state not in {None, article.state}:
                    continue
                if everything or self._rng.random() * max(left, 1) < need:
                    need -= 1
                    self._chosen.add(article.id)
                    chosen.append(article)
                left -= 1
            yield chosen

    def _steps(self) -> Iterator[list[Article]]:
        """All that may be asked for, each once. A step may be empty."""
        rows = self._all() if self._wish.top is None else self._below(self._wish.top)
        for step in rows:
            if self._wish.unverified:
                yield [article for article in step if article.state is not Durability.VERIFIED]
            else:
                yield step

    def _all(self) -> Iterator[list[Article]]:
        after = NO_ARTICLE
        while step := self._index.articles.list(after, STEP):
            yield step
            after = step[-1].id

    def _below(self, top: InodeId) -> Iterator[list[Article]]:
        came = ArticleSet()
        for places in articles_below(self._index, top):
            for start in range(0, len(places), STEP):
                rows = [
                    self._index.articles.get(place.article)
                    for place in places[start : start + STEP]
                    if came.add(place.article)
                ]
                yield [row for row in rows if row is not None]
