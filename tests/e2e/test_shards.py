"""A filesystem whose index is sixteen files: written, killed, checked, and had back."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from scripts.world import ServerProcess, World
from tests.e2e.conftest import NAME
from tests.e2e.promises import Writer, broken
from tests.e2e.test_recover import Lost
from tests.e2e.trees import differences, make_odd_files
from usenetfs.index.index import Index

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(400)]


def shards_of(world: World) -> list[str]:
    files = (world.data_dir / NAME).iterdir()
    return sorted(file.name for file in files if ".shard-" in file.name and file.suffix == ".db")


def rows_in_main(lost: Lost, *, settle: bool = False) -> int:
    """``settle``: all go to their files first, as they do in the daemon once there are many."""
    path = lost.world.data_dir / NAME / "index.db"
    with Index.open(path, directory_key=lost.keys.directory_key) as index:
        if settle:
            index.settling.run()
        assert index.articles.list(limit=1)
        rows: int = index.database.value("SELECT count(*) FROM main.segments")
        return rows


def assert_sound(world: World) -> None:
    """``fsck`` has nothing to say, and nothing to mend."""
    report = json.loads(world.run("fsck", NAME, "--json").stdout)
    assert report["findings"] == []


def test_written_killed_and_recovered(folder: Path, embedded: ServerProcess) -> None:
    lost = Lost(folder, embedded, "--shards", "16")
    with lost.world as world:
        assert len(shards_of(world)) == 16
        make_odd_files(lost.original / "odd")
        mount = world.mount(NAME)
        subprocess.run(["cp", "-a", lost.original / "odd", mount.path], check=True)
        mount.sync()
        mount.stop()
        assert rows_in_main(lost) > 0
        assert rows_in_main(lost, settle=True) == 0
        mount.start()
        (mount.path / "round").mkdir()
        writer = Writer(mount.path / "round", seed=1)
        writer.start()
        while len(writer.promised) < 20:
            threading.Event().wait(0.05)
        mount.kill()
        writer.join()
        promised = {Path("round") / name: digest for name, digest in writer.promised.items()}
        assert_sound(world)
        mount.start()
        assert broken(mount, promised) == []
        subprocess.run(["cp", "-a", mount.path / "round", lost.original], check=True)
        shutil.copystat(lost.original, mount.path)
        mount.sync()
        mount.stop()
        assert_sound(world)
        lost.burn()
        assert lost.recover("--shards", "5")["lost"] == []
        assert len(shards_of(world)) == 5
        assert rows_in_main(lost) == 0
        mount = world.mount(NAME)
        assert differences(lost.original, mount.path) == []
        (mount.path / "new").write_text("it can be written to")
        mount.sync()
        mount.stop()
        assert_sound(world)
        lost.burn()
        lost.recover()
        assert shards_of(world) == []
        mount = world.mount(NAME)
        assert (mount.path / "new").read_text() == "it can be written to"
        mount.stop()
