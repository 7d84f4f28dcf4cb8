"""Which changes a checkpoint may carry, so that every file in it can be read.

Block rows are set when their article was seen, but sizes, times and names run ahead of the data.
So the changes of an inode with staged content (*held*) wait for the next checkpoint, and the
published state keeps the file as it was: absent, or with its old name, size and blocks. What
depends on a change that waits, waits too.

Changes are joined into *units*, which wait as a whole:

- an inode: its row, blocks, symlink, xattrs, and each dirent change that takes a name from it or
  gives it one (so a name that passes from one inode to another joins the two: a file saved by
  rename keeps its old content under its name until the new one is safe);
- all directories that are moved (else two moves, one of which waits, could make a loop);
- a segment; an article with its rewritten Message-ID.

Units *need* others, one way:

- a name in a directory that is new needs the directory;
- a directory that goes needs each name in it to go;
- blocks need the segments they point to, segments their article, when these are new;
- a segment that goes needs the blocks that let go of it, an article the segments; and a new
  segment with the hash of one that goes needs that.

Whatever needs something that waits, waits. Nothing held: nothing waits, and what is published is
exactly the state of the index at the cut.

Who wants certain inodes published is told which of them wait, and for whose content (*lack*).

Pure. Must not know where changes come from, or how they are encoded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

Row = tuple[Any, ...]
Unit = tuple[str, int]

_TYPE: Final = 0o170000
_DIRECTORY: Final = 0o040000


class RowChange(NamedTuple):
    """``old``, ``new``: all columns; None where there is no such row."""

    table: str
    old: Row | None
    new: Row | None


@dataclass(frozen=True, slots=True)
class Lack:
    """Of what somebody wants published: ``inodes`` that wait, and ``causes``, the inodes with
    staged content that they wait for."""

    inodes: frozenset[int] = frozenset()
    causes: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Split:
    """``held``: which of the changes wait, in the order in which they were given. ``inodes``: how
    many inodes are concerned. ``lacks``: for each that wants something, what it lacks."""

    held: tuple[bool, ...]
    inodes: int
    lacks: tuple[Lack, ...]


def split(
    changes: Sequence[RowChange],
    staged: Collection[int],
    inode_row: Callable[[int], Row | None],
    wanted: Sequence[Container[int]] = (),
) -> Split:
    """Decide for each of ``changes`` (at most one a row) whether it waits.

    ``staged``: inodes whose content is not on the servers. ``inode_row``: the row of an inode as it
    is at the cut. ``wanted``: inodes, by who asks for them.
    """
    if not staged:
        return Split((False,) * len(changes), 0, tuple(Lack() for _ in wanted))
    graph = _Graph()
    units = [_unit(graph, change) for change in changes]
    _join_moves(graph, changes, inode_row)
    _find_needs(graph, changes)
    waiting = graph.waiting(("inode", inode) for inode in staged)
    held = tuple(unit is not None and graph.find(unit) in waiting for unit in units)
    concerned = {
        unit[1]
        for unit, waits in zip(units, held, strict=True)
        if waits and unit is not None and unit[0] == "inode"
    }
    lacks = tuple(_lack(graph, staged, concerned, each) for each in wanted)
    return Split(held, len(concerned), lacks)


def _lack(
    graph: _Graph, staged: Collection[int], concerned: Collection[int], wanted: Container[int]
) -> Lack:
    """Staged content makes an inode wait also where nothing else of it has changed."""
    inodes = frozenset(inode for inode in {*concerned, *staged} if inode in wanted)
    needed = graph.needed(("inode", inode) for inode in inodes) if inodes else set()
    causes = frozenset(inode for inode in staged if graph.find(("inode", inode)) in needed)
    return Lack(inodes, causes)


class _Graph:
    """Units joined (union-find), and which needs which."""

    def __init__(self) -> None:
        self._above: dict[Unit, Unit] = {}
        self._needs: list[tuple[Unit, Unit]] = []

    def find(self, unit: Unit) -> Unit:
        """The unit that stands for all that are joined with this one."""
        root = unit
        while (above := self._above.get(root)) is not None:
            root = above
        while unit != root:
            above = self._above[unit]
            self._above[unit] = root
            unit = above
        return root

    def join(self, one: Unit, other: Unit) -> None:
        a, b = self.find(one), self.find(other)
        if a != b:
            self._above[a] = b

    def need(self, unit: Unit, needed: Unit) -> None:
        self._needs.append((unit, needed))

    def waiting(self, held: Iterable[Unit]) -> set[Unit]:
        """What waits (by :meth:`find`) when ``held`` do."""
        dependants: dict[Unit, list[Unit]] = defaultdict(list)
        for unit, needed in self._needs:
            dependants[self.find(needed)].append(self.find(unit))
        return self._reached(held, dependants)

    def needed(self, units: Iterable[Unit]) -> set[Unit]:
        """What ``units`` need (by :meth:`find`), themselves included."""
        needs: dict[Unit, list[Unit]] = defaultdict(list)
        for unit, needed in self._needs:
            needs[self.find(unit)].append(self.find(needed))
        return self._reached(units, needs)

    def _reached(self, start: Iterable[Unit], edges: dict[Unit, list[Unit]]) -> set[Unit]:
        found = {self.find(unit) for unit in start}
        queue = list(found)
        while queue:
            for unit in edges.get(queue.pop(), ()):
                if unit not in found:
                    found.add(unit)
                    queue.append(unit)
        return found


def _unit(graph: _Graph, change: RowChange) -> Unit | None:
    """Where a change belongs; None: it never waits."""
    row = change.new or change.old
    assert row is not None
    match change.table:
        case "inodes" | "symlinks" | "xattrs" | "blocks":
            return "inode", row[0]
        case "dirents":
            if change.old and change.new and change.old[3] != change.new[3]:
                graph.join(("inode", change.old[3]), ("inode", change.new[3]))
            return "inode", row[3]
        case "segments":
            return "segment", row[0]
        case "articles" | "message_ids":
            return "article", row[0]
        case _:
            return None


def _join_moves(
    graph: _Graph, changes: Sequence[RowChange], inode_row: Callable[[int], Row | None]
) -> None:
    lost = {c.old[3] for c in changes if c.table == "dirents" and c.old}
    given = {c.new[3] for c in changes if c.table == "dirents" and c.new}
    first: Unit | None = None
    for inode in lost & given:
        row = inode_row(inode)
        if row is None or row[1] & _TYPE != _DIRECTORY:
            continue
        if first is not None:
            graph.join(first, ("inode", inode))
        first = ("inode", inode)


class _Facts:
    """What the needs follow from, gathered from all changes."""

    def __init__(self, changes: Sequence[RowChange]) -> None:
        self.made: set[int] = set()
        """Inodes that are new."""
        self.gone: set[int] = set()
        """Inodes that go, or lose a name and get none."""
        self.segments: set[int] = set()
        self.going_hashes: dict[bytes, int] = {}
        """Hash of each segment that goes → its id."""
        self.new_articles: set[int] = set()
        self.going_articles: set[int] = set()
        given: set[int] = set()
        removed: set[int] = set()
        for change in changes:
            match change:
                case RowChange("inodes", None, new) if new:
                    self.made.add(new[0])
                case RowChange("inodes", old, None) if old:
                    removed.add(old[0])
                case RowChange("dirents", old, new):
                    self.gone |= {old[3]} if old else set()
                    given |= {new[3]} if new else set()
                case RowChange("segments", old, new):
                    self._segment(old, new)
                case RowChange("articles", None, new) if new:
                    self.new_articles.add(new[0])
                case RowChange("articles", old, None) if old:
                    self.going_articles.add(old[0])
        self.gone = self.gone - given | removed

    def _segment(self, old: Row | None, new: Row | None) -> None:
        if new:
            self.segments.add(new[0])
        elif old:
            self.segments.add(old[0])
            self.going_hashes[old[1]] = old[0]


def _find_needs(graph: _Graph, changes: Sequence[RowChange]) -> None:
    facts = _Facts(changes)
    for change in changes:
        if change.table == "dirents":
            _dirent_needs(graph, change, facts)
        elif change.table == "blocks":
            _block_needs(graph, change, facts)
        elif change.table == "segments":
            _segment_needs(graph, change, facts)


def _dirent_needs(graph: _Graph, change: RowChange, facts: _Facts) -> None:
    old, new = change.old, change.new
    if new and new[0] in facts.made:
        graph.need(("inode", new[3]), ("inode", new[0]))
    if old and old[0] in facts.gone:
        graph.need(("inode", old[0]), ("inode", old[3]))


def _block_needs(graph: _Graph, change: RowChange, facts: _Facts) -> None:
    old, new = change.old, change.new
    if old and new and old[2] == new[2]:
        return
    if new and new[2] in facts.segments:
        graph.need(("inode", new[0]), ("segment", new[2]))
    if old and old[2] in facts.segments:
        graph.need(("segment", old[2]), ("inode", old[0]))


def _segment_needs(graph: _Graph, change: RowChange, facts: _Facts) -> None:
    old, new = change.old, change.new
    if new and new[5] in facts.new_articles:
        graph.need(("segment", new[0]), ("article", new[5]))
    if old and old[5] in facts.going_articles and (not new or new[5] != old[5]):
        graph.need(("article", old[5]), ("segment", old[0]))
    if new and not old and new[1] in facts.going_hashes:
        graph.need(("segment", new[0]), ("segment", facts.going_hashes[new[1]]))
