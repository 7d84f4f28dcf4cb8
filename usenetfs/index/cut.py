"""The index as it was at one moment, for a thread that makes a checkpoint of it.

:class:`Cut` owns a second, read-only connection whose read transaction is begun on the loop's
thread (so that the moment is chosen between two transactions; it takes about a millisecond) and
used in another, while the owner goes on writing. As long as it is open the write-ahead log cannot
start over, so it is closed as soon as it has been read.

:func:`merge` joins changesets into one with the net effect. Neither knows what is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import apsw

from usenetfs.errors import DatabaseError
from usenetfs.index.database import BUSY_TIMEOUT_MS, Database, Row, translate
from usenetfs.index.normal_form import encoded_rows, exclude, export_rows, row_of
from usenetfs.index.shard_files import rows_of_cut
from usenetfs.index.totals import Counter


def merge(changesets: Iterable[bytes]) -> bytes:
    """One changeset with the effect of all, in their order. DatabaseError if they do not fit."""
    builder = apsw.ChangesetBuilder()  # type: ignore[no-untyped-call]
    try:
        for changes in changesets:
            builder.add(changes)
        return builder.output()
    except apsw.Error as error:
        raise DatabaseError(f"changes cannot be merged: {error}") from error
    finally:
        builder.close()


class Cut:
    """A context manager; made on the owner's thread, outside of transactions.

    SQLite's errors leave it translated, as they leave :class:`Database`.
    """

    def __init__(self, database: Database, shards: int = 1) -> None:
        self._path = database.path
        try:
            self._connection = apsw.Connection(
                str(database.path), flags=apsw.SQLITE_OPEN_READONLY, statementcachesize=32
            )
        except apsw.Error as error:
            raise translate(error, self._path) from error
        try:
            self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            self._rows = rows_of_cut(self._connection, database.path, shards)
            self._connection.execute("BEGIN")
            self.through: int = self._value("SELECT max(seq) FROM local_changelog") or 0
            # the moment is the same in every file, once each was read
            self._rows.highest("segments", 0, 0)
        except apsw.Error as error:
            self._connection.close(True)
            raise translate(error, self._path) from error

    def __repr__(self) -> str:
        return f"<Cut {self._path} through={self.through}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if isinstance(error, apsw.Error):
            raise translate(error, self._path) from error

    def close(self) -> None:
        """Let the write-ahead log go. From any thread; may be called twice."""
        self._connection.close(True)

    def _value(self, sql: str, bindings: Sequence[Any] = ()) -> Any:
        row = self._connection.execute(sql, bindings).fetchone()
        return None if row is None else row[0]

    # --- what changed

    def changes_size(self, after: int, checkpoint: int) -> int:
        """Octets of :meth:`changesets`."""
        held = self._value(
            "SELECT sum(length(data)) FROM local_held WHERE number = ?", (checkpoint,)
        )
        since = self._value(
            "SELECT sum(length(changes)) FROM local_changelog WHERE seq > ? AND seq <= ?",
            (after, self.through),
        )
        return int(held or 0) + int(since or 0)

    def changesets(self, after: int, checkpoint: int) -> Iterator[bytes]:
        """What was held back from ``checkpoint``, and what changed since ``after``, in order."""
        for row in self._connection.execute(
            "SELECT data FROM local_held WHERE number = ? ORDER BY part", (checkpoint,)
        ):
            yield row[0]
        for row in self._connection.execute(
            "SELECT changes FROM local_changelog WHERE seq > ? AND seq <= ? ORDER BY seq",
            (after, self.through),
        ):
            yield row[0]

    def staged_inodes(self) -> set[int]:
        """Inodes whose newest content is not on the servers."""
        found: set[int] = set()
        inode: int | None = -1
        while True:
            inode = self._value("SELECT min(inode) FROM local_staging WHERE inode > ?", (inode,))
            if inode is None:
                return found
            found.add(inode)

    # --- rows

    def row(self, table: str, key: Sequence[Any]) -> Row | None:
        """A row as it is, all columns."""
        return row_of(self._connection, table, key, self._rows)

    def exclude(self, table: str, keys: Iterable[Sequence[Any]]) -> None:
        """Leave rows out of :meth:`export`. Before it."""
        exclude(self._connection, table, keys)

    def export(self, extra: Mapping[str, Iterable[bytes]]) -> Iterator[bytes]:
        """All rows as a changeset; see :func:`normal_form.export_rows`."""
        return export_rows(self._connection, extra, self._rows)

    def encoded(self, table: str) -> Iterator[bytes]:
        """Every row of a table in normal form and changeset encoding."""
        return encoded_rows(self._connection, table, self._rows)

    def totals(self) -> dict[Counter, tuple[int, int]]:
        """``(count, bytes)`` of each counter."""
        rows = self._connection.execute("SELECT name, count, bytes FROM local_totals")
        return {Counter(name): (count, size) for name, count, size in rows}

    def size(self) -> int:
        """Bytes of the database, about."""
        return sum(
            int(self._value(f"PRAGMA {schema}.page_count"))
            * int(self._value(f"PRAGMA {schema}.page_size"))
            for schema in self._rows.schemas
        )
