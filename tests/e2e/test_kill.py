"""A daemon killed at any moment loses nothing whose fsync had returned.

Each round mounts, lets a ``cp`` of real files and a writer that fsyncs run, and kills the daemon
(-9) at a random moment. The manifest of the writer is what was promised. After each kill
everything promised must be there, and at the end also after another pass through the server with
empty caches.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sysconfig
import threading
from pathlib import Path

import pytest

from scripts.world import Mount, World

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(400)]

ROUNDS = 10
SIZES = (0, 1, 3_000, 4_096, 70_000, 716_800, 716_801, 2_500_000)


class Writer:
    """Writes files and syncs them until the filesystem goes away; remembers what was promised."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.promised: dict[str, str] = {}
        """Name to SHA-256, of files whose fsync has returned."""
        self.error: OSError | None = None
        self._folder = folder
        self._random = random.Random(seed)
        self._thread = threading.Thread(target=self._write, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(timeout=60)
        assert not self._thread.is_alive(), "a write hangs though the daemon is gone"

    def _write(self) -> None:
        number = 0
        try:
            while True:
                number += 1
                self._step(f"file-{number:05}")
        except OSError as error:
            self.error = error

    def _step(self, name: str) -> None:
        content = self._random.randbytes(self._random.choice(SIZES))
        path = self._folder / name
        with path.open("wb", buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())
            self.promised[name] = hashlib.sha256(content).hexdigest()
        if self._random.random() < 0.2:
            self._rename(name)
        elif self._random.random() < 0.2 and len(self.promised) > 3:
            self._rewrite(self._random.choice(sorted(self.promised)))

    def _rename(self, name: str) -> None:
        """A rename followed by an fsync of the folder is promised, too."""
        digest = self.promised.pop(name)  # until it is done either name would be right
        (self._folder / name).rename(self._folder / f"{name}-renamed")
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.promised[f"{name}-renamed"] = digest

    def _rewrite(self, name: str) -> None:
        """While it lasts, neither the old nor the new content is promised."""
        del self.promised[name]
        content = self._random.randbytes(self._random.choice(SIZES))
        with (self._folder / name).open("r+b", buffering=0) as file:
            file.write(content)
            file.truncate(len(content))
            os.fsync(file.fileno())
            self.promised[name] = hashlib.sha256(content).hexdigest()


def _broken(mount: Mount, promised: dict[Path, str]) -> list[str]:
    """Names of promised files that are not as promised."""
    found = []
    for path, digest in promised.items():
        try:
            actual = hashlib.sha256((mount.path / path).read_bytes()).hexdigest()
        except OSError as error:
            actual = str(error)
        if actual != digest:
            found.append(f"{path}: {actual}")
    return found


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
        assert _broken(mount, promised) == [], f"lost in round {number}"
    assert len(promised) > ROUNDS, "the writer never got anywhere"
    mount.stop()
    world.drop_cache()
    mount.start()
    assert _broken(mount, promised) == []
    mount.stop()
    assert world.run("fsck", mount.name).returncode == 0
