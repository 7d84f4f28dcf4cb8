"""How often the kernel was told of each inode, and has not forgotten it yet.

Listing a directory tells it of every entry, so there may be as many as the kernel has memory for.
Inodes made together have numbers in a row: their counts are octets of one page, and a directory of
100,000 entries takes 100 kB here, where a dictionary of numbers takes 10 MB.

Source of the rule: FUSE_LOOKUP, FUSE_READDIRPLUS and what else answers with an entry count one
each; FUSE_FORGET takes back as many as it says (libfuse, ``fuse_lowlevel.h``).
"""

from __future__ import annotations

from typing import Final

from usenetfs.types import InodeId

PAGE: Final = 1024
"""Inodes of a page; of a lone one it is what it costs, in octets."""
FULL: Final = 255
"""An octet of this value: the count is in ``_many``."""


class LookupCounts:
    """Counts that are 0 until they are added to."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._many: dict[InodeId, int] = {}

    def __repr__(self) -> str:
        return f"<LookupCounts of {len(self)} inodes>"

    def __len__(self) -> int:
        """How many inodes have a count; looks at all pages."""
        return sum(PAGE - page.count(0) for page in self._pages.values())

    def __contains__(self, inode: InodeId) -> bool:
        number, place = divmod(inode, PAGE)
        page = self._pages.get(number)
        return page is not None and page[place] > 0

    def add(self, inode: InodeId) -> None:
        """One more."""
        number, place = divmod(inode, PAGE)
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = bytearray(PAGE)
        if page[place] < FULL - 1:
            page[place] += 1
        else:
            self._many[inode] = self._many.get(inode, FULL - 1) + 1
            page[place] = FULL

    def subtract(self, inode: InodeId, count: int) -> None:
        """``count`` less, down to 0."""
        number, place = divmod(inode, PAGE)
        page = self._pages.get(number)
        if page is None:
            return
        left = max(0, self._many.pop(inode, page[place]) - count)
        page[place] = min(left, FULL)
        if left >= FULL:
            self._many[inode] = left
        elif not left and page.count(0) == PAGE:
            del self._pages[number]
