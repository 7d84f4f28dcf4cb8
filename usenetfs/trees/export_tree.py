"""Trees out of the filesystem to the local disk: many files at once, in bounded memory.

One walker lists directories depth first and hands out work through a bounded channel; workers fetch
files, in blocks, of which a fixed number is on its way over all files. A file grows beside its name
and takes it when it is whole, so what is there under its name is right. What is there already, of
the same size and time of modification, is left alone.

An error of one file is that file's; a full disk ends the download, and the next one goes on.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Final

import trio

from usenetfs.errors import PosixError
from usenetfs.index.inodes import Inode
from usenetfs.trees.exclude import Exclude
from usenetfs.trees.export_file import (
    FileChangedError,
    FileLostError,
    FileReceiver,
    attributes_of,
)
from usenetfs.trees.export_session import ExportSession, local_error
from usenetfs.trees.export_source import ExportSource
from usenetfs.trees.folders import Folder
from usenetfs.trees.import_target import Attributes, kind_of
from usenetfs.trees.links import LinkGroup, Links
from usenetfs.trees.local_tree import (
    apply_attributes,
    is_fatal,
    make_directory,
    make_link,
    make_node,
    same_attributes,
    status_of,
)
from usenetfs.trees.tally import Tally
from usenetfs.types import InodeId

WORKERS: Final = 24
"""Files in work at once; most of them wait for the network."""
LISTING: Final = 256
OWN: Final = "the destination is in the filesystem that is downloaded"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """``parallel``: blocks on their way at once. ``checksum``: compare contents where sizes are
    equal. ``dry_run``: only say what would be. ``own_device``: that of the mount of the source,
    which must not be written to from here (it would wait for itself)."""

    parallel: int
    checksum: bool = False
    dry_run: bool = False
    exclude: Exclude = field(default_factory=Exclude)
    own_device: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A local directory, and what it is to be like once all is in it."""

    path: bytes
    attributes: Attributes | None = None


@dataclass(slots=True, eq=False)
class Item:
    """One thing to be put into a folder. ``relative``: its path below the top of the download."""

    row: Inode
    name: bytes
    relative: bytes
    folder: Folder[Place]
    group: LinkGroup[Item, bytes] | None = None

    @property
    def path(self) -> bytes:
        return os.path.join(self.folder.place.path, self.name)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.row.mode)

    @property
    def size(self) -> int:
        return self.row.size if self.is_file else 0


class TreeExport:
    """One download."""

    def __init__(
        self, source: ExportSource, session: ExportSession, tally: Tally, options: ExportOptions
    ) -> None:
        self._source = source
        self._tally = tally
        self._options = options
        self._links: Links[Item, bytes] = Links()
        self._receiver = FileReceiver(
            source, session, tally, trio.CapacityLimiter(options.parallel)
        )

    async def run(self, row: Inode, folder: bytes, name: bytes) -> None:
        """``row`` as ``name`` in the local directory ``folder``, which is there; with an empty
        name what is in the directory ``row``."""
        send, receive = trio.open_memory_channel[Item](2 * WORKERS)
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(self._work, receive.clone())
            receive.close()
            async with send:
                top = Folder(Place(folder), b"")
                if not name:
                    inner = Folder(Place(folder, self._attributes(row)), b"")
                    await self._walk(row.id, inner, send)
                    await self._release(inner)
                elif stat.S_ISDIR(row.mode):
                    await self._descend(Item(row, name, name, top), send)
                else:
                    await self._dispatch(Item(row, name, name, top.hold()), send)

    def _attributes(self, row: Inode) -> Attributes:
        return attributes_of(row, self._source.xattrs(row.id))

    # --- the walker ------------------------------------------------------------------------------

    async def _walk(
        self, directory: InodeId, folder: Folder[Place], send: trio.MemorySendChannel[Item]
    ) -> None:
        after = 2
        while True:
            try:
                entries = self._source.entries(directory, after, LISTING)
            except PosixError as error:
                self._tally.fail(folder.path, str(error), counted=False)
                return
            if not entries:
                return
            after = entries[-1][0]
            for _, name, row in sorted(entries, key=lambda entry: entry[2].id):
                relative = folder.path + b"/" + name if folder.path else name
                if self._options.exclude(relative, directory=stat.S_ISDIR(row.mode)):
                    continue
                item = Item(row, name, relative, folder)
                if stat.S_ISDIR(row.mode):
                    await self._descend(item, send)
                else:
                    folder.hold()
                    await self._dispatch(item, send)

    async def _descend(self, item: Item, send: trio.MemorySendChannel[Item]) -> None:
        path = item.path
        try:
            if not self._options.dry_run:
                status = await trio.to_thread.run_sync(make_directory, path)
                if status.st_dev == self._options.own_device:
                    self._tally.fail(item.relative, OWN, counted=False)
                    return
        except FileExistsError:
            self._tally.fail(item.relative, "something else is in the way", counted=False)
            return
        except OSError as error:
            self._fail(item, error, counted=False)
            return
        inner = Folder(Place(path, self._attributes(item.row)), item.relative, item.folder.hold())
        await self._walk(item.row.id, inner, send)
        await self._release(inner)

    async def _dispatch(self, item: Item, send: trio.MemorySendChannel[Item]) -> None:
        """Hand out work; further names of a file that is on its way are linked later."""
        group = item.group = self._links.meet(item.row.id, item.row.nlink)
        if group is None or not group.must_wait(item):
            await send.send(item)

    async def _release(self, folder: Folder[Place]) -> None:
        """One thing of a folder is done; folders that are done get their attributes."""
        done: list[Folder[Place]] = []
        folder.release(done.append)
        for one in done:
            attributes = one.place.attributes
            if attributes is not None and not self._options.dry_run:
                await self._apply(one.place.path, one.path or b".", attributes)

    async def _apply(self, path: bytes, relative: bytes, attributes: Attributes) -> None:
        for what in await trio.to_thread.run_sync(apply_attributes, path, attributes):
            self._tally.warn(relative, what)

    # --- the workers -----------------------------------------------------------------------------

    async def _work(self, work: trio.MemoryReceiveChannel[Item]) -> None:
        async with work:
            async for item in work:
                await self._with_links(item)

    async def _with_links(self, item: Item) -> None:
        """One thing, and the names that waited for it."""
        todo = [item]
        for one in todo:
            placed = await self._one(one)
            if one.group is not None:
                todo += one.group.tried(one.path if placed else None)

    async def _one(self, item: Item) -> bool:
        """Whether it is there now."""
        self._tally.current[item.relative] = None
        try:
            await self._put(item)
        except OSError as error:
            self._fail(item, error)
            return False
        except (PosixError, FileLostError, FileChangedError) as error:
            self._tally.fail(item.relative, str(error))
            return False
        finally:
            self._tally.current.pop(item.relative, None)
            await self._release(item.folder)
        return True

    def _fail(self, item: Item, error: OSError, *, counted: bool = True) -> None:
        if is_fatal(error):
            raise local_error(error, item.path.decode(errors="replace")) from error
        self._tally.fail(item.relative, error.strerror or str(error), counted=counted)

    async def _put(self, item: Item) -> None:
        row, path = item.row, item.path
        if item.group is not None and item.group.placed is not None:
            await self._link(item, item.group.placed)
            return
        there = await trio.to_thread.run_sync(status_of, path)
        if there is not None and stat.S_ISDIR(there.st_mode):
            raise IsADirectoryError(0, f"{kind_of(there.st_mode)} is in the way")
        link = self._source.link_target(row.id)
        same = there is not None and await self._is_same(item, there, link)
        if self._options.dry_run:
            self._say_would(item, same=same)
            return
        attributes = self._attributes(row)
        if same:
            await self._keep(item, attributes)
            self._tally.skip(item.relative, item.size)
            return
        if item.is_file:
            await self._receiver.receive(row, item.relative, path)
        else:
            await trio.to_thread.run_sync(make_node, path, row.mode, row.rdev, link)
            await self._keep(item, attributes)
        self._tally.finished(item.relative, "received")

    async def _is_same(self, item: Item, there: os.stat_result, link: bytes | None) -> bool:
        row = item.row
        if stat.S_IFMT(there.st_mode) != stat.S_IFMT(row.mode):
            return False
        if stat.S_ISLNK(row.mode):
            return await trio.to_thread.run_sync(os.readlink, item.path) == link
        if not item.is_file:
            return there.st_rdev == row.rdev or stat.S_ISFIFO(row.mode) or stat.S_ISSOCK(row.mode)
        if there.st_size != row.size:
            return False
        if self._options.checksum:
            return await self._receiver.same_content(row, item.path)
        return there.st_mtime_ns == row.mtime_ns

    async def _keep(self, item: Item, attributes: Attributes) -> None:
        """Bring the attributes of what is there up to date."""
        if await trio.to_thread.run_sync(same_attributes, item.path, attributes):
            return
        await self._apply(item.path, item.relative, attributes)

    async def _link(self, item: Item, existing: bytes) -> None:
        first = await trio.to_thread.run_sync(status_of, existing)
        there = await trio.to_thread.run_sync(status_of, item.path)
        if first is not None and there is not None and os.path.samestat(first, there):
            self._tally.skip(item.relative, item.size)
            return
        self._tally.bytes_done += item.size
        if not self._options.dry_run:
            await trio.to_thread.run_sync(make_link, existing, item.path)
        self._tally.finished(item.relative, "would link" if self._options.dry_run else "linked")

    def _say_would(self, item: Item, *, same: bool) -> None:
        if same:
            self._tally.skip(item.relative, item.size)
        else:
            self._tally.bytes_done += item.size
            self._tally.finished(item.relative, "would receive")
