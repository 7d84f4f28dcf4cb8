"""``usenetfs rm`` and ``mv``, with a mount and without one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.world import World
from tests.e2e.conftest import NAME
from usenetfs.cli.exit_status import ExitStatus

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(180)]


@pytest.mark.parametrize("mounted", [True, False])
def test_moving_and_removing(world: World, folder: Path, mounted: bool) -> None:
    source = folder / "source"
    (source / "deep" / "er").mkdir(parents=True)
    for path in ("one", "two", "deep/three", "deep/er/four"):
        (source / path).write_text(path)
    os.link(source / "one", source / "deep" / "link")
    mount = world.mount(NAME)
    world.run("upload", f"{source}/", f"{NAME}:/")
    assert sorted(os.listdir(mount.path)) == ["deep", "one", "two"]
    assert (mount.path / "one").stat().st_nlink == 2
    (folder / "other").write_text("another file")
    world.run("upload", folder / "other", f"{NAME}:/deep/link")
    assert (mount.path / "one").stat().st_nlink == 1, "the kernel was not told"
    assert (mount.path / "deep" / "link").read_text() == "another file"
    os.link(mount.path / "one", mount.path / "again")
    os.replace(mount.path / "again", mount.path / "deep" / "link")
    if not mounted:
        mount.stop()
    world.run("mv", f"{NAME}:/one", f"{NAME}:/uno")
    world.run("mv", f"{NAME}:/two", f"{NAME}:/deep")
    world.run("mv", f"{NAME}:/deep", f"{NAME}:/tief")
    _refused(world, "mv", f"{NAME}:/tief", f"{NAME}:/tief/er/in", says="into itself")
    _refused(world, "mv", f"{NAME}:/nowhere", f"{NAME}:/x", says="no such file")
    _refused(world, "rm", f"{NAME}:/tief", says="is a directory")
    _refused(world, "rm", "-r", f"{NAME}:/", says="root")
    assert "2 names" in world.run("rm", "-r", f"{NAME}:/tief/er").stderr
    assert "1 name was" in world.run("rm", f"{NAME}:/tief/three").stderr
    if not mounted:
        mount.start()
    assert sorted(os.listdir(mount.path)) == ["tief", "uno"]
    assert sorted(os.listdir(mount.path / "tief")) == ["link", "two"]
    assert not (mount.path / "one").exists()
    assert (mount.path / "tief" / "link").read_text() == "one"
    assert (mount.path / "uno").stat().st_nlink == 2
    mount.stop()
    assert world.run("fsck", NAME).returncode == 0


def _refused(world: World, *arguments: str, says: str) -> None:
    done = world.run(*arguments, check=False)
    assert done.returncode in {ExitStatus.USAGE, ExitStatus.NOT_FOUND}
    assert says in done.stderr


def test_a_mount_is_not_copied_into_itself(world: World, folder: Path) -> None:
    """The daemon would wait for itself; it says so instead."""
    mount = world.mount(NAME)
    (mount.path / "file").write_text("content")
    done = world.run("upload", mount.path, f"{NAME}:/again", check=False)
    assert done.returncode == ExitStatus.PARTIAL
    assert "with cp" in done.stderr
    done = world.run("download", f"{NAME}:/", mount.path / "again", check=False)
    assert done.returncode == ExitStatus.USAGE
    assert "with cp" in done.stderr
    done = world.run("upload", folder / "data", mount.path, f"{NAME}:/above/", check=False)
    assert done.returncode == ExitStatus.PARTIAL
    mount.stop()
