"""FUSE operations: arguments in, one or two calls, an answer out.

What names mean is in ``namespace.py``, what contents mean in ``files.py``; here are the kernel's
conventions: lookup counts, handles, attributes with their timeouts, flags.

Every change comes through the kernel, or is announced to it (``kernel_cache.py``), so the kernel
may keep attributes, names and pages for as long as it likes (:data:`TIMEOUT`).

Handlers that await nothing run from start to end without anybody in between: that is the locking.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyfuse3

from usenetfs.errors import UsenetfsError
from usenetfs.fs import durability
from usenetfs.fs.files import Files
from usenetfs.fs.guard import guarded
from usenetfs.fs.handles import Handles, OpenDirectory, OpenFile
from usenetfs.fs.listing import Listing
from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.fs.namespace import NAME_MAX, Namespace, Owner
from usenetfs.index.index import Index
from usenetfs.index.inodes import Inode
from usenetfs.transfer.fetch.cache_care import CacheCare
from usenetfs.transfer.fetch.prefetch import Prefetcher
from usenetfs.transfer.staged.blocks import StagedBlocks
from usenetfs.types import InodeId

TIMEOUT = 3600.0
"""Seconds that the kernel may keep attributes and names without asking."""

PAGE = 4096
XATTR_NAME_MAX = 255
XATTR_SIZE_MAX = 65_536

PRETENDED_FREE = 1 << 50
"""Bytes that statfs calls free: Usenet has no quota to ask for, and programs want a number."""

CAPABILITY = b"security.capability"
"""The kernel asks for it before every write, so the answer comes from memory."""

PIN = b"user.usenetfs.pin"
"""1 on a file or directory: it stays in the cache. Not stored with the file (``store/pins.py``)."""

WRITE_FLAGS = os.O_WRONLY | os.O_RDWR


def _nobody_looks(request: str, seconds: float) -> None:
    """Where durations go unless somebody wants them."""


class Operations(pyfuse3.Operations):
    """One mounted filesystem, as the kernel sees it."""

    supports_dot_lookup = True
    enable_acl = False

    def __init__(
        self,
        index: Index,
        inodes: LiveInodes,
        namespace: Namespace,
        files: Files,
        staged: StagedBlocks,
        prefetcher: Prefetcher,
        care: CacheCare,
        *,
        read_only: bool,
        writeback: bool,
        report: Callable[[UsenetfsError], None],
    ) -> None:
        super().__init__()
        self.enable_writeback_cache = writeback
        self.report = report
        self.on_wait: Callable[[], None] = lambda: None
        """Called when a request cannot be answered at once (``turns.py``)."""
        self.may_change: Callable[[], bool] = lambda: True
        """Asked before each change: False once another writer goes on with the filesystem."""
        self.observe: Callable[[str, float], None] = _nobody_looks
        """Told of each request: its name, and the seconds until its answer."""
        self._index = index
        self._inodes = inodes
        self._namespace = namespace
        self._files = files
        self._staged = staged
        self._prefetcher = prefetcher
        self._care = care
        self._read_only = read_only
        self._handles = Handles()
        self._capable = set(index.xattrs.having(CAPABILITY))
        """Inodes that may have file capabilities; those not in it have none."""

    def __repr__(self) -> str:
        return f"<Operations {self._handles!r} {self._inodes!r}>"

    # --- names -----------------------------------------------------------------------------------

    @guarded
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        row = self._namespace.lookup(InodeId(parent_inode), name)
        if row is None:
            return _no_entry()
        return self._entry(row)

    @guarded
    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, count in inode_list:
            self._inodes.forgotten(InodeId(inode), count)
            if not self._inodes.needed(InodeId(inode)) and not self._read_only:
                row = self._inodes.get(InodeId(inode))
                await self._files.delete_soon(row)

    @guarded
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        mode = _masked(mode, ctx)
        row = self._namespace.make(InodeId(parent_inode), name, mode, _owner(ctx), rdev=rdev)
        self._files.closed(row.id)  # nobody will close it
        return self._entry(row)

    @guarded
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        mode = stat.S_IFDIR | stat.S_IMODE(_masked(mode, ctx))
        return self._entry(self._namespace.make(InodeId(parent_inode), name, mode, _owner(ctx)))

    @guarded
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._entry(
            self._namespace.symlink(InodeId(parent_inode), name, target, _owner(ctx))
        )

    @guarded
    async def link(
        self,
        inode: int,
        new_parent_inode: int,
        new_name: bytes,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        return self._entry(
            self._namespace.link(InodeId(inode), InodeId(new_parent_inode), new_name)
        )

    @guarded
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._files.delete_soon(self._namespace.unlink(InodeId(parent_inode), name))

    @guarded
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._files.delete_soon(self._namespace.rmdir(InodeId(parent_inode), name))

    @guarded
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        if flags == pyfuse3.RENAME_EXCHANGE:
            self._namespace.exchange(
                InodeId(parent_inode_old), name_old, InodeId(parent_inode_new), name_new
            )
            return
        if flags & ~pyfuse3.RENAME_NOREPLACE:
            raise pyfuse3.FUSEError(errno.EINVAL)
        replaced = self._namespace.rename(
            InodeId(parent_inode_old),
            name_old,
            InodeId(parent_inode_new),
            name_new,
            replace_existing=not flags,
        )
        if replaced is not None:
            await self._files.delete_soon(replaced)

    @guarded
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        target = self._index.symlinks.get(InodeId(inode))
        if target is None:
            raise pyfuse3.FUSEError(errno.EINVAL)
        return target

    # --- attributes ------------------------------------------------------------------------------

    @guarded
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._attributes(self._inodes.get(InodeId(inode)))

    @guarded
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        if fields.update_size:
            await self._files.resize_in_steps(InodeId(inode), attr.st_size)
        row = self._inodes.get(InodeId(inode))
        changed = replace(
            row,
            mode=stat.S_IFMT(row.mode) | stat.S_IMODE(attr.st_mode)
            if fields.update_mode
            else row.mode,
            uid=attr.st_uid if fields.update_uid else row.uid,
            gid=attr.st_gid if fields.update_gid else row.gid,
            atime_ns=attr.st_atime_ns if fields.update_atime else row.atime_ns,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else row.mtime_ns,
            ctime_ns=attr.st_ctime_ns if fields.update_ctime else time.time_ns(),
        )
        self._inodes.change(changed)
        return self._attributes(changed)

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        if name == CAPABILITY and inode not in self._capable:
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        if name.startswith(b"system."):  # nothing sets one; after this answer ls asks no more
            raise pyfuse3.FUSEError(errno.ENOTSUP)
        return await self._getxattr(inode, name)

    @guarded
    async def _getxattr(self, inode: int, name: bytes) -> bytes:
        if name == PIN:
            if InodeId(inode) not in self._care.pins:
                raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
            return b"1"
        if name.startswith(durability.PREFIX):
            self._files.save(InodeId(inode))
            row = self._inodes.get(InodeId(inode))
            value = await durability.durability_attribute(self._index, row, name)
        else:
            value = self._index.xattrs.get(InodeId(inode), name)
        if value is None:
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        return value

    @guarded
    async def setxattr(
        self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        if name.startswith(b"system."):
            raise pyfuse3.FUSEError(errno.ENOTSUP)
        if name == PIN:
            self._set_pin(InodeId(inode), bytes(value))
            return
        if name.startswith(durability.PREFIX):
            raise pyfuse3.FUSEError(errno.EPERM)
        if len(name) > XATTR_NAME_MAX:
            raise pyfuse3.FUSEError(errno.ERANGE)
        if len(value) > XATTR_SIZE_MAX:
            raise pyfuse3.FUSEError(errno.E2BIG)
        changed = replace(self._inodes.get(InodeId(inode)), ctime_ns=time.time_ns())
        with self._index.transaction():
            self._index.xattrs.set(InodeId(inode), name, bytes(value))
        self._inodes.change(changed)
        if name == CAPABILITY:
            self.has_capability(InodeId(inode))

    @property
    def block_size(self) -> int:
        """Bytes of a block."""
        return self._staged.block_size

    def reread_capabilities(self) -> None:
        """The index changed behind us."""
        self._capable = set(self._index.xattrs.having(CAPABILITY))

    def has_capability(self, inode: InodeId) -> None:
        """The inode has file capabilities from now on; whoever sets them says so."""
        self._capable.add(inode)

    def _set_pin(self, inode: InodeId, value: bytes) -> None:
        """The pin is this machine's own, so it is no attribute that is listed and copied."""
        if stat.S_IFMT(self._inodes.get(inode).mode) not in {stat.S_IFREG, stat.S_IFDIR}:
            raise pyfuse3.FUSEError(errno.EPERM)
        if value == b"1":
            self._care.pin(inode)
        elif value == b"0":
            self._care.unpin(inode)
        else:
            raise pyfuse3.FUSEError(errno.EINVAL)

    @guarded
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        return self._index.xattrs.list(InodeId(inode))

    @guarded
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        if name == PIN:
            if InodeId(inode) not in self._care.pins:
                raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
            self._care.unpin(InodeId(inode))
            return
        if name.startswith(durability.PREFIX):
            raise pyfuse3.FUSEError(errno.EPERM)
        changed = replace(self._inodes.get(InodeId(inode)), ctime_ns=time.time_ns())
        with self._index.transaction():
            removed = self._index.xattrs.remove(InodeId(inode), name)
        if not removed:
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        self._inodes.change(changed)

    # --- files -----------------------------------------------------------------------------------

    @guarded
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        mode = stat.S_IFREG | stat.S_IMODE(_masked(mode, ctx))
        row = self._namespace.make(InodeId(parent_inode), name, mode, _owner(ctx))
        opened = self._open(row.id, flags, made=True)
        return opened, self._entry(row)

    @guarded
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        if flags & (WRITE_FLAGS | os.O_TRUNC) and not self.may_change():
            raise pyfuse3.FUSEError(errno.EROFS)
        self._inodes.get(InodeId(inode))
        if flags & os.O_TRUNC:
            await self._files.resize_in_steps(InodeId(inode), 0)
        return self._open(InodeId(inode), flags)

    def _open(self, inode: InodeId, flags: int, *, made: bool = False) -> pyfuse3.FileInfo:
        writable = bool(flags & WRITE_FLAGS)
        self._inodes.opened(inode)
        if writable:
            self._staged.opened(inode)
        reader = self._prefetcher.new_reader(inode)
        handle = self._handles.add(OpenFile(inode, writable, made, reader))
        return pyfuse3.FileInfo(fh=handle, keep_cache=True)

    @guarded
    async def read(  # type: ignore[override]  # any buffer will do, and slices are not copied
        self, fh: int, off: int, size: int
    ) -> bytes | bytearray | memoryview:
        opened = self._handles.file(fh)
        length = self._inodes.get(opened.inode).size
        if off >= length:
            return b""
        size = min(size, length - off)
        self._inodes.accessed(opened.inode)
        self._prefetcher.reading(opened.reader, off, size, length)
        data = self._files.at_hand(opened.inode, off, size)
        if data is None:
            data = await self._files.read(opened.inode, off, size)
        self._prefetcher.has_read(opened.reader, length)
        return data

    @guarded
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._files.write(self._handles.file(fh).inode, off, buf)

    @guarded
    async def flush(self, fh: int) -> None:
        opened = self._handles.file(fh)
        if opened.writable or opened.made:
            self._files.closed(opened.inode)

    @guarded
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._files.sync(self._handles.file(fh).inode)

    @guarded
    async def release(self, fh: int) -> None:
        opened = self._handles.remove(fh)
        self._inodes.closed(opened.inode)
        if isinstance(opened, OpenFile):
            self._prefetcher.stop(opened.reader)
            if opened.writable:
                self._files.closed(opened.inode)
                self._staged.closed(opened.inode)
        if not self._inodes.needed(opened.inode) and not self._read_only:
            await self._files.delete_soon(self._inodes.get(opened.inode))

    # --- directories -----------------------------------------------------------------------------

    @guarded
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        self._inodes.get(InodeId(inode))
        self._inodes.opened(InodeId(inode))
        listing = Listing(self._namespace, self._inodes, InodeId(inode))
        return self._handles.add(OpenDirectory(InodeId(inode), listing))

    @guarded
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        opened = self._handles.directory(fh)
        directory = opened.inode
        if not self._read_only:
            self._inodes.accessed(directory)
        for cookie, name in ((1, b"."), (2, b"..")):
            row = self._namespace.lookup(directory, name) if start_id < cookie else None
            if row is not None and not pyfuse3.readdir_reply(
                token, pyfuse3.FileNameT(name), self._attributes(row), cookie
            ):
                return
        for cookie, name, row in opened.listing.behind(max(start_id, 2)):
            if not pyfuse3.readdir_reply(
                token, pyfuse3.FileNameT(name), self._attributes(row), cookie
            ):
                return
            self._inodes.looked_up(row.id)

    @guarded
    async def releasedir(self, fh: int) -> None:
        opened = self._handles.remove(fh)
        self._inodes.closed(opened.inode)
        if not self._inodes.needed(opened.inode) and not self._read_only:
            await self._files.delete_soon(self._inodes.get(opened.inode))

    @guarded
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._files.sync_names()

    # --- the whole -------------------------------------------------------------------------------

    @guarded
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        totals = self._index.inodes.totals()
        used = -(-totals.bytes // PAGE)
        answer = pyfuse3.StatvfsData()
        answer.f_bsize = self._staged.block_size
        answer.f_frsize = PAGE
        answer.f_blocks = used + PRETENDED_FREE // PAGE
        answer.f_bfree = answer.f_bavail = PRETENDED_FREE // PAGE
        answer.f_files = totals.files + totals.directories + totals.others + (1 << 32)
        answer.f_ffree = answer.f_favail = 1 << 32
        answer.f_namemax = NAME_MAX
        return answer

    # --- answers ---------------------------------------------------------------------------------

    def _entry(self, row: Inode) -> pyfuse3.EntryAttributes:
        """The answer to a lookup, counted."""
        self._inodes.looked_up(row.id)
        return self._attributes(row)

    def _attributes(self, row: Inode) -> pyfuse3.EntryAttributes:
        answer = pyfuse3.EntryAttributes()
        answer.st_ino = pyfuse3.InodeT(row.id)
        answer.generation = 0
        answer.entry_timeout = TIMEOUT
        answer.attr_timeout = TIMEOUT
        answer.st_mode = pyfuse3.ModeT(row.mode)
        answer.st_nlink = row.nlink
        answer.st_uid = row.uid
        answer.st_gid = row.gid
        answer.st_rdev = row.rdev
        answer.st_size = row.size
        answer.st_blksize = PAGE
        answer.st_blocks = -(-row.size // 512)
        answer.st_atime_ns = row.atime_ns
        answer.st_mtime_ns = row.mtime_ns
        answer.st_ctime_ns = row.ctime_ns
        return answer


def _no_entry() -> pyfuse3.EntryAttributes:
    """A negative answer that the kernel may keep."""
    answer = pyfuse3.EntryAttributes()
    answer.st_ino = pyfuse3.InodeT(0)
    answer.entry_timeout = TIMEOUT
    return answer


def _owner(ctx: pyfuse3.RequestContext) -> Owner:
    return Owner(ctx.uid, ctx.gid)


def _masked(mode: int, ctx: pyfuse3.RequestContext) -> int:
    return mode & ~ctx.umask
