"""One file out of the filesystem into a local part file, and from there to its name.

Blocks come in any order, several at once (``limit`` bounds them over all files). Each is checked by
its hash before it is written, on top of the seal; each is noted in the session. What an interrupted
download left is compared block by block and not fetched again; what failed is tried again. A file
that changes in a live mount meanwhile is started once more.

A part is of the file if size and time are the same. That may deceive, so nothing of it is trusted:
blocks are compared, and where the file has holes they are made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from usenetfs.errors import (
    DataUnavailableError,
    IntegrityError,
    UsenetfsError,
    WrongArticleError,
)
from usenetfs.index.inodes import Inode
from usenetfs.trees.export_session import ExportSession, FileRecord, local_error
from usenetfs.trees.export_source import Buffer, ExportSource
from usenetfs.trees.import_target import Attributes
from usenetfs.trees.local_tree import (
    apply_attributes,
    clear,
    is_fatal,
    open_part,
    part_path,
    read_block,
    write_block,
)
from usenetfs.trees.tally import Tally, shown
from usenetfs.types import BlockNumber, InodeId

T = TypeVar("T")


class FileLostError(UsenetfsError):
    """Some blocks of a file could not be had; each was reported."""

    error_code = "file_lost"


class FileChangedError(UsenetfsError):
    """The file was written while it was downloaded."""

    error_code = "file_changed"


class FileReceiver:
    """See the module."""

    def __init__(
        self,
        source: ExportSource,
        session: ExportSession,
        tally: Tally,
        limit: trio.CapacityLimiter,
    ) -> None:
        self._source = source
        self._session = session
        self._tally = tally
        self._limit = limit

    async def receive(self, row: Inode, relative: bytes, path: bytes) -> None:
        """The file ``row`` under ``path``; FileLostError when parts of it are missing."""
        done = self._tally.bytes_done, self._tally.bytes_skipped
        try:
            await self._receive(row, relative, path)
        except FileChangedError:
            self._tally.bytes_done, self._tally.bytes_skipped = done
            await self._receive(self._source.inode(row.id), relative, path)

    async def _receive(self, row: Inode, relative: bytes, path: bytes) -> None:
        part, key = part_path(path), os.fsdecode(relative)
        record = self._session.find(key)
        resumed = record is not None and record.is_version(row.size, row.mtime_ns)
        if record is None or not resumed:
            record = self._session.begin(key, row.id, row.size, row.mtime_ns)
        descriptor = await _local(lambda: open_part(part, row.size, fresh=not resumed), path)
        try:
            await self._receive_blocks(
                _Growing(row, relative, record, descriptor, sparse=not resumed)
            )
        finally:
            with trio.CancelScope(shield=True):
                await _thread(lambda: os.close(descriptor))
        now = self._source.inode(row.id)
        if (now.size, now.mtime_ns) != (row.size, row.mtime_ns):
            self._session.done(record)
            raise FileChangedError("it changed while it was downloaded")
        if record.failed:
            raise FileLostError(
                f"{len(record.failed):,} blocks missing; the rest is in {shown(part)}"
            )
        attributes = attributes_of(now, self._source.xattrs(row.id))
        lost = await _local(lambda: apply_attributes(part, attributes), path)
        await _local(lambda: os.replace(part, path), path)
        self._session.done(record)
        for what in lost:
            self._tally.warn(relative, what)

    async def _receive_blocks(self, growing: _Growing) -> None:
        size, row = self._source.block_size, growing.row
        last = -(-row.size // size)
        at = BlockNumber(0)
        async with trio.open_nursery() as nursery:
            while at < last and growing.error is None:
                found = self._source.next_block(row.id, at)
                number = BlockNumber(last if found is None else min(found, last))
                if number > at and not growing.sparse:
                    await self._make_hole(growing, at, number)
                self._tally.bytes_done += max(min(number * size, row.size) - at * size, 0)
                if number >= last:
                    break
                await self._limit.acquire_on_behalf_of((row.id, number))
                nursery.start_soon(self._one_block, growing, number)
                at = BlockNumber(number + 1)
        if growing.error is not None:
            raise growing.error

    async def _make_hole(self, growing: _Growing, first: BlockNumber, end: BlockNumber) -> None:
        """Nothing is stored there; what was begun may have been a file that had content."""
        size = self._source.block_size
        await _local(
            lambda: clear(growing.descriptor, first * size, (end - first) * size),
            growing.relative,
        )
        for number in [number for number in growing.record.failed if first <= number < end]:
            self._session.have(growing.record, number)

    async def _one_block(self, growing: _Growing, number: BlockNumber) -> None:
        offset = number * self._source.block_size
        length = min(self._source.block_size, growing.row.size - offset)
        try:
            await self._get_block(growing, number, offset, length)
            self._tally.bytes_done += length
        except (DataUnavailableError, IntegrityError) as error:
            self._session.failed(growing.record, number, str(error))
            self._tally.lose(growing.relative, offset, length, str(error))
        except (OSError, UsenetfsError) as error:
            growing.error = error  # of the file or the disk: the others end by themselves
        finally:
            self._limit.release_on_behalf_of((growing.row.id, number))

    async def _get_block(
        self, growing: _Growing, number: BlockNumber, offset: int, length: int
    ) -> None:
        inode, record, descriptor = growing.row.id, growing.record, growing.descriptor
        if record.have.covers(number, number + 1):
            if await self._there(inode, descriptor, number, length):
                self._tally.bytes_skipped += length
                return
            self._session.lost(record, number)
        content = await self._checked(inode, number, length)
        await _local(
            lambda: write_block(descriptor, offset, content, sparse=growing.sparse),
            growing.relative,
        )
        self._session.have(record, number)

    async def same_content(self, row: Inode, path: bytes) -> bool:
        """Whether a local file has the content of ``row``; what is staged counts as another."""
        size = self._source.block_size
        descriptor = await _thread(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        try:
            for at in range(0, row.size, size):
                number = BlockNumber(at // size)
                if not await self._there(row.id, descriptor, number, min(size, row.size - at)):
                    return False
        finally:
            os.close(descriptor)
        return True

    async def _there(
        self, inode: InodeId, descriptor: int, number: BlockNumber, length: int
    ) -> bool:
        """Whether a local file has a block, by its hash, or zeros where there is a hole."""
        if self._source.is_staged(inode, number):
            return False
        location = self._source.locate(inode, number)
        content = await _thread(
            lambda: read_block(descriptor, number * self._source.block_size, length)
        )
        if len(content) < length:
            return False
        if location is None:
            return not any(content)
        if location.length != location.raw_length or any(memoryview(content)[location.length :]):
            return False
        known = content[: location.length]
        return await _thread(lambda: self._source.hash(known) == location.hash)

    async def _checked(self, inode: InodeId, number: BlockNumber, length: int) -> Buffer:
        """The block's content, once its hash is right."""
        while True:
            location = self._source.locate(inode, number)
            staged = self._source.is_staged(inode, number)
            content = await self._source.read_block(inode, number, length)
            if staged or location is None or location.length != location.raw_length:
                return content
            known = memoryview(content)[: location.length]
            if len(known) < location.length:
                return content  # the file was cut: its size says so in the end
            digest = await trio.to_thread.run_sync(self._source.hash, known)
            if digest == location.hash:
                return content
            staged = self._source.is_staged(inode, number)
            if self._source.locate(inode, number) == location and not staged:
                raise WrongArticleError("the content does not have the hash that the index names")


@dataclass(slots=True, eq=False)
class _Growing:
    """A file on its way. ``sparse``: its part has no bytes yet, so zeros may be left out."""

    row: Inode
    relative: bytes
    record: FileRecord
    descriptor: int
    sparse: bool
    error: OSError | UsenetfsError | None = None


def attributes_of(row: Inode, xattrs: dict[bytes, bytes]) -> Attributes:
    """An inode's attributes, for a local file."""
    return Attributes(row.mode, row.uid, row.gid, row.atime_ns, row.mtime_ns, xattrs)


async def _thread(work: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(work)


async def _local(work: Callable[[], T], path: bytes) -> T:
    """Work on the local disk; an error that will meet every file becomes one of ours."""
    try:
        return await trio.to_thread.run_sync(work)
    except OSError as error:
        if is_fatal(error):
            raise local_error(error, shown(path)) from error
        raise
