"""The filesystem as an import or export of whole trees uses it: beside the mount, or without one.

:class:`TreeStore` implements ``ImportTarget`` and ``ExportSource`` of ``transfer`` over the names,
contents and live attributes that the mount shows, and tells the kernel what changed behind its
back.

Invariants:

- a name leads to a file only once all of the file's content is staged: a small file appears with
  its content in one transaction, a large one grows under :func:`partial_name` and is renamed;
- what is replaced keeps living for those that have it open;
- each change of a size and its bytes is one transaction, as with a mount.
"""

from __future__ import annotations

import errno
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from usenetfs.article.hashing import segment_hash
from usenetfs.errors import PosixError
from usenetfs.fs.files import Files
from usenetfs.fs.growing_file import GrowingFile, partial_name
from usenetfs.fs.kernel_cache import KernelCache
from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.fs.namespace import Namespace, Owner, touched
from usenetfs.index.blocks import BlockLocation
from usenetfs.index.index import Index
from usenetfs.index.inodes import Inode
from usenetfs.transfer.content import BlockContent
from usenetfs.transfer.staged.blocks import StagedBlocks
from usenetfs.transfer.staged.hot_blocks import HotBlock
from usenetfs.trees.import_target import Attributes, Buffer, NewFile, NewNode, kind_of
from usenetfs.trees.local_files import is_kept_xattr
from usenetfs.types import BlockNumber, InodeId, Lane, SegmentHash

CAPABILITY: Final = b"security.capability"


class TreeStore:
    """See the module."""

    def __init__(
        self,
        index: Index,
        inodes: LiveInodes,
        namespace: Namespace,
        files: Files,
        staged: StagedBlocks,
        content: BlockContent,
        kernel: KernelCache,
        *,
        hash_key: bytes,
        has_capability: Callable[[InodeId], None],
    ) -> None:
        self._index = index
        self._inodes = inodes
        self._namespace = namespace
        self._files = files
        self._staged = staged
        self._content = content
        self._kernel = kernel
        self._hash_key = hash_key
        self._has_capability = has_capability
        self._growing: set[tuple[InodeId, bytes]] = set()

    def __repr__(self) -> str:
        return f"<TreeStore growing={len(self._growing)}>"

    # --- looking ---------------------------------------------------------------------------------

    @property
    def block_size(self) -> int:
        return self._staged.block_size

    def lookup(self, parent: InodeId, name: bytes) -> Inode | None:
        return self._namespace.lookup(parent, name)

    def inode(self, inode: InodeId) -> Inode:
        return self._inodes.get(inode)

    def entries(self, directory: InodeId, after: int, limit: int) -> list[tuple[int, bytes, Inode]]:
        """Entries of a directory, as :meth:`Namespace.list`."""
        return self._namespace.list(directory, after, limit)

    def xattrs(self, inode: InodeId) -> dict[bytes, bytes]:
        found = {}
        for name in self._index.xattrs.list(inode):
            value = self._index.xattrs.get(inode, name)
            if value is not None and is_kept_xattr(name.decode(errors="replace")):
                found[name] = value
        return found

    def link_target(self, inode: InodeId) -> bytes | None:
        return self._index.symlinks.get(inode)

    def stored_block(self, inode: InodeId, number: BlockNumber) -> tuple[SegmentHash, int] | None:
        if self._staged.get(inode, number) is not None:
            return None
        found = self._index.blocks.locate(inode, number, 1)
        if not found:
            return SegmentHash(b""), 0
        location = found[0]
        if location.length != location.raw_length:
            return None
        return location.hash, location.length

    def locate(self, inode: InodeId, number: BlockNumber) -> BlockLocation | None:
        found = self._index.blocks.locate(inode, number, 1)
        return found[0] if found else None

    def is_staged(self, inode: InodeId, number: BlockNumber) -> bool:
        return self._staged.get(inode, number) is not None

    def next_block(self, inode: InodeId, number: BlockNumber) -> BlockNumber | None:
        self._files.save(inode)  # so that the index knows of every block
        stored, staged = (
            self._index.blocks.next(inode, number),
            self._index.staging.next(inode, number),
        )
        if stored is None or staged is None:
            return staged if stored is None else stored
        return min(stored, staged)

    async def read_block(self, inode: InodeId, number: BlockNumber, length: int) -> Buffer:
        return await self._content.read(
            inode, number * self.block_size, length, lane=Lane.READAHEAD
        )

    def hash(self, content: Buffer) -> SegmentHash:
        return segment_hash(self._hash_key, content)

    # --- directories and attributes --------------------------------------------------------------

    def staged_bytes(self) -> int:
        """What staging takes of the local disk."""
        return self._staged.usage()

    async def room(self, limit: int) -> None:
        await self._files.wait_for_an_import(limit)

    async def make_directory(self, parent: InodeId, name: bytes, attributes: Attributes) -> Inode:
        owner = Owner(attributes.uid, attributes.gid)
        row = self._namespace.make(parent, name, attributes.mode, owner)
        self.set_attributes(row.id, attributes)
        self._kernel.name_changed(parent, name)
        return self._inodes.get(row.id)

    def set_attributes(self, inode: InodeId, attributes: Attributes) -> None:
        """The type stays as it is. Extended attributes at once, the others with the next save."""
        row = self._inodes.get(inode)
        before = self.xattrs(inode)
        if before != attributes.xattrs:
            with self._index.transaction():
                self._set_xattrs(inode, before, attributes)
        self._inodes.change(
            replace(
                row,
                mode=stat.S_IFMT(row.mode) | stat.S_IMODE(attributes.mode),
                uid=attributes.uid,
                gid=attributes.gid,
                atime_ns=attributes.atime_ns,
                mtime_ns=attributes.mtime_ns,
                ctime_ns=time.time_ns(),
            )
        )
        self._kernel.attributes_changed(inode)
        self._files.save_if_many()

    def _set_xattrs(
        self, inode: InodeId, before: dict[bytes, bytes], attributes: Attributes
    ) -> None:
        for name in before.keys() - attributes.xattrs.keys():
            self._index.xattrs.remove(inode, name)
        for name, value in attributes.xattrs.items():
            if before.get(name) != value:
                self._index.xattrs.set(inode, name, value)
        if CAPABILITY in attributes.xattrs:
            self._has_capability(inode)

    # --- small files -----------------------------------------------------------------------------

    async def place(self, files: Sequence[NewFile]) -> list[InodeId | str]:
        outcomes: list[InodeId | str] = []
        for file in files:
            refused = self._refusal(file.parent, file.name)
            outcomes.append(refused or InodeId(0))
        wanted = [file for file, outcome in zip(files, outcomes, strict=True) if outcome == 0]
        placed = iter(await self._place(wanted) if wanted else [])
        return [next(placed) if outcome == 0 else outcome for outcome in outcomes]

    def _refusal(self, parent: InodeId, name: bytes) -> str:
        """Why nothing but a directory may stand there; empty when it may."""
        try:
            self._namespace.directory(parent)
            there = self._namespace.lookup(parent, name)
        except PosixError as error:
            return str(error)
        if there is not None and stat.S_ISDIR(there.mode):
            return f"{kind_of(there.mode)} is in the way"
        return ""

    async def _place(self, files: Sequence[NewFile]) -> list[InodeId]:
        """One transaction for all of them."""
        now = time.time_ns()
        made: list[Inode] = []
        blocks: list[HotBlock] = []
        changed: dict[InodeId, Inode] = {}
        replaced: set[InodeId] = set()
        try:
            with self._index.transaction():
                for file in files:
                    row = self._insert(file, now)
                    made.append(row)
                    old = self._index.dirents.replace(file.parent, file.name, row.id)
                    changed.setdefault(
                        file.parent, touched(self._namespace.directory(file.parent), now)
                    )
                    if old is not None:
                        current = changed.get(old) or self._inodes.get(old)
                        changed[old] = replace(current, nlink=current.nlink - 1, ctime_ns=now)
                        replaced.add(old)
                    self._staged.write(row.id, 0, file.data)
                    blocks += self._staged.save(row.id)
                self._namespace.write_rows(*changed.values())
        except BaseException:
            for row in made:
                with self._index.transaction():
                    self._staged.forget_inode(row.id)
                self._staged.deleted(row.id)
            raise
        self._namespace.rows_written(*changed.values())
        self._staged.saved(blocks)
        self._inodes.written(*[row for row in made if row.id not in changed])
        for file in files:
            self._kernel.name_changed(file.parent, file.name)
        for old in replaced:
            self._kernel.attributes_changed(old)
            await self._files.delete_if_unneeded(changed[old])
        return [row.id for row in made]

    def _insert(self, file: NewFile, now: int) -> Inode:
        attributes = file.attributes
        times = (attributes.atime_ns, attributes.mtime_ns, now)
        row = self._index.inodes.insert(
            attributes.mode, attributes.uid, attributes.gid, 1, 0, len(file.data), times
        )
        for name, value in attributes.xattrs.items():
            self._index.xattrs.set(row.id, name, value)
        if CAPABILITY in attributes.xattrs:
            self._has_capability(row.id)
        return row

    # --- nodes and links -------------------------------------------------------------------------

    async def place_node(self, node: NewNode) -> InodeId:
        await self._make_way(node.parent, node.name)
        owner = Owner(node.attributes.uid, node.attributes.gid)
        if node.target is not None:
            row = self._namespace.symlink(node.parent, node.name, node.target, owner)
        else:
            row = self._namespace.make(
                node.parent, node.name, node.attributes.mode, owner, rdev=node.rdev
            )
        self.set_attributes(row.id, node.attributes)
        self._kernel.name_changed(node.parent, node.name)
        return row.id

    async def link(self, inode: InodeId, parent: InodeId, name: bytes) -> None:
        there = self._namespace.lookup(parent, name)
        if there is not None and there.id == inode:
            return
        await self._make_way(parent, name)
        before = self._inodes.get(inode)
        self._namespace.link(inode, parent, name)
        self._inodes.change(replace(self._inodes.get(inode), mtime_ns=before.mtime_ns))
        self._kernel.name_changed(parent, name)
        self._kernel.attributes_changed(inode)

    async def _make_way(self, parent: InodeId, name: bytes) -> None:
        refused = self._refusal(parent, name)
        if refused:
            raise PosixError(errno.EISDIR, refused)
        if self._namespace.lookup(parent, name) is not None:
            await self.remove(parent, name)

    async def remove(self, parent: InodeId, name: bytes) -> None:
        """Take a name of anything but a directory away."""
        gone = self._namespace.unlink(parent, name)
        self._kernel.name_changed(parent, name)
        self._kernel.attributes_changed(gone.id)
        await self._files.delete_if_unneeded(gone)

    async def remove_directory(self, parent: InodeId, name: bytes) -> None:
        """Take an empty directory away."""
        gone = self._namespace.rmdir(parent, name)
        self._kernel.name_changed(parent, name)
        await self._files.delete_if_unneeded(gone)

    async def move(
        self, parent: InodeId, name: bytes, new_parent: InodeId, new_name: bytes
    ) -> None:
        """Rename, in place of whatever file (or empty directory) had the new name."""
        replaced = self._namespace.rename(parent, name, new_parent, new_name)
        self._kernel.name_changed(parent, name)
        self._kernel.name_changed(new_parent, new_name)
        if replaced is not None:
            await self.replaced(replaced)

    async def replaced(self, row: Inode) -> None:
        """Something lost a name to something else."""
        self._kernel.attributes_changed(row.id)
        await self._files.delete_if_unneeded(row)

    # --- large files -----------------------------------------------------------------------------

    def begin(self, parent: InodeId, name: bytes, attributes: Attributes, size: int) -> GrowingFile:
        key = parent, name
        if key in self._growing:
            raise PosixError(errno.EBUSY, "another upload is sending it")
        refused = self._refusal(parent, name)
        if refused:
            raise PosixError(errno.EISDIR, refused)
        grown = GrowingFile(self, self._inodes, self._namespace, self._files, self._staged, key)
        grown.open(attributes, size)
        self._growing.add(key)
        self._kernel.name_changed(parent, partial_name(name))
        return grown

    def ended(self, parent: InodeId, name: bytes) -> None:
        """A large file is no longer growing."""
        self._growing.discard((parent, name))
        self._kernel.name_changed(parent, partial_name(name))
        self._kernel.name_changed(parent, name)
