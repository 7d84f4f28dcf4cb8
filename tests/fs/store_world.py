"""A tree store over a real index, staging and pipeline, with servers that are faked."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.transfer.world import KEYS, FakeServers, World, opened_world
from usenetfs.fs.files import Files
from usenetfs.fs.kernel_cache import KernelCache
from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.fs.namespace import Namespace
from usenetfs.fs.pending import Pending
from usenetfs.fs.tree_store import TreeStore
from usenetfs.transfer.staged.stillness import Stillness
from usenetfs.trees.import_items import ImportOptions, ImportRoot
from usenetfs.trees.import_tree import TreeImport
from usenetfs.trees.tally import Event, Tally
from usenetfs.types import ROOT_INODE, InodeId, Lane

LIMIT = 1 << 30


class HookedStore(TreeStore):
    """Calls ``before_room`` each time somebody asks for room: in the middle of everything."""

    before_room: Callable[[], None] | None = None

    async def room(self, limit: int) -> None:
        if self.before_room is not None:
            self.before_room()
        await super().room(limit)


@dataclass
class StoreWorld:
    """One opened filesystem."""

    world: World
    store: HookedStore
    files: Files
    namespace: Namespace
    stillness: Stillness
    events: list[Event]

    async def upload(self, source: Path, name: bytes = b"", *, checksum: bool = False) -> Tally:
        """Import ``source`` as ``name`` in the root, or what is in it."""
        tally = Tally(self.events.append, listing=True)
        chosen = ImportOptions(LIMIT, checksum)
        root = ImportRoot(bytes(source), ROOT_INODE, name)
        await TreeImport(self.store, tally, chosen).run([root])
        self.files.save()
        return tally

    async def content(self, path: bytes) -> bytes:
        """What a file holds."""
        row = self.store.inode(ROOT_INODE)
        for name in path.split(b"/"):
            found = self.store.lookup(row.id, name)
            assert found is not None, path
            row = found
        return bytes(await self.world.content.read(row.id, 0, row.size, lane=Lane.READER))

    def names(self, directory: InodeId = ROOT_INODE) -> list[bytes]:
        """Sorted."""
        return sorted(name for _, name, _ in self.store.entries(directory, 2, 1000))

    def names_gone(self, name: bytes) -> None:
        """Somebody unlinks a name of the root directory."""
        self.namespace.unlink(ROOT_INODE, name)

    def failures(self) -> dict[str, str]:
        """Path to reason."""
        return {e["path"]: e["reason"] for e in self.events if e["event"] == "failed"}


@asynccontextmanager
async def opened_store(path: Path, servers: FakeServers) -> AsyncIterator[StoreWorld]:
    """Open (or make) the filesystem at ``path``."""
    await trio.Path(path).mkdir(exist_ok=True)
    async with opened_world(path, servers) as world:
        inodes = LiveInodes(world.index)
        pending = Pending(world.index, inodes, world.staged)
        namespace = Namespace(world.index, inodes, world.staged, pending)
        stillness = Stillness()
        files = Files(
            world.index,
            inodes,
            world.staged,
            world.content,
            world.freer,
            stillness=stillness,
            staging_limit=LIMIT,
            min_free=0,
            pending=pending,
        )
        store = HookedStore(
            world.index,
            inodes,
            namespace,
            files,
            world.staged,
            world.content,
            KernelCache(inodes),
            hash_key=KEYS.hash_key,
            has_capability=lambda _: None,
        )
        yield StoreWorld(world, store, files, namespace, stillness, [])
        files.save()
        leftovers = [i for i in world.index.inodes.unlinked(10) if not inodes.needed(i)]
        assert leftovers == []
        assert not world.errors
        assert stat.S_ISDIR(store.inode(ROOT_INODE).mode)
    problems = world.errors
    assert problems == []
