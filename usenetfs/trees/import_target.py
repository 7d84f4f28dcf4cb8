"""What an import needs of the filesystem it fills, and what it tells it: values and one protocol.

``fs.tree_store`` implements the protocol over the same names and contents that the mount shows, so
an import behaves like a program that writes there, only faster.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from usenetfs.index.inodes import Inode
from usenetfs.types import BlockNumber, InodeId, SegmentHash

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a file keeps besides its content. ``mode`` has the type in it."""

    mode: int
    uid: int
    gid: int
    atime_ns: int
    mtime_ns: int
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, status: os.stat_result, xattrs: Mapping[bytes, bytes]) -> Attributes:
        """Those of a local file."""
        return cls(
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_atime_ns,
            status.st_mtime_ns,
            xattrs,
        )

    def same(self, row: Inode, xattrs: Mapping[bytes, bytes]) -> bool:
        """Whether an inode has them; access times do not count."""
        mine = (self.mode, self.uid, self.gid, self.mtime_ns)
        return mine == (row.mode, row.uid, row.gid, row.mtime_ns) and self.xattrs == xattrs


@dataclass(frozen=True, slots=True)
class NewFile:
    """A small file to be put under a name, whole."""

    parent: InodeId
    name: bytes
    attributes: Attributes
    data: bytes


@dataclass(frozen=True, slots=True)
class NewNode:
    """What has no content to be sent: a symbolic link (``target``), FIFO, socket or device."""

    parent: InodeId
    name: bytes
    attributes: Attributes
    rdev: int = 0
    target: bytes | None = None


class Partial(Protocol):
    """A large file on its way, under a name of its own until :meth:`finish`."""

    @property
    def inode(self) -> InodeId: ...

    @property
    def resumed(self) -> bool:
        """Whether an interrupted import left it."""
        ...

    def write(self, offset: int, data: Buffer) -> None:
        """The bytes at ``offset``. No copy is kept of ``data``."""
        ...

    def save(self) -> None:
        """What was written so far is ready to be uploaded."""
        ...

    async def finish(self, attributes: Attributes) -> None:
        """It takes its name, in place of whatever file was there."""
        ...

    async def leave(self) -> None:
        """The import ends here; the next one may go on with it."""
        ...

    async def abandon(self) -> None:
        """It goes."""
        ...


class ImportTarget(Protocol):
    """Errors are PosixErrors where names forbid something, LocalStorageErrors otherwise."""

    @property
    def block_size(self) -> int: ...

    def lookup(self, parent: InodeId, name: bytes) -> Inode | None: ...

    def inode(self, inode: InodeId) -> Inode: ...

    def xattrs(self, inode: InodeId) -> dict[bytes, bytes]:
        """Those that an import keeps."""
        ...

    def link_target(self, inode: InodeId) -> bytes | None: ...

    def stored_block(self, inode: InodeId, number: BlockNumber) -> tuple[SegmentHash, int] | None:
        """Hash and length of a block that is on the servers and nowhere else; ``(b"", 0)`` where
        nothing was ever written; None when it is staged, so that only reading it would tell."""
        ...

    def hash(self, content: Buffer) -> SegmentHash:
        """What :meth:`stored_block` would say of this content. For any thread."""
        ...

    def staged_bytes(self) -> int:
        """What staging takes of the local disk."""
        ...

    async def room(self, limit: int) -> None:
        """Return when no more than ``limit`` octets are staged."""
        ...

    async def make_directory(
        self, parent: InodeId, name: bytes, attributes: Attributes
    ) -> Inode: ...

    async def place(self, files: Sequence[NewFile]) -> list[InodeId | str]:
        """Put small files under their names, in one step; of each its inode, or why not."""
        ...

    async def place_node(self, node: NewNode) -> InodeId: ...

    def begin(self, parent: InodeId, name: bytes, attributes: Attributes, size: int) -> Partial:
        """A large file of ``size`` octets begins, or goes on."""
        ...

    async def link(self, inode: InodeId, parent: InodeId, name: bytes) -> None:
        """A further name, in place of whatever file had it."""
        ...

    def set_attributes(self, inode: InodeId, attributes: Attributes) -> None: ...


def kind_of(mode: int) -> str:
    """What the mode says that something is, in words."""
    return {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }.get(stat.S_IFMT(mode), "something else")
