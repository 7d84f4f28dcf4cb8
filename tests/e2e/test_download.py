"""``usenetfs download``: what was put in comes out, with a mount and without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.world import World
from tests.e2e.conftest import NAME
from tests.e2e.trees import differences, rsync_differences

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(300)]


def test_a_real_tree_there_and_back(any_world: World, tree: Path, folder: Path) -> None:
    any_world.run("upload", f"{tree}/", f"{NAME}:/in", timeout=200)
    any_world.drop_cache()
    without = folder / "without a mount"
    any_world.run("download", f"{NAME}:/in/", without, timeout=200)
    assert differences(tree, without) == []
    assert rsync_differences(tree, without) == ""
    mount = any_world.mount(NAME)
    any_world.drop_cache()
    through = folder / "through the daemon"
    any_world.run("download", f"{NAME}:/in", through, timeout=200)
    assert differences(tree, through / "in") == []
    assert not any((any_world.data_dir / NAME / "downloads").iterdir())
    mount.stop()
