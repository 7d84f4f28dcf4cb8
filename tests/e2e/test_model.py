"""The mount against a model in memory: any order of calls leaves what the model says.

Among the steps are those that must change nothing: unmounting and mounting again, throwing the
caches away, and killing the daemon (after the root was synced, which saves every attribute; what
was written and closed needs no more than that). Each example has a directory of its own in one
mount, and ends with a comparison of everything.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from scripts.world import Mount, World
from tests.e2e.conftest import NAME

pytestmark = [pytest.mark.fuse]

BLOCK = 716_800
NAMES = st.sampled_from(["a", "b", "c", "ä\n"])
PLACES = st.sampled_from([0, 1, 4_000, BLOCK - 10, BLOCK, 2 * BLOCK + 7])
PIECES = st.builds(
    lambda letter, size: bytes([letter]) * size,
    st.integers(97, 122),
    st.sampled_from([1, 100, 9_000, BLOCK, BLOCK + 20]),
)
PICK = st.integers(0, 1 << 16)


@dataclass(eq=False)
class Node:
    """A file, directory or symlink of the model; hard links share one."""

    kind: int
    content: bytearray = field(default_factory=bytearray)
    children: dict[str, Node] = field(default_factory=dict)
    mode: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)


class Model:
    """One example: a directory of its own in ``mount``, and what must be in it."""

    def __init__(self, mount: Mount, number: int) -> None:
        self.mount = mount
        self.place = mount.path / f"example-{number}"
        self.place.mkdir()
        self.root = Node(stat.S_IFDIR)
        self.disturbances = 0

    # --- looking around in the model

    def _walk(self) -> Iterator[tuple[Path, Node]]:
        waiting = [(self.place, self.root)]
        while waiting:
            path, node = waiting.pop()
            yield path, node
            waiting += [(path / name, child) for name, child in sorted(node.children.items())]

    def _pick(self, kind: int, pick: int) -> tuple[Path, Node] | None:
        found = [(path, node) for path, node in self._walk() if node.kind == kind]
        found.sort(key=lambda pair: pair[0])
        return found[pick % len(found)] if found else None

    def _folder(self, pick: int) -> tuple[Path, Node]:
        found = self._pick(stat.S_IFDIR, pick)
        assert found is not None, "the root is always there"
        return found

    @property
    def has_files(self) -> bool:
        return self._pick(stat.S_IFREG, 0) is not None

    def _file(self, pick: int) -> tuple[Path, Node]:
        found = self._pick(stat.S_IFREG, pick)
        assert found is not None, "asked before"
        return found

    # --- names

    def create(self, where: int, name: str, piece: bytes) -> None:
        path, folder = self._folder(where)
        old = folder.children.get(name)
        if old is not None:
            with pytest.raises(FileExistsError):
                (path / name).open("xb").close()
            return
        (path / name).write_bytes(piece)
        (path / name).chmod(0o644)
        folder.children[name] = Node(stat.S_IFREG, bytearray(piece), mode=0o644)

    def make_folder(self, where: int, name: str) -> None:
        path, folder = self._folder(where)
        if name in folder.children:
            with pytest.raises(FileExistsError):
                (path / name).mkdir()
            return
        (path / name).mkdir()
        (path / name).chmod(0o755)
        folder.children[name] = Node(stat.S_IFDIR, mode=0o755)

    def symlink(self, where: int, name: str, leads_to: str) -> None:
        path, folder = self._folder(where)
        if name not in folder.children:
            (path / name).symlink_to(leads_to)
            folder.children[name] = Node(stat.S_IFLNK, bytearray(leads_to.encode()))

    def link(self, which: int, where: int, name: str) -> None:
        (old, node), (path, folder) = self._file(which), self._folder(where)
        if name in folder.children:
            with pytest.raises(FileExistsError):
                (path / name).hardlink_to(old)
            return
        (path / name).hardlink_to(old)
        folder.children[name] = node

    def remove(self, where: int, name: str) -> None:
        path, folder = self._folder(where)
        node = folder.children.get(name)
        if node is None:
            with pytest.raises(FileNotFoundError):
                (path / name).unlink()
        elif node.kind != stat.S_IFDIR:
            (path / name).unlink()
            del folder.children[name]
        elif node.children:
            with pytest.raises(OSError, match="not empty"):
                (path / name).rmdir()
        else:
            (path / name).rmdir()
            del folder.children[name]

    def rename(self, source: int, old: str, destination: int, new: str) -> None:
        (from_path, from_folder), (to_path, to_folder) = (
            self._folder(source),
            self._folder(destination),
        )
        node, replaced = from_folder.children.get(old), to_folder.children.get(new)
        if not self._may_rename(from_path / old, node, to_path / new, replaced):
            with pytest.raises(OSError):  # noqa: PT011  which one depends on the case; see posix/
                (from_path / old).rename(to_path / new)
            return
        assert node is not None
        (from_path / old).rename(to_path / new)
        if node is not replaced:  # two names of one file both stay
            del from_folder.children[old]
            to_folder.children[new] = node

    def _may_rename(self, old: Path, node: Node | None, new: Path, replaced: Node | None) -> bool:
        if node is None or (node.kind == stat.S_IFDIR and new != old and old in new.parents):
            return False
        if replaced is None or replaced is node:
            return True
        if (node.kind == stat.S_IFDIR) != (replaced.kind == stat.S_IFDIR):
            return False
        return not replaced.children

    # --- contents and attributes

    def write(self, which: int, start: int, piece: bytes) -> None:
        path, node = self._file(which)
        with path.open("r+b", buffering=0) as opened:
            os.pwrite(opened.fileno(), piece, start)
        node.content += bytes(max(0, start - len(node.content)))
        node.content[start : start + len(piece)] = piece

    def truncate(self, which: int, size: int) -> None:
        path, node = self._file(which)
        os.truncate(path, size)
        del node.content[size:]
        node.content += bytes(size - len(node.content))

    def change_mode(self, which: int, mode: int) -> None:
        path, node = self._file(which)
        path.chmod(mode)
        node.mode = mode

    def set_attribute(self, which: int, name: str, value: bytes) -> None:
        path, node = self._file(which)
        os.setxattr(path, name, value)
        node.xattrs[name] = value

    def read(self, which: int) -> None:
        path, node = self._file(which)
        assert path.read_bytes() == node.content

    # --- what must change nothing

    def disturb(self, what: int) -> None:
        """One in three does something: each takes a second or more."""
        mount = self.mount
        if what == 0:
            mount.stop()
            mount.start()
        elif what == 1:
            mount.sync()
            mount.world.run("cache", "drop", NAME)
        elif what == 2:
            descriptor = os.open(mount.path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
            mount.kill()
            mount.start()
        self.disturbances += what < 3

    def check(self) -> None:
        """Everything is as the model says."""
        for path, node in self._walk():
            found = path.lstat()
            assert stat.S_IFMT(found.st_mode) == node.kind, path
            if node.kind == stat.S_IFDIR:
                assert sorted(os.listdir(path)) == sorted(node.children), path
                folders = sum(child.kind == stat.S_IFDIR for child in node.children.values())
                assert found.st_nlink == 2 + folders, path
            elif node.kind == stat.S_IFLNK:
                assert os.readlink(path).encode() == node.content
            else:
                self._same_file(path, node, found)

    def _same_file(self, path: Path, node: Node, found: os.stat_result) -> None:
        assert found.st_size == len(node.content), path
        assert path.read_bytes() == node.content, path
        assert stat.S_IMODE(found.st_mode) == node.mode, path
        assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == node.xattrs
        names = [other for _, other in self._walk() if other is node]
        assert found.st_nlink == len(names), path


CALLS: Sequence[tuple[str, dict[str, st.SearchStrategy[Any]]]] = (
    ("create", {"where": PICK, "name": NAMES, "piece": PIECES}),
    ("make_folder", {"where": PICK, "name": NAMES}),
    ("symlink", {"where": PICK, "name": NAMES, "leads_to": NAMES}),
    ("link", {"which": PICK, "where": PICK, "name": NAMES}),
    ("remove", {"where": PICK, "name": NAMES}),
    ("rename", {"source": PICK, "old": NAMES, "destination": PICK, "new": NAMES}),
    ("write", {"which": PICK, "start": PLACES, "piece": PIECES}),
    ("truncate", {"which": PICK, "size": PLACES}),
    ("change_mode", {"which": PICK, "mode": st.sampled_from([0o600, 0o640, 0o755])}),
    (
        "set_attribute",
        {
            "which": PICK,
            "name": st.sampled_from(["user.x", "user.y"]),
            "value": st.binary(max_size=20),
        },
    ),
    ("read", {"which": PICK}),
    ("disturb", {"what": st.integers(0, 8)}),
)
NEED_A_FILE = {"link", "write", "truncate", "change_mode", "set_attribute", "read"}
STEPS = st.one_of([st.tuples(st.just(name), st.fixed_dictionaries(drawn)) for name, drawn in CALLS])


SLICES = 10
"""Of the long run: each has a filesystem and a seed of its own, and may be run by itself."""


def _run(world: World, examples: int, chosen: int | None = None) -> None:
    """``chosen``: a seed; without, Hypothesis chooses as its profile says."""
    mount = world.mount(NAME)
    numbers, disturbances = itertools.count(1), 0

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # a mount that failed once is no judge of shrinking
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(STEPS, min_size=10, max_size=30))
    def check(steps: list[tuple[str, dict[str, Any]]]) -> None:
        nonlocal disturbances
        model = Model(mount, next(numbers))
        for name, arguments in steps:
            if model.has_files or name not in NEED_A_FILE:
                getattr(model, name)(**arguments)
        model.check()
        disturbances += model.disturbances

    (check if chosen is None else seed(chosen)(check))()
    assert disturbances >= examples // 10, "hardly anything was disturbed"
    mount.stop()
    assert world.run("fsck", NAME).returncode == 0


def test_any_order_of_calls_leaves_what_the_model_says(world: World) -> None:
    _run(world, 12)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of the steps that failed
@pytest.mark.parametrize("chosen", range(SLICES))
def test_two_thousand_examples(world: World, chosen: int) -> None:
    _run(world, 2_000 // SLICES, chosen)
