"""A shared file of staging and its slots, as they are in memory. Values of ``shared_files.py``,
which explains them and alone changes them, under its lock.
"""

from __future__ import annotations

import enum
import threading

from usenetfs.store.shared_table import slot_offset


class State(enum.Enum):
    """Of a slot."""

    LIVE = enum.auto()
    DOOMED = enum.auto()
    LEAVING = enum.auto()


class Slot:
    """``tail``: the inode may have bytes in a file of its own behind it."""

    __slots__ = ("file", "index", "inode", "state", "tail", "version")

    def __init__(self, file: SharedFile, index: int, inode: int) -> None:
        self.file = file
        self.index = index
        self.inode = inode
        self.state = State.LIVE
        self.tail = False
        self.version = file.version
        """That of the file at the last write."""

    def __repr__(self) -> str:
        return f"<Slot {self.file.number}.{self.index} of {self.inode} {self.state.name}>"

    @property
    def base(self) -> int:
        """Where it begins in the file."""
        return slot_offset(self.index, self.file.slot_bytes)


class SharedFile:
    """An open shared file. Its fields belong to :class:`SharedFiles`, whose lock guards them."""

    __slots__ = (
        "allocated",
        "descriptor",
        "doomed",
        "failed",
        "measured",
        "named",
        "number",
        "path",
        "pins",
        "removed",
        "slot_bytes",
        "slots",
        "synced",
        "syncing",
        "used",
        "version",
    )

    def __init__(self, number: int, path: str, descriptor: int, slot_bytes: int) -> None:
        self.number = number
        self.path = path
        self.descriptor = descriptor
        self.slot_bytes = slot_bytes
        self.slots: dict[int, Slot] = {}
        """Those that the disk may know, by their place."""
        self.used = 0
        self.doomed = 0
        self.pins = 1
        """Who needs the descriptor; the table is one of them."""
        self.version = 1
        """Grows with each write."""
        self.synced = 0
        self.named = False
        """Whether the directory was synced since the file was made."""
        self.failed = ""
        """Why it cannot be synced."""
        self.removed = False
        """Whether it has no name any more, or soon."""
        self.syncing = threading.Lock()
        self.measured = False
        self.allocated = 0

    def __repr__(self) -> str:
        return f"<SharedFile {self.number} slots={len(self.slots)} doomed={self.doomed}>"
