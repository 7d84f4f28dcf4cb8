"""Capturing what changes in the replicated tables, for checkpoints.

Owns ``local_changelog`` and the session that records. In each transaction, just before its COMMIT,
the changes so far are stored as one row; so what is committed is in the changelog, and what is not
is nowhere. Transactions that change no replicated row (staging, articles in flight) cost nothing.

A session cannot be emptied, so each transaction that changed something gets a new one (measured:
some 40 µs of processor time a transaction of three rows, most of it SQLite looking the tables up
anew; hence: change much in one transaction rather than little in many).

It must not know what the changes mean, or when they are published.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from usenetfs.index.database import Database, translate
from usenetfs.index.schema import REPLICATED_TABLES


class Changelog:
    """Records from its making until :meth:`close`. Inert over a read-only database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._session: apsw.Session | None = None
        self._next = 1
        if not database.read_only:
            self._next = self._first_unused()
            self._session = self._start()

    def __repr__(self) -> str:
        return f"<Changelog next={self._next}{'' if self._session else ' closed'}>"

    def _first_unused(self) -> int:
        """Above every row, and above every row that a checkpoint carried off."""
        stored = self._database.value("SELECT max(seq) FROM local_changelog") or 0
        carried = self._database.value("SELECT value FROM local_chain WHERE key = 'cut'") or 0
        return int(max(stored, carried)) + 1

    def _start(self) -> apsw.Session:
        try:
            session = apsw.Session(self._database.connection, "main")
            for table in REPLICATED_TABLES:
                session.attach(table)
        except apsw.Error as error:
            raise translate(error, self._database.path) from error
        return session

    @property
    def last(self) -> int:
        """``seq`` of the newest row that there is, or was."""
        return self._next - 1

    def store(self) -> None:
        """Write what the transaction changed. Inside it, last before its COMMIT."""
        session = self._session
        if session is None or session.is_empty:
            return
        try:
            changes = session.changeset()
            session.close()
            self._session = None
            self._session = self._start()
        except apsw.Error as error:
            raise translate(error, self._database.path) from error
        if changes:
            self._database.write(
                "INSERT INTO local_changelog (seq, changes) VALUES (?, ?)", (self._next, changes)
            )
            self._next += 1

    def discard(self) -> None:
        """The transaction came to nothing: so did what was recorded of it."""
        session = self._session
        if session is None:
            return
        session.close()
        self._session = None
        self._session = self._start()

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Rows change their place meanwhile, and nothing else of them."""
        session = self._session
        if session is not None:
            session.enabled = False
        try:
            yield
        finally:
            if session is not None:
                session.enabled = True

    def close(self) -> None:
        """Stop recording. Before the database is closed."""
        if self._session is not None:
            self._session.close()
            self._session = None

    # --- what publishing asks

    def pending(self) -> int:
        """Rows waiting to be carried by a checkpoint. Not in a hurry: counts."""
        count: int = self._database.value("SELECT count(*) FROM local_changelog")
        return count

    def trim(self, through: int, limit: int) -> int:
        """Delete up to ``limit`` rows up to ``seq`` ``through``; how many. In a transaction."""
        self._database.write(
            "DELETE FROM local_changelog WHERE seq <= ? AND seq IN"
            " (SELECT seq FROM local_changelog ORDER BY seq LIMIT ?)",
            (through, limit),
        )
        return self._database.changes()
