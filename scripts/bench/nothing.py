"""A pyfuse3 filesystem that does nothing, and so shows what the kernel and pyfuse3 cost by
themselves: ``MOUNTPOINT [DIRECTORIES FILES]``.

It knows names and attributes in memory, forgets what is written, and takes turns at the kernel's
requests as pyfuse3 does it. ``DIRECTORIES FILES``: there are so many directories with so many empty
files each from the start. Ends when it is unmounted.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyfuse3
import trio

TIMEOUT: Final = 3600.0
DIRECTORY: Final = stat.S_IFDIR | 0o755
FILE: Final = stat.S_IFREG | 0o644


class Nothing(pyfuse3.Operations):
    """See the module."""

    enable_writeback_cache = False

    def __init__(self, directories: int, files: int) -> None:
        super().__init__()
        self._names: dict[int, dict[bytes, int]] = {pyfuse3.ROOT_INODE: {}}
        self._modes: dict[int, int] = {pyfuse3.ROOT_INODE: DIRECTORY}
        self._sizes: dict[int, int] = {}
        self._listings: dict[int, list[tuple[bytes, int]]] = {}
        for number in range(directories):
            directory = self._new(pyfuse3.ROOT_INODE, b"d%05d" % number, DIRECTORY)
            for file in range(files):
                self._new(directory, b"f%06d" % file, FILE)

    def _new(self, parent: int, name: bytes, mode: int) -> int:
        inode = len(self._modes) + 1
        self._names[parent][name] = inode
        self._modes[inode] = mode
        if stat.S_ISDIR(mode):
            self._names[inode] = {}
        return inode

    def _entry(self, inode: int) -> pyfuse3.EntryAttributes:
        answer = pyfuse3.EntryAttributes()
        answer.st_ino = pyfuse3.InodeT(inode)
        answer.entry_timeout = answer.attr_timeout = TIMEOUT
        if inode:
            answer.st_mode = pyfuse3.ModeT(self._modes[inode])
            answer.st_nlink = 1
            answer.st_uid, answer.st_gid = os.getuid(), os.getgid()
            answer.st_size = self._sizes.get(inode, 0)
        return answer

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._entry(self._names[parent_inode].get(name, 0))

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._entry(inode)

    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        if fields.update_mode:
            mode = stat.S_IFMT(self._modes[inode]) | stat.S_IMODE(attr.st_mode)
            self._modes[inode] = mode
        if fields.update_size:
            self._sizes[inode] = attr.st_size
        return self._entry(inode)

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        raise pyfuse3.FUSEError(pyfuse3.ENOATTR)

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._entry(self._new(parent_inode, name, DIRECTORY))

    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._entry(self._new(parent_inode, name, stat.S_IFLNK | 0o777))

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        inode = self._new(parent_inode, name, FILE)
        return await self.open(inode, flags, ctx), self._entry(inode)

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), keep_cache=True)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        self._sizes[fh] = max(self._sizes.get(fh, 0), off + len(buf))
        return len(buf)

    async def flush(self, fh: int) -> None:
        """Nothing is kept."""

    async def release(self, fh: int) -> None:
        """Nothing is kept."""

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Nothing is counted."""

    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        del self._names[parent_inode][name]

    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        if self._names[self._names[parent_inode][name]]:
            raise pyfuse3.FUSEError(errno.ENOTEMPTY)
        del self._names[parent_inode][name]

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        return pyfuse3.FileHandleT(inode)

    async def releasedir(self, fh: int) -> None:
        self._listings.pop(fh, None)

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        if not start_id:
            self._listings[fh] = list(self._names[fh].items())
        listing = self._listings[fh]
        for number in range(start_id, len(listing)):
            name, inode = listing[number]
            entry = self._entry(inode)
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), entry, number + 1):
                return


def main(mountpoint: Path, directories: int = 0, files: int = 0) -> None:
    """Serve until it is unmounted."""
    operations = Nothing(directories, files)
    pyfuse3.init(operations, str(mountpoint), {*pyfuse3.default_options, "fsname=nothing"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
