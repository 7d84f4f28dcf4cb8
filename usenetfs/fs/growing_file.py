"""A large file while an import sends it: under a name of its own, until it is whole.

Invariant: from the start it has the size and the time of modification that it will have, so that a
later import can tell whether what an interrupted one left is the beginning of the same content.
"""

from __future__ import annotations

import errno
import stat
from dataclasses import replace
from hashlib import blake2b
from typing import Final, Protocol

from usenetfs.errors import PosixError
from usenetfs.fs.files import Files
from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.fs.namespace import NAME_MAX, Namespace, Owner
from usenetfs.index.inodes import Inode
from usenetfs.transfer.staged.blocks import StagedBlocks
from usenetfs.trees.import_target import Attributes, Buffer, kind_of
from usenetfs.types import InodeId

PARTIAL_SUFFIX: Final = b".usenetfs-part"


def partial_name(name: bytes) -> bytes:
    """What a file is called while it grows: hidden, and the same each time."""
    whole = b"." + name + PARTIAL_SUFFIX
    if len(whole) <= NAME_MAX:
        return whole
    digest = blake2b(name, digest_size=8).hexdigest().encode()
    return (
        b"."
        + name[: NAME_MAX - len(PARTIAL_SUFFIX) - len(digest) - 2]
        + b"."
        + digest
        + (PARTIAL_SUFFIX)
    )


class Owning(Protocol):
    """The store that a growing file belongs to."""

    def set_attributes(self, inode: InodeId, attributes: Attributes) -> None: ...

    def ended(self, parent: InodeId, name: bytes) -> None: ...

    async def replaced(self, row: Inode) -> None: ...


class GrowingFile:
    """Made by :meth:`TreeStore.begin`; ``place``: the directory and the name that it will have."""

    def __init__(
        self,
        store: Owning,
        inodes: LiveInodes,
        namespace: Namespace,
        files: Files,
        staged: StagedBlocks,
        place: tuple[InodeId, bytes],
    ) -> None:
        self._store = store
        self._inodes = inodes
        self._namespace = namespace
        self._files = files
        self._staged = staged
        self._parent, self._name = place
        self._partial = partial_name(self._name)
        self.inode = InodeId(0)
        self.resumed = False

    def __repr__(self) -> str:
        return f"<GrowingFile inode={self.inode}>"

    def open(self, attributes: Attributes, size: int) -> None:
        """Take up what an interrupted import left, or make it anew."""
        if size > self._files.max_size:
            raise PosixError(errno.EFBIG)
        row = self._namespace.lookup(self._parent, self._partial)
        if row is None:
            mode = stat.S_IFREG | 0o600
            owner = Owner(attributes.uid, attributes.gid)
            row = self._namespace.make(self._parent, self._partial, mode, owner)
        elif not stat.S_ISREG(row.mode):
            raise PosixError(errno.EEXIST, f"{kind_of(row.mode)} is in the way of the partial file")
        elif (row.size, row.mtime_ns) == (size, attributes.mtime_ns):
            self.resumed = True
        else:
            self._files.resize(row.id, 0)
        self.inode = row.id
        current = self._inodes.get(row.id)
        self._inodes.change(replace(current, size=size, mtime_ns=attributes.mtime_ns))
        self._files.save(row.id)
        self._inodes.opened(row.id)

    def write(self, offset: int, data: Buffer) -> None:
        view = data if isinstance(data, bytes | memoryview) else memoryview(data)
        self._staged.write(self.inode, offset, view)
        self._inodes.change(replace(self._inodes.get(self.inode)))  # to be saved with its blocks

    def save(self) -> None:
        self._files.save(self.inode)

    async def finish(self, attributes: Attributes) -> None:
        try:
            self._store.set_attributes(self.inode, attributes)
            replaced = self._namespace.rename(self._parent, self._partial, self._parent, self._name)
        except PosixError:  # somebody took it away, or put a directory in its place
            await self.abandon()
            raise
        self._close()
        if replaced is not None:
            await self._store.replaced(replaced)

    async def leave(self) -> None:
        try:
            self._files.save(self.inode)
        finally:
            self._close()
        await self._files.delete_if_unneeded(self._inodes.get(self.inode))

    async def abandon(self) -> None:
        there = self._namespace.lookup(self._parent, self._partial)
        if there is not None and there.id == self.inode:
            self._namespace.unlink(self._parent, self._partial)
        self._close()
        await self._files.delete_if_unneeded(self._inodes.get(self.inode))

    def _close(self) -> None:
        self._inodes.closed(self.inode)
        self._store.ended(self._parent, self._name)
