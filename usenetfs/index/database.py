"""One SQLite connection, and the only place where apsw's errors are seen.

Owns the connection, its pragmas, the transaction, the lock that keeps a second writer out, and the
WAL. The tables above it speak SQL through :meth:`Database.row`, :meth:`~Database.rows` and the
``write`` forms; nothing else touches apsw. It must not know any table.

Invariants:

- every write happens inside :meth:`Database.transaction`; the ``before_commit`` hook runs inside
  it, last, so whatever the hook writes is committed with it or not at all;
- an apsw error leaves this module as :class:`DatabaseError` or :class:`DiskFullError`, never bare;
- the main database file is opened by SQLite only: closing any other descriptor of it would drop
  SQLite's POSIX locks. The ``-wal`` file carries no locks, so :meth:`Database.sync` may open it.

Threads: everything runs on the owner's thread, except :meth:`Database.sync` and
:meth:`Database.checkpoint_in_thread`, which take a lock of their own and no part in transactions.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, NoReturn

import apsw

from usenetfs.errors import DatabaseError, DiskFullError, FilesystemBusyError

Row = tuple[Any, ...]
Bindings = Sequence[Any]

BUSY_TIMEOUT_MS: Final = 2_000
"""Nobody else writes, so a wait means a reader in recovery or a checkpoint: short ones."""

CACHE: Final = 32 * 1024 * 1024
"""Octets of the page cache. Memory must not follow the size of the index (R18)."""

WAL_FALLBACK_PAGES: Final = 16 * 1024
"""64 MiB of WAL: where a commit checkpoints by itself if nobody calls the maintenance."""

WAL_KEPT_BYTES: Final = 2 * 1024 * 1024
"""The WAL file is cut to this when it starts over: below what is worth a checkpoint, so that the
file's size says whether there is anything to do."""

STATEMENT_CACHE: Final = 512

SMALL: Final = 10_000
"""Rows of a table below which the planner does without statistics."""

ANALYSIS_LIMIT: Final = 400
"""Rows of each index that statistics look at."""

_INCREMENTAL: Final = 2
"""``PRAGMA auto_vacuum``."""


class Transaction:
    """``with database.transaction():``. One object, reused: entering costs one statement."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        if kind is None:
            self._database.commit()
        else:
            self._database.roll_back()
        return False


class Database:
    """A connection to the index at ``path``, which must exist.

    Raises :class:`DatabaseError` if it cannot be opened or is no database, and
    :class:`FilesystemBusyError` if another process has it open for writing.
    """

    def __init__(self, path: Path, *, read_only: bool = False, cache: int = CACHE) -> None:
        self.path = path
        self._cache = cache
        self.read_only = read_only
        self.before_begin: Callable[[], None] | None = None
        """Runs before each transaction; may make one of its own."""
        self.before_commit: Callable[[], None] | None = None
        """Runs inside each transaction, just before its COMMIT. May write."""
        self.after_rollback: Callable[[], None] | None = None
        """Runs after a transaction that came to nothing."""
        self._writing = False
        self._transaction = Transaction(self)
        self._side_lock = threading.Lock()
        self._side: apsw.Connection | None = None
        self._wal_fd = -1
        self._sync_error: str | None = None
        self._closed = False
        self._begin = "BEGIN IMMEDIATE"
        self._lock_fd = -1 if read_only else _take_lock(path)
        try:
            self._connection = self._connect()
        except BaseException:
            self._release_lock()
            raise

    def __repr__(self) -> str:
        state = "closed" if self._closed else "writing" if self._writing else "idle"
        return f"<Database {self.path} {state}{' read-only' if self.read_only else ''}>"

    # --- opening and closing

    def _connect(self) -> apsw.Connection:
        mode = apsw.SQLITE_OPEN_READONLY if self.read_only else apsw.SQLITE_OPEN_READWRITE
        try:
            connection = apsw.Connection(
                str(self.path),
                flags=mode | apsw.SQLITE_OPEN_URI,
                statementcachesize=STATEMENT_CACHE,
            )
        except apsw.Error as error:
            self._fail(error)
        try:
            self._configure(connection)
        except apsw.Error as error:
            connection.close(True)
            self._fail(error)
        except BaseException:
            connection.close(True)
            raise
        return connection

    def _configure(self, connection: apsw.Connection) -> None:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.pragma("cache_size", -(self._cache // 1024))
        connection.pragma("trusted_schema", False)
        connection.pragma("cell_size_check", True)
        # Otherwise a join whose plan might depend on the bound values is planned anew for each of
        # them: looking up a block took 28 us instead of 9.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        if self.read_only:
            return  # temporary tables stay possible: the check needs them
        mode = connection.pragma("journal_mode", "wal")
        if mode != "wal":
            raise DatabaseError(
                f"{self.path} cannot use a write-ahead log (journal mode {mode})",
                hint="keep the data directory on a local disk",
            )
        connection.pragma("synchronous", "normal")
        connection.pragma("journal_size_limit", WAL_KEPT_BYTES)
        connection.wal_autocheckpoint(WAL_FALLBACK_PAGES)
        _forget_small(connection)

    def close(self) -> None:
        """Close everything; an open transaction is rolled back. May be called twice."""
        if self._closed:
            return
        self._closed = True
        with self._side_lock:
            if self._side is not None:
                self._side.close(True)
                self._side = None
            if self._wal_fd >= 0:
                os.close(self._wal_fd)
                self._wal_fd = -1
        try:
            self._connection.close(True)
        except apsw.Error as error:
            self._fail(error)
        finally:
            self._release_lock()

    def attach(self, paths: Mapping[str, Path], *, lock: str) -> None:
        """Attach further databases by name, for reading only. They share half of the page cache.

        ``lock``: a statement that takes the lock for writing of the main database, and does nothing
        else: BEGIN IMMEDIATE would begin to read in each of the others too.
        """
        pages = -(self._cache // 1024 // 2)
        for name, path in paths.items():
            try:
                self._connection.execute(
                    f"ATTACH ? AS {name}", (f"{path.absolute().as_uri()}?mode=ro",)
                )
                self._connection.pragma("cache_size", pages // len(paths), schema=name)
            except apsw.Error as error:
                raise translate(error, path) from error
        self._connection.pragma("cache_size", pages, schema="main")
        self._begin = f"BEGIN; {lock}"

    def _release_lock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    # --- reading

    def row(self, sql: str, bindings: Bindings = ()) -> Row | None:
        """The first row, or None."""
        try:
            return self._connection.execute(sql, bindings).fetchone()
        except apsw.Error as error:
            self._fail(error)

    def value(self, sql: str, bindings: Bindings = ()) -> Any:
        """The first column of the first row, or None."""
        try:
            row = self._connection.execute(sql, bindings).fetchone()
        except apsw.Error as error:
            self._fail(error)
        return None if row is None else row[0]

    def rows(self, sql: str, bindings: Bindings = ()) -> list[Row]:
        """All rows: the statement must bound their number."""
        try:
            return self._connection.execute(sql, bindings).fetchall()
        except apsw.Error as error:
            self._fail(error)

    # --- writing

    def write(self, sql: str, bindings: Bindings = ()) -> None:
        """Run one statement. Inside a transaction only."""
        if not self._writing:
            self._refuse()
        try:
            self._connection.execute(sql, bindings)
        except apsw.Error as error:
            self._fail(error)

    def write_rows(self, sql: str, bindings: Bindings = ()) -> list[Row]:
        """Run one statement and return what its RETURNING clause gives."""
        if not self._writing:
            self._refuse()
        try:
            return self._connection.execute(sql, bindings).fetchall()
        except apsw.Error as error:
            self._fail(error)

    def write_many(self, sql: str, many: Iterable[Bindings]) -> list[Row]:
        """Run one statement for each of ``many``; returns all that RETURNING gives."""
        if not self._writing:
            self._refuse()
        try:
            return self._connection.executemany(sql, many).fetchall()
        except apsw.Error as error:
            self._fail(error)

    def changes(self) -> int:
        """Rows that the last statement changed, inserted or deleted."""
        return self._connection.changes()

    @property
    def connection(self) -> apsw.Connection:
        """For what needs apsw itself (sessions, backup); errors go through :func:`translate`."""
        return self._connection

    # --- transactions

    def transaction(self) -> Transaction:
        """A context manager: BEGIN IMMEDIATE … COMMIT, or ROLLBACK if the body raises."""
        return self._transaction

    @property
    def in_transaction(self) -> bool:
        return self._writing

    def begin(self) -> None:
        if self._writing:
            raise DatabaseError("a transaction is open already: they do not nest")
        if self.read_only:
            raise DatabaseError(f"{self.path} is open read-only")
        if self.before_begin is not None:
            self.before_begin()
        try:
            self._connection.execute(self._begin)
        except apsw.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._fail(error)
        self._writing = True

    def commit(self) -> None:
        """Run the hook and commit; if either fails, nothing of the transaction remains."""
        try:
            if self.before_commit is not None:
                self.before_commit()
            self._connection.execute("COMMIT")
        except BaseException as error:
            self.roll_back()
            if isinstance(error, apsw.Error):
                self._fail(error)
            raise
        self._writing = False

    def roll_back(self) -> None:
        """SQLite may have rolled back already (disk full, I/O error): that is not an error."""
        self._writing = False
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error as error:
            self._fail(error)
        finally:
            if self.after_rollback is not None:
                self.after_rollback()

    # --- durability and the WAL

    def sync(self) -> None:
        """Make every commit so far survive power loss. Blocks; call it in a thread.

        A commit in WAL mode with synchronous=NORMAL writes the WAL and does not sync it; a
        checkpoint syncs before it overwrites. So syncing the ``-wal`` file is all that is missing.
        Once it failed it fails for good: the kernel drops the dirty pages that it could not write,
        so a later success would prove nothing.
        """
        with self._side_lock:
            if self._closed or self.read_only:
                raise DatabaseError(f"{self.path} is not open for writing")
            if self._sync_error is not None:
                raise DatabaseError(self._sync_error)
            is_new = self._wal_fd < 0
            if is_new:
                self._wal_fd = self._open_wal()
            try:
                if is_new:  # the name of a file made by this connection must be durable too
                    sync_directory(self.path.parent)
                os.fdatasync(self._wal_fd)
            except OSError as error:
                self._sync_error = f"{self.path}-wal could not be synced: {error.strerror}"
                raise translate_os_error(error, self._sync_error) from error

    def _open_wal(self) -> int:
        """What fails here (too many open files) has lost nothing, and may succeed later."""
        try:
            return os.open(f"{self.path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            message = f"{self.path}-wal cannot be opened: {error.strerror}"
            raise translate_os_error(error, message) from error

    def wal_size(self) -> int:
        """Bytes of the WAL file now; 0 if there is none."""
        try:
            return os.stat(f"{self.path}-wal").st_size
        except FileNotFoundError:
            return 0

    def checkpoint_in_thread(self) -> tuple[int, int]:
        """Copy what the WAL holds into the database, from a second connection.

        Returns (frames in the WAL, frames copied). Blocks for milliseconds; made for a thread, and
        does not hold up the owner's transactions. It cannot make the WAL start over while the owner
        keeps writing: :meth:`checkpoint_inline` does, and is short when this ran just before.
        """
        with self._side_lock:
            if self._closed or self.read_only:
                raise DatabaseError(f"{self.path} is not open for writing")
            try:
                if self._side is None:
                    self._side = apsw.Connection(
                        str(self.path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=4
                    )
                    self._side.set_busy_timeout(BUSY_TIMEOUT_MS)
                    self._side.pragma("synchronous", "normal")
                    self._side.pragma("journal_size_limit", WAL_KEPT_BYTES)
                    self._side.wal_autocheckpoint(0)
                # a connection that has read nothing does not know that there is a WAL
                self._side.execute("SELECT count(*) FROM sqlite_schema").fetchall()
                return self._side.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.BusyError:
                return 0, 0  # a commit found the log so long that it is at this itself
            except apsw.Error as error:
                self._fail(error)

    def checkpoint_inline(self) -> tuple[int, int]:
        """Copy the rest from the owner's connection, after which the WAL can start over."""
        if self._writing:
            raise DatabaseError("a WAL checkpoint cannot run inside a transaction")
        try:
            return self._connection.wal_checkpoint("main", mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.BusyError:
            return 0, 0  # another connection is at it: next time
        except apsw.Error as error:
            self._fail(error)

    # --- upkeep

    def pages(self) -> tuple[int, int]:
        """Free pages of the file, and all of them."""
        return self.value("PRAGMA freelist_count"), self.value("PRAGMA page_count")

    def shrink(self, pages: int) -> bool:
        """Return up to ``pages`` free pages to the disk; False for a file that cannot (it was made
        before :func:`make_shrinkable`). Outside of transactions; it is one of its own."""
        if self._writing:
            raise DatabaseError("the file cannot shrink inside a transaction")
        if self.read_only or self.value("PRAGMA auto_vacuum") != _INCREMENTAL:
            return False
        self.rows(f"PRAGMA incremental_vacuum({int(pages)})")
        return True

    def optimize(self) -> None:
        """Bring the planner's statistics up to date where they are far off; milliseconds.

        Part of closing: what fails here was no more than a wish.
        """
        if self._closed or self.read_only or self._writing:
            return
        with contextlib.suppress(apsw.Error):
            self._connection.pragma("analysis_limit", ANALYSIS_LIMIT)
            self._connection.pragma("optimize", schema="main")
            _forget_small(self._connection)

    # --- errors

    def _refuse(self) -> NoReturn:
        raise DatabaseError("the index was written to outside of a transaction")

    def _fail(self, error: apsw.Error) -> NoReturn:
        raise translate(error, self.path) from error


def _forget_small(connection: apsw.Connection) -> None:
    """Statistics of tables that were small mislead once they have grown, which they do while the
    connection is open: of a table that once had one row all rows were read for each line of a
    listing (45 s for 25,000 names, instead of one)."""
    known = "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'"
    if connection.execute(known).fetchone() is None:
        return
    connection.execute("DELETE FROM sqlite_stat1 WHERE CAST(stat AS INTEGER) < ?", (SMALL,))
    if connection.changes():
        connection.execute("ANALYZE sqlite_schema")  # reads them anew


def make_shrinkable(connection: apsw.Connection) -> None:
    """Before a file's first table: lets :meth:`Database.shrink` give pages back later."""
    connection.pragma("auto_vacuum", _INCREMENTAL)


def translate(error: apsw.Error, path: Path) -> DatabaseError | DiskFullError:
    """What an apsw error means for the project."""
    if isinstance(error, apsw.FullError):
        return DiskFullError(f"no space left for {path}")
    if isinstance(error, apsw.NotADBError):
        return DatabaseError(
            f"{path} is not an index of usenetfs",
            hint="check the path; usenetfs recover rebuilds an index from the servers",
        )
    if isinstance(error, apsw.CorruptError):
        return DatabaseError(
            f"{path} is damaged: {error}",
            hint="run usenetfs fsck; usenetfs recover rebuilds an index from the servers",
        )
    if isinstance(error, apsw.CantOpenError):
        return DatabaseError(f"{path} cannot be opened: {error}")
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return DatabaseError(f"{path} is locked by another process")
    return DatabaseError(f"{path}: {type(error).__name__}: {error}")


def translate_os_error(error: OSError, message: str) -> DatabaseError | DiskFullError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(message)
    return DatabaseError(message)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _take_lock(path: Path) -> int:
    """Lock ``<path>-lock`` for this process; the kernel releases it however the process ends.

    A file beside the database: the database's own locks belong to SQLite. It is left in place,
    because removing a lock file races with its next owner.
    """
    try:
        fd = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        message = f"{path} cannot be opened: {error.strerror}"
        raise translate_os_error(error, message) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise FilesystemBusyError(f"{path} is in use by another process") from error
        raise translate_os_error(error, f"{path} cannot be locked: {error.strerror}") from error
    return fd
