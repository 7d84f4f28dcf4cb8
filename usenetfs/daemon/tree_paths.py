"""Paths in the filesystem, as commands give them: found, and made where directories are missing.

Links on the way are not followed: a path names what it says.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Sequence

from usenetfs.errors import PosixError
from usenetfs.fs.tree_store import TreeStore
from usenetfs.index.inodes import Inode
from usenetfs.trees.import_target import Attributes, kind_of
from usenetfs.types import ROOT_INODE, InodeId


def names_of(path: bytes) -> list[bytes]:
    """The names on the way to ``path``; empty for the root."""
    names: list[bytes] = []
    for name in path.split(b"/"):
        if name == b"..":
            del names[-1:]
        elif name not in {b"", b"."}:
            names.append(name)
    return names


def find(store: TreeStore, path: bytes) -> Inode | None:
    """What is at ``path``; PosixError when something on the way is no directory."""
    row = store.inode(ROOT_INODE)
    walked = b""
    for name in names_of(path):
        _check_directory(row, walked)
        found = store.lookup(row.id, name)
        if found is None:
            return None
        row, walked = found, walked + b"/" + name
    return row


async def make_directories(
    store: TreeStore, names: Sequence[bytes], *, dry_run: bool = False
) -> InodeId | None:
    """The directory under these names, made with those above it where it is missing.

    None in a dry run, when it would have to be made.
    """
    row = store.inode(ROOT_INODE)
    walked = b""
    for name in names:
        _check_directory(row, walked)
        found = store.lookup(row.id, name)
        if found is None:
            if dry_run:
                return None
            found = await store.make_directory(row.id, name, _new_directory())
        row, walked = found, walked + b"/" + name
    _check_directory(row, walked)
    return row.id


def _check_directory(row: Inode, path: bytes) -> None:
    if not stat.S_ISDIR(row.mode):
        shown = path.decode(errors="replace")
        raise PosixError(errno.ENOTDIR, f"{shown} is {kind_of(row.mode)}, not a directory")


def _new_directory() -> Attributes:
    now = time.time_ns()
    return Attributes(stat.S_IFDIR | 0o755, os.getuid(), os.getgid(), now, now)
