"""``rm`` and ``mv``: with a mount (asked through the control API) and without one."""

from __future__ import annotations

import errno
import stat
from collections.abc import Sequence

import trio

from usenetfs.daemon.tree_paths import find, names_of
from usenetfs.errors import PathNotFoundError, PosixError, UsageError
from usenetfs.fs.tree_store import TreeStore
from usenetfs.index.inodes import Inode
from usenetfs.types import ROOT_INODE, InodeId

BATCH = 256


async def remove(store: TreeStore, paths: Sequence[bytes], *, recursive: bool) -> int:
    """Take away what is at each path; how many names went.

    Everything is looked at before anything goes.
    """
    doomed = [_place(store, path) for path in paths]
    for (_, _, row), path in zip(doomed, paths, strict=True):
        if stat.S_ISDIR(row.mode) and not recursive:
            raise UsageError(f"{_shown(path)} is a directory", hint="remove it with all in it: -r")
    removed = 0
    for parent, name, row in doomed:
        if stat.S_ISDIR(row.mode):
            removed += await _empty(store, row.id)
            await store.remove_directory(parent, name)
        else:
            await store.remove(parent, name)
        removed += 1
    return removed


async def _empty(store: TreeStore, top: InodeId) -> int:
    """Take away everything in a directory, the deepest first; how many names went."""
    removed = 0
    stack: list[tuple[InodeId, InodeId, bytes]] = [(top, InodeId(0), b"")]
    while stack:
        directory, parent, name = stack[-1]
        entries = store.entries(directory, 2, BATCH)
        for _, inner, row in entries:
            if stat.S_ISDIR(row.mode):
                stack.append((row.id, directory, inner))
                break
            await store.remove(directory, inner)
            removed += 1
        else:
            if not entries:
                stack.pop()
                if name:
                    await store.remove_directory(parent, name)
                    removed += 1
        await trio.lowlevel.checkpoint()
    return removed


async def move(store: TreeStore, source: bytes, target: bytes) -> None:
    """Rename, or into ``target`` where that is a directory; what had the name is replaced."""
    parent, name, row = _place(store, source)
    there = find(store, target)
    if there is not None and stat.S_ISDIR(there.mode):
        new_parent, new_name = there.id, name
    elif target.endswith(b"/") or not names_of(target):
        raise PathNotFoundError(f"{_shown(target)}: there is no such directory")
    else:
        *above, new_name = names_of(target)
        folder = find(store, b"/".join(above))
        if folder is None:
            raise PathNotFoundError(f"{_shown(b'/'.join(above))}: there is no such directory")
        new_parent = folder.id
    if stat.S_ISDIR(row.mode):
        _check_not_below(store, row.id, new_parent)
    await store.move(parent, name, new_parent, new_name)


def _check_not_below(store: TreeStore, moved: InodeId, folder: InodeId) -> None:
    """A directory cannot go into itself; with a mount the kernel would say so."""
    at = folder
    while at != ROOT_INODE:
        if at == moved:
            raise PosixError(errno.EINVAL, "a directory cannot be moved into itself")
        above = store.lookup(at, b"..")
        assert above is not None
        at = above.id


def _place(store: TreeStore, path: bytes) -> tuple[InodeId, bytes, Inode]:
    """Parent, name and inode of something that may go."""
    names = names_of(path)
    if not names:
        raise UsageError("the root directory stays where it is")
    row = find(store, path)
    parent = find(store, b"/".join(names[:-1]))
    if row is None or parent is None:
        raise PathNotFoundError(f"{_shown(path)}: there is no such file or directory")
    return parent.id, names[-1], row


def _shown(path: bytes) -> str:
    return "/" + path.decode(errors="replace").strip("/")
