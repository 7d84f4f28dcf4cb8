"""What somebody wants in a checkpoint, and how much of it is not in one yet.

A :class:`Demand` is made at a moment and asks that everything that was there then is published, as
it was then or later. A checkpoint leaves out inodes whose content is not on the servers
(``holdback``); so a demand may need several of them: each is asked what it leaves out of what the
demand still wants, and once that is nothing, the demand is met.

What it wants:

- inodes that existed at the moment. Some of them were not changed before it, and are waited for if
  they are being changed now; telling them apart is not worth reading the changelog twice;
- inodes that took a name from one of these since, at one blow (a file saved by rename): they are
  what the name leads to, and the name must lead to something in the checkpoint as well.

Pure: told of cuts, answers and replaced names by whoever publishes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from usenetfs.checkpoint.holdback import Lack

NARROW: Final = 50_000
"""Inodes that are remembered one by one; of more, only the newest is."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Inodes up to ``newest``, and some others."""

    newest: int
    others: frozenset[int] = frozenset()

    def __contains__(self, inode: object) -> bool:
        return isinstance(inode, int) and (inode <= self.newest or inode in self.others)


class Demand:
    """``newest``: the newest inode at the moment that counts."""

    def __init__(self, newest: int) -> None:
        self._wanted = Wanted(newest)
        self._joined: set[int] = set()
        """Wanted since the last cut."""
        self._lack: Lack | None = None

    def __repr__(self) -> str:
        if self._lack is None:
            return "<Demand not asked yet>"
        return f"<Demand lacks={len(self._lack.inodes)} causes={len(self._lack.causes)}>"

    @property
    def met(self) -> bool:
        """Whether all of it is in a checkpoint."""
        return self._lack is not None and not self._lack.inodes

    @property
    def lacking(self) -> frozenset[int]:
        """Inodes that are not, as far as is known."""
        return frozenset() if self._lack is None else self._lack.inodes

    @property
    def causes(self) -> frozenset[int]:
        """Inodes whose content must be on the servers, for the next checkpoint to meet it."""
        return self.lacking | self._joined | (self._lack.causes if self._lack else frozenset())

    def replaced(self, old: int, new: int) -> None:
        """A name that led to ``old`` leads to ``new``."""
        if old in self._wanted or old in self._joined:
            self._joined.add(new)

    def cut(self) -> Wanted:
        """A cut is made now: what is wanted of it."""
        self._wanted = Wanted(self._wanted.newest, self._wanted.others | self._joined)
        self._joined.clear()
        return self._wanted

    def answered(self, lack: Lack) -> None:
        """The checkpoint of the last cut is published, and lacks this."""
        self._lack = lack
        if len(lack.inodes) <= NARROW:
            self._wanted = Wanted(0, lack.inodes)


class Demands:
    """Those that are open."""

    def __init__(self) -> None:
        self._open: list[Demand] = []

    def __repr__(self) -> str:
        return f"<Demands {self._open!r}>"

    @contextmanager
    def open(self, newest: int) -> Iterator[Demand]:
        """A demand, for as long as somebody wants it."""
        demand = Demand(newest)
        self._open.append(demand)
        try:
            yield demand
        finally:
            self._open.remove(demand)

    def replaced(self, old: int, new: int) -> None:
        """A name that led to ``old`` leads to ``new``."""
        for demand in self._open:
            demand.replaced(old, new)

    def cut(self) -> Asked:
        """A cut is made now."""
        return Asked(tuple(self._open), tuple(demand.cut() for demand in self._open))


@dataclass(frozen=True, slots=True)
class Asked:
    """The demands that were open at a cut, and what each wanted of it."""

    demands: tuple[Demand, ...] = ()
    wanted: tuple[Wanted, ...] = ()

    def answered(self, lacks: Sequence[Lack]) -> None:
        """The checkpoint is published."""
        for demand, lack in zip(self.demands, lacks, strict=True):
            demand.answered(lack)

    def met(self) -> None:
        """Everything is published."""
        self.answered([Lack()] * len(self.demands))
