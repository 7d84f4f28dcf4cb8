"""Imports of files that do not hold still, and of trees of every shape."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fs.store_world import StoreWorld, opened_store
from tests.transfer.world import BLOCK, FakeServers, uploading
from usenetfs.errors import DiskFullError, PosixError
from usenetfs.fs.growing_file import partial_name
from usenetfs.trees.import_file import write_from_mapping
from usenetfs.trees.import_target import Attributes
from usenetfs.trees.local_files import MappedFile, SourceChangedError
from usenetfs.types import ROOT_INODE, BlockNumber, InodeId, Lane

SIZE = 30 * BLOCK + 77


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


def _random(path: Path, size: int = SIZE) -> bytes:
    content = os.urandom(size)
    path.write_bytes(content)
    return content


class Once:
    """Does something to a file the first so many times that it is called."""

    def __init__(self, action: object, times: int) -> None:
        self.action = action
        self.left = times
        self.skip = 1

    def __call__(self) -> None:
        if self.skip:
            self.skip -= 1
        elif self.left:
            self.left -= 1
            assert callable(self.action)
            self.action()


def _shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


CHANGES = {"shrinks": _shrink, "grows": _grow, "is rewritten": _rewrite}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_large_file_that_changes_once_is_read_again(
    tmp_path: Path, source: Path, change: str
) -> None:
    _random(source / "large")
    async with opened_store(tmp_path / "fs", FakeServers()) as world:
        world.store.before_room = Once(lambda: CHANGES[change](source / "large"), 1)
        tally = await world.upload(source)
        assert tally.failed == 0
        assert world.names() == [b"large"]
        assert await world.content(b"large") == (source / "large").read_bytes()
        assert tally.bytes_done == (source / "large").stat().st_size


@pytest.mark.parametrize("change", CHANGES)
async def test_a_large_file_that_keeps_changing_is_left_out(
    tmp_path: Path, source: Path, change: str
) -> None:
    before = _random(source / "large", SIZE + 5)
    _random(source / "other", 100)
    async with opened_store(tmp_path / "fs", FakeServers()) as world:
        await world.upload(source)
        os.utime(source / "large", ns=(5, 5))
        world.store.before_room = Once(lambda: CHANGES[change](source / "large"), 1000)
        tally = await world.upload(source)
        assert list(world.failures()) == ["large"]
        assert "while it was read" in world.failures()["large"]
        assert tally.done == 2
        assert world.names() == [b"large", b"other"]
        assert await world.content(b"large") == before


async def test_a_file_vanishes_and_a_small_one_changes(tmp_path: Path, source: Path) -> None:
    small = _random(source / "small", 100)
    _random(source / "gone", 100)
    async with opened_store(tmp_path / "fs", FakeServers()) as world:
        world.store.before_room = lambda: (source / "gone").unlink(missing_ok=True)
        tally = await world.upload(source)
        assert "vanished" in world.failures()["gone"]
        assert tally.failed == 1
        assert await world.content(b"small") == small


async def test_empty_files_and_strange_kinds(tmp_path: Path, source: Path) -> None:
    (source / "empty").touch()
    os.mkfifo(source / "fifo")
    (source / "link").symlink_to("nowhere")
    (source / "empty folder").mkdir(mode=0o711)
    os.utime(source / "empty folder", ns=(1, 123_456_789_012_345_678))
    async with opened_store(tmp_path / "fs", FakeServers()) as world:
        tally = await world.upload(source)
        assert (tally.failed, tally.done) == (0, 3)
        assert await world.content(b"empty") == b""
        fifo = world.store.lookup(ROOT_INODE, b"fifo")
        folder = world.store.lookup(ROOT_INODE, b"empty folder")
        assert fifo is not None
        assert folder is not None
        assert stat.S_ISFIFO(fifo.mode)
        assert (folder.mtime_ns, stat.S_IMODE(folder.mode)) == (123_456_789_012_345_678, 0o711)
        again = await world.upload(source)
        assert again.skipped == 3


async def test_an_interrupted_file_is_compared_and_goes_on(tmp_path: Path, source: Path) -> None:
    """Blocks that were seen are not staged again; one that is wrong on the servers is."""
    content = _random(source / "large")
    servers = FakeServers()
    async with opened_store(tmp_path / "fs", servers) as world:
        stopped = trio.CancelScope()
        world.store.before_room = Once(stopped.cancel, 1)
        with stopped:
            await world.upload(source)
        assert world.names() == [partial_name(b"large")]
        partial = world.store.lookup(ROOT_INODE, partial_name(b"large"))
        assert partial is not None
        world.world.staged.write(partial.id, 3 * BLOCK, b"a block that a power cut spoilt")
        world.files.save()
        async with uploading(world.world):
            await world.world.uploader.sync()
    async with opened_store(tmp_path / "fs", servers) as world:
        tally = await world.upload(source)
        assert tally.failed == 0
        assert tally.bytes_skipped >= 8 * BLOCK
        assert await world.content(b"large") == content
        assert world.names() == [b"large"]
        row = world.store.lookup(ROOT_INODE, b"large")
        assert row is not None
        assert world.store.is_staged(row.id, BlockNumber(3))
        assert not world.store.is_staged(row.id, BlockNumber(2))


async def test_what_was_left_of_another_version_is_not_used(tmp_path: Path, source: Path) -> None:
    """Least of all where the new version has a hole."""
    _random(source / "large")
    async with opened_store(tmp_path / "fs", FakeServers()) as world:
        stopped = trio.CancelScope()
        world.store.before_room = Once(stopped.cancel, 1)
        with stopped:
            await world.upload(source)
        with (source / "large").open("wb") as file:
            file.truncate(SIZE)
            file.seek(20 * BLOCK)
            file.write(b"data")
        world.store.before_room = None
        assert (await world.upload(source)).failed == 0
        assert await world.content(b"large") == (source / "large").read_bytes()


async def test_two_imports_of_one_file(tmp_path: Path, source: Path) -> None:
    _random(source / "large")
    async with opened_store(tmp_path / "fs", FakeServers()) as world:
        status = (source / "large").stat()
        attributes = Attributes.of(status, {})
        growing = world.store.begin(ROOT_INODE, b"large", attributes, status.st_size)
        with pytest.raises(PosixError, match="another upload"):
            world.store.begin(ROOT_INODE, b"large", attributes, status.st_size)
        await growing.abandon()
        assert world.names() == []
        assert (await world.upload(source)).failed == 0


async def test_the_partial_file_is_taken_away(tmp_path: Path, source: Path) -> None:
    """By somebody in the mount: the import of that file fails, the next one works."""
    content = _random(source / "large")
    async with opened_store(tmp_path / "fs", FakeServers()) as world:

        def take_away() -> None:
            world.names_gone(partial_name(b"large"))

        world.store.before_room = Once(take_away, 1)
        assert (await world.upload(source)).failed == 1
        assert world.names() == []
        world.store.before_room = None
        assert (await world.upload(source)).failed == 0
        assert await world.content(b"large") == content


async def test_a_mapping_that_loses_its_file_under_the_kernel(tmp_path: Path, source: Path) -> None:
    """The moment between bringing pages in and writing them: EFAULT, where a reader would die."""
    _random(source / "large")
    async with opened_store(tmp_path / "fs", FakeServers()) as world:
        with MappedFile(bytes(source / "large")) as mapped:
            window = mapped.window(BLOCK, 8 * BLOCK)
            os.truncate(source / "large", 2 * BLOCK)
            growing = world.store.begin(
                ROOT_INODE, b"large", Attributes.of(mapped.status, {}), mapped.size
            )
            write_from_mapping(growing, BLOCK, window[:BLOCK])
            with pytest.raises(SourceChangedError):
                write_from_mapping(growing, 5 * BLOCK, window[4 * BLOCK : 5 * BLOCK])
            with pytest.raises(SourceChangedError):
                mapped.check_unchanged()
            window.release()
            await growing.abandon()


async def test_a_full_disk_ends_it_and_nothing_is_half(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        _random(source / str(number), 1000)
    async with opened_store(tmp_path / "fs", FakeServers()) as world:
        write, calls = world.world.staging.write_span, []

        def fail_at_last(*arguments: object) -> None:
            calls.append(arguments)
            if len(calls) == 4:
                raise DiskFullError("full")
            write(*arguments)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(world.world.staging, "write_span", fail_at_last)
            with pytest.RaisesGroup(DiskFullError):
                await world.upload(source)
        assert world.names() == []
        assert (await world.upload(source)).failed == 0
        assert len(world.names()) == 5
        async with uploading(world.world):
            await world.world.uploader.sync()
        for number in range(5):
            assert await world.content(b"%d" % number) == (source / str(number)).read_bytes()
        assert world.world.index.check() == []


# --- any tree ------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "a much longer name " * 10])
LEAVES = st.one_of(
    st.tuples(st.just("file"), st.sampled_from([0, 1, BLOCK, BLOCK + 1, 3 * BLOCK])),
    st.tuples(st.just("link"), st.sampled_from(["a", "nowhere"])),
    st.tuples(st.just("hard"), st.just(0)),
)
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12)


def _make(path: Path, tree: object, linked: list[Path]) -> None:
    if isinstance(tree, dict):
        path.mkdir(exist_ok=True)
        for name, inner in tree.items():
            _make(path / name, inner, linked)
        return
    assert isinstance(tree, tuple)
    kind, what = tree
    if kind == "link":
        path.symlink_to(what)
    elif kind == "hard" and linked:
        os.link(linked[0], path)
    else:
        path.write_bytes(os.urandom(what))
        linked.append(path)


async def _compare(world: StoreWorld, folder: Path, inode: InodeId) -> None:
    names = sorted(os.listdir(bytes(folder)))
    assert world.names(inode) == names
    for name in names:
        path = folder / os.fsdecode(name)
        row, status = world.store.lookup(inode, name), path.lstat()
        assert row is not None
        assert (row.mode, row.mtime_ns) == (status.st_mode, status.st_mtime_ns)
        if stat.S_ISDIR(row.mode):
            await _compare(world, path, row.id)
            continue
        assert row.nlink == status.st_nlink
        if stat.S_ISLNK(row.mode):
            assert world.store.link_target(row.id) == bytes(path.readlink())
        else:
            content = await world.world.content.read(row.id, 0, row.size, lane=Lane.READER)
            assert bytes(content) == path.read_bytes()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.dictionaries(NAMES, TREES, max_size=4), second=st.dictionaries(NAMES, TREES))
def test_any_tree_over_any_other(first: dict[str, object], second: dict[str, object]) -> None:
    """After the second import, all of the second tree is there, but where kinds collide."""

    async def check() -> None:
        with tempfile.TemporaryDirectory() as folder:
            one, two = Path(folder) / "one", Path(folder) / "two"
            _make(one, first, [])
            _make(two, second, [])
            async with opened_store(Path(folder) / "fs", FakeServers()) as world:
                assert (await world.upload(one)).failed == 0
                await _compare(world, one, ROOT_INODE)
                assert world.world.index.check() == []
                tally = await world.upload(one)
                assert tally.skipped + tally.failed == tally.done or not tally.done
                await world.upload(two)
                assert set(world.failures().values()) <= {
                    "a directory is in the way",
                    "a file is in the way",
                    "a symbolic link is in the way",
                }
                assert world.world.index.check() == []

    trio.run(check)
