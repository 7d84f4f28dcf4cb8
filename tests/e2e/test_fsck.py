"""A repair that is interrupted, in whatever way, leaves what the next one mends."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from scripts.trees import hashes
from scripts.world import COMMAND, World
from tests.e2e.conftest import NAME

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(300)]

FILES = 3000
ROUNDS = 6


def _make_tree(top: Path) -> None:
    for number in range(FILES):
        file = top / f"d{number // 100:02}" / f"file {number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{number}\n" * 20)


def _damage(index: Path) -> None:
    """Counts that do not agree with what they count, all over the index."""
    with contextlib.closing(sqlite3.connect(index)) as database, database:
        database.execute("UPDATE inodes SET nlink = nlink + 1 + id % 3 WHERE id > 1")
        database.execute("UPDATE segments SET refs = refs + 2")
        database.execute("UPDATE articles SET blocks = blocks + 1, bytes = bytes + 7")
        database.execute("UPDATE local_totals SET count = count + 5, bytes = bytes + 9")


def test_a_repair_may_be_interrupted_at_any_time(world: World, folder: Path) -> None:
    source = folder / "source"
    _make_tree(source)
    world.run("upload", f"{source}/", f"{NAME}:/", timeout=200)
    index = world.data_dir / NAME / "index.db"
    _damage(index)
    assert world.run("fsck", NAME, check=False).returncode != 0
    began = time.monotonic()
    assert world.run("fsck", "--repair", NAME, timeout=200).returncode == 0
    whole = time.monotonic() - began
    moments = random.Random(3)
    interrupted = 0
    for number in range(ROUNDS):
        _damage(index)
        how = signal.SIGKILL if number % 2 else signal.SIGINT
        process = subprocess.Popen(
            [str(COMMAND), "fsck", "--repair", NAME],
            env=world.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with process:
            try:
                process.wait(timeout=moments.uniform(0.4, 0.95) * whole)
            except subprocess.TimeoutExpired:
                process.send_signal(how)
                interrupted += process.wait(timeout=60) != 0
    assert interrupted, "every repair was done before it could be interrupted"
    assert world.run("fsck", "--repair", NAME, timeout=200).returncode == 0
    clean = world.run("fsck", NAME)
    assert "no problem found" in clean.stdout + clean.stderr
    mount = world.mount(NAME)
    assert hashes(mount.path) == hashes(source)
    mount.stop()
