"""What a checkpoint of the index would say: the work between a cut and the first article.

:func:`make_draft` is for a thread. It merges what changed, decides what may be published
(``holdback``), brings that into normal form, and works out digest and counters; with
``snapshot`` it also writes all rows to a spool. It changes nothing and posts nothing, so a draft
that comes to nothing costs nothing.

Memory follows the number of changes since the last checkpoint, not the size of the index.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from usenetfs.checkpoint.changeset import (
    UNCHANGED,
    Change,
    Operation,
    Table,
    decode_changes,
    encode_change,
    encode_changes,
)
from usenetfs.checkpoint.digest import MODULUS, RowDigest, digest_bytes
from usenetfs.checkpoint.documents import DocumentBuilder
from usenetfs.checkpoint.holdback import Lack, Row, RowChange, Split, split
from usenetfs.checkpoint.record import Counters
from usenetfs.errors import DatabaseError, DiskFullError, LocalStorageError
from usenetfs.index.chain import ChainState
from usenetfs.index.cut import Cut, merge
from usenetfs.index.normal_form import FORMS, normalise
from usenetfs.index.totals import Counter

TABLES: Final = {form.name: Table(form.name, tuple(form.key_flags)) for form in FORMS.values()}

HELD_SIZE: Final = 512 * 1024
"""Bytes of changes held back that are stored as one piece: the write of one takes some 2 ms."""


class Spool:
    """Pieces of a document in a temporary file without a name: gone whatever happens.

    Filled by one thread; then any number of them may read.
    """

    def __init__(self, directory: Path, piece_size: int) -> None:
        with _translating(directory):
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
        with _translating(self._directory):
            self._file.flush()

    def _write(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            with _translating(self._directory):
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


@contextmanager
def _translating(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = DiskFullError if error.errno in {errno.ENOSPC, errno.EDQUOT} else LocalStorageError
        raise kind(f"a temporary file in {directory} failed: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Draft:
    """``published``: net changes that may be published, as a changeset (empty: none). ``held``:
    what waits, in pieces. ``through``: the changelog's ``seq`` up to which it goes. ``lacks``: of
    each demand, what it lacks then."""

    through: int
    published: bytes
    held: tuple[bytes, ...]
    held_inodes: int
    digest: bytes
    counters: Counters
    snapshot: Spool | None
    lacks: tuple[Lack, ...]


def make_draft(
    cut: Cut,
    state: ChainState,
    *,
    digest_key: bytes,
    spool: Spool | None,
    wanted: Sequence[Container[int]] = (),
) -> Draft:
    """Read everything off ``cut``. With ``spool`` a snapshot goes there. ``wanted``: inodes that
    somebody wants published, by demand.

    Without a digest in ``state`` the digest is counted from all rows.
    """
    raw = list(decode_changes([cut.changes(state.cut, state.number)]))
    rows = [_full(cut, change) for change in raw]
    decided = split(rows, cut.staged_inodes(), lambda inode: cut.row("inodes", (inode,)), wanted)
    published: list[RowChange] = []
    held: list[RowChange] = []
    waiting: list[Change] = []
    for change, row, waits in zip(raw, rows, decided.held, strict=True):
        if row.old == row.new:
            continue  # only derived columns changed
        (held if waits else published).append(row)
        if waits:
            waiting.append(change)
    row_digest = RowDigest(digest_key)
    if state.digest:
        total = int.from_bytes(state.digest, "big") + _digest_change(row_digest, published)
    else:
        total = sum(row_digest.encoded_rows(table, cut.encoded(table)) for table in FORMS)
        total -= _digest_change(row_digest, held)
    if spool is not None:
        spool.fill(_snapshot(cut, held))
    return Draft(
        through=cut.through,
        published=b"".join(encode_changes(map(_net, _in_order(published)))),
        held=tuple(_pieces(waiting)),
        held_inodes=decided.inodes,
        digest=digest_bytes(total % MODULUS),
        counters=_counters(cut, held, decided),
        snapshot=spool,
        lacks=decided.lacks,
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


def _in_order(changes: Iterable[RowChange]) -> Iterator[RowChange]:
    """By table, in the order of the tables."""
    by_table: dict[str, list[RowChange]] = {name: [] for name in TABLES}
    for change in changes:
        by_table[change.table].append(change)
    for of_table in by_table.values():
        yield from of_table


def _pieces(changes: Iterable[Change]) -> Iterator[bytes]:
    """Changesets of about :data:`HELD_SIZE`, each complete in itself."""
    gathered: list[Change] = []
    size = 0
    for change in changes:
        gathered.append(change)
        size += len(encode_change(change))
        if size >= HELD_SIZE:
            yield b"".join(encode_changes(gathered))
            gathered, size = [], 0
    if gathered:
        yield b"".join(encode_changes(gathered))


def _digest_change(row_digest: RowDigest, changes: Iterable[RowChange]) -> int:
    total = 0
    for table, old, new in changes:
        if new is not None:
            total += row_digest.row(table, new)
        if old is not None:
            total -= row_digest.row(table, old)
    return total


def _snapshot(cut: Cut, held: Sequence[RowChange]) -> Iterator[bytes]:
    """All rows as they are to be published: those that wait as they were before."""
    excluded: dict[str, list[list[Any]]] = {}
    extra: dict[str, bytes] = {}
    for table, old, new in held:
        if new is not None:
            key = [new[place] for place in FORMS[table].key_places]
            excluded.setdefault(table, []).append(key)
        if old is not None:
            insert = Change(TABLES[table], Operation.INSERT, None, old)
            extra[table] = extra.get(table, b"") + encode_change(insert)
    return cut.export(excluded, extra)


def _counters(cut: Cut, held: Iterable[RowChange], decided: Split) -> Counters:
    """What is in the published state: the live counters without what waits."""
    totals = cut.totals()
    files, size = totals[Counter.FILES]
    directories, _ = totals[Counter.DIRECTORIES]
    articles, _ = totals[Counter.ARTICLES]
    for table, old, new in held:
        for row, sign in ((new, -1), (old, 1)):
            if row is None:
                continue
            if table == "articles":
                articles += sign
            elif table == "inodes" and _is_file(row):
                files, size = files + sign, size + sign * row[5]
            elif table == "inodes" and _is_directory(row):
                directories += sign
    return Counters(
        max(files, 0), max(directories, 0), max(size, 0), max(articles, 0), decided.inodes
    )


def _is_file(row: Row) -> bool:
    return bool(row[1] & 0o170000 == 0o100000 and row[4] > 0)


def _is_directory(row: Row) -> bool:
    return bool(row[1] & 0o170000 == 0o040000)
