"""What is only here, copied into an ordinary directory.

For a filesystem that another writer has taken over, and for anybody who wants it: every file with
content that is in no checkpoint, because it is staged or because it went up since, is written out
whole, its staged bytes over those that the servers have, at its path below the target. What the
servers do not give is left as a hole, and the file is reported.

Changes nothing in the filesystem: staging stays as it is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from usenetfs.checkpoint.changeset import UNCHANGED, Operation, decode_changes
from usenetfs.daemon.parts import Parts
from usenetfs.errors import DiskFullError, LocalStorageError, UsageError, UsenetfsError
from usenetfs.index.chain import NONE_YET, ChainState
from usenetfs.index.cut import Cut, merge
from usenetfs.index.inodes import Inode
from usenetfs.types import InodeId, Lane

CHUNK = 4 << 20

SIZE = 5
"""Column of ``inodes``."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written out. ``missing``: bytes that could not be had from the servers."""

    path: str
    inode: InodeId
    size: int
    missing: int


async def export_staged(parts: Parts, target: Path, tell: Callable[[Exported], None]) -> None:
    """Write out every file with unpublished content, in order of inodes; ``tell`` hears of each.

    ``target`` is made; it must not hold anything. Raises LocalStorageError when it cannot be
    written to.
    """
    await trio.to_thread.run_sync(_prepare, target)
    cut, state = parts.index.cut(), parts.index.chain.state()
    for inode in await trio.to_thread.run_sync(_unpublished, cut, state):
        exported = await _export(parts, target, inode)
        if exported is not None:
            tell(exported)


def _unpublished(cut: Cut, state: ChainState | None) -> list[InodeId]:
    """Inodes that are staged, new, or of another content than in the last checkpoint."""
    with cut:
        found = cut.staged_inodes()
        after, number = (state.cut, state.number) if state is not None else (0, NONE_YET)
        for change in decode_changes([merge(cut.changesets(after, number))]):
            row = change.new or change.old
            assert row is not None
            if change.table.name == "blocks" or (
                change.table.name == "inodes"
                and (change.operation is Operation.INSERT or row[SIZE] is not UNCHANGED)
            ):
                inode = (change.old or row)[0]
                assert isinstance(inode, int)
                found.add(inode)
        return sorted(map(InodeId, found))


def _prepare(target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise UsageError(f"{target} is not empty", hint="name a new directory")
    except OSError as error:
        raise _translated(error, target) from error


async def _export(parts: Parts, target: Path, inode: InodeId) -> Exported | None:
    row = parts.index.inodes.get(inode)
    if row is None or not stat.S_ISREG(row.mode):
        return None
    name = parts.index.dirents.path_of(inode)
    relative = os.fsdecode(name.lstrip(b"/")) if name else f"without-a-name/{inode}"
    place = target / relative
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            missing = await _copy(parts, row, descriptor)
            await trio.to_thread.run_sync(os.fsync, descriptor)
            os.fchmod(descriptor, row.mode & 0o777)
            os.utime(descriptor, ns=(row.atime_ns, row.mtime_ns))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _translated(error, place) from error
    return Exported(relative, row.id, row.size, missing)


async def _copy(parts: Parts, row: Inode, descriptor: int) -> int:
    """All of a file; how many bytes are missing."""
    missing = 0
    block = parts.staged.block_size
    step = max(block, CHUNK - CHUNK % block)
    for offset in range(0, row.size, step):
        length = min(step, row.size - offset)
        try:
            await _copy_range(parts, row.id, descriptor, offset, length)
        except UsenetfsError:
            for start in range(offset, offset + length, block):
                size = min(block, offset + length - start)
                try:
                    await _copy_range(parts, row.id, descriptor, start, size)
                except UsenetfsError:
                    missing += size
    os.ftruncate(descriptor, row.size)
    return missing


async def _copy_range(
    parts: Parts, inode: InodeId, descriptor: int, offset: int, length: int
) -> None:
    data = await parts.files.read(inode, offset, length, lane=Lane.READER)
    await trio.to_thread.run_sync(_write_all, descriptor, memoryview(data), offset)


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _translated(error: OSError, place: Path) -> LocalStorageError:
    kind = DiskFullError if error.errno == errno.ENOSPC else LocalStorageError
    return kind(f"cannot write {place}: {error.strerror}")
