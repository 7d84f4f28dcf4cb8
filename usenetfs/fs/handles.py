"""What is open: files and directories, by the numbers that the kernel hands back to us."""

from __future__ import annotations

import errno
from dataclasses import dataclass

import pyfuse3

from usenetfs.fs.listing import Listing
from usenetfs.transfer.fetch.prefetch import Reader
from usenetfs.types import InodeId


@dataclass(slots=True, eq=False)
class OpenFile:
    """One open file description."""

    inode: InodeId
    writable: bool
    made: bool
    """The file was made by opening it."""
    reader: Reader


@dataclass(slots=True, eq=False)
class OpenDirectory:
    """One open directory."""

    inode: InodeId
    listing: Listing


class Handles:
    """Numbers files and directories; a number is not used twice."""

    def __init__(self) -> None:
        self._last = 0
        self._open: dict[int, OpenFile | OpenDirectory] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Handles open={len(self._open)}>"

    def add(self, opened: OpenFile | OpenDirectory) -> pyfuse3.FileHandleT:
        """The number for something just opened."""
        self._last += 1
        self._open[self._last] = opened
        return pyfuse3.FileHandleT(self._last)

    def file(self, number: int) -> OpenFile:
        opened = self._open.get(number)
        if not isinstance(opened, OpenFile):
            raise pyfuse3.FUSEError(errno.EBADF)
        return opened

    def directory(self, number: int) -> OpenDirectory:
        opened = self._open.get(number)
        if not isinstance(opened, OpenDirectory):
            raise pyfuse3.FUSEError(errno.EBADF)
        return opened

    def remove(self, number: int) -> OpenFile | OpenDirectory:
        return self._open.pop(number)
