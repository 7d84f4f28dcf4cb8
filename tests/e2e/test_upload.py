"""``usenetfs upload``: with a mount and without one, the same tree comes out."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.world import Mount, World
from tests.e2e.conftest import NAME
from tests.e2e.trees import differences, make_odd_files, rsync_differences

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(300)]


@pytest.fixture
def odd(folder: Path) -> Path:
    """A small tree of everything that is easily lost."""
    path = folder / "odd"
    make_odd_files(path)
    return path


def _comes_back(world: World, mount: Mount, source: Path, below: str = "") -> None:
    """The tree is in the mount, and again when only the servers have it."""
    assert differences(source, mount.path / below) == []
    mount.stop()
    world.drop_cache()
    mount.start()
    assert differences(source, mount.path / below) == []
    assert rsync_differences(source, mount.path / below) == ""


def test_a_real_tree_without_a_mount(any_world: World, tree: Path) -> None:
    any_world.run("upload", f"{tree}/", f"{NAME}:/", timeout=200)
    staged = [p for p in (any_world.data_dir / NAME / "staging").rglob("*") if p.is_file()]
    assert staged == [], "upload returned before everything was safe"
    mount = any_world.mount(NAME)
    _comes_back(any_world, mount, tree)
    mount.stop()
    assert any_world.run("fsck", NAME).returncode == 0


def test_a_real_tree_into_a_mount(any_world: World, tree: Path) -> None:
    mount = any_world.mount(NAME)
    assert not (mount.path / "odd").exists(), "so that the kernel remembers that it is not"
    any_world.run("upload", f"{tree}/", f"{NAME}:/", timeout=200)
    _comes_back(any_world, mount, tree)
    mount.stop()
    assert any_world.run("fsck", NAME).returncode == 0
