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

Changes are gone through once and not kept: of each, memory holds a few integers.

Pure. Must not know where changes come from, or how they are encoded.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

Row = tuple[Any, ...]

Unit = int
"""An id and, in the lowest two bits, of what: there may be a million of them."""

_INODE: Final = 0
_SEGMENT: Final = 1
_ARTICLE: Final = 2
_NONE: Final = -1
"""The unit of what never waits."""

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
    """``held``: an octet for each change, in the order in which they were given; 1: it waits.
    ``inodes``: how many inodes are concerned. ``lacks``: for each that wants something, what it
    lacks."""

    held: bytes
    inodes: int
    lacks: tuple[Lack, ...]


def split(
    changes: Iterable[RowChange],
    staged: Collection[int],
    inode_row: Callable[[int], Row | None],
    wanted: Sequence[Container[int]] = (),
) -> Split:
    """Decide for each of ``changes`` (at most one a row) whether it waits.

    ``staged``: inodes whose content is not on the servers. ``inode_row``: the row of an inode as it
    is at the cut. ``wanted``: inodes, by who asks for them.
    """
    graph, facts = _Graph(), _Facts()
    units = array("q")
    for change in changes:
        units.append(_unit(graph, change))
        facts.add(change)
    _join_moves(graph, facts, inode_row)
    facts.find_needs(graph)
    del facts  # as large as what follows
    waiting = graph.waiting(_inode(inode) for inode in staged)
    held = bytes(unit != _NONE and graph.find(unit) in waiting for unit in units)
    concerned = {
        unit >> 2 for unit, waits in zip(units, held, strict=True) if waits and unit & 3 == _INODE
    }
    lacks = tuple(_lack(graph, staged, concerned, each) for each in wanted)
    return Split(held, len(concerned), lacks)


def nothing_waits(wanted: Sequence[Container[int]] = ()) -> Split:
    """What :func:`split` would say where nothing is staged, but for ``held``, which is all 0."""
    return Split(b"", 0, tuple(Lack() for _ in wanted))


def _inode(number: int) -> Unit:
    return number << 2 | _INODE


def _segment(number: int) -> Unit:
    return number << 2 | _SEGMENT


def _article(number: int) -> Unit:
    return number << 2 | _ARTICLE


def _lack(
    graph: _Graph, staged: Collection[int], concerned: Collection[int], wanted: Container[int]
) -> Lack:
    """Staged content makes an inode wait also where nothing else of it has changed."""
    inodes = frozenset(inode for inode in {*concerned, *staged} if inode in wanted)
    needed = graph.needed(map(_inode, inodes)) if inodes else set()
    causes = frozenset(inode for inode in staged if graph.find(_inode(inode)) in needed)
    return Lack(inodes, causes)


class _Pairs:
    """Pairs of numbers, 16 octets each."""

    def __init__(self) -> None:
        self._one, self._other = array("q"), array("q")

    def add(self, one: int, other: int) -> None:
        self._one.append(one)
        self._other.append(other)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._one, self._other, strict=True)


class _Graph:
    """Units joined (union-find), and which needs which."""

    def __init__(self) -> None:
        self._above: dict[Unit, Unit] = {}
        self._needs = _Pairs()

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
        self._needs.add(unit, needed)

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


def _unit(graph: _Graph, change: RowChange) -> Unit:
    """Where a change belongs."""
    row = change.new or change.old
    assert row is not None
    match change.table:
        case "inodes" | "symlinks" | "xattrs" | "blocks":
            return _inode(row[0])
        case "dirents":
            if change.old and change.new and change.old[3] != change.new[3]:
                graph.join(_inode(change.old[3]), _inode(change.new[3]))
            return _inode(row[3])
        case "segments":
            return _segment(row[0])
        case "articles" | "message_ids":
            return _article(row[0])
        case _:
            return _NONE


def _join_moves(graph: _Graph, facts: _Facts, inode_row: Callable[[int], Row | None]) -> None:
    first: Unit | None = None
    for inode in facts.lost & facts.given:
        row = inode_row(inode)
        if row is None or row[1] & _TYPE != _DIRECTORY:
            continue
        if first is not None:
            graph.join(first, _inode(inode))
        first = _inode(inode)


class _Facts:
    """What the needs follow from, gathered from all changes; and what may be needed, which is only
    known once all are gathered."""

    def __init__(self) -> None:
        self.lost: set[int] = set()
        """Inodes that lose a name."""
        self.given: set[int] = set()
        """Inodes that get one."""
        self._made: set[int] = set()
        """Inodes that are new."""
        self._removed: set[int] = set()
        self._segments: set[int] = set()
        self._new_articles: set[int] = set()
        self._going_articles: set[int] = set()
        self._going_hashes: dict[bytes, int] = {}
        """Hash of each segment that goes → its id."""
        self._new_segments, self._new_hashes = array("q"), list[bytes]()
        self._names_in = _Pairs()
        """Inode that gets a name, directory."""
        self._names_out = _Pairs()
        """Directory, inode that loses a name in it."""
        self._points = _Pairs()
        """Inode, segment that a block of it is to have."""
        self._lets_go = _Pairs()
        """Segment, inode with a block that had it."""
        self._placed = _Pairs()
        """Segment, article that it is to be in."""
        self._left = _Pairs()
        """Article, segment that was in it."""

    def add(self, change: RowChange) -> None:
        table, old, new = change
        match table:
            case "inodes":
                _note(old, new, came=self._made, went=self._removed)
            case "articles":
                _note(old, new, came=self._new_articles, went=self._going_articles)
            case "dirents":
                self._add_name(old, new)
            case "blocks":
                self._add_block(old, new)
            case "segments":
                self._add_segment(old, new)

    def _add_name(self, old: Row | None, new: Row | None) -> None:
        if old:
            self.lost.add(old[3])
            self._names_out.add(old[0], old[3])
        if new:
            self.given.add(new[3])
            self._names_in.add(new[3], new[0])

    def _add_block(self, old: Row | None, new: Row | None) -> None:
        if old and new and old[2] == new[2]:
            return
        if new:
            self._points.add(new[0], new[2])
        if old:
            self._lets_go.add(old[2], old[0])

    def _add_segment(self, old: Row | None, new: Row | None) -> None:
        if new:
            self._segments.add(new[0])
            self._placed.add(new[0], new[5])
            if not old:
                self._new_segments.append(new[0])
                self._new_hashes.append(new[1])
        elif old:
            self._segments.add(old[0])
            self._going_hashes[old[1]] = old[0]
        if old and (not new or new[5] != old[5]):
            self._left.add(old[5], old[0])

    def find_needs(self, graph: _Graph) -> None:
        """Tell ``graph`` all of them."""
        gone = self.lost - self.given | self._removed
        for pairs, of, to, place, among in (
            (self._names_in, _inode, _inode, 1, self._made),
            (self._names_out, _inode, _inode, 0, gone),
            (self._points, _inode, _segment, 1, self._segments),
            (self._lets_go, _segment, _inode, 0, self._segments),
            (self._placed, _segment, _article, 1, self._new_articles),
            (self._left, _article, _segment, 0, self._going_articles),
        ):
            for pair in pairs:
                if pair[place] in among:
                    graph.need(of(pair[0]), to(pair[1]))
        for segment, hashed in zip(self._new_segments, self._new_hashes, strict=True):
            if hashed in self._going_hashes:
                graph.need(_segment(segment), _segment(self._going_hashes[hashed]))


def _note(old: Row | None, new: Row | None, *, came: set[int], went: set[int]) -> None:
    """Put the id of a row that is new or goes where it belongs."""
    if old is None and new is not None:
        came.add(new[0])
    elif old is not None and new is None:
        went.add(old[0])
