"""What programs were told and the tables of the index do not have yet: names just made, and files
just closed.

Making, writing and closing a small file would be two transactions; most of what they cost is
committing. So a new name lives in memory, a closed file is noted in the index's journal
(``index/journal.py``), and one transaction takes all of them: every half second
(``Files.save_regularly``), and *before any other transaction*. So whoever changes the index finds
in it whatever programs were told, and only :meth:`find` is needed beside it for looking.

Owns the names that the tables lack. Invariants:

- A file without a row in the tables has its attributes in ``LiveInodes``, unsaved.
- What a close promised is in the tables or in the journal; of what is open, a death of the daemon
  may leave nothing, as ever.
- Names, attributes and staged rows go into the tables together: no crash separates a size from its
  bytes, or a name from its file.
"""

from __future__ import annotations

from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.index.index import Index
from usenetfs.index.inodes import Inode
from usenetfs.index.journal import ClosedFile
from usenetfs.transfer.staged.blocks import StagedBlocks
from usenetfs.types import InodeId

Name = tuple[InodeId, bytes]
"""A directory, and what is in it."""


class Pending:
    """See the module. One for each open index that is written to."""

    def __init__(self, index: Index, inodes: LiveInodes, staged: StagedBlocks) -> None:
        self._index = index
        self._inodes = inodes
        self._staged = staged
        self._names: dict[Name, InodeId] = {}
        self._made: dict[InodeId, Name] = {}
        self._parents: set[InodeId] = set()
        """Directories that the names are in."""
        self._noted: dict[InodeId, Inode] = {}
        """As they are in the journal. Whatever changes a file gives it another row."""
        self._committing = False
        index.database.before_begin = self._settle

    def __repr__(self) -> str:
        behind = ", files closed" if self._index.closed.behind else ""
        return f"<Pending {len(self._names)} names{behind}>"

    def __bool__(self) -> bool:
        """Whether the tables lack anything that was told."""
        return bool(self._names) or self._index.closed.behind

    # --- names -----------------------------------------------------------------------------------

    def add(self, parent: InodeId, name: bytes, row: Inode) -> None:
        """A file was made; the name was free."""
        self._names[parent, name] = row.id
        self._made[row.id] = (parent, name)
        self._parents.add(parent)
        self._inodes.change(row)

    def find(self, parent: InodeId, name: bytes) -> InodeId | None:
        """What a name leads to that the tables do not have."""
        return self._names.get((parent, name))

    def in_directory(self, directory: InodeId) -> bool:
        """Whether the tables lack names of this directory."""
        return directory in self._parents

    # --- closing and committing ------------------------------------------------------------------

    def closed(self, inode: InodeId) -> None:
        """The file as it is now survives the death of the daemon, when this returns."""
        if not self._inodes.is_unsaved(inode):
            return
        row, made = self._inodes.get(inode), self._made.get(inode)
        if self._noted.get(inode) is row:
            return
        names = () if made is None else (made,)
        if self._index.closed.note(ClosedFile(row, names, self._staged.unsaved_rows(inode))):
            self._noted[inode] = row
        else:
            self.commit()

    def commit(self) -> None:
        """One transaction for everything that is unsaved, names included."""
        if not self and not self._staged.unsaved and not self._inodes.unsaved:
            return
        self._committing = True
        try:
            with self._index.transaction():
                made = [self._inodes.get(inode) for inode in self._made]
                if made:
                    self._index.inodes.insert_rows(made)
                    self._index.dirents.insert_many(
                        (parent, name, inode) for (parent, name), inode in self._names.items()
                    )
                blocks = self._staged.save()
                rows = self._inodes.save(besides=self._made)
                if self._index.closed.behind:
                    self._index.closed.take()
        finally:
            self._committing = False
        self._names.clear()
        self._made.clear()
        self._parents.clear()
        self._noted.clear()
        self._index.closed.taken()
        self._inodes.written(*made, *rows)
        self._staged.saved(blocks)

    def _settle(self) -> None:
        """Somebody begins a transaction."""
        if self and not self._committing:
            self.commit()
