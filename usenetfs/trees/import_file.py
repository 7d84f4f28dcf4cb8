"""One local file into the filesystem, block by block, and the comparison of the two.

A block is written to staging from the mapping without a copy in this process and without an await
in between, so no upload ever sees half a block. What an interrupted import left of the file is
compared by hash, and what is on the servers already is not sent again.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final, TypeVar

import trio

from usenetfs.errors import LocalStorageError, PosixError
from usenetfs.trees.import_target import Attributes, ImportTarget, NewFile, Partial
from usenetfs.trees.local_files import (
    Entry,
    MappedFile,
    SourceChangedError,
    read_small,
    read_xattrs,
)
from usenetfs.trees.tally import Tally
from usenetfs.types import BlockNumber, InodeId

WINDOW_BLOCKS: Final = 12
"""Blocks mapped and brought into memory at a time: 8.6 MB of the default size."""

T = TypeVar("T")


class FileSender:
    """See the module. ``staging_limit``: octets staged above which it waits."""

    def __init__(self, target: ImportTarget, tally: Tally, staging_limit: int) -> None:
        self._staging_limit = staging_limit
        self._target = target
        self._tally = tally

    async def send(self, entry: Entry, parent: InodeId, name: bytes) -> InodeId:
        """The file under its name; read once more if it changes, SourceChangedError if again."""
        done = self._tally.bytes_done, self._tally.bytes_skipped
        try:
            return await self._send(entry, parent, name)
        except SourceChangedError:
            self._tally.bytes_done, self._tally.bytes_skipped = done
            return await self._send(entry, parent, name)

    async def _send(self, entry: Entry, parent: InodeId, name: bytes) -> InodeId:
        if entry.size <= self._target.block_size:
            return await self._send_small(entry, parent, name)
        with await _in_thread(lambda: MappedFile(entry.path).__enter__()) as source:
            xattrs = await _in_thread(lambda: read_xattrs(entry.path))
            attributes = Attributes.of(source.status, xattrs)
            partial = self._target.begin(parent, name, attributes, source.size)
            try:
                await self._send_blocks(source, partial)
                await _in_thread(source.check_unchanged)
            except SourceChangedError:
                await partial.abandon()
                raise
            except BaseException:
                with trio.CancelScope(shield=True):
                    await partial.leave()
                raise
            await partial.finish(attributes)
            return partial.inode

    async def _send_small(self, entry: Entry, parent: InodeId, name: bytes) -> InodeId:
        await self._target.room(self._staging_limit)
        content = await _in_thread(lambda: read_small(entry.path, self._target.block_size))
        attributes = Attributes.of(content.status, content.xattrs)
        (outcome,) = await self._target.place([NewFile(parent, name, attributes, content.data)])
        if isinstance(outcome, str):
            raise PosixError(errno.EISDIR, outcome)
        self._tally.bytes_done += len(content.data)
        return outcome

    async def _send_blocks(self, source: MappedFile, partial: Partial) -> None:
        size = self._target.block_size
        at = 0
        while at < source.size:
            data = await _in_thread(lambda at=at: source.next_data(at))  # type: ignore[misc]
            block = source.size if data is None else data // size * size
            self._tally.bytes_done += block - at
            at = block
            if at >= source.size:
                break
            await self._target.room(self._staging_limit)
            length = min(WINDOW_BLOCKS * size, source.size - at)
            await self._send_window(source, partial, at, length)
            partial.save()
            at += length

    async def _send_window(
        self, source: MappedFile, partial: Partial, start: int, length: int
    ) -> None:
        size = self._target.block_size
        missing = await self._missing(source, partial, start, length)
        if not missing:
            return
        first, end = missing[0], min(missing[-1] + size, start + length)
        window = await _in_thread(lambda: source.window(first, end - first))
        try:
            for at in missing:
                upto = min(at + size, end)
                for low, high in await _in_thread(
                    lambda at=at, upto=upto: source.data_ranges(at, upto)  # type: ignore[misc]
                ):
                    write_from_mapping(partial, low, window[low - first : high - first])
                self._tally.bytes_done += upto - at
                await trio.lowlevel.checkpoint()
        finally:
            window.release()

    async def _missing(
        self, source: MappedFile, partial: Partial, start: int, length: int
    ) -> list[int]:
        """Where the blocks of a window begin that are not on the servers yet."""
        size = self._target.block_size
        places = list(range(start, start + length, size))
        if not partial.resumed:
            return places
        missing = []
        for at in places:
            upto = min(at + size, start + length)
            if await self._same_block(source, partial.inode, at, upto):
                self._tally.bytes_done += upto - at
                self._tally.bytes_skipped += upto - at
            else:
                missing.append(at)
        return missing

    async def _same_block(self, source: MappedFile, inode: InodeId, at: int, upto: int) -> bool:
        stored = self._target.stored_block(inode, BlockNumber(at // self._target.block_size))
        if stored is None:
            return False
        digest, length = stored
        content = await _in_thread(lambda: source.read(at, upto - at))
        if not length:
            return not any(content)
        # A block ends with its last data; what the file has behind it is a hole.
        if any(memoryview(content)[length:]):
            return False
        return await _in_thread(lambda: self._target.hash(content[:length]) == digest)

    async def same_content(self, path: bytes, inode: InodeId) -> bool:
        """Whether a local file has the content that is on the servers under ``inode``.

        What is staged counts as another: sending it again costs nothing but reading it, because
        equal content is stored once.
        """
        size = self._target.block_size
        with await _in_thread(lambda: MappedFile(path).__enter__()) as source:
            if source.size != self._target.inode(inode).size:
                return False
            for at in range(0, source.size, size):
                if not await self._same_block(source, inode, at, min(at + size, source.size)):
                    return False
            await _in_thread(source.check_unchanged)
        return True


def write_from_mapping(partial: Partial, offset: int, data: memoryview) -> None:
    """One stretch into staging; the kernel copies it out of the mapping."""
    try:
        partial.write(offset, data)
    except LocalStorageError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EFAULT:
            raise SourceChangedError("it shrank while it was read") from error
        raise
    finally:
        data.release()


async def _in_thread(work: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(work)
