"""Bringing the tables up to what a daemon that died had noted of closed files (``journal.py``).

Runs when an index is opened for writing, before anybody else may ask it or clean up after it: what
sweeps staging must find the rows already. One transaction for all records; killed in its middle, it
is begun anew. A name whose directory is not there, or that is taken, is left out: that cannot be
after a death of the daemon alone, and whatever else happened is not made worse.
"""

from __future__ import annotations

import logging
import stat
from typing import Final

from usenetfs.index.database import Database
from usenetfs.index.dirents import DirentTable
from usenetfs.index.inodes import InodeTable
from usenetfs.index.journal import ClosedFile, Journal
from usenetfs.index.staging import StagingTable
from usenetfs.types import InodeId

log = logging.getLogger("usenetfs.index")

LAST: Final = "closed_files"
"""In ``local_meta``: the number of the last record that the tables have."""


class ClosedFiles:
    """The journal, and the tables that its records go to."""

    def __init__(
        self, database: Database, inodes: InodeTable, dirents: DirentTable, staging: StagingTable
    ) -> None:
        self._database = database
        self._inodes = inodes
        self._dirents = dirents
        self._staging = staging
        last = database.value("SELECT value FROM local_meta WHERE key = ?", (LAST,))
        self._journal = Journal(database.path, int(last or 0))
        self._behind = False

    def __repr__(self) -> str:
        return f"<ClosedFiles {self._journal!r}>"

    @property
    def behind(self) -> bool:
        """Whether the tables lack rows of a record."""
        return self._behind

    def note(self, closed: ClosedFile) -> bool:
        """The file survives the death of the daemon from now on. False: not by this way, and a
        transaction is needed."""
        noted = self._journal.note(closed)
        self._behind = self._behind or noted
        return noted

    def take(self) -> None:
        """The transaction has the rows of every record so far. Inside it, and once it is committed
        :meth:`taken`."""
        self._database.write(
            "INSERT INTO local_meta (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (LAST, self._journal.last),
        )

    def taken(self) -> None:
        """The transaction of :meth:`take` is committed; nothing was awaited since."""
        self._journal.taken()
        self._behind = False

    def carry_out(self) -> int:
        """Bring the tables up to what the last life left; how many records there were."""
        found = list(self._journal.records())
        if not found:
            return 0
        with self._database.transaction():
            for _, closed in found:
                self._apply(closed)
            self._journal.skip_to(found[-1][0])
            self.take()
        log.info("%d closed files were not in the index yet, and are now", len(found))
        return len(found)

    def close(self) -> None:
        """The journal's file stays: what is in it counts for the next life."""
        self._journal.close()

    def _apply(self, closed: ClosedFile) -> None:
        row = closed.inode
        if self._inodes.get(row.id) is None:
            names = [(parent, name) for parent, name in closed.names if self._is_free(parent, name)]
            if not names:
                return
            self._inodes.insert_rows([row])
            self._dirents.insert_many((parent, name, row.id) for parent, name in names)
        else:
            self._inodes.update(row)
        self._staging.put_many(closed.blocks)

    def _is_free(self, parent: InodeId, name: bytes) -> bool:
        directory = self._inodes.get(parent)
        if directory is None or not stat.S_ISDIR(directory.mode):
            return False
        return self._dirents.lookup(parent, name) is None
