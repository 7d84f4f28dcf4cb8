"""Staging: file data that is not yet safe on Usenet, in sparse files on the local disk.

Owns: ``<directory>/<inode % 256, 2 hex>/<inode>.<group>``. A group file holds ``blocks_per_file``
consecutive blocks of one inode, each at its natural offset, so a write of the kernel is one
``pwrite`` wherever it falls and reading back needs no index. The beginnings of small new files lie
together in ``<directory>/shared`` (``shared_files.py``): an inode that is there has its first
octets there and nowhere else, the rest in its group files. It knows bytes only: which of them
mean something is the index's business (``local_staging``), and so is how much may be staged.

Everything not written, and everything discarded, reads as zeros. Calls are thread-safe and
blocking. ``write``, ``read`` and ``zero`` are a system call and a few microseconds;
``discard`` and ``discard_inode`` touch no disk at all; those may be called on the event loop. What
may take longer (``sync``, ``reclaim``, ``sweep``, opening) belongs into a thread.

Discarding while others read and write
    The uploader learns that a block is safe, and drops it from the index; then its space is to be
    freed. Were that done in a thread, a write that came between would be freed with it. So
    :meth:`Staging.discard` only marks blocks, at once, in the step that commits the index, and
    :meth:`Staging.reclaim` frees later in a thread. A write to a marked block frees that block
    first and keeps its own bytes.

    A read in a thread may find its block discarded and zeroed since it was planned: who reads there
    compares the generation of its block afterwards, and drops what it has if that differs.

    Writing and discarding the *same* block at the same time from two threads is the caller's error.

After a crash the files may hold more than the index knows (data whose row was not committed, blocks
discarded and not reclaimed). :meth:`Staging.sweep`, at mount, removes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from usenetfs.errors import LocalStorageError
from usenetfs.store.extents import Extents
from usenetfs.store.group_files import BUCKETS, GroupFiles, Key
from usenetfs.store.shared_files import SharedFiles
from usenetfs.store.syncing import Syncing
from usenetfs.store.syscalls import read_padded, storage_error, sync_directory, write_all
from usenetfs.types import DEFAULT_BLOCK_SIZE, BlockNumber, InodeId

Buffer = bytes | bytearray | memoryview

SHARED_BYTES: Final = 128 << 10
"""Octets of an inode that may lie in a shared file, unless a block is less. Of a source tree that
is 24 files of 25."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did."""

    files_removed: int
    bytes_freed: int


class Staging:
    """See the module. ``max_open`` is the number of descriptors kept open for group files.
    ``new_from``: inodes from there on were not made yet, so none of their bytes are here; they may
    share files. None: nobody begins to."""

    def __init__(
        self,
        directory: Path,
        *,
        block_size: int = DEFAULT_BLOCK_SIZE,
        blocks_per_file: int = 1024,
        max_open: int = 256,
        new_from: int | None = None,
    ) -> None:
        """Makes what is missing and counts what is there: some seconds for a million files."""
        if min(block_size, blocks_per_file, max_open) < 1:
            raise ValueError("sizes and limits of staging are at least 1")
        self._directory = os.fspath(directory)
        self._block_size = block_size
        self.blocks_per_file = blocks_per_file
        self._group_bytes = block_size * blocks_per_file
        self._syncing = Syncing(self._directory)
        self._files = GroupFiles(
            self._directory,
            max_open=max_open,
            block_size=block_size,
            on_created=self._syncing.note_created,
        )
        self._new_from = new_from
        """Inodes from there on have no file of their own for their beginning."""
        self._make_directories()
        self._shared = SharedFiles(
            f"{self._directory}/shared", slot_bytes=min(block_size, SHARED_BYTES)
        )
        for key, _ in self._entries():
            self._files.note_group(key)
            if not key[1]:
                self._shared.note_tail(key[0])
        self.recount()

    # --- data -------------------------------------------------------------------------------------

    def write(self, inode: InodeId, block: BlockNumber, start: int, data: Buffer) -> None:
        """Writes ``data`` at ``start`` of a block; it must end within the block."""
        self._check_in_block(start, len(data))
        group, index = divmod(block, self.blocks_per_file)
        self._write((inode, group), index * self._block_size + start, data)

    def write_span(self, inode: InodeId, offset: int, data: Buffer) -> None:
        """Writes ``data`` at ``offset`` of the file, over as many blocks as it takes.

        DiskFullError, LocalStorageError: a part of it may have been written.
        """
        if offset < 0:
            raise ValueError(f"offset {offset} is negative")
        group, start = divmod(offset, self._group_bytes)
        if start + len(data) <= self._group_bytes:
            self._write((inode, group), start, data)
            return
        view = memoryview(data)
        for key, start, size in self._pieces(inode, offset, len(data)):
            self._write(key, start, view[:size])
            view = view[size:]

    def read(self, inode: InodeId, block: BlockNumber, start: int, length: int) -> bytes:
        """``length`` bytes from ``start`` of a block; the range must end within the block."""
        self._check_in_block(start, length)
        group, index = divmod(block, self.blocks_per_file)
        return self._read((inode, group), index * self._block_size + start, length)

    def read_span(self, inode: InodeId, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset`` of the file."""
        if offset < 0 or length < 0:
            raise ValueError(f"{length} bytes at {offset} cannot be read")
        group, start = divmod(offset, self._group_bytes)
        if start + length <= self._group_bytes:
            return self._read((inode, group), start, length)
        return b"".join(
            self._read(key, at, size) for key, at, size in self._pieces(inode, offset, length)
        )

    def zero(self, inode: InodeId, block: BlockNumber, start: int, end: int) -> None:
        """The bytes ``[start, end)`` of a block read as zeros from now on."""
        self._check_in_block(start, end - start)
        group, index = divmod(block, self.blocks_per_file)
        base = index * self._block_size
        self._zero((inode, group), base + start, base + end)

    # --- discarding -------------------------------------------------------------------------------

    def discard(self, inode: InodeId, blocks: Iterable[BlockNumber]) -> None:
        """The blocks read as zeros from now on; :meth:`reclaim` will free their space."""
        for block in blocks:
            group, index = divmod(block, self.blocks_per_file)
            if not block and self._shared.discard(inode) and not self._shared.has_tail(inode):
                continue
            self._files.doom((inode, group), index, index + 1)

    def discard_inode(self, inode: InodeId) -> None:
        """Discards every block of the inode."""
        self._shared.discard(inode)
        for key in self._own_keys(inode):
            self._files.doom(key, 0, self.blocks_per_file)

    def reclaim(self) -> None:
        """Frees what was discarded, and removes files that hold nothing any more.

        A file that cannot be freed is left for the next call, and does not keep the others from
        being freed; its error is raised at the end.
        """
        failed: LocalStorageError | None = None
        reclaims: list[Callable[[], None]] = [self._shared.reclaim]
        reclaims += [partial(self._files.reclaim, key) for key in self._files.doomed_files()]
        for reclaim in reclaims:
            try:
                reclaim()
            except LocalStorageError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def reclaimable(self) -> int:
        """How many files :meth:`reclaim` would look at."""
        return self._shared.reclaimable() + self._files.counts()[2]

    # --- durability, accounting -------------------------------------------------------------------

    def sync(self, inode: InodeId) -> None:
        """Returns when all that was written to the inode before survives a power cut.

        LocalStorageError: some of it may not. It is raised again for that file until its data was
        discarded.
        """
        self._shared.sync(inode)
        self._syncing.sync(self._files, inode)

    def sync_all(self) -> None:
        """:meth:`sync` for everything written before."""
        self._shared.sync_all()
        self._syncing.sync_all(self._files)

    def usage(self) -> int:
        """Bytes allocated on the disk, doomed blocks included. Microseconds.

        A file counts with what it took when last used. What the filesystem allocates or gives back
        behind our back (its own blocks about the file, mostly) adds up to some kilobytes per file;
        :meth:`recount` puts it right.
        """
        return self._shared.allocated() + self._files.allocated()

    def to_spare(self, min_free: int) -> int:
        """Bytes that are free on its disk beyond ``min_free``, or beyond a tenth of the disk where
        that is less; negative where fewer are. A microsecond. LocalStorageError."""
        try:
            disk = os.statvfs(self._directory)
        except OSError as error:
            raise storage_error(error, "look at", self._directory) from error
        unit = disk.f_frsize
        return disk.f_bavail * unit - min(min_free, disk.f_blocks * unit // 10)

    def recount(self) -> int:
        """Looks at every file and returns the true :meth:`usage`. A second per 300,000 files."""
        self._shared.recount()
        self._files.recount(self._entries())
        return self.usage()

    def inodes(self) -> Iterator[InodeId]:
        """Inodes that have files here, each once, in no order. Reads the directories."""
        shared = set(self._shared.inodes())
        yield from map(InodeId, shared)
        for bucket in range(BUCKETS):
            yield from {InodeId(key[0]) for key, _ in self._entries_of(bucket)} - shared

    def sweep(self, live: Callable[[InodeId, int], Collection[BlockNumber]]) -> Swept:
        """Removes everything that the index does not know. At mount, before anything is written.

        ``live(inode, group)`` are the blocks of the group (numbered within the file; others do no
        harm) that the index has staged; all else is zeroed and freed, and a file without any is
        removed.
        """
        before = self.recount()
        removed = 0
        for inode in self._shared.inodes():
            if BlockNumber(0) not in live(InodeId(inode), 0):
                self._shared.discard(inode)
        self._shared.reclaim()
        for key, _ in self._entries():
            inode, group = key
            base = group * self.blocks_per_file
            dead = Extents([(0, self.blocks_per_file)])
            for block in live(InodeId(inode), group):
                if base <= block < base + self.blocks_per_file:
                    dead.subtract(block - base, block - base + 1)
            for first, last in dead:
                self._files.doom(key, first, last)
            self._files.reclaim(key)
            removed += not os.path.lexists(self._files.path(key))
        return Swept(removed, max(0, before - self.recount()))

    def close(self) -> None:
        """Closes all descriptors. Syncs nothing."""
        self._shared.close()
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        opened, pinned, doomed = self._files.counts()
        return (
            f"<Staging {self._directory} open={opened} in_use={pinned} reclaimable={doomed}"
            f" unsynced={self._syncing.unsynced() + self._shared.unsynced()} {self._shared!r}>"
        )

    # --- within -----------------------------------------------------------------------------------

    def _write(self, key: Key, start: int, data: Buffer) -> None:
        inode, group = key
        if not data:
            return
        if not group:
            reach = self._shared.reach(inode) or self._taken_in(inode, start + len(data))
            if start < reach:
                head = min(len(data), reach - start)
                self._shared.write(inode, start, memoryview(data)[:head])
                if head == len(data):
                    return
                start, data = reach, memoryview(data)[head:]
            if reach:
                self._shared.note_tail(inode)
            if self._new_from is not None:
                self._new_from = max(self._new_from, inode + 1)
        self._write_own(key, start, data)

    def _taken_in(self, inode: int, end: int) -> int:
        """The octets that a new inode gets in a shared file, if its first write ends at ``end``."""
        share = (
            self._new_from is not None
            and inode >= self._new_from
            and end <= self._shared.slot_bytes
            and self._shared.has_room()
        )
        return self._shared.slot_bytes if share else 0

    def _own_keys(self, inode: int) -> list[Key]:
        """The group files that the inode may have."""
        keys = self._files.keys_of(inode)
        without = self._shared.reach(inode) and not self._shared.has_tail(inode)
        return [key for key in keys if key[1]] if without else keys

    def _write_own(self, key: Key, start: int, data: Buffer) -> None:
        file = self._files.pin_writer(key, start, start + len(data), create=True)
        assert file is not None
        try:
            write_all(file.descriptor, data, start)
        except OSError as error:
            raise storage_error(error, "write", self._files.path(key)) from error
        finally:
            self._files.unpin_writer(file)
            self._syncing.note_written(key)

    def _read(self, key: Key, start: int, length: int) -> bytes:
        reach = 0 if key[1] else self._shared.reach(key[0])
        if not reach:
            return self._read_own(key, start, length)
        data = b""
        if start < reach:
            data = self._shared.read(key[0], start, min(length, reach - start))
        rest = length - len(data)
        if rest and self._shared.has_tail(key[0]):
            return data + self._read_own(key, start + len(data), rest)
        return data + bytes(rest) if rest else data

    def _read_own(self, key: Key, start: int, length: int) -> bytes:
        file = self._files.pin(key)
        if file is None:
            return bytes(length)
        doomed = self._files.doomed(key, start, start + length)
        try:
            data = read_padded(file.descriptor, length, start)
        except OSError as error:
            raise storage_error(error, "read", self._files.path(key)) from error
        finally:
            self._files.unpin(file)
        if doomed:
            blanked = bytearray(data)
            for low, high in doomed:
                blanked[low - start : high - start] = bytes(high - low)
            data = bytes(blanked)
        return data

    def _zero(self, key: Key, start: int, end: int) -> None:
        reach = 0 if key[1] else self._shared.reach(key[0])
        if start < min(end, reach):
            self._shared.zero(key[0], start, min(end, reach))
        if not reach or self._shared.has_tail(key[0]):
            self._zero_own(key, max(start, reach), end)

    def _zero_own(self, key: Key, start: int, end: int) -> None:
        if start >= end:
            return
        file = self._files.pin_writer(key, start, end, create=False)
        if file is None:
            return
        try:
            self._files.zero(file, start, end)
        except OSError as error:
            raise storage_error(error, "free space in", self._files.path(key)) from error
        finally:
            self._files.unpin_writer(file)
            self._syncing.note_written(key)

    def _pieces(self, inode: int, offset: int, length: int) -> Iterator[tuple[Key, int, int]]:
        """Splits a range of the file by group: key, start within the group file, size."""
        while length:
            group, start = divmod(offset, self._group_bytes)
            size = min(length, self._group_bytes - start)
            yield (inode, group), start, size
            offset += size
            length -= size

    def _check_in_block(self, start: int, length: int) -> None:
        if start < 0 or length < 0 or start + length > self._block_size:
            raise ValueError(f"{length} bytes at {start} are not within a block")

    def _make_directories(self) -> None:
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            present = set(os.listdir(self._directory))
            missing = [f"{n:02x}" for n in range(BUCKETS) if f"{n:02x}" not in present]
            for name in missing:
                os.mkdir(os.path.join(self._directory, name), mode=0o700)
            if missing:
                sync_directory(self._directory)
        except OSError as error:
            raise storage_error(error, "prepare", self._directory) from error

    def _entries(self) -> Iterator[tuple[Key, os.DirEntry[str]]]:
        for bucket in range(BUCKETS):
            yield from self._entries_of(bucket)

    def _entries_of(self, bucket: int) -> list[tuple[Key, os.DirEntry[str]]]:
        """The group files of one bucket; what is not named like one is somebody else's."""
        path = self._files.bucket(bucket)
        found = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    inode, _, group = entry.name.partition(".")
                    if inode.isdecimal() and group.isdecimal() and int(inode) % BUCKETS == bucket:
                        found.append(((int(inode), int(group)), entry))
        except OSError as error:
            raise storage_error(error, "list", path) from error
        return found
