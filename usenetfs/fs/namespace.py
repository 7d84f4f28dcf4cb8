"""Names: what the calls that make, move and remove directory entries mean.

Each method is one transaction of the index and then the news to :class:`LiveInodes`; none awaits. A
new regular file is none: it is :class:`Pending` until the next one.
So no other call ever sees half of one, and neither does a crash. What POSIX asks and the kernel
does not do itself is done here: link counts, times, set-group-id directories, the rules of rename.
Permissions are the kernel's (``default_permissions``).

Errors leave as PosixError with the number that POSIX names. Knows nothing of the kernel: commands
use it without a mount as well.
"""

from __future__ import annotations

import errno
import stat
import time
from dataclasses import dataclass, replace

from usenetfs.errors import PosixError
from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.fs.pending import Pending
from usenetfs.index.index import Index
from usenetfs.index.inodes import Inode
from usenetfs.transfer.staged.blocks import StagedBlocks
from usenetfs.transfer.staged.hot_blocks import HotBlock
from usenetfs.types import InodeId

NAME_MAX = 255
"""Bytes of a name."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who makes something new."""

    uid: int
    gid: int


class Namespace:
    """See the module."""

    def __init__(
        self, index: Index, inodes: LiveInodes, staged: StagedBlocks, pending: Pending
    ) -> None:
        self._index = index
        self._inodes = inodes
        self._staged = staged
        self._pending = pending
        self._saving: list[HotBlock] = []

    # --- looking ---------------------------------------------------------------------------------

    def lookup(self, parent: InodeId, name: bytes) -> Inode | None:
        """What ``name`` in ``parent`` leads to."""
        _check_name(name)
        if name == b".":
            return self._inodes.get(parent)
        if name == b"..":
            parents = self._index.dirents.parents_of(parent)
            return self._inodes.get(parents[0][0] if parents else parent)
        inode = self._pending.find(parent, name) or self._index.dirents.lookup(parent, name)
        return None if inode is None else self._inodes.get(inode)

    def _entry(self, parent: InodeId, name: bytes) -> Inode:
        found = self.lookup(parent, name)
        if found is None:
            raise PosixError(errno.ENOENT)
        return found

    def list(self, directory: InodeId, after: int, limit: int) -> list[tuple[int, bytes, Inode]]:
        """Up to ``limit`` entries with a cookie above ``after``: (cookie, name, inode)."""
        # Where it can be helped nothing is committed: a full disk is no reason not to list.
        if self._pending.in_directory(directory):
            self._pending.commit()
        entries = self._index.dirents.list(directory, after, limit)
        current = self._inodes.current
        return [(cookie, name, current(row)) for cookie, name, row in entries]

    # --- making ----------------------------------------------------------------------------------

    def make(
        self, parent: InodeId, name: bytes, mode: int, owner: Owner, *, rdev: int = 0
    ) -> Inode:
        """A new file, special file or directory (by ``mode``)."""
        if stat.S_ISREG(mode):
            return self._make_file(parent, name, mode, owner)
        return self._make(parent, name, mode, owner, rdev=rdev, target=None)

    def _make_file(self, parent: InodeId, name: bytes, mode: int, owner: Owner) -> Inode:
        """In memory alone: it is written with what comes next, at its close at the latest."""
        directory = self.directory(parent)
        self._check_free(parent, name)
        gid = directory.gid if directory.mode & stat.S_ISGID else owner.gid
        now = time.time_ns()
        row = Inode(self._index.inodes.reserve(), mode, owner.uid, gid, 1, 0, 0, now, now, now)
        self._pending.add(parent, name, row)
        self._inodes.change(touched(directory, now))
        return row

    def _settle(self) -> None:
        """The tables are about to be asked: they have everything that was told."""
        if self._pending:
            self._pending.commit()

    def symlink(self, parent: InodeId, name: bytes, target: bytes, owner: Owner) -> Inode:
        mode = stat.S_IFLNK | 0o777
        return self._make(parent, name, mode, owner, rdev=0, target=target)

    def _make(
        self,
        parent: InodeId,
        name: bytes,
        mode: int,
        owner: Owner,
        *,
        rdev: int,
        target: bytes | None,
    ) -> Inode:
        directory = self.directory(parent)
        self._check_free(parent, name)
        is_directory = stat.S_ISDIR(mode)
        gid = owner.gid
        if directory.mode & stat.S_ISGID:
            gid = directory.gid
            if is_directory:
                mode |= stat.S_ISGID
        now = time.time_ns()
        changed = touched(directory, now, links=1 if is_directory else 0)
        with self._index.transaction():
            row = self._index.inodes.insert(
                mode,
                owner.uid,
                gid,
                2 if is_directory else 1,
                rdev,
                len(target) if target is not None else 0,
                (now, now, now),
            )
            if target is not None:
                self._index.symlinks.set(row.id, target)
            self._index.dirents.insert(parent, name, row.id)
            self.write_rows(changed)
        self.rows_written(row, changed)
        return row

    def link(self, inode: InodeId, parent: InodeId, name: bytes) -> Inode:
        """A further name for a file."""
        directory = self.directory(parent)
        row = self._inodes.get(inode)
        if stat.S_ISDIR(row.mode):
            raise PosixError(errno.EPERM)
        if row.nlink == 0:
            raise PosixError(errno.ENOENT)
        self._check_free(parent, name)
        now = time.time_ns()
        linked = replace(row, nlink=row.nlink + 1, ctime_ns=now)
        changed = touched(directory, now)
        with self._index.transaction():
            self._index.dirents.insert(parent, name, inode)
            self.write_rows(linked, changed)
        self.rows_written(linked, changed)
        return linked

    # --- removing --------------------------------------------------------------------------------

    def unlink(self, parent: InodeId, name: bytes) -> Inode:
        """Remove a name of something that is no directory; returns it with its new link count."""
        directory = self.directory(parent)
        row = self._entry(parent, name)
        if stat.S_ISDIR(row.mode):
            raise PosixError(errno.EISDIR)
        now = time.time_ns()
        unlinked = replace(row, nlink=row.nlink - 1, ctime_ns=now)
        changed = touched(directory, now)
        with self._index.transaction():
            self._index.dirents.remove(parent, name)
            self.write_rows(unlinked, changed)
        self.rows_written(unlinked, changed)
        return unlinked

    def rmdir(self, parent: InodeId, name: bytes) -> Inode:
        """Remove an empty directory; returns it with link count 0."""
        directory = self.directory(parent)
        row = self._entry(parent, name)
        if not stat.S_ISDIR(row.mode):
            raise PosixError(errno.ENOTDIR)
        self._settle()
        if not self._index.dirents.is_empty(row.id):
            raise PosixError(errno.ENOTEMPTY)
        now = time.time_ns()
        removed = replace(row, nlink=0, ctime_ns=now)
        changed = touched(directory, now, links=-1)
        with self._index.transaction():
            self._index.dirents.remove(parent, name)
            self.write_rows(removed, changed)
        self.rows_written(removed, changed)
        return removed

    # --- moving ----------------------------------------------------------------------------------

    def rename(
        self,
        old_parent: InodeId,
        old_name: bytes,
        new_parent: InodeId,
        new_name: bytes,
        *,
        replace_existing: bool = True,
    ) -> Inode | None:
        """Move a name; returns what it replaced, with its new link count."""
        self._settle()
        self.directory(new_parent)
        moved = self._entry(old_parent, old_name)
        target = self.lookup(new_parent, new_name)
        if target is not None:
            if not replace_existing:
                raise PosixError(errno.EEXIST)
            if target.id == moved.id:
                return None
            self._check_replaceable(moved, target)
        return self._move(old_parent, old_name, new_parent, new_name, moved, target)

    def _check_replaceable(self, moved: Inode, target: Inode) -> None:
        if stat.S_ISDIR(target.mode):
            if not stat.S_ISDIR(moved.mode):
                raise PosixError(errno.EISDIR)
            if not self._index.dirents.is_empty(target.id):
                raise PosixError(errno.ENOTEMPTY)
        elif stat.S_ISDIR(moved.mode):
            raise PosixError(errno.ENOTDIR)

    def _move(
        self,
        old_parent: InodeId,
        old_name: bytes,
        new_parent: InodeId,
        new_name: bytes,
        moved: Inode,
        target: Inode | None,
    ) -> Inode | None:
        now = time.time_ns()
        is_directory = stat.S_ISDIR(moved.mode)
        links = {old_parent: 0, new_parent: 0}
        replaced = None
        if is_directory:
            links[old_parent] -= 1
            links[new_parent] += 1
        if target is not None:
            gone = stat.S_ISDIR(target.mode)
            links[new_parent] -= gone
            replaced = replace(target, nlink=0 if gone else target.nlink - 1, ctime_ns=now)
        changed = [touched(self.directory(parent), now, links=n) for parent, n in links.items()]
        changed.append(replace(moved, ctime_ns=now))
        if replaced is not None:
            changed.append(replaced)
        with self._index.transaction():
            self._index.dirents.remove(old_parent, old_name)
            self._index.dirents.replace(new_parent, new_name, moved.id)
            self.write_rows(*changed)
        self.rows_written(*changed)
        return replaced

    def exchange(
        self, old_parent: InodeId, old_name: bytes, new_parent: InodeId, new_name: bytes
    ) -> None:
        """Two names change what they lead to (RENAME_EXCHANGE)."""
        first = self._entry(old_parent, old_name)
        second = self._entry(new_parent, new_name)
        if first.id == second.id:
            return
        now = time.time_ns()
        moves_directory = stat.S_ISDIR(first.mode) - stat.S_ISDIR(second.mode)
        links = {old_parent: 0, new_parent: 0}
        links[old_parent] -= moves_directory
        links[new_parent] += moves_directory
        changed = [touched(self.directory(parent), now, links=n) for parent, n in links.items()]
        # A parent may itself be one of the two: its link count must not be written twice.
        ids = {row.id for row in changed}
        changed += [replace(row, ctime_ns=now) for row in (first, second) if row.id not in ids]
        with self._index.transaction():
            self._index.dirents.replace(old_parent, old_name, second.id)
            self._index.dirents.replace(new_parent, new_name, first.id)
            self.write_rows(*changed)
        self.rows_written(*changed)

    def write_rows(self, *rows: Inode) -> None:
        """Write rows inside the transaction, each together with what is staged of its content.

        Else a crash after a rename could leave the new size and none of the new bytes.
        """
        self._saving = []
        for row in rows:
            if self._inodes.is_unsaved(row.id):
                self._saving += self._staged.save(row.id)
            self._index.inodes.update(row)

    def rows_written(self, *rows: Inode) -> None:
        """The transaction of :meth:`write_rows` is committed."""
        self._staged.saved(self._saving)
        self._inodes.written(*rows)

    # --- checks ----------------------------------------------------------------------------------

    def directory(self, inode: InodeId) -> Inode:
        """The directory, if it is one that names can be made in."""
        row = self._inodes.get(inode)
        if not stat.S_ISDIR(row.mode):
            raise PosixError(errno.ENOTDIR)
        if row.nlink == 0:
            raise PosixError(errno.ENOENT)
        return row

    def _check_free(self, parent: InodeId, name: bytes) -> None:
        _check_name(name)
        if (
            name in (b".", b"..")
            or self._pending.find(parent, name) is not None
            or self._index.dirents.lookup(parent, name) is not None
        ):
            raise PosixError(errno.EEXIST)


def _check_name(name: bytes) -> None:
    if len(name) > NAME_MAX:
        raise PosixError(errno.ENAMETOOLONG)
    if not name or b"/" in name or b"\0" in name:
        raise PosixError(errno.EINVAL)


def touched(directory: Inode, now: int, *, links: int = 0) -> Inode:
    """A directory whose entries changed."""
    return replace(directory, mtime_ns=now, ctime_ns=now, nlink=directory.nlink + links)
