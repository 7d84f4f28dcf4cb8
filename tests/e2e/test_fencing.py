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


def test_what_only_the_old_writer_has_becomes_conflict_copies(
    folder: Path, embedded: ServerProcess, world: World
) -> None:
    mount = world.mount("world")
    (mount.path / "notes.txt").write_bytes(b"first")
    (mount.path / "same").write_bytes(b"of old")
    (mount.path / "gone").mkdir()
    (mount.path / "gone" / "deep").write_bytes(b"first")
    mount.sync()
    mount.stop()
    other_folder = folder / "other"
    other_folder.mkdir()
    large = os.urandom(3_000_000)
    with World(other_folder, embedded.endpoint) as other:
        shutil.copytree(world.data_dir, other.data_dir, dirs_exist_ok=True)
        second = other.mount("world")
        (second.path / "notes.txt").write_bytes(b"second, here")
        (second.path / "notes.txt").chmod(0o640)
        (second.path / "same").write_bytes(b"as there")
        (second.path / "gone" / "deep").write_bytes(b"deeper")
        (second.path / "new.bin").write_bytes(large)
        os.setxattr(second.path / "new.bin", "user.kept", b"yes")
        wait_until(lambda: _staged(other) == 0, "all of it is on the servers", 60)
        (second.path / "staged").write_bytes(b"not even uploaded")
        second.stop("--lazy")

        mount.start()
        (mount.path / "notes.txt").write_bytes(b"second, there")
        (mount.path / "same").write_bytes(b"as there")
        shutil.rmtree(mount.path / "gone")
        mount.sync()
        second.start()
        wait_until(lambda: _fenced(other), "the second writer notices", 60)
        second.stop("--lazy")
        alone = other.run("staging", "rebase", "world", check=False)
        assert alone.returncode != 0
        assert "usenetfs recover world" in alone.stderr

        other.run("recover", "world", "--yes")
        itself = other.run(
            "staging", "rebase", "world", "--from", other.data_dir / "world", check=False
        )
        assert itself.returncode == 2
        done = json.loads(other.run("staging", "rebase", "world", "--json").stdout)
        assert done["incomplete"] == []
        actions = {file["path"]: file["action"] for file in done["files"]}
        (copy,) = [path for path in actions if path.startswith("notes (conflict ")]
        assert copy.endswith(").txt")
        assert actions == {
            copy: "conflict",
            "same": "unchanged",
            "gone/deep": "placed",
            "new.bin": "placed",
            "staged": "placed",
        }
        again = json.loads(other.run("staging", "rebase", "world", "--json").stdout)
        assert {file["action"] for file in again["files"]} == {"unchanged"}
    mount.stop("--lazy")
    shutil.rmtree(world.data_dir / "world")
    world.run("recover", "world", "--yes")  # what was rebased is published
    mount.start()
    assert (mount.path / "notes.txt").read_bytes() == b"second, there"
    assert (mount.path / copy).read_bytes() == b"second, here"
    assert (mount.path / copy).stat().st_mode & 0o777 == 0o640
    assert (mount.path / "gone" / "deep").read_bytes() == b"deeper"
    assert (mount.path / "new.bin").read_bytes() == large
    assert os.getxattr(mount.path / "new.bin", "user.kept") == b"yes"
    assert (mount.path / "staged").read_bytes() == b"not even uploaded"
    assert sorted(path.name for path in mount.path.iterdir()) == sorted(
        ["gone", "new.bin", "notes.txt", copy, "same", "staged"]
    )


def _staged(world: World) -> int:
    status = json.loads(world.run("status", "world", "--json").stdout)
    durability = status["durability"]
    return int(durability["staged"]["bytes"] + durability["posted"]["bytes"])


def _fenced(world: World) -> bool:
    status = json.loads(world.run("status", "world", "--json").stdout)
    return status["checkpoint"]["fenced"] is not None


def test_a_newer_state_without_anything_does_not_hide_an_older_one(world: World) -> None:
    """Two recoveries, one after the other: what was never uploaded is in the first one's."""
    mount = world.mount("world")
    mount.stop()
    for _ in range(2):
        world.run("recover", "world", "--yes")
    first, second = sorted(world.data_dir.glob(".world.replaced-*"))
    done = world.run("staging", "rebase", "world")
    assert f"Nothing is only in {second}" in done.stderr
    assert f"--from {first}" in done.stderr
