"""Whether the tables agree with each other: what ``usenetfs fsck`` runs.

Owns no table and reads all of them, in batches of rows, so that memory stays flat and the caller
can stop between two. What it needs to remember of all rows (how often a segment is pointed to) goes
to temporary tables, which SQLite keeps on disk. Nothing else may write while it runs.

Repair changes only what can be derived from other rows, and never drops content that is staged or
that a block points to:

===================  ===========================================================================
finding              repair
===================  ===========================================================================
DATABASE             none: ``usenetfs recover``
DIRENT_TO_NOWHERE    the name is removed
ORPHAN_INODE         it gets a name in /lost+found
LOOP                 none: the directories are not reachable from the root; reported
LINK_COUNT           nlink is set to what the names say
BLOCK_WITHOUT_INODE  the block row is removed
BLOCK_BEYOND_SIZE    removed or shortened, unless the block is staged
BLOCK_WITHOUT_DATA   none: its segment or article is not known, reading it gives an error
SEGMENT_REFS         the count is corrected; a segment nobody points to is removed
ARTICLE_BLOCKS       likewise
STAGED_NOWHERE       the row is removed (the file is gone)
STAGED_WAITING       the row waits for an article that is not in flight: DIRTY again
IN_FLIGHT_LEFTOVER   segments in flight whose article is not: removed
LEFTOVER             an attribute or Message-ID of something that is gone: removed
COUNTERS             counted anew
===================  ===========================================================================
"""

from __future__ import annotations

import enum
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from usenetfs.errors import DatabaseError
from usenetfs.index.database import Database, Row
from usenetfs.index.dirents import DirentTable
from usenetfs.index.inodes import InodeTable
from usenetfs.index.totals import TotalsTable
from usenetfs.types import ROOT_INODE, InodeId

MAX_FINDINGS: Final = 10_000
"""Reported one by one; the rest is only counted, so that a ruined index does not fill memory."""

LOST_AND_FOUND: Final = b"lost+found"


class Kind(enum.StrEnum):
    DATABASE = "database"
    DIRENT_TO_NOWHERE = "dirent_to_nowhere"
    ORPHAN_INODE = "orphan_inode"
    LOOP = "loop"
    LINK_COUNT = "link_count"
    BLOCK_WITHOUT_INODE = "block_without_inode"
    BLOCK_BEYOND_SIZE = "block_beyond_size"
    BLOCK_WITHOUT_DATA = "block_without_data"
    SEGMENT_REFS = "segment_refs"
    ARTICLE_BLOCKS = "article_blocks"
    STAGED_NOWHERE = "staged_nowhere"
    STAGED_WAITING = "staged_waiting"
    IN_FLIGHT_LEFTOVER = "in_flight_leftover"
    LEFTOVER = "leftover"
    COUNTERS = "counters"


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement. ``text`` is one line for the user."""

    kind: Kind
    text: str
    repaired: bool
    inode: InodeId | None = None


Repair = Callable[[], None]


class Checker:
    """One run. ``findings`` grows while :meth:`steps` is iterated; ``unlisted`` counts the rest."""

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
        self.unlisted = 0
        self._database = database
        self._inodes = inodes
        self._dirents = dirents
        self._totals = totals
        self._block_size = block_size
        self._repair = repair
        self._deep = deep
        self._batch = batch

    def __repr__(self) -> str:
        return f"<Checker findings={len(self.findings)} unlisted={self.unlisted}>"

    def steps(self) -> Iterator[None]:
        """Runs the check, yielding after each batch. A damaged database ends it at once.

        The order matters for repairing: what goes is gone before what counts it is looked at.
        """
        self._check_database()
        yield
        if self.findings:
            return
        for part in (
            self._check_dirents,
            self._check_orphans,
            self._check_links,
            self._check_loops,
            self._check_staging,
            self._check_in_flight,
            self._check_blocks,
            self._check_segments,
            self._check_articles,
            self._check_leftovers,
        ):
            yield from part()
        self._check_counters()
        yield

    # --- the machinery

    def _found(
        self, kind: Kind, text: str, fix: Repair | None = None, inode: int | None = None
    ) -> None:
        repaired = self._repair and fix is not None
        if repaired and fix is not None:
            fix()
        if len(self.findings) < MAX_FINDINGS:
            number = None if inode is None else InodeId(inode)
            self.findings.append(Finding(kind, text, repaired, number))
        else:
            self.unlisted += 1

    def _run(self, rows: list[Row], look: Callable[[Row], None]) -> None:
        """Look at a batch of suspicious rows: with repair, in one transaction."""
        if not self._repair:
            for row in rows:
                look(row)
        elif rows:
            with self._database.transaction():
                for row in rows:
                    look(row)

    def _scan(self, table: str, key: str, sql: str, look: Callable[[Row], None]) -> Iterator[None]:
        """Run ``sql`` over ``table`` in ranges of its integer ``key``: ?1 < key ≤ ?2.

        ``sql`` selects only rows that are wrong; ``look`` judges each.
        """
        after = -1
        while True:
            last = self._database.value(
                f"SELECT max({key}) FROM (SELECT {key} FROM {table} WHERE {key} > ?"
                f" ORDER BY {key} LIMIT ?)",
                (after, self._batch),
            )
            if last is None:
                return
            self._run(self._database.rows(sql, (after, last)), look)
            yield
            after = last

    def _write(self, sql: str, *bindings: object) -> Repair:
        return lambda: self._database.write(sql, bindings)

    # --- SQLite's own

    def _check_database(self) -> None:
        pragma = "integrity_check" if self._deep else "quick_check"
        try:
            lines = [str(row[0]) for row in self._database.rows(f"PRAGMA {pragma}(100)")]
        except DatabaseError as error:
            lines = [error.message]
        for line in lines:
            if line != "ok":
                self._found(Kind.DATABASE, line)

    # --- names

    def _check_dirents(self) -> Iterator[None]:
        def look(row: Row) -> None:
            parent, cookie, name, inode = row
            self._found(
                Kind.DIRENT_TO_NOWHERE,
                f"{name!r} in directory {parent} leads to inode {inode}, which does not exist",
                self._write("DELETE FROM dirents WHERE parent = ? AND cookie = ?", parent, cookie),
                inode,
            )

        yield from self._scan(
            "dirents",
            "inode",
            "SELECT d.parent, d.cookie, d.name, d.inode FROM dirents d"
            " WHERE d.inode > ? AND d.inode <= ?"
            " AND NOT EXISTS (SELECT 1 FROM inodes i WHERE i.id = d.inode)",
            look,
        )

        def look_up(row: Row) -> None:
            parent, cookie, name = row
            self._found(
                Kind.DIRENT_TO_NOWHERE,
                f"{name!r} is in directory {parent}, which does not exist",
                self._write("DELETE FROM dirents WHERE parent = ? AND cookie = ?", parent, cookie),
                parent,
            )

        yield from self._scan(
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
            self._found(
                Kind.ORPHAN_INODE,
                f"inode {inode} has no name",
                lambda: self._name_orphan(InodeId(inode)),
                inode,
            )

        yield from self._scan(
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
            self._write("UPDATE inodes SET nlink = nlink + 1 WHERE id = ?", ROOT_INODE)()
            place = made.id
        self._dirents.replace(place, b"#%d" % inode, inode)
        self._write(
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
                self._found(Kind.LINK_COUNT, f"directory {inode} has {names} names", None, inode)
            nameless = not names and not stat.S_ISDIR(mode)  # reported as such already
            if nlink != expected and not nameless:
                self._found(
                    Kind.LINK_COUNT,
                    f"inode {inode} counts {nlink} links, there are {expected}",
                    self._write("UPDATE inodes SET nlink = ? WHERE id = ?", expected, inode),
                    inode,
                )

        yield from self._scan("inodes", "id", _LINKS, look)

    def _check_loops(self) -> Iterator[None]:
        def look(row: Row) -> None:
            (inode,) = row
            if self._dirents.path_of(inode) is None:
                self._found(
                    Kind.LOOP, f"directory {inode} cannot be reached from the root", None, inode
                )

        yield from self._scan(
            "inodes",
            "id",
            "SELECT id FROM inodes i WHERE id > ? AND id <= ? AND mode & 0xF000 = 0x4000"
            " AND EXISTS (SELECT 1 FROM dirents d WHERE d.inode = i.id)",
            look,
        )

    # --- staging and what is in flight

    def _check_staging(self) -> Iterator[None]:
        def look(row: Row) -> None:
            inode, blocks = row
            self._found(
                Kind.STAGED_NOWHERE,
                f"{blocks} staged blocks belong to inode {inode}, which does not exist",
                self._write("DELETE FROM local_staging WHERE inode = ?", inode),
                inode,
            )

        yield from self._scan(
            "local_staging",
            "inode",
            "SELECT w.inode, count(*) FROM local_staging w WHERE w.inode > ? AND w.inode <= ?"
            " AND NOT EXISTS (SELECT 1 FROM inodes i WHERE i.id = w.inode) GROUP BY w.inode",
            look,
        )

        def look_waiting(row: Row) -> None:
            inode, block, article, slot = row
            self._found(
                Kind.STAGED_WAITING,
                f"block {block} of inode {inode} waits for slot {slot} of article {article:#x},"
                " which is not in flight",
                self._write(
                    "UPDATE local_staging SET state = 0, article = 0, slot = 0,"
                    " uploaded_generation = 0 WHERE inode = ? AND block = ?",
                    inode,
                    block,
                ),
                inode,
            )

        yield from self._scan(
            "local_staging",
            "inode",
            "SELECT w.inode, w.block, w.article, w.slot FROM local_staging w"
            " WHERE w.inode > ? AND w.inode <= ? AND ((w.state = 0) <> (w.article = 0)"
            " OR w.state <> 0 AND NOT EXISTS (SELECT 1 FROM local_segment g"
            " JOIN local_article a ON a.id = g.article"
            " WHERE g.article = w.article AND g.slot = w.slot))",
            look_waiting,
        )

    def _check_in_flight(self) -> Iterator[None]:
        def look(row: Row) -> None:
            (article,) = row
            self._found(
                Kind.IN_FLIGHT_LEFTOVER,
                f"segments of article {article:#x} are in flight without it",
                self._write("DELETE FROM local_segment WHERE article = ?", article),
            )

        # An article for which nobody waits is no fault: its files were deleted meanwhile.
        yield from self._scan(
            "local_segment",
            "article",
            "SELECT DISTINCT g.article FROM local_segment g WHERE g.article > ? AND g.article <= ?"
            " AND NOT EXISTS (SELECT 1 FROM local_article a WHERE a.id = g.article)",
            look,
        )

    # --- the block map

    def _check_blocks(self) -> Iterator[None]:
        self._drop_temporary()
        self._database.rows("CREATE TEMP TABLE check_refs (segment INTEGER PRIMARY KEY, n, bytes)")
        size = self._block_size
        after: tuple[int, int] = (-1, -1)
        while True:
            rows = self._database.rows(_BLOCKS, (*after, self._batch))
            if not rows:
                return
            after = (rows[-1][0], rows[-1][1])
            suspicious = [
                row
                for row in rows
                if row[4] is None  # no inode
                or row[1] * size + row[3] > row[4]  # beyond its end
                or row[5] is None  # no segment
                or row[6] is None  # no article
                or not 0 < row[3] <= row[5]  # more than the segment holds
            ]
            self._run(suspicious, self._look_at_block)
            self._database.rows(_COUNT_REFS, (rows[0][0], rows[0][1], *after))
            yield

    def _look_at_block(self, row: Row) -> None:
        inode, number, _segment, length, size, raw_length, article, staged = row
        where = f"block {number} of inode {inode}"
        remove = self._write("DELETE FROM blocks WHERE inode = ? AND number = ?", inode, number)
        if size is None:
            self._found(
                Kind.BLOCK_WITHOUT_INODE, f"{where}: the inode does not exist", remove, inode
            )
            return
        if raw_length is None or article is None or not 0 < length <= raw_length:
            what = "segment" if raw_length is None else "article" if article is None else "length"
            self._found(Kind.BLOCK_WITHOUT_DATA, f"{where}: its {what} does not exist", None, inode)
            return
        rest = size - number * self._block_size
        if staged:
            return  # its inode's size may not be written yet, and its newest content is staged
        shorten = self._write(
            "UPDATE blocks SET length = ? WHERE inode = ? AND number = ?", rest, inode, number
        )
        self._found(
            Kind.BLOCK_BEYOND_SIZE,
            f"{where} ends {length - rest} bytes behind the end of the file",
            shorten if rest > 0 else remove,
            inode,
        )

    def _check_segments(self) -> Iterator[None]:
        self._database.rows("CREATE TEMP TABLE check_articles (id INTEGER PRIMARY KEY, n, bytes)")

        def look(row: Row) -> None:
            segment, refs, found = row
            fix = (
                self._write("UPDATE segments SET refs = ? WHERE id = ?", found, segment)
                if found
                else self._write("DELETE FROM segments WHERE id = ?", segment)
            )
            self._found(
                Kind.SEGMENT_REFS, f"segment {segment} counts {refs} blocks, there are {found}", fix
            )

        yield from self._scan(
            "segments",
            "id",
            "SELECT s.id, s.refs, coalesce(c.n, 0) FROM segments s"
            " LEFT JOIN temp.check_refs c ON c.segment = s.id"
            " WHERE s.id > ? AND s.id <= ? AND s.refs IS NOT coalesce(c.n, 0)",
            look,
        )
        self._database.rows(
            "INSERT INTO temp.check_articles SELECT s.article, sum(c.n), sum(c.bytes)"
            " FROM temp.check_refs c CROSS JOIN segments s ON s.id = c.segment GROUP BY s.article"
        )
        yield

    def _check_articles(self) -> Iterator[None]:
        def look(row: Row) -> None:
            article, blocks, size, found, found_size = row
            fix = (
                self._write(
                    "UPDATE articles SET blocks = ?, bytes = ? WHERE id = ?",
                    found,
                    found_size,
                    article,
                )
                if found
                else self._write("DELETE FROM articles WHERE id = ?", article)
            )
            self._found(
                Kind.ARTICLE_BLOCKS,
                f"article {article:#x} counts {blocks} blocks of {size} bytes,"
                f" there are {found} of {found_size}",
                fix,
            )

        yield from self._scan(
            "articles",
            "id",
            "SELECT a.id, a.blocks, a.bytes, coalesce(c.n, 0), coalesce(c.bytes, 0) FROM articles a"
            " LEFT JOIN temp.check_articles c ON c.id = a.id WHERE a.id > ? AND a.id <= ?"
            " AND (a.blocks IS NOT coalesce(c.n, 0) OR a.bytes IS NOT coalesce(c.bytes, 0))",
            look,
        )
        self._drop_temporary()

    # --- the rest

    def _check_leftovers(self) -> Iterator[None]:
        for table, key, owner, owner_key in (
            ("symlinks", "inode", "inodes", "id"),
            ("xattrs", "inode", "inodes", "id"),
            ("message_ids", "article", "articles", "id"),
        ):

            def look(row: Row, table: str = table, key: str = key) -> None:
                self._found(
                    Kind.LEFTOVER,
                    f"{table} has a row of {key} {row[0]}, which does not exist",
                    self._write(f"DELETE FROM {table} WHERE {key} = ?", row[0]),
                )

            yield from self._scan(
                table,
                key,
                f"SELECT DISTINCT t.{key} FROM {table} t WHERE t.{key} > ? AND t.{key} <= ? AND NOT"
                f" EXISTS (SELECT 1 FROM {owner} o WHERE o.{owner_key} = t.{key})",
                look,
            )

    def _check_counters(self) -> None:
        said, counted = self._totals.read(), self._totals.counted()
        wrong = [name for name in counted if said.get(name) != counted[name]]
        if not wrong:
            return
        repaired = any(finding.repaired for finding in self.findings)
        if self._repair:
            with self._database.transaction():
                self._totals.recount()
        if repaired:
            return  # repairs go past the counters: that is no finding of its own
        for name in wrong:
            text = f"counter {name.name.lower()} says {said.get(name)}, there are {counted[name]}"
            self._found(Kind.COUNTERS, text, lambda: None)

    def _drop_temporary(self) -> None:
        for table in ("check_refs", "check_articles"):
            self._database.rows(f"DROP TABLE IF EXISTS temp.{table}")


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

_BLOCKS = """
SELECT b.inode, b.number, b.segment, b.length, i.size, s.raw_length, a.id,
       EXISTS (SELECT 1 FROM local_staging w WHERE w.inode = b.inode AND w.block = b.number)
FROM blocks b
LEFT JOIN inodes i ON i.id = b.inode
LEFT JOIN segments s ON s.id = b.segment
LEFT JOIN articles a ON a.id = s.article
WHERE (b.inode, b.number) > (?, ?)
ORDER BY b.inode, b.number LIMIT ?
"""

_COUNT_REFS = """
INSERT INTO temp.check_refs
SELECT segment, count(*), sum(length) FROM blocks
WHERE (inode, number) >= (?, ?) AND (inode, number) <= (?, ?) GROUP BY segment
ON CONFLICT (segment) DO UPDATE SET n = n + excluded.n, bytes = bytes + excluded.bytes
"""
