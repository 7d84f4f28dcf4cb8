"""A restored backup of the data directory beside the original: one writer goes on, the other turns
read-only, says so, keeps what only it has, and hands it out."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from scripts.world import ServerProcess, World, wait_until

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(200)]


def test_the_second_writer_turns_read_only_and_keeps_its_data(
    folder: Path, embedded: ServerProcess, world: World
) -> None:
    mount = world.mount("world")
    (mount.path / "common").write_bytes(b"in both")
    mount.sync()
    only_here = os.urandom(3_000_000)
    (mount.path / "folder").mkdir()
    (mount.path / "folder" / "only here").write_bytes(only_here)
    mount.stop("--lazy")
    other_folder = folder / "other"
    other_folder.mkdir()
    with World(other_folder, embedded.endpoint) as other:
        shutil.copytree(world.data_dir, other.data_dir, dirs_exist_ok=True)
        mount.start()
        (mount.path / "goes on").write_bytes(b"here")
        mount.stop()

        second = other.mount("world")
        wait_until(lambda: _fenced(other), "the second writer notices", 60)
        assert (second.path / "common").read_bytes() == b"in both"
        with pytest.raises(OSError, match="Read-only") as refused:
            (second.path / "new").write_bytes(b"no")
        assert refused.value.errno == errno.EROFS
        done = other.run("sync", "world", check=False)
        assert done.returncode == 8
        assert "published by another writer" in done.stderr
        assert "staging export" in done.stderr
        assert "FENCED" in other.run("status", "world").stdout
        second.stop("--lazy")

        rescued = folder / "rescued"
        other.run("staging", "export", "world", rescued)
        assert (rescued / "folder" / "only here").read_bytes() == only_here
        again = other.run("staging", "export", "world", rescued, check=False)
        assert again.returncode == 2
        report = json.loads(other.run("staging", "export", "world", folder / "2", "--json").stdout)
        assert [file["path"] for file in report["files"]] == ["folder/only here"]
    mount.start()
    assert (mount.path / "goes on").read_bytes() == b"here"
    assert (mount.path / "folder" / "only here").read_bytes() == only_here


def _fenced(world: World) -> bool:
    status = json.loads(world.run("status", "world", "--json").stdout)
    return status["checkpoint"]["fenced"] is not None
