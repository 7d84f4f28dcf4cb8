"""What else hangs on an inode: symlink targets and extended attributes.

Owns ``symlinks`` and ``xattrs``. Limits on sizes and namespaces are the filesystem's business.
Both go with their inode (:meth:`InodeTable.delete`).
"""

from __future__ import annotations

import builtins

from usenetfs.index.database import Database
from usenetfs.types import InodeId


class SymlinkTable:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, inode: InodeId) -> bytes | None:
        target: bytes | None = self._database.value(
            "SELECT target FROM symlinks WHERE inode = ?", (inode,)
        )
        return target

    def set(self, inode: InodeId, target: bytes) -> None:
        self._database.write(
            "INSERT INTO symlinks (inode, target) VALUES (?, ?)"
            " ON CONFLICT (inode) DO UPDATE SET target = excluded.target",
            (inode, target),
        )


class XattrTable:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, inode: InodeId, name: bytes) -> bytes | None:
        value: bytes | None = self._database.value(
            "SELECT value FROM xattrs WHERE inode = ? AND name = ?", (inode, name)
        )
        return value

    def set(self, inode: InodeId, name: bytes, value: bytes) -> None:
        """Create or replace."""
        self._database.write(
            "INSERT INTO xattrs (inode, name, value) VALUES (?, ?, ?)"
            " ON CONFLICT (inode, name) DO UPDATE SET value = excluded.value",
            (inode, name, value),
        )

    def remove(self, inode: InodeId, name: bytes) -> bool:
        """Whether there was such an attribute."""
        self._database.write("DELETE FROM xattrs WHERE inode = ? AND name = ?", (inode, name))
        return self._database.changes() > 0

    def having(self, name: bytes) -> builtins.list[InodeId]:
        """Inodes that have the attribute. Reads the whole table: for the start of a mount."""
        rows = self._database.rows("SELECT inode FROM xattrs WHERE name = ?", (name,))
        return [InodeId(row[0]) for row in rows]

    def list(self, inode: InodeId) -> builtins.list[bytes]:
        """Names, in byte order."""
        rows = self._database.rows("SELECT name FROM xattrs WHERE inode = ?", (inode,))
        return [row[0] for row in rows]
