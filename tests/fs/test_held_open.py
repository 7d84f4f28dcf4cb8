"""Files that are open stay as they were while the index changes behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.index import world
from usenetfs.fs.held_open import HeldOpen
from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.index.blocks import BlockLocation
from usenetfs.index.index import Index
from usenetfs.transfer.content import BlockContent
from usenetfs.types import InodeId


class Content(BlockContent):
    """Remembers what it was told to hold."""

    def __init__(self) -> None:
        self.held: dict[InodeId, int] = {}

    def hold(self, inode: InodeId, blocks: Iterable[BlockLocation]) -> None:
        self.held[inode] = len(list(blocks))

    def let_go(self, inode: InodeId) -> None:
        del self.held[inode]


class Scene:
    """A writer's connection, a reader's, and a file of two blocks."""

    def __init__(self, path: Path) -> None:
        self.writer = world.create(path)
        self.file = world.make_file(self.writer, b"file", size=2 * world.BLOCK)
        for block in range(2):
            world.upload(self.writer, self.file, block, b"%d" % block)
        self.reader = Index.open(path, directory_key=world.KEY, read_only=True)
        self.inodes = LiveInodes(self.reader, read_only=True)
        self.content = Content()
        self.released: list[InodeId] = []
        self.held = HeldOpen(self.reader, self.inodes, self.content, self.released.append)

    def cut(self) -> None:
        """Another size, as a new checkpoint would bring it."""
        with self.writer.transaction():
            world.set_size(self.writer, self.file, 1)

    def announce(self) -> None:
        self.inodes.reread([self.file])
        self.held.settled()

    @property
    def size(self) -> int:
        return self.inodes.get(self.file).size


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path / "index.db")
    yield made
    made.reader.close()
    made.writer.close()


def test_what_is_open_stays_until_the_last_one_closes_it(scene: Scene) -> None:
    scene.inodes.opened(scene.file)
    scene.inodes.opened(scene.file)
    scene.held.expect({scene.file})
    scene.cut()
    scene.announce()
    assert scene.file in scene.held
    assert (scene.size, scene.content.held) == (2 * world.BLOCK, {scene.file: 2})
    scene.inodes.closed(scene.file)
    assert scene.size == 2 * world.BLOCK
    scene.inodes.closed(scene.file)
    assert (scene.size, scene.content.held, scene.released) == (1, {}, [scene.file])


def test_what_is_opened_while_the_change_is_under_way_is_held_as_well(scene: Scene) -> None:
    scene.held.expect({scene.file})
    scene.inodes.opened(scene.file)
    scene.cut()
    scene.announce()
    assert scene.size == 2 * world.BLOCK
    scene.inodes.closed(scene.file)
    assert scene.size == 1


def test_what_nobody_has_open_is_new_at_once(scene: Scene) -> None:
    assert scene.size == 2 * world.BLOCK
    scene.held.expect({scene.file})
    scene.cut()
    scene.announce()
    scene.inodes.opened(scene.file)
    assert (scene.size, scene.content.held) == (1, {})
    scene.inodes.closed(scene.file)
    assert scene.released == []


def test_a_second_change_finds_it_still_as_it_was_first(scene: Scene) -> None:
    scene.inodes.opened(scene.file)
    for _ in range(2):
        scene.held.expect({scene.file})
        scene.cut()
        scene.announce()
        assert scene.size == 2 * world.BLOCK
    scene.inodes.closed(scene.file)
    assert scene.size == 1
