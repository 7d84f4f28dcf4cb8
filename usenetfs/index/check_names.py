"""The part of the check that looks at names, links and directories.

Repairing gives inodes without a name one in ``/lost+found``, removes names that lead nowhere, and
sets link counts to what the names say.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Final

from usenetfs.index.database import Database, Row
from usenetfs.index.dirents import DirentTable
from usenetfs.index.inodes import InodeTable
from usenetfs.index.survey import Kind, Survey
from usenetfs.types import ROOT_INODE, InodeId

LOST_AND_FOUND: Final = b"lost+found"


class NameCheck:
    def __init__(
        self, survey: Survey, database: Database, *, inodes: InodeTable, dirents: DirentTable
    ) -> None:
        self._survey = survey
        self._database = database
        self._inodes = inodes
        self._dirents = dirents

    def steps(self) -> Iterator[None]:
        yield from self._check_dirents()
        yield from self._check_orphans()
        yield from self._check_links()
        yield from self._check_loops()

    def _check_dirents(self) -> Iterator[None]:
        def look(row: Row) -> None:
            parent, cookie, name, inode = row
            self._survey.found(
                Kind.DIRENT_TO_NOWHERE,
                f"{name!r} in directory {parent} leads to inode {inode}, which does not exist",
                self._survey.write(
                    "DELETE FROM dirents WHERE parent = ? AND cookie = ?", parent, cookie
                ),
                inode,
            )

        yield from self._survey.scan(
            "dirents",
            "inode",
            "SELECT d.parent, d.cookie, d.name, d.inode FROM dirents d"
            " WHERE d.inode > ? AND d.inode <= ?"
            " AND NOT EXISTS (SELECT 1 FROM inodes i WHERE i.id = d.inode)",
            look,
        )

        def look_up(row: Row) -> None:
            parent, cookie, name = row
            self._survey.found(
                Kind.DIRENT_TO_NOWHERE,
                f"{name!r} is in directory {parent}, which does not exist",
                self._survey.write(
                    "DELETE FROM dirents WHERE parent = ? AND cookie = ?", parent, cookie
                ),
                parent,
            )

        yield from self._survey.scan(
            "dirents",
            "parent",
            "SELECT d.parent, d.cookie, d.name FROM dirents d WHERE d.parent > ? AND d.parent <= ?"
            " AND NOT EXISTS"
            " (SELECT 1 FROM inodes i WHERE i.id = d.parent AND i.mode & 0xF000 = 0x4000)",
            look_up,
        )

    def _check_orphans(self) -> Iterator[None]:
        def look(row: Row) -> None:
            (inode,) = row
            self._survey.found(
                Kind.ORPHAN_INODE,
                f"inode {inode} has no name",
                lambda: self._name_orphan(InodeId(inode)),
                inode,
            )

        yield from self._survey.scan(
            "inodes",
            "id",
            "SELECT i.id FROM inodes i WHERE i.id > ? AND i.id <= ? AND i.nlink > 0 AND i.id <> 1"
            " AND NOT EXISTS (SELECT 1 FROM dirents d WHERE d.inode = i.id)",
            look,
        )

    def _name_orphan(self, inode: InodeId) -> None:
        place = self._dirents.lookup(ROOT_INODE, LOST_AND_FOUND)
        if place is None:
            root = self._inodes.get(ROOT_INODE)
            if root is None:
                return
            times = (root.mtime_ns, root.mtime_ns, root.mtime_ns)
            made = self._inodes.insert(stat.S_IFDIR | 0o700, root.uid, root.gid, 2, 0, 0, times)
            self._dirents.insert(ROOT_INODE, LOST_AND_FOUND, made.id)
            self._survey.write("UPDATE inodes SET nlink = nlink + 1 WHERE id = ?", ROOT_INODE)()
            place = made.id
        self._dirents.replace(place, b"#%d" % inode, inode)
        self._survey.write(
            "UPDATE inodes SET nlink = nlink + 1 WHERE id = ? AND EXISTS"
            " (SELECT 1 FROM inodes c WHERE c.id = ? AND c.mode & 0xF000 = 0x4000)",
            place,
            inode,
        )()

    def _check_links(self) -> Iterator[None]:
        def look(row: Row) -> None:
            inode, mode, nlink, names, subdirectories = row
            expected = 2 + subdirectories if stat.S_ISDIR(mode) else names
            if inode != ROOT_INODE and stat.S_ISDIR(mode) and names > 1:
                self._survey.found(
                    Kind.LINK_COUNT, f"directory {inode} has {names} names", None, inode
                )
            nameless = not names and not stat.S_ISDIR(mode)  # reported as such already
            if nlink != expected and not nameless:
                self._survey.found(
                    Kind.LINK_COUNT,
                    f"inode {inode} counts {nlink} links, there are {expected}",
                    self._survey.write("UPDATE inodes SET nlink = ? WHERE id = ?", expected, inode),
                    inode,
                )

        yield from self._survey.scan("inodes", "id", _LINKS, look)

    def _check_loops(self) -> Iterator[None]:
        def look(row: Row) -> None:
            (inode,) = row
            if self._dirents.path_of(inode) is None:
                self._survey.found(
                    Kind.LOOP, f"directory {inode} cannot be reached from the root", None, inode
                )

        yield from self._survey.scan(
            "inodes",
            "id",
            "SELECT id FROM inodes i WHERE id > ? AND id <= ? AND mode & 0xF000 = 0x4000"
            " AND EXISTS (SELECT 1 FROM dirents d WHERE d.inode = i.id)",
            look,
        )


_LINKS = """
SELECT id, mode, nlink, names, subdirectories FROM (
    SELECT i.id, i.mode, i.nlink,
        (SELECT count(*) FROM dirents d WHERE d.inode = i.id) AS names,
        CASE WHEN i.mode & 0xF000 = 0x4000 THEN
            (SELECT count(*) FROM dirents d CROSS JOIN inodes c ON c.id = d.inode
             WHERE d.parent = i.id AND c.mode & 0xF000 = 0x4000)
        ELSE 0 END AS subdirectories
    FROM inodes i WHERE i.id > ? AND i.id <= ?)
WHERE nlink <> CASE WHEN mode & 0xF000 = 0x4000
                    THEN CASE WHEN nlink = 0 AND names = 0 THEN 0 ELSE 2 + subdirectories END
                    ELSE names END
   OR mode & 0xF000 = 0x4000 AND names > 1
"""
