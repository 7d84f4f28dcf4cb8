"""A moment in which some files are not written to: writes wait, as on a local disk for a page that
is on its way there.

A file that is written without pause has staged content at any moment, so that no checkpoint would
ever have it as it is. During a stillness its content goes up and nothing new comes, and a cut can
be made that has all of it. What concerns the files named waits, and what concerns inodes newer
than its beginning: saving by rename makes a new one each time.

:class:`Stillness` owns who waits. It must not know why, or for how long: who begins it ends it.
Reading never waits, and neither do names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from usenetfs.transfer.pulse import Pulse
from usenetfs.types import InodeId


class Stillness:
    """One at a time."""

    def __init__(self) -> None:
        self._inodes: set[InodeId] = set()
        self._newest: int | None = None
        self._over = Pulse()
        self.waiting = 0
        """Writes held back by it."""

    def __repr__(self) -> str:
        if not self.on:
            return "<Stillness none>"
        return f"<Stillness inodes={len(self._inodes)} waiting={self.waiting}>"

    @property
    def on(self) -> bool:
        """Whether there is one now."""
        return self._newest is not None

    def holds(self, inode: InodeId) -> bool:
        """Whether a write into this must wait."""
        return self._newest is not None and (inode > self._newest or inode in self._inodes)

    @contextmanager
    def over(self, inodes: Collection[int], newest: int) -> Iterator[None]:
        """Writes into ``inodes``, and into those newer than ``newest``, wait inside."""
        if self.on:
            raise RuntimeError("there is a stillness already")
        self._inodes = {InodeId(inode) for inode in inodes}
        self._newest = newest
        try:
            yield
        finally:
            self._newest = None
            self._inodes = set()
            self._over.fire()

    def widen(self, inodes: Collection[int]) -> None:
        """It is over these as well."""
        self._inodes.update(map(InodeId, inodes))

    async def wait(self, inode: InodeId) -> None:
        """Return once ``inode`` may be written to. Call it when :meth:`holds`."""
        self.waiting += 1
        try:
            while self.holds(inode):
                await self._over.wait()
        finally:
            self.waiting -= 1

    async def wait_for_the_end(self) -> None:
        """Return once there is none. Call it when there :attr:`on` is one."""
        self.waiting += 1
        try:
            while self.on:
                await self._over.wait()
        finally:
            self.waiting -= 1
