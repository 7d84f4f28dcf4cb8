"""Hard links of a transfer: of each file's names the first is sent, the others are linked to it.

Pure bookkeeping over a group's three states: nobody knows yet (the first is being sent, and others
wait), sent (further ones are linked at once), failed (the next one is sent instead). A group is
forgotten when all of its names were met, so what is kept is bounded by the links not yet met.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
P = TypeVar("P")


@dataclass(slots=True)
class LinkGroup(Generic[T, P]):
    """The names of one file."""

    left: int
    """Names not met yet."""
    placed: P | None = None
    """Where the first of them was put."""
    sending: bool = False
    waiting: list[T] = field(default_factory=list)

    def must_wait(self, item: T) -> bool:
        """Whether another name is being sent: then this one is among those that wait for it."""
        if self.sending:
            self.waiting.append(item)
            return True
        self.sending = self.placed is None
        return False

    def tried(self, placed: P | None, *, retry: bool = True) -> list[T]:
        """A name was dealt with, and is at ``placed`` (None: it failed); what is to be done next.

        Where none is placed yet, that is one of those that wait, unless there is to be no
        ``retry``; else all of them.
        """
        self.sending = False
        if self.placed is None:
            self.placed = placed
        if self.placed is None and self.waiting and retry:
            self.sending = True
            return [self.waiting.pop(0)]
        released, self.waiting = self.waiting, []
        return released


class Links(Generic[T, P]):
    """Groups by what identifies a file where it comes from."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, LinkGroup[T, P]] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def meet(self, key: Hashable, names: int) -> LinkGroup[T, P] | None:
        """The group of a file just met, which has so many names; None if it is but one."""
        if names < 2:
            return None
        group = self._groups.setdefault(key, LinkGroup(names))
        group.left -= 1
        if group.left <= 0:
            del self._groups[key]
        return group
