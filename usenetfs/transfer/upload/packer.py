"""Which segments share an article.

Pure decisions: no clock of its own, no I/O. A segment goes where it leaves the least room (best
fit over a few open articles); when it fits nowhere and no more may be opened, the fullest
one leaves. An article also leaves when it is nearly full, when its oldest member has waited
long enough, and when everything is asked for (sync, unmount).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from usenetfs.article.container import HEADER_SIZE, MAX_MEMBERS, MEMBER_SIZE
from usenetfs.transfer.staged.hot_blocks import Claim
from usenetfs.types import ArticleId, Codec, SegmentHash

NEARLY_FULL = 0.98


@dataclass(slots=True, eq=False)
class PreparedSegment:
    """A block's content ready to be put into an article, and the claims that wait for it."""

    hash: SegmentHash
    codec: Codec
    raw_length: int
    payload: bytes | memoryview
    claims: list[Claim]
    article: ArticleId | None = None
    """Set once the article is recorded; until then further claims simply join."""
    slot: int = 0


@dataclass(slots=True, eq=False)
class OpenArticle:
    """An article that still takes members. ``size``: bytes of the container so far."""

    opened_at: float
    size: int = HEADER_SIZE
    segments: list[PreparedSegment] = field(default_factory=list)


class Packer:
    """``capacity``: container bytes of a full article; ``delay``: seconds that a member waits."""

    def __init__(self, *, block_size: int, delay: float, max_open: int = 4) -> None:
        self.capacity = block_size + HEADER_SIZE + MEMBER_SIZE
        self._delay = delay
        self._max_open = max_open
        self._open: list[OpenArticle] = []

    def __repr__(self) -> str:
        return f"<Packer open={[article.size for article in self._open]}/{self.capacity}>"

    @property
    def waiting(self) -> int:
        """Segments in open articles."""
        return sum(len(article.segments) for article in self._open)

    def add(self, segment: PreparedSegment, now: float) -> list[list[PreparedSegment]]:
        """Place a segment; returns the articles (lists of segments) that leave because of it."""
        size = MEMBER_SIZE + len(segment.payload)
        leaving: list[OpenArticle] = []
        best = self._best_fit(size)
        if best is None:
            if len(self._open) >= self._max_open:
                leaving.append(max(self._open, key=lambda article: article.size))
                self._open.remove(leaving[0])
            best = OpenArticle(opened_at=now)
            self._open.append(best)
        best.segments.append(segment)
        best.size += size
        if best.size >= self.capacity * NEARLY_FULL or len(best.segments) == MAX_MEMBERS:
            self._open.remove(best)
            leaving.append(best)
        return [article.segments for article in leaving]

    def _best_fit(self, size: int) -> OpenArticle | None:
        fitting = [article for article in self._open if article.size + size <= self.capacity]
        return max(fitting, key=lambda article: article.size, default=None)

    def due(self, now: float, at_most: float | None = None) -> list[list[PreparedSegment]]:
        """The articles that have waited long enough leave: ``at_most`` seconds, if it is given."""
        delay = self._delay if at_most is None else min(self._delay, at_most)
        leaving = [article for article in self._open if article.opened_at + delay <= now]
        for article in leaving:
            self._open.remove(article)
        return [article.segments for article in leaving]

    def flush(self) -> list[list[PreparedSegment]]:
        """Everything leaves."""
        leaving = [article.segments for article in self._open]
        self._open.clear()
        return leaving
