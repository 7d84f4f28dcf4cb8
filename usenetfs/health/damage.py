"""Which parts of which files are lost, once it is known which articles are.

The block map leads from files to articles and not back, so the files are looked through from the
top, in steps; memory holds the lost articles alone, a bit each.

A block whose newest content is staged whole is not lost: it will be uploaded. One that the disk
cache still has, and that opens, can still be read on this machine: that is said, because the cache
gives things up in time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from usenetfs.health.choice import ArticleSet
from usenetfs.health.tally import Findings
from usenetfs.index.blocks import BlockLocation
from usenetfs.index.index import Index
from usenetfs.index.inodes import Inode
from usenetfs.transfer.fetch.tree_articles import files_below
from usenetfs.types import ROOT_INODE, ArticleId, BlockNumber, InodeId, SegmentHash

STEP: Final = 256
"""Blocks of one file looked at between two chances for others."""

MAX_REMEMBERED: Final = 10_000
"""Articles of which more is remembered than that they are lost."""


class LostArticles:
    """Articles that are lost, and those of which only some members are."""

    def __init__(self) -> None:
        self._whole = ArticleSet()
        self._right: dict[ArticleId, frozenset[SegmentHash]] = {}
        self._reasons: dict[ArticleId, str] = {}

    def __repr__(self) -> str:
        return f"<LostArticles {len(self)}>"

    def __len__(self) -> int:
        return len(self._whole) + len(self._right)

    def add(self, article: ArticleId, reason: str) -> None:
        """Nothing of it can be had."""
        self._whole.add(article)
        if len(self._reasons) < MAX_REMEMBERED:
            self._reasons[article] = reason

    def add_part(self, article: ArticleId, right: frozenset[SegmentHash]) -> None:
        """It can be had, and only some of its members are what the index counts on."""
        if len(self._right) < MAX_REMEMBERED:
            self._right[article] = right
        else:
            self._whole.add(article)

    def reason(self, location: BlockLocation) -> str | None:
        """Why the block is lost; None if it is not."""
        if location.article in self._whole:
            return self._reasons.get(location.article) or "no server has the article"
        right = self._right.get(location.article)
        if right is None or location.hash in right:
            return None
        return "the article does not hold what the index says"


@dataclass(slots=True)
class _Range:
    """Blocks of one file, side by side, that are lost for one reason. Octets."""

    offset: int
    end: int
    held: bool
    reason: str


class Damage:
    """``cached`` says whether the disk cache has an article, and it opens."""

    def __init__(
        self,
        index: Index,
        lost: LostArticles,
        findings: Findings,
        *,
        cached: Callable[[ArticleId], Awaitable[bool]],
    ) -> None:
        self._index = index
        self._block_size = index.identity.block_size
        self._lost = lost
        self._findings = findings
        self._cached = cached
        self._last = (ArticleId(0), False)

    def __repr__(self) -> str:
        return f"<Damage by {self._lost!r}>"

    async def find(self, top: InodeId | None) -> None:
        """Tell of every lost part of the files of ``top`` (None: of all)."""
        for files in files_below(self._index, ROOT_INODE if top is None else top):
            await trio.lowlevel.checkpoint()
            for path, row in files:
                self._findings.current = [path.decode("utf-8", "replace")]
                await self._look_through(path, row)
        self._findings.current = []

    async def _look_through(self, path: bytes, row: Inode) -> None:
        last = self._index.blocks.last(row.id)
        number, ranges = 0, _Ranges(path, self._findings)
        while last is not None and number <= last:
            for location in self._index.blocks.locate(row.id, BlockNumber(number), STEP):
                reason = self._lost.reason(location)
                if reason is None or self._will_be_uploaded(row.id, location.number):
                    continue
                offset = location.number * self._block_size
                end = min(offset + location.length, row.size)
                if end > offset:
                    held = await self._is_cached(location.article)
                    ranges.add(_Range(offset, end, held, reason))
            number += STEP
            if number <= last:
                await trio.lowlevel.checkpoint()
        ranges.end()
        self._findings.files_damaged += ranges.any

    def _will_be_uploaded(self, inode: InodeId, block: BlockNumber) -> bool:
        """Whether what the servers had of the block is not needed any more."""
        staged = self._index.staging.get(inode, block)
        return staged is not None and staged.whole

    async def _is_cached(self, article: ArticleId) -> bool:
        if self._last[0] != article:
            self._last = article, await self._cached(article)
        return self._last[1]


class _Ranges:
    """The lost parts of one file, in order: those that touch are told of as one."""

    def __init__(self, path: bytes, findings: Findings) -> None:
        self._path = path
        self._findings = findings
        self._open: _Range | None = None
        self.any = False

    def add(self, found: _Range) -> None:
        before = self._open
        if before is not None and (before.end, before.held, before.reason) == (
            found.offset,
            found.held,
            found.reason,
        ):
            before.end = found.end
            return
        self.end()
        self._open, self.any = found, True

    def end(self) -> None:
        """Nothing more joins what was found last."""
        lost, self._open = self._open, None
        if lost is not None:
            self._findings.lose(
                self._path,
                lost.offset,
                lost.end - lost.offset,
                held=lost.held,
                reason=lost.reason,
            )
