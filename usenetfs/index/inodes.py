"""Inodes, and what hangs on them one to one: the row in ``inodes``.

Owns the table and the numbering. A number is never given twice: the high-water mark lives in memory
while the index is open and does not go back on ROLLBACK; AUTOINCREMENT keeps it over restarts.
It must not know names (dirents.py) or content (blocks.py, staging.py).
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from usenetfs.index.database import Database
from usenetfs.index.totals import Amount, Counter, TotalsTable
from usenetfs.types import InodeId

COLUMNS = "id, mode, uid, gid, nlink, size, rdev, atime_ns, mtime_ns, ctime_ns"

Times = tuple[int, int, int]
"""atime, mtime, ctime in nanoseconds since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class Inode:
    """One row of ``inodes``; the fields as there."""

    id: InodeId
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    rdev: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int

    @property
    def columns(self) -> tuple[int, ...]:
        """The values, in the order of :data:`COLUMNS`."""
        return _columns(self)


_columns: Callable[[Inode], tuple[int, ...]] = attrgetter(*COLUMNS.split(", "))


@dataclass(frozen=True, slots=True)
class InodeTotals:
    """What is in the filesystem and has a name; ``bytes`` is the sum of the files' sizes."""

    files: int
    directories: int
    others: int
    bytes: int


def kind_of(mode: int) -> Counter:
    """Which counter an inode of this mode is counted in."""
    if stat.S_ISREG(mode):
        return Counter.FILES
    return Counter.DIRECTORIES if stat.S_ISDIR(mode) else Counter.OTHERS


class InodeTable:
    def __init__(self, database: Database, totals: TotalsTable) -> None:
        self._database = database
        self._totals = totals
        highest = database.value("SELECT seq FROM sqlite_sequence WHERE name = 'inodes'")
        self._next = 1 if highest is None else highest + 1

    def __repr__(self) -> str:
        return f"<InodeTable next={self._next}>"

    def last_id(self) -> int:
        """How many inodes were ever made; the root is one of them."""
        return self._next - 1

    def get(self, inode: InodeId) -> Inode | None:
        row = self._database.row(f"SELECT {COLUMNS} FROM inodes WHERE id = ?", (inode,))
        return None if row is None else Inode(*row)

    def insert(
        self, mode: int, uid: int, gid: int, nlink: int, rdev: int, size: int, times: Times
    ) -> Inode:
        """A new inode under the next number. Inside a transaction."""
        inode = Inode(InodeId(self._next), mode, uid, gid, nlink, size, rdev, *times)
        self._next += 1
        self._database.write(
            f"INSERT INTO inodes ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (inode.id, mode, uid, gid, nlink, size, rdev, *times),
        )
        if nlink > 0:
            self._count(mode, size, 1)
        return inode

    def reserve(self) -> InodeId:
        """The next number, for a row that :meth:`insert_rows` will write."""
        number = InodeId(self._next)
        self._next += 1
        return number

    def insert_rows(self, rows: Sequence[Inode]) -> None:
        """Insert whole rows, under numbers that were reserved. Inside a transaction."""
        self._database.write_many(
            f"INSERT INTO inodes ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row.columns for row in rows),
        )
        for row in rows:
            self._next = max(self._next, row.id + 1)
            if row.nlink > 0:
                self._count(row.mode, row.size, 1)

    def insert_many(
        self, rows: Sequence[tuple[int, int, int, int, int, int, Times]]
    ) -> list[InodeId]:
        """Insert ``(mode, uid, gid, nlink, rdev, size, times)`` rows; their numbers, in order."""
        first = self._next
        self._next += len(rows)
        self._database.write_many(
            f"INSERT INTO inodes ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (number, mode, uid, gid, nlink, size, rdev, *times)
                for number, (mode, uid, gid, nlink, rdev, size, times) in enumerate(rows, first)
            ),
        )
        for mode, _uid, _gid, nlink, _rdev, size, _times in rows:
            if nlink > 0:
                self._count(mode, size, 1)
        return [InodeId(number) for number in range(first, self._next)]

    def update(self, inode: Inode) -> None:
        """Write all fields of an existing inode. Inside a transaction."""
        old = self._database.row("SELECT mode, nlink, size FROM inodes WHERE id = ?", (inode.id,))
        if old is None:
            return
        self._database.write(
            "UPDATE inodes SET mode = ?, uid = ?, gid = ?, nlink = ?, size = ?, rdev = ?,"
            " atime_ns = ?, mtime_ns = ?, ctime_ns = ? WHERE id = ?",
            (
                inode.mode,
                inode.uid,
                inode.gid,
                inode.nlink,
                inode.size,
                inode.rdev,
                inode.atime_ns,
                inode.mtime_ns,
                inode.ctime_ns,
                inode.id,
            ),
        )
        old_mode, old_nlink, old_size = old
        if (old_nlink > 0) != (inode.nlink > 0) or old_size != inode.size:
            if old_nlink > 0:
                self._count(old_mode, old_size, -1)
            if inode.nlink > 0:
                self._count(inode.mode, inode.size, 1)

    def delete(self, inode: InodeId) -> None:
        """Drop the row with its symlink target and extended attributes.

        Its blocks and staged content must be gone: they are dropped in batches beforehand.
        """
        gone = self._database.write_rows(
            "DELETE FROM inodes WHERE id = ? RETURNING mode, nlink, size", (inode,)
        )
        self._database.write("DELETE FROM symlinks WHERE inode = ?", (inode,))
        self._database.write("DELETE FROM xattrs WHERE inode = ?", (inode,))
        for mode, nlink, size in gone:
            if nlink > 0:
                self._count(mode, size, -1)

    def unlinked(self, limit: int) -> list[InodeId]:
        """Inodes without a link: open somewhere, or left over from an unclean stop."""
        rows = self._database.rows("SELECT id FROM inodes WHERE nlink = 0 LIMIT ?", (limit,))
        return [InodeId(row[0]) for row in rows]

    def totals(self) -> InodeTotals:
        """Counts of what has a name; from counters, so at no cost."""
        read = self._totals.read()
        files = read.get(Counter.FILES, Amount())
        return InodeTotals(
            files=files.count,
            directories=read.get(Counter.DIRECTORIES, Amount()).count,
            others=read.get(Counter.OTHERS, Amount()).count,
            bytes=files.bytes,
        )

    def _count(self, mode: int, size: int, sign: int) -> None:
        kind = kind_of(mode)
        self._totals.add(kind, sign, sign * size if kind is Counter.FILES else 0)
