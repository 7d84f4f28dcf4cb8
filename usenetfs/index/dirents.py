"""Names: the directory tree.

Owns ``dirents``. A name's place in its directory (its *cookie*) is a keyed hash of the name: it
does not change while other names come and go, so it serves as readdir's offset across any number
of calls, and a lookup is one range read of the primary key. The key keeps users from making names
that collide; two names that do anyway take neighbouring places, up to ``PROBES``.

It must not know what an inode is beyond the columns it joins for :meth:`DirentTable.list`.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Final, NamedTuple

from usenetfs.errors import DatabaseError, UsenetfsError
from usenetfs.index.database import Database
from usenetfs.index.inodes import Inode
from usenetfs.types import ROOT_INODE, InodeId

PROBES: Final = 4
"""Places that names of equal hash may take."""

FIRST_COOKIE: Final = 3
"""1 and 2 are left to ``.`` and ``..``; 0 means "from the start"."""

_HASH_MASK: Final = (1 << 62) - 1
_MAX_DEPTH: Final = 4096
_IN_DIRECTORY: Final = "parent = ? AND cookie BETWEEN ? AND ?"


class DuplicateEntryError(UsenetfsError):
    """The name is taken in that directory."""

    error_code = "duplicate_entry"


class DirectoryEntry(NamedTuple):
    """One line of a listing. ``cookie`` is what to continue after."""

    cookie: int
    name: bytes
    inode: Inode


class DirentTable:
    def __init__(self, database: Database, directory_key: bytes) -> None:
        self._database = database
        self._key = directory_key
        self.on_replace: Callable[[InodeId, InodeId], None] = lambda old, new: None
        """Told inside the transaction of an inode whose name leads to another from now on."""

    def cookie(self, name: bytes) -> int:
        """First place of a name: 62 bits, at least ``FIRST_COOKIE``."""
        digest = blake2b(name, digest_size=8, key=self._key).digest()
        return max(int.from_bytes(digest, "big") & _HASH_MASK, FIRST_COOKIE)

    # --- one name

    def lookup(self, parent: InodeId, name: bytes) -> InodeId | None:
        found = self._find(parent, name)
        return None if found is None else found[1]

    def insert(self, parent: InodeId, name: bytes, inode: InodeId) -> None:
        """Add a name. Raises :class:`DuplicateEntryError` if it is taken."""
        first = self.cookie(name)
        self._database.write(_INSERT, (parent, first, name, inode, parent, first))
        if not self._database.changes():
            self._insert_probing(parent, first, name, inode)

    def insert_many(self, entries: Iterable[tuple[InodeId, bytes, InodeId]]) -> None:
        """Add ``(parent, name, inode)`` entries, as :meth:`insert` would, in bulk."""
        rows = [(parent, self.cookie(name), name, inode) for parent, name, inode in entries]
        done = self._database.write_many(
            _INSERT + " RETURNING parent, cookie",
            ((parent, first, name, inode, parent, first) for parent, first, name, inode in rows),
        )
        if len(done) < len(rows):
            for parent, first, name, inode in rows:
                if self.lookup(parent, name) != inode:
                    self._insert_probing(parent, first, name, inode)

    def _insert_probing(self, parent: InodeId, first: int, name: bytes, inode: InodeId) -> None:
        taken: dict[int, bytes] = dict(
            self._database.rows(
                f"SELECT cookie, name FROM dirents WHERE {_IN_DIRECTORY}",
                (parent, first, first + PROBES - 1),
            )
        )
        if name in taken.values():
            raise DuplicateEntryError("the name exists already")
        for cookie in range(first, first + PROBES):
            if cookie not in taken:
                self._database.write(
                    "INSERT INTO dirents (parent, cookie, name, inode) VALUES (?, ?, ?, ?)",
                    (parent, cookie, name, inode),
                )
                return
        raise DatabaseError(f"{PROBES + 1} names of one directory have the same hash")

    def remove(self, parent: InodeId, name: bytes) -> InodeId | None:
        """Take a name away; what it led to, or None if there is no such name."""
        first = self.cookie(name)
        rows = self._database.write_rows(
            f"DELETE FROM dirents WHERE {_IN_DIRECTORY} AND name = ? RETURNING inode",
            (parent, first, first + PROBES - 1, name),
        )
        return InodeId(rows[0][0]) if rows else None

    def replace(self, parent: InodeId, name: bytes, inode: InodeId) -> InodeId | None:
        """Make a name lead to ``inode``, whether it exists or not; what it led to before."""
        first = self.cookie(name)
        found = self._find(parent, name)
        if found is None:
            self._insert_probing(parent, first, name, inode)
            return None
        self._database.write(
            "UPDATE dirents SET inode = ? WHERE parent = ? AND cookie = ?",
            (inode, parent, found[0]),
        )
        self.on_replace(found[1], inode)
        return found[1]

    # --- a directory

    def is_empty(self, parent: InodeId) -> bool:
        return self._database.row("SELECT 1 FROM dirents WHERE parent = ?", (parent,)) is None

    def list(self, parent: InodeId, after_cookie: int, limit: int) -> builtins.list[DirectoryEntry]:
        """Up to ``limit`` entries whose cookie is greater than ``after_cookie``, ascending.

        Start with 0 and continue with the last cookie. What is there during the whole listing
        comes exactly once; what comes or goes meanwhile, at most once.
        """
        rows = self._database.rows(_LIST, (parent, after_cookie, limit))
        return [DirectoryEntry(row[0], row[1], Inode(*row[2:])) for row in rows]

    # --- upwards

    def parents_of(self, inode: InodeId, limit: int = 1000) -> builtins.list[tuple[InodeId, bytes]]:
        """``(parent, name)`` of up to ``limit`` names of an inode."""
        return [
            (InodeId(parent), name)
            for parent, name in self._database.rows(
                "SELECT parent, name FROM dirents WHERE inode = ? LIMIT ?", (inode, limit)
            )
        ]

    def path_of(self, inode: InodeId) -> bytes | None:
        """One absolute path of an inode; None if it has no name (any more)."""
        names: builtins.list[bytes] = []
        while inode != ROOT_INODE:
            row = self._database.row("SELECT parent, name FROM dirents WHERE inode = ?", (inode,))
            if row is None or len(names) >= _MAX_DEPTH:
                return None
            names.append(row[1])
            inode = InodeId(row[0])
        return b"/" + b"/".join(reversed(names))

    def _find(self, parent: InodeId, name: bytes) -> tuple[int, InodeId] | None:
        first = self.cookie(name)
        for cookie, other, inode in self._database.rows(
            f"SELECT cookie, name, inode FROM dirents WHERE {_IN_DIRECTORY}",
            (parent, first, first + PROBES - 1),
        ):
            if other == name:
                return cookie, InodeId(inode)
        return None


# Adds the name in its first place if all of its places are free: one statement for all but the
# one name in 10^18 that meets another.
_INSERT = (
    "INSERT INTO dirents (parent, cookie, name, inode) SELECT ?, ?, ?, ?"
    f" WHERE NOT EXISTS (SELECT 1 FROM dirents WHERE parent = ?5 AND cookie >= ?6"
    f" AND cookie < ?6 + {PROBES})"
)

_LIST = (
    "SELECT d.cookie, d.name, i.id, i.mode, i.uid, i.gid, i.nlink, i.size, i.rdev,"
    " i.atime_ns, i.mtime_ns, i.ctime_ns"
    " FROM dirents d CROSS JOIN inodes i ON i.id = d.inode"
    " WHERE d.parent = ? AND d.cookie > ? ORDER BY d.cookie LIMIT ?"
)
