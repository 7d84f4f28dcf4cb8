"""A power cut loses nothing whose fsync had returned.

Staging and index lie on a disk that forgets whatever was not flushed to it (forgetful_disk.py).
Each round mounts, lets a writer that syncs and a ``cp`` that does not run side by side, and cuts
the power at a random moment. Everything the writer was promised must then be there, also after
another pass through the server with empty caches.
"""

from __future__ import annotations

import random
import subprocess
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.world import Mount, ServerProcess, World
from tests.e2e.forgetful_disk import ForgetfulDisk
from tests.e2e.promises import Writer, broken

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(400)]

NAME = "powercut"
DISK_SIZE = 1_000_000_000


@pytest.fixture
def disk(folder: Path) -> Iterator[ForgetfulDisk]:
    """The disk that the world's data directory lies on."""
    made = ForgetfulDisk(folder, folder / "data", size=DISK_SIZE)
    made.attach()
    yield made
    made.detach()


@pytest.fixture
def mount(folder: Path, embedded: ServerProcess, disk: ForgetfulDisk) -> Iterator[Mount]:
    """A filesystem on that disk, mounted; gone before the disk is."""
    with World(folder, embedded.endpoint) as world:
        world.run("init", NAME)
        yield world.mount(NAME)


def _round(mount: Mount, disk: ForgetfulDisk, number: int, moment: float) -> dict[Path, str]:
    """Write and copy, cut the power after ``moment`` seconds; what had been promised by then."""
    folder = mount.path / f"round-{number}"
    folder.mkdir()
    writer = Writer(folder, seed=number)
    copy = subprocess.Popen(
        ["cp", "-a", sysconfig.get_path("stdlib"), mount.path / f"library-{number}"],
        stderr=subprocess.DEVNULL,
    )
    try:
        writer.start()
        threading.Event().wait(moment)
        lost = disk.cut_power()
        mount.kill()
        writer.join()
    finally:
        copy.kill()
        copy.wait(timeout=60)
        disk.detach()
    assert lost > 0, "nothing was dirty when the power was cut: nothing is shown by this round"
    return {Path(folder.name) / name: digest for name, digest in writer.promised.items()}


def _rounds(mount: Mount, disk: ForgetfulDisk, rounds: int) -> None:
    moments = random.Random(77)
    promised: dict[Path, str] = {}
    for number in range(rounds):
        promised |= _round(mount, disk, number, moments.uniform(0.3, 2.0))
        disk.attach()
        mount.start()
        assert broken(mount, promised) == [], f"lost in round {number}"
    assert len(promised) > rounds, "the writer never got anywhere"
    mount.stop()
    mount.world.drop_cache()
    mount.start()
    assert broken(mount, promised) == []
    mount.stop()
    assert mount.world.run("fsck", NAME).returncode == 0


def test_nothing_synced_is_lost_when_the_power_is_cut(mount: Mount, disk: ForgetfulDisk) -> None:
    _rounds(mount, disk, 3)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_thirty_power_cuts(mount: Mount, disk: ForgetfulDisk) -> None:
    _rounds(mount, disk, 30)
