"""Small files of an import: read together in one thread, placed together in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from usenetfs.errors import PosixError
from usenetfs.trees.folders import Folder
from usenetfs.trees.import_file import FileSender
from usenetfs.trees.import_items import ImportOptions, Item, Place, keep, say_would
from usenetfs.trees.import_plan import Step, decide
from usenetfs.trees.import_target import Attributes, ImportTarget, NewFile, kind_of
from usenetfs.trees.local_files import (
    Content,
    Entry,
    SourceChangedError,
    SourceError,
    read_small,
    read_xattrs,
)
from usenetfs.trees.tally import Tally
from usenetfs.types import InodeId


class SmallFiles:
    """``sender`` compares contents; ``close`` is told of folders that are done."""

    def __init__(
        self,
        target: ImportTarget,
        tally: Tally,
        options: ImportOptions,
        sender: FileSender,
        close: Callable[[Folder[Place]], None],
    ) -> None:
        self._target = target
        self._tally = tally
        self._options = options
        self._sender = sender
        self._close = close

    async def place(self, items: Sequence[Item]) -> None:
        """Decide, read what is to be sent in one go, and place it in one step."""
        await self._target.room(self._options.staging_limit)
        wanted: list[tuple[Item, Step]] = []
        for item in items:
            step = await self._decide(item)
            if step is None:
                item.folder.release(self._close)
            else:
                wanted.append((item, step))
        results = await trio.to_thread.run_sync(_read_all, wanted, self._target.block_size)
        new: list[tuple[Item, NewFile]] = []
        for (item, step), result in zip(wanted, results, strict=True):
            parent = item.folder.place.inode
            if isinstance(result, SourceError):
                self._tally.fail(item.entry.relative, str(result))
            elif parent is not None:
                attributes = Attributes.of(result.status, result.xattrs)
                if step is Step.SEND:
                    new.append((item, NewFile(parent, item.name, attributes, result.data)))
                else:
                    await self._keep(item, attributes)
        outcomes = await self._target.place([file for _, file in new]) if new else []
        for (item, file), outcome in zip(new, outcomes, strict=True):
            if isinstance(outcome, str):
                self._tally.fail(item.entry.relative, outcome)
            else:
                self._tally.bytes_done += len(file.data)
                self._tally.finished(item.entry.relative, "sent")
        for item, _ in wanted:
            item.folder.release(self._close)

    async def _decide(self, item: Item) -> Step | None:
        """SEND or SAME; None when that is all there is to it."""
        entry, parent, path = item.entry, item.folder.place.inode, item.entry.relative
        try:
            there = None if parent is None else self._target.lookup(parent, item.name)
            step = decide(entry.status, there, checksum=self._options.checksum)
            if step is Step.COMPARE and there is not None:
                same = await self._sender.same_content(entry.path, there.id)
                step = Step.SAME if same else Step.SEND
        except (PosixError, SourceError) as error:
            self._tally.fail(path, str(error))
            return None
        if step is Step.CONFLICT and there is not None:
            self._tally.fail(path, f"{kind_of(there.mode)} is in the way")
            return None
        if self._options.dry_run or parent is None:
            say_would(self._tally, path, step, entry.size)
            return None
        return step

    async def _keep(self, item: Item, attributes: Attributes) -> None:
        path = item.entry.relative
        try:
            there = self._target.lookup(item.folder.place.inode or InodeId(0), item.name)
            if there is not None:
                await keep(self._target, there.id, attributes)
        except PosixError as error:
            self._tally.fail(path, str(error))
            return
        self._tally.skip(path, item.entry.size)


def _read_all(wanted: Sequence[tuple[Item, Step]], limit: int) -> list[Content | SourceError]:
    """The content of what is to be sent, of the others the attributes; in a thread."""
    return [_read_one(item.entry, step, limit) for item, step in wanted]


def _read_one(entry: Entry, step: Step, limit: int) -> Content | SourceError:
    try:
        if step is not Step.SEND:
            return Content(entry.status, read_xattrs(entry.path), b"")
        try:
            return read_small(entry.path, limit)
        except SourceChangedError:
            return read_small(entry.path, limit)  # once more; then somebody is writing it
    except SourceError as error:
        return error
