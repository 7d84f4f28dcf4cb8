"""Comparing every table with every other: what ``fsck`` finds in the index, and can repair.

Works in batches over primary keys, so memory does not follow the size of the index, and it may be
stopped between two. Nothing may write meanwhile. Each repair is its own transaction: a check that is
interrupted leaves a sound index with fewer faults.

Repairs are those that cannot lose data: counters and link counts are set right, rows that lead
nowhere are removed, inodes without a name are given one in ``lost+found`` if they hold anything.
"""

from __future__ import annotations

import enum
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from usenetfs.index.database import Database
from usenetfs.index.dirents import DirentTable
from usenetfs.index.inodes import InodeTable
from usenetfs.index.totals import TotalsTable
from usenetfs.types import ROOT_INODE, InodeId

LOST_AND_FOUND: Final = b"lost+found"
LOST_MODE: Final = 0o040700
MAX_FINDINGS: Final = 10_000
"""Findings kept; beyond that they are repaired but no longer listed."""


class Fault(enum.Enum):
    """What is wrong."""

    DATABASE = "database"
    """SQLite itself says so."""
    DIRENT_TO_NOTHING = "dirent_to_nothing"
    NAMELESS_INODE = "nameless_inode"
    LINK_COUNT = "link_count"
    BLOCK_BEYOND_END = "block_beyond_end"
    BLOCK_WITHOUT_SEGMENT = "block_without_segment"
    BLOCK_WITHOUT_INODE = "block_without_inode"
    SEGMENT_WITHOUT_ARTICLE = "segment_without_article"
    SEGMENT_REFERENCES = "segment_references"
    STAGING_WITHOUT_INODE = "staging_without_inode"
    STAGING_WAITS_FOR_NOTHING = "staging_waits_for_nothing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. ``repaired``: it is no more."""

    fault: Fault
    text: str
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class _Rule:
    """Rows that should not be, and the statement that mends one of them."""

    fault: Fault
    find: str
    """Selects key columns (bound to ``repair`` in order), after a key, with LIMIT ?."""
    text: str
    repair: str | None


# Each query pages by rowid or by what is deleted: a repaired row does not come up again, and one that
# is not repaired is stepped over by the offset.
_RULES: Final = (
    _Rule(
        Fault.DIRENT_TO_NOTHING,
        "SELECT parent, cookie, inode FROM dirents d"
        " WHERE NOT EXISTS (SELECT 1 FROM inodes WHERE id = d.inode)"
        " OR NOT EXISTS (SELECT 1 FROM inodes WHERE id = d.parent) LIMIT ? OFFSET ?",
        "a name in directory {0} leads to inode {2}, which is not there",
        "DELETE FROM dirents WHERE parent = ?1 AND cookie = ?2",
    ),
    _Rule(
        Fault.BLOCK_WITHOUT_INODE,
        "SELECT inode, number FROM blocks b"
        " WHERE NOT EXISTS (SELECT 1 FROM inodes WHERE id = b.inode) LIMIT ? OFFSET ?",
        "block {1} belongs to inode {0}, which is not there",
        "DELETE FROM blocks WHERE inode = ?1 AND number = ?2",
    ),
    _Rule(
        Fault.BLOCK_BEYOND_END,
        "SELECT b.inode, b.number FROM blocks b JOIN inodes i ON i.id = b.inode"
        " WHERE b.number * {block_size} >= i.size AND i.nlink > 0 LIMIT ? OFFSET ?",
        "block {1} lies beyond the end of inode {0}",
        "DELETE FROM blocks WHERE inode = ?1 AND number = ?2",
    ),
    _Rule(
        Fault.BLOCK_WITHOUT_SEGMENT,
        "SELECT inode, number FROM blocks b"
        " WHERE NOT EXISTS (SELECT 1 FROM segments WHERE id = b.segment) LIMIT ? OFFSET ?",
        "the content of block {1} of inode {0} is not recorded",
        None,
    ),
    _Rule(
        Fault.SEGMENT_WITHOUT_ARTICLE,
        "SELECT id, article FROM segments s"
        " WHERE NOT EXISTS (SELECT 1 FROM articles WHERE id = s.article) LIMIT ? OFFSET ?",
        "segment {0} lies in article {1}, which is not recorded",
        None,
    ),
    _Rule(
        Fault.SEGMENT_REFERENCES,
        "SELECT s.id, s.refs, count(b.inode) FROM segments s"
        " LEFT JOIN blocks b ON b.segment = s.id GROUP BY s.id"
        " HAVING s.refs <> count(b.inode) LIMIT ? OFFSET ?",
        "segment {0} counts {1} references and has {2}",
        "UPDATE segments SET refs = ?3 WHERE id = ?1",
    ),
    _Rule(
        Fault.STAGING_WITHOUT_INODE,
        "SELECT inode, block FROM local_staging w"
        " WHERE NOT EXISTS (SELECT 1 FROM inodes WHERE id = w.inode) LIMIT ? OFFSET ?",
        "staged block {1} belongs to inode {0}, which is not there",
        "DELETE FROM local_staging WHERE inode = ?1 AND block = ?2",
    ),
    _Rule(
        Fault.STAGING_WAITS_FOR_NOTHING,
        "SELECT inode, block, article FROM local_staging w WHERE article > 0"
        " AND NOT EXISTS (SELECT 1 FROM local_article WHERE id = w.article) LIMIT ? OFFSET ?",
        "staged block {1} of inode {0} waits for article {2}, which is not in flight",
        "UPDATE local_staging SET state = 0, article = 0, slot = 0, uploaded_generation = 0"
        " WHERE inode = ?1 AND block = ?2",
    ),
)


class Checker:
    """One run. :meth:`steps` yields after each batch; ``findings`` grows."""

    def __init__(
        self,
        database: Database,
        *,
        inodes: InodeTable,
        dirents: DirentTable,
        totals: TotalsTable,
        block_size: int,
        repair: bool,
        deep: bool,
        batch: int,
    ) -> None:
        self.findings: list[Finding] = []
        self._database = database
        self._inodes = inodes
        self._dirents = dirents
        self._totals = totals
        self._block_size = block_size
        self._repair = repair
        self._deep = deep
        self._batch = batch

    def __repr__(self) -> str:
        return f"<Checker findings={len(self.findings)} repair={self._repair}>"

    def steps(self) -> Iterator[None]:
        """The whole check, a batch at a time."""
        yield from self._check_database()
        for rule in _RULES:
            yield from self._apply(rule)
        yield from self._check_links()

    def _found(self, fault: Fault, text: str, *, repaired: bool) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(fault, text, repaired))

    def _check_database(self) -> Iterator[None]:
        pragma = "integrity_check" if self._deep else "quick_check"
        for (line,) in self._database.rows(f"PRAGMA {pragma}(100)"):
            if line != "ok":
                self._found(Fault.DATABASE, str(line), repaired=False)
        yield

    def _apply(self, rule: _Rule) -> Iterator[None]:
        find = rule.find.replace("{block_size}", str(self._block_size))
        skipped = 0
        while rows := self._database.rows(find, (self._batch, skipped)):
            mending = self._repair and rule.repair is not None
            if mending:
                with self._database.transaction():
                    for row in rows:
                        self._mend(rule, row)
            else:
                skipped += len(rows)
            for row in rows:
                self._found(rule.fault, rule.text.format(*row), repaired=mending)
            yield

    def _mend(self, rule: _Rule, row: tuple[Any, ...]) -> None:
        assert rule.repair is not None
        wanted = max(int(rule.repair[i + 1]) for i, c in enumerate(rule.repair) if c == "?")
        self._database.write(rule.repair, row[:wanted])

    # --- link counts -----------------------------------------------------------------------------

    def _check_links(self) -> Iterator[None]:
        """An inode's link count is the number of its names; for a directory 2 + subdirectories."""
        after = 0
        while True:
            rows = self._database.rows(
                "SELECT id, mode, nlink, size FROM inodes WHERE id > ? ORDER BY id LIMIT ?",
                (after, self._batch),
            )
            if not rows:
                return
            for inode, mode, nlink, size in rows:
                if nlink > 0:
                    self._check_link(InodeId(inode), mode, nlink, size)
            after = rows[-1][0]
            yield

    def _check_link(self, inode: InodeId, mode: int, nlink: int, size: int) -> None:
        names = self._database.value("SELECT count(*) FROM dirents WHERE inode = ?", (inode,))
        if not names and inode != ROOT_INODE:
            self._adopt(inode, mode, size)
            return
        if stat.S_ISDIR(mode):
            expected = 2 + self._subdirectories(inode)
        else:
            expected = names
        if nlink != expected:
            self._set_links(inode, expected)
            text = f"inode {inode} counts {nlink} links and has {expected}"
            self._found(Fault.LINK_COUNT, text, repaired=self._repair)

    def _subdirectories(self, inode: InodeId) -> int:
        count: int = self._database.value(
            "SELECT count(*) FROM dirents d JOIN inodes i ON i.id = d.inode"
            " WHERE d.parent = ? AND (i.mode & 61440) = 16384",
            (inode,),
        )
        return count

    def _set_links(self, inode: InodeId, links: int) -> None:
        if self._repair:
            with self._database.transaction():
                self._database.write("UPDATE inodes SET nlink = ? WHERE id = ?", (links, inode))

    def _adopt(self, inode: InodeId, mode: int, size: int) -> None:
        """A nameless inode: into lost+found."""
        if self._repair:
            with self._database.transaction():
                parent = self._lost_and_found()
                self._dirents.insert(parent, b"inode-%d" % inode, inode)
                links = 2 + self._subdirectories(inode) if stat.S_ISDIR(mode) else 1
                self._database.write("UPDATE inodes SET nlink = ? WHERE id = ?", (links, inode))
                if stat.S_ISDIR(mode):
                    self._database.write(
                        "UPDATE inodes SET nlink = nlink + 1 WHERE id = ?", (parent,)
                    )
                self._totals.flush()
        text = f"inode {inode} ({size} bytes) has no name"
        self._found(Fault.NAMELESS_INODE, text, repaired=self._repair)

    def _lost_and_found(self) -> InodeId:
        found = self._dirents.lookup(ROOT_INODE, LOST_AND_FOUND)
        if found is not None:
            return found
        root = self._inodes.get(ROOT_INODE)
        assert root is not None
        times = (root.mtime_ns, root.mtime_ns, root.mtime_ns)
        made = self._inodes.insert(LOST_MODE, root.uid, root.gid, 2, 0, 0, times)
        self._dirents.insert(ROOT_INODE, LOST_AND_FOUND, made.id)
        self._database.write("UPDATE inodes SET nlink = nlink + 1 WHERE id = ?", (ROOT_INODE,))
        return made.id
