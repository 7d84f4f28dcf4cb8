"""Trees of local files into the filesystem: many at once, in bounded memory.

One walker lists directories depth first and hands out work through a bounded channel; a few workers
read, compare and place. Small files travel in batches, each batch placed in one transaction; large
ones block by block through a mapping. Everything goes through staging, which is what makes a file
whole or absent after a crash; ``staging_limit`` says how far it may run ahead of the network.

What is stored is what was read: a file that changes meanwhile is read once more, and reported if it
changes again; then what was there before stays. An error of one file is that file's alone; an error
of the target (disk, index) ends the import, and the next one goes on where it stopped.

It does not know where progress is shown, nor when what it placed is on the servers.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Final

import trio

from usenetfs.errors import PosixError
from usenetfs.trees.folders import Folder
from usenetfs.trees.import_file import FileSender
from usenetfs.trees.import_items import (
    ImportOptions,
    ImportRoot,
    Item,
    Place,
    keep,
    say_would,
)
from usenetfs.trees.import_plan import Step, decide
from usenetfs.trees.import_small import SmallFiles
from usenetfs.trees.import_target import (
    Attributes,
    ImportTarget,
    NewNode,
    kind_of,
)
from usenetfs.trees.links import LinkGroup, Links
from usenetfs.trees.local_files import (
    Entry,
    Listing,
    SourceError,
    read_link,
    read_status,
    read_xattrs,
)
from usenetfs.trees.tally import Tally
from usenetfs.types import InodeId

WORKERS: Final = 6
LISTING: Final = 1000
"""Entries of a directory in memory at once."""
BATCH_FILES: Final = 64
OWN: Final = "it is in the filesystem that it would be uploaded to: copy it there with cp"
BATCH_BYTES: Final = 2 << 20
"""Of a batch of small files. A worker holds one; so this times the workers bounds memory."""


class TreeImport:
    """One import. :meth:`run` returns when everything is staged, linked or reported."""

    def __init__(self, target: ImportTarget, tally: Tally, options: ImportOptions) -> None:
        self._target = target
        self._tally = tally
        self._options = options
        self._links: Links[Item, InodeId] = Links()
        self._sender = FileSender(target, tally, options.staging_limit)
        self._small_files = SmallFiles(target, tally, options, self._sender, self._close)

    async def run(self, roots: Sequence[ImportRoot]) -> None:
        send, receive = trio.open_memory_channel[list[Item]](2 * WORKERS)
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(self._work, receive.clone())
            receive.close()
            async with send:
                for root in roots:
                    await self._walk_root(root, send)

    # --- the walker ------------------------------------------------------------------------------

    async def _walk_root(self, root: ImportRoot, send: trio.MemorySendChannel[list[Item]]) -> None:
        try:
            status = await trio.to_thread.run_sync(read_status, root.path, not root.name)
        except SourceError as error:
            self._tally.fail(root.path, str(error), counted=False)
            return
        if status.st_dev == self._options.own_device:
            self._tally.fail(root.path, OWN, counted=False)
            return
        above = Folder(Place(root.parent), b"")
        entry = Entry(root.path, root.name, status)
        if not stat.S_ISDIR(status.st_mode):
            if root.name:
                await self._dispatch([Item(entry, root.name, above.hold())], send)
            else:
                self._tally.fail(root.path, "it is not a directory", counted=False)
            return
        if root.name:
            folder = await self._enter(Item(entry, root.name, above))
        else:
            folder = Folder(Place(root.parent, await self._attributes_of(entry)), b"")
        if folder is not None:
            await self._walk(root.path, folder, send)
            folder.release(self._close)

    async def _walk(
        self, path: bytes, folder: Folder[Place], send: trio.MemorySendChannel[list[Item]]
    ) -> None:
        try:
            listing = await trio.to_thread.run_sync(Listing, path, folder.path)
        except SourceError as error:
            self._tally.fail(folder.path or path, str(error), counted=False)
            return
        with listing:
            while batch := await self._next_batch(listing, folder, path):
                kept = [entry for entry in batch if not self._left_out(entry)]
                items = [
                    Item(entry, entry.name, folder.hold())
                    for entry in kept
                    if not entry.is_directory
                ]
                await self._dispatch(items, send)
                for entry in kept:
                    if entry.is_directory:
                        inner = await self._enter(Item(entry, entry.name, folder))
                        if inner is not None:
                            await self._walk(entry.path, inner, send)
                            inner.release(self._close)

    async def _next_batch(
        self, listing: Listing, folder: Folder[Place], path: bytes
    ) -> list[Entry]:
        try:
            return await trio.to_thread.run_sync(listing.batch, LISTING)
        except SourceError as error:
            self._tally.fail(folder.path or path, str(error), counted=False)
            return []

    def _left_out(self, entry: Entry) -> bool:
        if entry.status.st_dev == self._options.own_device:
            self._tally.fail(entry.relative, OWN, counted=False)
            return True
        return self._options.exclude(entry.relative, directory=entry.is_directory)

    async def _dispatch(
        self, items: Sequence[Item], send: trio.MemorySendChannel[list[Item]]
    ) -> None:
        """Hand out work: small files together, everything else alone."""
        batch: list[Item] = []
        size = 0
        for item in items:
            entry = item.entry
            if self._must_wait(item):
                continue
            if item.group is not None or not entry.is_file or entry.size > self._target.block_size:
                await send.send([item])
                continue
            if batch and (len(batch) >= BATCH_FILES or size + entry.size > BATCH_BYTES):
                await send.send(batch)
                batch, size = [], 0
            batch.append(item)
            size += entry.size
        if batch:
            await send.send(batch)

    def _must_wait(self, item: Item) -> bool:
        """Whether another name of the same file is being sent: then this one is linked later."""
        group = item.group = self._meet(item.entry.status)
        return group is not None and group.must_wait(item)

    def _meet(self, status: os.stat_result) -> LinkGroup[Item, InodeId] | None:
        return self._links.meet((status.st_dev, status.st_ino), status.st_nlink)

    # --- folders ---------------------------------------------------------------------------------

    async def _enter(self, item: Item) -> Folder[Place] | None:
        """The directory in the filesystem that a local one becomes; None when there can be none."""
        attributes = await self._attributes_of(item.entry)
        path = item.entry.relative
        parent = item.folder.place.inode
        try:
            there = None if parent is None else self._target.lookup(parent, item.name)
            step = decide(item.entry.status, there)
            if step is Step.CONFLICT and there is not None:
                self._tally.fail(path, f"{kind_of(there.mode)} is in the way", counted=False)
                return None
            if there is not None:
                inode: InodeId | None = there.id
            elif parent is None or self._options.dry_run:
                inode = None
            else:
                inode = (await self._target.make_directory(parent, item.name, attributes)).id
        except PosixError as error:
            self._tally.fail(path, str(error), counted=False)
            return None
        return Folder(Place(inode, attributes), path, item.folder.hold())

    async def _attributes_of(self, entry: Entry) -> Attributes:
        try:
            xattrs = await trio.to_thread.run_sync(read_xattrs, entry.path)
        except SourceError as error:
            self._tally.warn(entry.relative, f"its extended attributes: {error}")
            xattrs = {}
        return Attributes.of(entry.status, xattrs)

    def _close(self, folder: Folder[Place]) -> None:
        inode, attributes = folder.place.inode, folder.place.attributes
        if inode is None or attributes is None or self._options.dry_run:
            return
        try:
            if not attributes.same(self._target.inode(inode), self._target.xattrs(inode)):
                self._target.set_attributes(inode, attributes)
        except PosixError as error:
            self._tally.warn(folder.path, f"its attributes: {error}")

    # --- the workers -----------------------------------------------------------------------------

    async def _work(self, work: trio.MemoryReceiveChannel[list[Item]]) -> None:
        async with work:
            async for items in work:
                files = [i for i in items if i.entry.is_file and not i.group and self._small(i)]
                if files:
                    await self._small_files.place(files)
                for item in items:
                    if item not in files:
                        await self._single(item)

    def _small(self, item: Item) -> bool:
        return item.entry.size <= self._target.block_size

    async def _single(self, item: Item) -> None:
        """One thing that is no small file with one name, and those that waited for it."""
        todo = [item]
        for one in todo:
            inode = await self._place_single(one)
            if one.group is not None:
                todo += one.group.tried(inode, retry=not self._options.dry_run)

    async def _place_single(self, item: Item) -> InodeId | None:
        entry, folder = item.entry, item.folder
        self._tally.current[entry.relative] = None
        try:
            return await self._placed(item)
        except (SourceError, PosixError) as error:
            self._tally.fail(entry.relative, str(error))
            return None
        finally:
            self._tally.current.pop(entry.relative, None)
            folder.release(self._close)

    async def _placed(self, item: Item) -> InodeId | None:
        entry, parent, path = item.entry, item.folder.place.inode, item.entry.relative
        if item.group is not None and item.group.placed is not None:
            return await self._link(item, item.group.placed)
        link = None
        if stat.S_ISLNK(entry.status.st_mode):
            link = await trio.to_thread.run_sync(read_link, entry.path)
        there = None if parent is None else self._target.lookup(parent, item.name)
        step = decide(
            entry.status,
            there,
            source_link=link,
            target_link=None if there is None else self._target.link_target(there.id),
            checksum=self._options.checksum,
        )
        if step is Step.CONFLICT and there is not None:
            raise PosixError(PosixError.number, f"{kind_of(there.mode)} is in the way")
        if step is Step.COMPARE and there is not None:
            same = await self._sender.same_content(entry.path, there.id)
            step = Step.SAME if same else Step.SEND
        if self._options.dry_run or parent is None:
            say_would(self._tally, path, step, entry.size)
            return None if there is None or step is not Step.SAME else there.id
        if step is Step.SAME and there is not None:
            await keep(self._target, there.id, Attributes.of(entry.status, await _xattrs(entry)))
            self._tally.skip(path, entry.size)
            return there.id
        if entry.is_file:
            inode = await self._sender.send(entry, parent, item.name)
        else:
            attributes = Attributes.of(entry.status, await _xattrs(entry))
            inode = await self._target.place_node(
                NewNode(parent, item.name, attributes, entry.status.st_rdev, link)
            )
        self._tally.finished(path, "sent")
        return inode

    async def _link(self, item: Item, inode: InodeId) -> InodeId:
        parent, path = item.folder.place.inode, item.entry.relative
        there = None if parent is None else self._target.lookup(parent, item.name)
        if there is not None and there.id == inode:
            self._tally.skip(path, item.entry.size)
            return inode
        self._tally.bytes_done += item.entry.size
        if self._options.dry_run or parent is None:
            self._tally.finished(path, "would link")
            return inode
        await self._target.link(inode, parent, item.name)
        self._tally.finished(path, "linked")
        return inode


async def _xattrs(entry: Entry) -> dict[bytes, bytes]:
    return await trio.to_thread.run_sync(read_xattrs, entry.path)
