"""What a checkpoint of the index would say: the work between a cut and the first article.

:func:`make_draft` is for a thread. It merges what changed, decides what may be published
(``holdback``), brings that into normal form, and works out digest and counters; with
``snapshot`` it also writes all rows to a spool. It changes nothing and posts nothing, so a draft
that comes to nothing costs nothing.

Changes are gone through one by one, twice if something may wait, and what comes out is written to
temporary files: memory holds a part of them (``net_changes``), and a few integers of each.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import IO, Any, Final

from usenetfs.checkpoint.changeset import (
    UNCHANGED,
    Change,
    Operation,
    Table,
    encode_change,
    encode_table,
)
from usenetfs.checkpoint.digest import MODULUS, RowDigest, digest_bytes
from usenetfs.checkpoint.documents import DocumentBuilder
from usenetfs.checkpoint.holdback import Lack, Row, RowChange, nothing_waits, split
from usenetfs.checkpoint.net_changes import NetChanges
from usenetfs.checkpoint.record import Counters
from usenetfs.checkpoint.scratch import Scratch, translating
from usenetfs.errors import DatabaseError, LocalStorageError
from usenetfs.index.chain import ChainState
from usenetfs.index.cut import Cut, merge
from usenetfs.index.normal_form import FORMS, normalise
from usenetfs.index.totals import Counter

TABLES: Final = {form.name: Table(form.name, tuple(form.key_flags)) for form in FORMS.values()}

EXCLUDED_BATCH: Final = 1000
"""Keys that a snapshot leaves out, gathered before they are stored."""

HELD_SIZE: Final = 512 * 1024
"""Bytes of changes held back that are stored as one piece: the write of one takes some 2 ms."""


class Spool:
    """Pieces of a document in a temporary file without a name: gone whatever happens.

    Filled by one thread; then any number of them may read.
    """

    def __init__(self, directory: Path, piece_size: int) -> None:
        with translating(directory):
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
        self._directory = directory
        self._builder = DocumentBuilder(piece_size)
        self._places: list[tuple[int, int]] = []
        """Offset and length of each piece."""
        self._end = 0

    def __repr__(self) -> str:
        return f"<Spool pieces={len(self._places)} {self._builder!r}>"

    def fill(self, raw: Iterable[bytes]) -> None:
        """Put in the whole document. DiskFullError, LocalStorageError."""
        for chunk in raw:
            self._write(self._builder.add(chunk))
        self._write(self._builder.finish())
        with translating(self._directory):
            self._file.flush()

    def _write(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            with translating(self._directory):
                self._file.write(piece)
            self._places.append((self._end, len(piece)))
            self._end += len(piece)

    @property
    def size(self) -> int:
        return self._builder.size

    @property
    def stored(self) -> int:
        return self._builder.stored

    @property
    def sha256(self) -> bytes:
        return self._builder.sha256

    @property
    def count(self) -> int:
        return len(self._places)

    def piece(self, number: int) -> bytes:
        offset, length = self._places[number]
        return self._read(offset, length)

    def whole(self) -> bytes:
        """All of it; for documents that are short."""
        return self._read(0, self._end)

    def _read(self, offset: int, length: int) -> bytes:
        parts = []
        while length:
            part = os.pread(self._file.fileno(), length, offset)
            if not part:
                raise LocalStorageError("a temporary file has become shorter")
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def close(self) -> None:
        self._file.close()


class Published:
    """Changes as a changeset, by table in the order of the tables. To be closed."""

    def __init__(self, directory: Path) -> None:
        self._tables = {name: Scratch(directory) for name in TABLES}

    def __repr__(self) -> str:
        return f"<Published size={self.size}>"

    def add(self, change: Change) -> None:
        """At the end of its table."""
        to = self._tables[change.table.name]
        if not to:
            to.append(encode_table(change.table))
        to.append(encode_change(change))

    @property
    def size(self) -> int:
        return sum(each.size for each in self._tables.values())

    def __bool__(self) -> bool:
        return any(self._tables.values())

    def __iter__(self) -> Iterator[bytes]:
        """All of it, in chunks."""
        return chain.from_iterable(self._tables.values())

    def whole(self) -> bytes:
        """All of it; where that is known to be little."""
        return b"".join(self)

    def close(self) -> None:
        for each in self._tables.values():
            each.close()


class Held:
    """Changesets of about :data:`HELD_SIZE`, each complete in itself. To be closed."""

    def __init__(self, directory: Path) -> None:
        self._octets = Scratch(directory)
        self._ends = [0]
        self._table: Table | None = None

    def __repr__(self) -> str:
        return f"<Held pieces={len(self)} size={self._octets.size}>"

    def add(self, change: Change) -> None:
        if change.table != self._table:
            self._table = change.table
            self._octets.append(encode_table(change.table))
        self._octets.append(encode_change(change))
        if self._octets.size - self._ends[-1] >= HELD_SIZE:
            self.finish()

    def finish(self) -> None:
        """What was added since the last piece is one."""
        if self._octets.size > self._ends[-1]:
            self._ends.append(self._octets.size)
            self._table = None

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[bytes]:
        for start, end in pairwise(self._ends):
            yield self._octets.read(start, end - start)

    def close(self) -> None:
        self._octets.close()


@dataclass(frozen=True, slots=True)
class Draft:
    """``published``: net changes that may be published (empty: none). ``held``: what waits.
    ``through``: the changelog's ``seq`` up to which it goes. ``lacks``: of each demand, what it
    lacks then. To be closed; the snapshot is the caller's."""

    through: int
    published: Published
    held: Held
    held_inodes: int
    digest: bytes
    counters: Counters
    snapshot: Spool | None
    lacks: tuple[Lack, ...]

    def close(self) -> None:
        """Give the temporary files back. Blocks."""
        self.published.close()
        self.held.close()


def make_draft(
    cut: Cut,
    state: ChainState,
    *,
    digest_key: bytes,
    scratch: Path,
    spool: Spool | None,
    wanted: Sequence[Container[int]] = (),
) -> Draft:
    """Read everything off ``cut``. With ``spool`` a snapshot goes there. ``scratch``: a directory
    for temporary files. ``wanted``: inodes that somebody wants published, by demand.

    Without a digest in ``state`` the digest is counted from all rows.
    """
    with ExitStack() as stack:
        published, held = Published(scratch), Held(scratch)
        stack.callback(published.close)
        stack.callback(held.close)
        since = state.cut, state.number
        changes = stack.enter_context(
            NetChanges(cut.changesets(*since), cut.changes_size(*since), scratch)
        )
        staged = cut.staged_inodes()
        decided = nothing_waits(wanted)
        if staged:
            rows = (_full(cut, change) for change in changes)
            decided = split(rows, staged, lambda inode: cut.row("inodes", (inode,)), wanted)
        work = _Work(cut, RowDigest(digest_key), published, held, exclude=spool is not None)
        for change, waits in zip(changes, decided.held if staged else repeat(0)):  # noqa: B905
            work.add(change, _full(cut, change), waits=bool(waits))
        work.finish()
        total = work.published_digest
        if state.digest:
            total += int.from_bytes(state.digest, "big")
        else:
            total = work.all_rows() - work.held_digest
        if spool is not None:
            spool.fill(cut.export(work.before))
        changes.close()
        stack.pop_all()
    return Draft(
        through=cut.through,
        published=published,
        held=held,
        held_inodes=decided.inodes,
        digest=digest_bytes(total % MODULUS),
        counters=work.counters(decided.inodes),
        snapshot=spool,
        lacks=decided.lacks,
    )


class _Work:
    """What comes of changes, one after the other. ``exclude``: a snapshot is to follow, in which
    those that wait are as they were before."""

    def __init__(
        self, cut: Cut, digest: RowDigest, published: Published, held: Held, *, exclude: bool
    ) -> None:
        self._cut, self._digest, self._published, self._held = cut, digest, published, held
        self._exclude = exclude
        self._excluded: dict[str, list[list[Any]]] = {}
        self._totals = cut.totals()
        self.published_digest = 0
        """What they add to the digest of the rows; not reduced."""
        self.held_digest = 0
        self.before: dict[str, list[bytes]] = {}
        """By table, INSERTs of the rows that those that wait were before."""

    def add(self, change: Change, row: RowChange, *, waits: bool) -> None:
        if row.old == row.new:
            return  # only derived columns changed
        if not waits:
            self._published.add(_net(row))
            self.published_digest += self._difference(row)
            return
        self._held.add(change)
        self.held_digest += self._difference(row)
        self._count(row)
        if self._exclude:
            self._keep_out(row)

    def _difference(self, row: RowChange) -> int:
        table, old, new = row
        total = 0
        if new is not None:
            total += self._digest.row(table, new)
        if old is not None:
            total -= self._digest.row(table, old)
        return total

    def _keep_out(self, row: RowChange) -> None:
        table, old, new = row
        if new is not None:
            keys = self._excluded.setdefault(table, [])
            keys.append([new[place] for place in FORMS[table].key_places])
            if len(keys) >= EXCLUDED_BATCH:
                self._cut.exclude(table, keys)
                keys.clear()
        if old is not None:
            insert = Change(TABLES[table], Operation.INSERT, None, old)
            self.before.setdefault(table, []).append(encode_change(insert))

    def finish(self) -> None:
        """There are no more."""
        self._held.finish()
        for table, keys in self._excluded.items():
            self._cut.exclude(table, keys)
        self._excluded.clear()

    def all_rows(self) -> int:
        """The digest of the index as it is."""
        return sum(self._digest.encoded_rows(table, self._cut.encoded(table)) for table in FORMS)

    def _count(self, row: RowChange) -> None:
        """The live counters, without what waits."""
        for values, sign in ((row.new, -1), (row.old, 1)):
            if values is None:
                continue
            if row.table == "articles":
                self._add(Counter.ARTICLES, sign, 0)
            elif row.table == "inodes" and _is_file(values):
                self._add(Counter.FILES, sign, sign * values[5])
            elif row.table == "inodes" and _is_directory(values):
                self._add(Counter.DIRECTORIES, sign, 0)

    def _add(self, counter: Counter, count: int, size: int) -> None:
        had = self._totals[counter]
        self._totals[counter] = had[0] + count, had[1] + size

    def counters(self, held_inodes: int) -> Counters:
        """What is in the published state."""
        files, size = self._totals[Counter.FILES]
        directories, _ = self._totals[Counter.DIRECTORIES]
        articles, _ = self._totals[Counter.ARTICLES]
        return Counters(
            max(files, 0), max(directories, 0), max(size, 0), max(articles, 0), held_inodes
        )


def merged(earlier: Iterable[bytes], published: bytes) -> bytes:
    """Published changes since the base: those of before, and the new ones."""
    return merge((*earlier, published)) if published else merge(earlier)


def _full(cut: Cut, change: Change) -> RowChange:
    """All columns before and after, in normal form."""
    name = change.table.name
    if change.operation is not Operation.UPDATE:
        old, new = change.old, change.new
        return RowChange(name, old and normalise(name, old), new and normalise(name, new))
    assert change.old is not None
    key = [change.old[place] for place in FORMS[name].key_places]
    current = cut.row(name, key)
    if current is None:
        raise DatabaseError(f"the changelog names a row of {name} that does not exist")
    before = tuple(
        now if was is UNCHANGED else was for was, now in zip(change.old, current, strict=True)
    )
    return RowChange(name, normalise(name, before), normalise(name, current))


def _net(change: RowChange) -> Change:
    """As a changeset says it."""
    table, old, new = TABLES[change.table], change.old, change.new
    if old is None:
        return Change(table, Operation.INSERT, None, new)
    if new is None:
        return Change(table, Operation.DELETE, old, None)
    differs = [was != now for was, now in zip(old, new, strict=True)]
    return Change(
        table,
        Operation.UPDATE,
        tuple(
            was if place or changed else UNCHANGED
            for was, place, changed in zip(old, table.key, differs, strict=True)
        ),
        tuple(now if changed else UNCHANGED for now, changed in zip(new, differs, strict=True)),
    )


def _is_file(row: Row) -> bool:
    return bool(row[1] & 0o170000 == 0o100000 and row[4] > 0)


def _is_directory(row: Row) -> bool:
    return bool(row[1] & 0o170000 == 0o040000)
