"""The main job: a tree goes in, every cache is deleted, and it comes back from the server alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts.world import World
from tests.e2e.conftest import NAME
from tests.e2e.trees import diff_differences, differences, make_tree, rsync_differences

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(300)]

TAR = """set -o pipefail
tar -C "$1" --format=pax --xattrs --xattrs-include='*' -cf - . |
tar -C "$2" --xattrs --xattrs-include='*' -xpf -"""

COPIERS = {
    "cp": ["cp", "-a"],
    "rsync": ["rsync", "-aHX"],
    "tar": ["bash", "-c", TAR, "tar"],
}


def _comes_back(world: World, tree: Path, copier: list[str]) -> None:
    mount = world.mount(NAME)
    subprocess.run([*copier, f"{tree}/.", f"{mount.path}/"], check=True, timeout=900)
    mount.stop()
    staged = [path for path in (world.data_dir / NAME / "staging").rglob("*") if path.is_file()]
    assert staged == [], "umount returned before everything was safe"
    world.drop_cache()
    mount.start()
    assert differences(tree, mount.path) == []
    world.drop_cache()  # in use, as a user may
    assert rsync_differences(tree, mount.path) == ""
    assert diff_differences(tree, mount.path) == ""
    mount.stop()


@pytest.mark.parametrize("copier", COPIERS)
def test_a_real_tree_comes_back_from_the_server_alone(
    any_world: World, tree: Path, copier: str
) -> None:
    _comes_back(any_world, tree, COPIERS[copier])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("copier", COPIERS)
def test_a_gigabyte_comes_back_from_the_server_alone(
    any_world: World, folder: Path, copier: str
) -> None:
    tree = folder / "tree"
    tree.mkdir()
    make_tree(tree, large=1_000_000_000)
    _comes_back(any_world, tree, COPIERS[copier])
