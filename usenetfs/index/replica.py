"""An index built from what a chain of checkpoints says, in bulk.

Owns an index file while it is being built, or while a follower brings it up to date: a connection
of its own, for a thread. What it applies are changesets (docs/format.md), streamed; SQLite's own
code does it, at a few microseconds a row.

Invariants: a replica that is being *built* is a file that nobody else knows of yet: nothing in it
can be undone, and one that failed is thrown away. A replica that is *followed* changes in one
transaction per call, which leaves it as it was when it fails.

It must not know where changesets come from, or what a checkpoint is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import apsw

from usenetfs.errors import DatabaseError, DigestError, DocumentError
from usenetfs.index.chain import ChainState, ChainTable
from usenetfs.index.cut import Cut
from usenetfs.index.database import (
    ANALYSIS_LIMIT,
    Database,
    Row,
    make_shrinkable,
    sync_directory,
    translate,
    translate_os_error,
)
from usenetfs.index.derived import (
    add_defaults,
    drop_orphans,
    recompute_links,
    recompute_links_of,
    recompute_uses,
)
from usenetfs.index.normal_form import normalise, row_of
from usenetfs.index.schema import (
    APPLICATION_ID,
    CREATE_SCHEMA,
    REPLICATED_TABLES,
    SCHEMA_VERSION,
)
from usenetfs.index.touched import TouchedCounts

CACHE_KIB: Final = 128 * 1024
"""Page cache while building: indexes are built by sorting, tables nearly in order."""

STREAM_PIECE: Final = 64 * 1024
"""Octets of a changeset that SQLite asks for at a time. By itself it asks for 1 KiB, and each time
waits for the interpreter, which is at work on what is being downloaded."""


Key = tuple[Any, ...]
"""The values of a row's primary key, in the key's order."""

Rows = list[tuple[str, Row]]
"""Rows with their tables."""


class Replica:
    """An index that follows. A context manager; made by :meth:`create` or :meth:`open`."""

    def __init__(self, database: Database, *, building: bool) -> None:
        self.database = database
        self._building = building
        self._indexes: list[str] = []
        if building:
            self._prepare()

    def __repr__(self) -> str:
        return f"<Replica {'building' if self._building else 'following'} {self.database!r}>"

    @classmethod
    def create(cls, path: Path) -> Replica:
        """A new index without any row. DatabaseError if the file cannot be made."""
        apsw.session_config(apsw.SQLITE_SESSION_CONFIG_STRMSIZE, STREAM_PIECE)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                make_shrinkable(connection)
                connection.execute(CREATE_SCHEMA)
                connection.pragma("application_id", APPLICATION_ID)
                connection.pragma("user_version", SCHEMA_VERSION)
            finally:
                connection.close(True)
        except apsw.Error as error:
            raise translate(error, path) from error
        except OSError as error:
            raise DatabaseError(f"{path} cannot be made: {error.strerror}") from error
        return cls(Database(path), building=True)

    @classmethod
    def open(cls, path: Path) -> Replica:
        """An index that was built before, to be brought up to date. FilesystemBusyError;
        DatabaseError for one whose rows are spread over files, which none that follows is."""
        database = Database(path)
        if database.value("PRAGMA application_id") != APPLICATION_ID:
            database.close()
            raise DatabaseError(f"{path} is not an index that can follow")
        return cls(database, building=False)

    def close(self) -> None:
        """Close it; may be called twice. One that is being built is only good if finished."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- building

    def _prepare(self) -> None:
        """No journal, no syncs, no secondary indexes: they are built at the end, by sorting."""
        connection = self.database.connection
        try:
            connection.pragma("journal_mode", "off")
            connection.pragma("synchronous", "off")
            connection.pragma("cache_size", -CACHE_KIB)
            places = ", ".join("?" * len(REPLICATED_TABLES))
            indexes = connection.execute(
                "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
                f" AND tbl_name IN ({places})",
                REPLICATED_TABLES,
            ).fetchall()
            for name, sql in indexes:
                connection.execute(f"DROP INDEX {name}")
                self._indexes.append(str(sql))
        except apsw.Error as error:
            raise translate(error, self.database.path) from error

    def apply(self, changeset: Iterable[bytes]) -> None:
        """Apply a changeset that comes in chunks. DocumentError where it does not fit.

        While building: anything that does not fit exactly means that something is missing.
        """
        with self.database.transaction():
            apply_changes(self.database, changeset, exact=self._building)

    def applied(self) -> Cut:
        """Everything is applied: the rows as they are in the file now, for another thread.

        Whatever :meth:`settle` does meanwhile is not seen there. To be closed before
        :meth:`finish`.
        """
        try:
            self.database.connection.pragma("journal_mode", "wal")
        except apsw.Error as error:
            raise translate(error, self.database.path) from error
        return Cut(self.database)

    def settle(self, *, writable: bool) -> None:
        """Make it an index like any other: derived columns, indexes, counters, statistics.

        Raises DigestError if rows that have to be unique are not.

        ``writable``: it will be written to, so what nothing points to is dropped; a follower keeps
        it, because what is to point there is still to come.
        """
        database = self.database
        with database.transaction():
            self._make_indexes()
            recompute_uses(database)
            recompute_links(database)
            if writable:
                drop_orphans(database)
            add_defaults(database)
        try:
            database.connection.pragma("analysis_limit", ANALYSIS_LIMIT)
            database.connection.execute("ANALYZE")
        except apsw.Error as error:
            raise translate(error, database.path) from error

    def finish(self) -> None:
        """Durable and closed. After :meth:`settle`."""
        self.close()
        _make_durable(self.database.path)

    def _make_indexes(self) -> None:
        """What rows have to be unique for, they are checked for here."""
        for sql in self._indexes:
            try:
                self.database.connection.execute(sql)
            except apsw.ConstraintError as error:
                raise DigestError(f"a state contradicts itself: {error}") from error
            except apsw.Error as error:
                raise translate(error, self.database.path) from error

    # --- following

    def follow(
        self,
        changesets: Iterable[bytes],
        keys: Mapping[str, Iterable[Key]],
        links: Iterable[int],
        *,
        check: Callable[[Rows, Rows], None],
        state: ChainState,
        last: bytes,
    ) -> None:
        """Apply changesets to an index that others read; all of them or none.

        ``keys``: by table, of the rows that they change. ``links``: inodes whose number of names
        may change. ``check`` is given those rows as they were and as they are, in normal form, and
        raises if that is not what should come out. ``state`` is stored with it, and ``last``, the
        changeset that leads from ``state.base`` to it ("" if there is none): with it one can go
        back.
        """
        database = self.database
        with database.transaction():
            before, counts = self._rows(keys), TouchedCounts(database, keys, links)
            for changeset in changesets:
                apply_changes(database, [changeset], exact=False)
            check(before, self._rows(keys))
            recompute_links_of(database, links)
            counts.settle()
            ChainTable(database).set_state(state)
            database.write("DELETE FROM local_held")
            if last:
                database.write(
                    "INSERT INTO local_held (number, part, data) VALUES (?, 0, ?)",
                    (state.number, last),
                )

    def _rows(self, keys: Mapping[str, Iterable[Key]]) -> Rows:
        connection = self.database.connection
        found: Rows = []
        for table, wanted in keys.items():
            rows = (row_of(connection, table, key) for key in wanted)
            found += [(table, normalise(table, row)) for row in rows if row is not None]
        return found

    def followed(self) -> tuple[ChainState | None, bytes]:
        """The state that is here, and the changeset that led to it from its base."""
        state = ChainTable(self.database).state()
        last = self.database.value("SELECT data FROM local_held WHERE part = 0 LIMIT 1")
        return state, last or b""

    def differences_to(self, other: Path) -> bytes:
        """The changeset that makes this index's replicated rows those of another one.

        In memory, as it is as long as the changes are; about a second for a million rows.
        """
        connection = self.database.connection
        try:
            connection.execute("ATTACH ? AS other", (str(other),))
            try:
                session = apsw.Session(connection, "other")
                try:
                    for table in REPLICATED_TABLES:
                        session.attach(table)
                        session.diff("main", table)
                    return session.changeset()
                finally:
                    session.close()
            finally:
                connection.execute("DETACH other")
        except apsw.Error as error:
            raise translate(error, self.database.path) from error


def inverted(changeset: bytes) -> bytes:
    """The changeset that undoes another."""
    return apsw.Changeset.invert(changeset)


def store_state(path: Path, state: ChainState) -> None:
    """Write into an index that nobody has open which checkpoint's state it is."""
    database = Database(path)
    try:
        with database.transaction():
            ChainTable(database).set_state(state)
    finally:
        database.close()


def followed_state(path: Path) -> ChainState | None:
    """Which checkpoint's state an index is; None if it does not say, or cannot be read."""
    try:
        database = Database(path, read_only=True)
    except DatabaseError:
        return None
    try:
        if database.value("PRAGMA user_version") != SCHEMA_VERSION:
            return None
        return ChainTable(database).state()
    except DatabaseError:
        return None
    finally:
        database.close()


def apply_changes(database: Database, changeset: Iterable[bytes], *, exact: bool) -> None:
    """Apply a changeset inside the caller's transaction.

    ``exact``: a row that is not as the changeset says ends it. Otherwise such a row is overwritten,
    because derived columns differ from what is published; one that is missing, or there already,
    ends it in any case. DocumentError.
    """
    conflicts: list[str] = []

    def conflict(reason: int, change: apsw.TableChange) -> int:
        if reason == apsw.SQLITE_CHANGESET_DATA and not exact:
            return int(apsw.SQLITE_CHANGESET_REPLACE)
        conflicts.append(f"{change.op} in {change.name}")
        return int(apsw.SQLITE_CHANGESET_ABORT)

    try:
        apsw.Changeset.apply(
            _Stream(changeset),
            database.connection,
            conflict=conflict,
            flags=apsw.SQLITE_CHANGESETAPPLY_NOSAVEPOINT,
        )
    except apsw.AbortError as error:
        what = conflicts[0] if conflicts else str(error)
        raise DocumentError(f"a changeset does not fit the index ({what})") from error
    except apsw.Error as error:
        raise translate(error, database.path) from error


class _Stream:
    """Chunks of any size, as apsw asks for them: at most so many bytes a call; empty at the end."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._rest = memoryview(b"")

    def __call__(self, amount: int) -> bytes:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        piece, self._rest = self._rest[:amount], self._rest[amount:]
        return bytes(piece)


def _make_durable(path: Path) -> None:
    """The file was written without syncs; it is closed, so its locks are nobody's concern."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise translate_os_error(error, f"{path} cannot be synced: {error.strerror}") from error
    sync_directory(path.parent)


def set_epoch(path: Path, epoch: int) -> None:
    """Write another epoch into an index that nobody has open: who opens it next is a new writer."""
    database = Database(path)
    try:
        with database.transaction():
            database.write("UPDATE meta SET value = ? WHERE key = 'epoch'", (epoch,))
    finally:
        database.close()
