"""A daemon killed at any moment loses nothing whose fsync had returned.

Each round mounts, lets a ``cp`` of real files and a writer that fsyncs run, and kills the daemon
(-9) at a random moment. The manifest of the writer is what was promised. After each kill
everything promised must be there, and at the end also after another pass through the server with
empty caches.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sysconfig
import threading
from pathlib import Path

import pytest

from scripts.world import Mount, World
from tests.e2e.promises import Writer, broken, unsafe_bytes

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(400)]

ROUNDS = 10


def _round(mount: Mount, number: int, moment: float) -> dict[Path, str]:
    """Write, copy, kill after ``moment`` seconds; what had been promised by then."""
    folder = mount.path / f"round-{number}"
    folder.mkdir()
    library = sysconfig.get_path("stdlib")
    writer = Writer(folder, seed=number)
    copy = subprocess.Popen(
        ["cp", "-a", library, mount.path / f"library-{number}"], stderr=subprocess.DEVNULL
    )
    try:
        writer.start()
        threading.Event().wait(moment)
        assert unsafe_bytes(mount) > 0, "nothing was dirty: this kill shows nothing"
        mount.kill()
        writer.join()
    finally:
        copy.kill()
        copy.wait(timeout=60)
    relative = Path(folder.name)
    return {relative / name: digest for name, digest in writer.promised.items()}


def test_nothing_synced_is_lost_when_the_daemon_is_killed(world: World, mount: Mount) -> None:
    moments = random.Random(20_241)
    promised: dict[Path, str] = {}
    for number in range(ROUNDS):
        promised |= _round(mount, number, moments.uniform(0.1, 1.5))
        mount.start()
        assert broken(mount, promised) == [], f"lost in round {number}"
    assert len(promised) > ROUNDS, "the writer never got anywhere"
    mount.stop()
    world.drop_cache()
    mount.start()
    assert broken(mount, promised) == []
    mount.stop()
    assert world.run("fsck", mount.name).returncode == 0


def _close_files(folder: Path, closed: dict[Path, bytes], moment: threading.Event) -> None:
    """Make files, rewrite some of them, and note what each held when its close had returned."""
    rng = random.Random(folder.name)
    number = 0
    with contextlib.suppress(OSError):  # the daemon is gone
        while not moment.is_set():
            number += 1
            path = folder / f"file {rng.choice((number, number // 2))}"
            content = rng.randbytes(rng.choice((0, 1, 4096, 100_000)))
            before = closed.pop(path, None)
            path.write_bytes(content)
            closed[path] = content
            if before is not None and rng.random() < 0.2:
                closed.pop(path)
                path.unlink()


def test_nothing_closed_is_lost_when_the_daemon_is_killed(world: World, mount: Mount) -> None:
    moments = random.Random(7)
    promised: dict[Path, bytes] = {}
    for number in range(5):
        folder = mount.path / f"round {number}"
        folder.mkdir()
        closed: dict[Path, bytes] = {}
        stop = threading.Event()
        writer = threading.Thread(target=_close_files, args=(folder, closed, stop))
        writer.start()
        try:
            stop.wait(moments.uniform(0.2, 1.2))
            mount.kill()
        finally:
            stop.set()
            writer.join(timeout=60)
        assert closed, "the writer never got anywhere"
        promised |= closed
        mount.start()
        for path, content in promised.items():
            assert path.read_bytes() == content, path
    mount.stop()
    assert world.run("fsck", mount.name).returncode == 0
