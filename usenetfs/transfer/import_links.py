"""Hard links of an import: of each group of names the first is sent, the others are linked to it.

Pure bookkeeping over a group's three states: nobody knows yet (the first is being sent, and others
wait), sent (further ones are linked at once), failed (the next one is sent instead). A group is
forgotten when all of its names were met, so what is kept is bounded by the links not yet met.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from usenetfs.types import InodeId

T = TypeVar("T")


@dataclass(slots=True)
class LinkGroup(Generic[T]):
    """The names of one local file."""

    left: int
    """Names not met yet."""
    inode: InodeId | None = None
    sending: bool = False
    waiting: list[T] = field(default_factory=list)


class Links(Generic[T]):
    """Groups by the local file's identity."""

    def __init__(self) -> None:
        self._groups: dict[tuple[int, int], LinkGroup[T]] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def meet(self, status: os.stat_result) -> LinkGroup[T] | None:
        """The group of a name just met; None for a file with one name."""
        if status.st_nlink < 2:
            return None
        key = status.st_dev, status.st_ino
        group = self._groups.setdefault(key, LinkGroup(status.st_nlink))
        group.left -= 1
        if group.left <= 0:
            del self._groups[key]
        return group
