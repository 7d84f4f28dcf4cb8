"""What a download needs of the filesystem it reads. ``fs.tree_store`` implements it."""

from __future__ import annotations

from typing import Protocol

from usenetfs.index.blocks import BlockLocation
from usenetfs.index.inodes import Inode
from usenetfs.types import BlockNumber, InodeId, SegmentHash

Buffer = bytes | bytearray | memoryview


class ExportSource(Protocol):
    """Errors are PosixErrors where names forbid something."""

    @property
    def block_size(self) -> int: ...

    def lookup(self, parent: InodeId, name: bytes) -> Inode | None: ...

    def inode(self, inode: InodeId) -> Inode: ...

    def entries(self, directory: InodeId, after: int, limit: int) -> list[tuple[int, bytes, Inode]]:
        """Up to ``limit`` entries with a cookie above ``after``: (cookie, name, inode)."""
        ...

    def xattrs(self, inode: InodeId) -> dict[bytes, bytes]: ...

    def link_target(self, inode: InodeId) -> bytes | None: ...

    def locate(self, inode: InodeId, number: BlockNumber) -> BlockLocation | None:
        """Where a block is on the servers."""
        ...

    def is_staged(self, inode: InodeId, number: BlockNumber) -> bool:
        """Whether newer content of a block than that on the servers is on the local disk."""
        ...

    def next_block(self, inode: InodeId, number: BlockNumber) -> BlockNumber | None:
        """The first block from ``number`` on that is not a hole."""
        ...

    async def read_block(self, inode: InodeId, number: BlockNumber, length: int) -> Buffer:
        """The first ``length`` octets of a block. DataUnavailableError, IntegrityError."""
        ...

    def hash(self, content: Buffer) -> SegmentHash: ...
