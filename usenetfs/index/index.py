"""The index: what there is in the filesystem, and where each part of it is.

Owns the database file and the table objects; this is the object the rest of the project holds.
Calls are synchronous and take microseconds; they are made on one thread, with no ``await`` inside a
transaction. What takes longer says so.

Invariants: every change happens inside :meth:`Index.transaction`, or in one of the transitions,
which open their own; the hook set by :meth:`Index.set_commit_hook` runs inside each of them, just
before its COMMIT, and so sees and can store everything that changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import apsw

from usenetfs.errors import DatabaseError, FilesystemExistsError
from usenetfs.index.articles import ArticleState, ArticleTable, InFlightArticle
from usenetfs.index.attributes import SymlinkTable, XattrTable
from usenetfs.index.blocks import BlockLocation, BlockTable
from usenetfs.index.chain import ChainTable
from usenetfs.index.changelog import Changelog
from usenetfs.index.check import Checker, Finding
from usenetfs.index.closed_files import ClosedFiles
from usenetfs.index.cut import Cut
from usenetfs.index.database import (
    CACHE,
    Database,
    Transaction,
    sync_directory,
    translate,
)
from usenetfs.index.dirents import DirentTable
from usenetfs.index.identity import FilesystemIdentity, build, identify, key_check
from usenetfs.index.inodes import Inode, InodeTable
from usenetfs.index.migrate import migrate
from usenetfs.index.segments import SegmentTable
from usenetfs.index.settling import Settling
from usenetfs.index.shard_files import attach, check_count, shard_files
from usenetfs.index.shards import Shards
from usenetfs.index.staging import StagingTable
from usenetfs.index.totals import Amount, Counter, TotalsTable
from usenetfs.index.transitions import Transitions
from usenetfs.types import ROOT_INODE, BlockNumber, Durability, InodeId

ROOT_MODE: Final = 0o040755
BATCH: Final = 1000
"""Rows that one transaction changes where many are to be changed."""

WAL_STEP_BYTES: Final = 4 * 1024 * 1024
"""A WAL smaller than this is not worth a checkpoint."""

GIVEN_BACK: Final = 256
"""Pages of 4 KiB that one step returns to the disk."""

WORTH_GIVING_BACK: Final = 4096
"""Fewer free pages than these are kept for what comes."""


class Index(Transitions):
    """An open index. A context manager; made by :meth:`create` or :meth:`open`."""

    def __init__(
        self,
        database: Database,
        identity: FilesystemIdentity,
        *,
        directory_key: bytes,
        batch: int = BATCH,
    ) -> None:
        self.identity = identity
        self.shards = Shards(database, attach(database))
        self.settling = Settling(database, self.shards)
        self.batch = batch
        """Rows that one transaction changes where many are to be changed."""
        self.totals = TotalsTable(database, self.shards.sources("articles"))
        self.inodes = InodeTable(database, self.totals)
        self.dirents = DirentTable(database, directory_key)
        self.symlinks = SymlinkTable(database)
        self.xattrs = XattrTable(database)
        self.articles = ArticleTable(database, self.shards, self.totals, identity.epoch)
        self.segments = SegmentTable(database, self.shards, self.articles)
        self.staging = StagingTable(database, self.totals, identity.block_size)
        self.blocks = BlockTable(database, self.shards, self.segments, self.staging)
        self.changelog = Changelog(database)
        self.shards.unrecorded = self.changelog.unrecorded
        self.chain = ChainTable(database)
        self.closed = ClosedFiles(database, self.inodes, self.dirents, self.staging)
        super().__init__(database, self.shards, self.articles, self.segments)
        self._commit_hook: Callable[[], None] | None = None
        database.before_commit = self._before_commit
        database.after_rollback = self._after_rollback

    def __repr__(self) -> str:
        return f"<Index {self.identity.name!r} {self._database!r}>"

    # --- making, opening, closing

    @classmethod
    def create(
        cls,
        path: Path | str,
        *,
        filesystem_id: bytes,
        name: str,
        block_size: int,
        directory_key: bytes,
        epoch: int = 1,
        uid: int | None = None,
        gid: int | None = None,
        now_ns: int = 0,
        shards: int = 1,
    ) -> Index:
        """Make the index of an empty filesystem and open it.

        The root directory belongs to ``uid``/``gid``, by default the caller. The file appears whole
        or not at all. ``shards``: files that segments and articles are spread over. Raises
        :class:`FilesystemExistsError` if there is one.
        """
        path = Path(path)
        if len(filesystem_id) != 16:
            raise DatabaseError("a filesystem id is 16 bytes")
        if block_size <= 0:
            raise DatabaseError("a block size is positive")
        check_count(shards)
        if path.exists():
            raise FilesystemExistsError(f"{path} exists already")
        meta = {
            "filesystem_id": filesystem_id,
            "name": name,
            "block_size": block_size,
            "epoch": epoch,
            "directory_key_check": key_check(directory_key),
        }
        root = (
            ROOT_INODE,
            ROOT_MODE,
            os.getuid() if uid is None else uid,
            os.getgid() if gid is None else gid,
            2,
            0,
            0,
            now_ns,
            now_ns,
            now_ns,
        )
        temporary = path.with_name(path.name + ".new")
        temporary.unlink(missing_ok=True)
        try:
            build(temporary, meta, root, shards=shards, beside=path)
            os.link(temporary, path)
        except FileExistsError as error:
            raise FilesystemExistsError(f"{path} exists already") from error
        except apsw.Error as error:
            raise translate(error, path) from error
        except OSError as error:
            raise DatabaseError(f"{path} cannot be made: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)
            if not path.exists():
                for file in shard_files(path):
                    file.unlink(missing_ok=True)
        sync_directory(path.parent)
        return cls.open(path, directory_key=directory_key)

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        directory_key: bytes,
        read_only: bool = False,
        batch: int = BATCH,
        cache: int = CACHE,
    ) -> Index:
        """Open an index; what an unclean stop left in the WAL is taken in, and a file of an earlier
        version is brought to this one's (migrate.py), and so are closed files that were not in the
        tables yet (journal.py).

        Raises :class:`SchemaVersionError` for another version's, :class:`FilesystemBusyError` if
        another process has it open for writing, :class:`DatabaseError` for anything else: not
        there, not an index, damaged, or another filesystem's key. Read-only may be open beside a
        writer, in another process. ``batch``: rows in a transaction where many change; ``cache``:
        octets of memory for pages.
        """
        path = Path(path)
        if not path.is_file():
            raise DatabaseError(
                f"there is no index at {path}",
                hint="get it back from the servers: usenetfs recover NAME",
            )
        database = Database(path, read_only=read_only, cache=cache)
        try:
            migrate(database)
            identity = identify(database, directory_key)
            index = cls(database, identity, directory_key=directory_key, batch=batch)
            if not read_only:
                index.closed.carry_out()
            return index
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Close the database; an open transaction is rolled back. May be called twice."""
        self.closed.close()
        self.changelog.close()
        self._database.optimize()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- transactions

    def transaction(self) -> Transaction:
        """``with index.transaction():`` BEGIN IMMEDIATE … COMMIT, or ROLLBACK if the body raises.

        Not re-entrant. Contains no ``await``.
        """
        return self._database.transaction()

    @property
    def in_transaction(self) -> bool:
        return self._database.in_transaction

    @property
    def database(self) -> Database:
        """The connection, for the parts of the project that record or copy the database."""
        return self._database

    def begin_epoch(self, epoch: int) -> None:
        """Whoever opens the index next is a new writer. Inside a transaction; a replicated change.

        This object goes on in the old epoch, and is to be closed.
        """
        self._database.write("UPDATE meta SET value = ? WHERE key = 'epoch'", (epoch,))

    def set_commit_hook(self, hook: Callable[[], None] | None) -> None:
        """``hook`` runs inside every transaction, last before its COMMIT; it may write."""
        self._commit_hook = hook

    def _before_commit(self) -> None:
        self.totals.flush()
        if self._commit_hook is not None:
            self._commit_hook()
        self.changelog.store()

    def _after_rollback(self) -> None:
        self.totals.discard()
        self.changelog.discard()

    def cut(self) -> Cut:
        """The index as it is now, for another thread to read; to be closed soon."""
        return Cut(self._database, self.shards.count)

    # --- what status and sync ask

    def durability_of(self, inode: InodeId) -> Durability:
        """How safe a file's content is: the least of its blocks.

        A file without content is as safe as can be. Reads every block row of a file that is wholly
        verified: about a microsecond each.
        """
        waiting = self._database.row(
            "SELECT max(state <> 2 OR generation <> uploaded_generation), count(*)"
            " FROM local_staging WHERE inode = ?",
            (inode,),
        )
        if waiting is not None and waiting[1]:
            return Durability.STAGED if waiting[0] else Durability.POSTED
        for first, end in self._pieces(inode, 0, 1 << 62):
            segments, articles = self._near(inode, first, end)
            unverified = self._database.row(
                f"SELECT 1 FROM blocks b CROSS JOIN {segments} s ON s.id = b.segment"
                f" CROSS JOIN {articles} a ON a.id = s.article"
                " WHERE b.inode = ? AND b.number >= ? AND b.number < ? AND a.state < ?",
                (inode, first, end, Durability.VERIFIED),
            )
            if unverified is not None:
                return Durability.SEEN
        return Durability.VERIFIED

    def _pieces(self, inode: InodeId, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The range of blocks, or where content is spread over files parts of it that have so many
        rows as may be gathered."""
        while self.shards.spread:
            last = self._database.value(
                "SELECT max(number) FROM (SELECT number FROM blocks"
                " WHERE inode = ? AND number >= ? AND number < ? ORDER BY number LIMIT ?)",
                (inode, first, end, self.batch),
            )
            if last is None:
                return
            yield first, last + 1
            first = last + 1
        yield first, end

    def _near(self, inode: InodeId, first: int, end: int) -> tuple[str, str]:
        """Tables that have the segments and articles of these blocks."""
        if not self.shards.spread:
            return self.shards.near(())
        rows = self._database.rows(
            "SELECT DISTINCT segment FROM blocks WHERE inode = ? AND number >= ? AND number < ?",
            (inode, first, end),
        )
        return self.shards.near(segment for (segment,) in rows)

    def staged_bytes_of(self, inode: InodeId) -> dict[Durability, int]:
        """Bytes of a file's content that are staged or posted, all states named."""
        found = dict.fromkeys(Durability, 0)
        for posted, octets in self._database.rows(
            "SELECT state = 2 AND generation = uploaded_generation, sum(bytes)"
            " FROM local_staging WHERE inode = ? GROUP BY 1",
            (inode,),
        ):
            found[Durability.POSTED if posted else Durability.STAGED] += octets
        return found

    def stored_bytes_of(self, inode: InodeId, first: int, end: int) -> dict[Durability, int]:
        """Bytes of blocks ``first`` … ``end - 1`` that are on the servers and not staged anew.

        About a microsecond a block.
        """
        found: dict[Durability, int] = {}
        for start, stop in self._pieces(inode, first, end):
            sql = _STORED_BYTES.format(*self._near(inode, start, stop))
            for state, octets in self._database.rows(sql, (inode, start, stop)):
                found[Durability(state)] = found.get(Durability(state), 0) + octets
        return found

    def durability_totals(self) -> dict[Durability, Amount]:
        """Blocks and bytes in each state; from counters, so at no cost.

        A block that was seen and changed since is counted twice: what is on Usenet, and what is
        staged.
        """
        read = self.totals.read()
        return {
            Durability.STAGED: read[Counter.STAGING_DIRTY] + read[Counter.STAGING_UPLOADING],
            Durability.POSTED: read[Counter.STAGING_POSTED],
            Durability.SEEN: read[Counter.BLOCKS_SEEN],
            Durability.VERIFIED: read[Counter.BLOCKS_VERIFIED],
        }

    def in_flight(self) -> list[InFlightArticle]:
        """All articles recorded and not seen."""
        return self.articles.in_flight()

    def in_doubt(self) -> list[InFlightArticle]:
        """Those of which no server ever said that it took them."""
        return [a for a in self.articles.in_flight() if a.state is ArticleState.PENDING]

    def file_as_it_is(self, inode: InodeId) -> tuple[Inode | None, list[BlockLocation]]:
        """A file's row and where all its blocks are, at one moment.

        For an index that another connection changes (``replica.py``). A microsecond a block.
        """
        connection = self._database.connection
        connection.execute("BEGIN")
        try:
            last = self.blocks.last(inode)
            count = 0 if last is None else last + 1
            return self.inodes.get(inode), self.blocks.locate(inode, BlockNumber(0), count)
        finally:
            connection.execute("COMMIT")

    # --- durability and maintenance

    def sync(self) -> None:
        """Make all commits so far survive power loss. Blocks: call it in a thread."""
        self._database.sync()

    def wal_size(self) -> int:
        """Bytes of the write-ahead log now."""
        return self._database.wal_size()

    def wal_checkpoint_step(self) -> None:
        """The long half of maintenance, for a thread: copies the WAL into the database."""
        self._database.checkpoint_in_thread()

    def wal_checkpoint_inline(self) -> None:
        """The short half, on the owner's thread right after: lets the WAL start over."""
        self._database.checkpoint_inline()

    def maintain(self) -> bool:
        """Both halves one after the other, if the WAL is worth it; whether it was.

        For callers without an event loop to hold up; the daemon runs the halves where they belong.
        """
        if self.wal_size() < WAL_STEP_BYTES:
            return False
        self.wal_checkpoint_step()
        self.wal_checkpoint_inline()
        return True

    def give_back(self, pages: int = GIVEN_BACK) -> bool:
        """Return up to ``pages`` free pages to the disk if much of the file is free; whether it is.

        A step takes a few milliseconds. Free pages are used again, so a file that shrinks and grows
        all the time would only be copied around: a quarter must be free, and more than 16 MiB.
        """
        free, total = self._database.pages()
        if free < WORTH_GIVING_BACK or free * 4 < total:
            return False
        return self._database.shrink(pages)

    # --- checking

    def check(
        self,
        *,
        repair: bool = False,
        deep: bool = False,
        batch: int = 1000,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Finding]:
        """Compare every table with every other; see check.py. Slow; nothing may write meanwhile.

        ``cancelled`` is asked between batches; the findings so far are returned.
        """
        checker = self._checker(repair=repair, deep=deep, batch=batch)
        for _ in checker.steps():
            if cancelled is not None and cancelled():
                break
        return checker.findings

    def check_steps(
        self, *, repair: bool = False, deep: bool = False, batch: int = 1000
    ) -> Iterator[list[Finding]]:
        """The same in steps: after each batch, the findings so far."""
        checker = self._checker(repair=repair, deep=deep, batch=batch)
        for _ in checker.steps():
            yield checker.findings

    def _checker(self, *, repair: bool, deep: bool, batch: int) -> Checker:
        return Checker(
            self._database,
            shards=self.shards,
            inodes=self.inodes,
            dirents=self.dirents,
            totals=self.totals,
            block_size=self.identity.block_size,
            repair=repair,
            deep=deep,
            batch=batch,
        )


_STORED_BYTES: Final = """
SELECT a.state, sum(CASE WHEN w.inode IS NULL THEN b.length WHEN w.whole THEN 0
                         ELSE max(0, b.length - w.bytes) END)
FROM blocks b CROSS JOIN {} s ON s.id = b.segment CROSS JOIN {} a ON a.id = s.article
LEFT JOIN local_staging w ON w.inode = b.inode AND w.block = b.number
WHERE b.inode = ? AND b.number >= ? AND b.number < ?
GROUP BY a.state
"""
