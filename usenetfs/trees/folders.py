"""Directories of a transfer that are not done yet.

A directory's attributes are set when everything in it is there, because putting things into it
changes them. A :class:`Folder` counts what is still on its way; what is remembered is the
directories above that, so it does not grow with the tree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

P = TypeVar("P")


@dataclass(slots=True, eq=False)
class Folder(Generic[P]):
    """``place``: what the transfer needs to know of it. ``path``: below the top of the transfer."""

    place: P
    path: bytes
    above: Folder[P] | None = None
    pending: int = 1
    """Things in it that are on their way, and one for as long as it is being listed."""

    def hold(self) -> Self:
        """One more thing is on its way."""
        self.pending += 1
        return self

    def release(self, close: Callable[[Folder[P]], None]) -> None:
        """One thing is done; ``close`` is called for every folder that is done with it."""
        folder: Folder[P] | None = self
        while folder is not None:
            folder.pending -= 1
            if folder.pending:
                return
            close(folder)
            folder = folder.above
