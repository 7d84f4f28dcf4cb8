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
SHARD                content that its hash does not lead to: its row is written to its file anew;
                     a row in a file that it does not belong to: none, nobody reads it
===================  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Iterator

from usenetfs.errors import DatabaseError
from usenetfs.index.check_content import ContentCheck
from usenetfs.index.check_names import NameCheck
from usenetfs.index.database import Database, Row
from usenetfs.index.dirents import DirentTable
from usenetfs.index.inodes import InodeTable
from usenetfs.index.shards import Shards
from usenetfs.index.survey import Finding, Kind, Survey
from usenetfs.index.totals import TotalsTable

__all__ = ["Checker", "Finding", "Kind"]


class Checker:
    """One run. ``findings`` grows while :meth:`steps` is iterated."""

    def __init__(
        self,
        database: Database,
        *,
        shards: Shards,
        inodes: InodeTable,
        dirents: DirentTable,
        totals: TotalsTable,
        block_size: int,
        repair: bool,
        deep: bool,
        batch: int,
    ) -> None:
        self._database = database
        self._shards = shards
        self._totals = totals
        self._deep = deep
        self._survey = Survey(database, repair=repair, batch=batch)
        self._names = NameCheck(self._survey, database, inodes=inodes, dirents=dirents)
        self._content = ContentCheck(self._survey, database, shards, block_size=block_size)

    def __repr__(self) -> str:
        return f"<Checker {self._survey!r}>"

    @property
    def findings(self) -> list[Finding]:
        return self._survey.findings

    def steps(self) -> Iterator[None]:
        """Runs the check, yielding after each batch. A damaged database ends it at once.

        The order matters for repairing: what goes is gone before what counts it is looked at.
        """
        self._check_database()
        yield
        if self.findings:
            return
        yield from self._names.steps()
        yield from self._content.steps()
        yield from self._check_leftovers()
        self._check_counters()
        yield

    def _check_database(self) -> None:
        pragma = "integrity_check" if self._deep else "quick_check"
        try:
            lines = [str(row[0]) for row in self._database.rows(f"PRAGMA {pragma}(100)")]
        except DatabaseError as error:
            lines = [error.message]
        for line in lines:
            if line != "ok":
                self._survey.found(Kind.DATABASE, line)

    def _check_leftovers(self) -> Iterator[None]:
        for table, key, owner, owner_key in (
            ("symlinks", "inode", "inodes", "id"),
            ("xattrs", "inode", "inodes", "id"),
            ("message_ids", "article", "articles", "id"),
        ):

            def look(row: Row, table: str = table, key: str = key, owner: str = owner) -> None:
                if self._shards.has(owner) and self._shards.row(owner, "id", row[0]) is not None:
                    return  # it is in another file
                self._survey.found(
                    Kind.LEFTOVER,
                    f"{table} has a row of {key} {row[0]}, which does not exist",
                    self._survey.write(f"DELETE FROM {table} WHERE {key} = ?", row[0]),
                )

            yield from self._survey.scan(
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
        if self._survey.repair:
            with self._database.transaction():
                self._totals.recount()
        if repaired:
            return  # repairs go past the counters: that is no finding of its own
        for name in wrong:
            text = f"counter {name.name.lower()} says {said.get(name)}, there are {counted[name]}"
            self._survey.found(Kind.COUNTERS, text, lambda: None)
