"""Whatever moment the daemon dies at, what the servers have is a state in which every file can be
read, and no older than the last sync.

Each round: a mount that publishes every second, a workload that makes, rewrites, saves by rename,
renames and deletes, and now and then syncs; the daemon is killed (-9) at a random moment; a new
machine recovers from the servers alone and reads every file. The next round goes on from what was
recovered, so the chain gets a new writer in each.
"""

from __future__ import annotations

import random
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.world import Mount, World

SIZES = (0, 1, 4_000, 70_000, 716_800, 1_500_000)
LONG_ROUNDS = 20
SLICES = 10
"""Of the long run: each has a filesystem of its own, and may be run by itself."""

pytestmark = [pytest.mark.fuse]


@dataclass(frozen=True, slots=True)
class Version:
    """What a file was to become. ``size`` None: deleted. ``whole``: saved by rename, so that
    nobody may ever see a part of it under the file's name."""

    seed: int = 0
    size: int | None = None
    whole: bool = True

    @property
    def content(self) -> bytes:
        return random.Random(self.seed).randbytes(self.size or 0)

    def may_look_like(self, content: bytes | None) -> bool:
        """Whether this is what one may find (None: nothing) once it was begun."""
        if content is None or self.size is None:
            return content is None and (self.size is None or not self.whole)
        if self.whole:
            return content == self.content
        return self.content.startswith(content)


class Workload:
    """Changes files until the filesystem goes away.

    ``versions``: of each file, in order, noted before it is begun. ``synced``: how many versions
    each had when the last sync that returned was called.
    """

    def __init__(self, mount: Mount, seed: int) -> None:
        self.mount = mount
        self.folder = mount.path / "work"
        self.random = random.Random(seed)
        self.versions: dict[str, list[Version]] = {}
        self.synced: dict[str, int] = {}
        self.error: OSError | None = None
        self.syncs = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._syncer = threading.Thread(target=self._sync_often, daemon=True)
        self._lock = threading.Lock()

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self._thread.start()
        self._syncer.start()

    def join(self) -> None:
        self._stop.set()
        for thread in (self._thread, self._syncer):
            thread.join(timeout=60)
            assert not thread.is_alive(), "a call hangs though the daemon is gone"

    def _sync_often(self) -> None:
        while not self._stop.wait(0.3):
            with self._lock:
                before = {name: len(known) for name, known in self.versions.items()}
            done = self.mount.world.run("sync", self.mount.name, check=False)
            if done.returncode == 0:
                self.synced = before
                self.syncs += 1

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.005):
                self._step()
        except OSError as error:
            self.error = error

    def _step(self) -> None:
        action = self.random.choice(["write", "write", "save", "rename", "delete", "folder"])
        if action == "folder":
            (self.folder / f"folder-{self.random.randrange(5)}").mkdir(exist_ok=True)
            return
        name = f"file{self.random.randrange(30)}"
        path = self._find(name)
        if action in {"write", "save"}:
            self._write(name, path or self.folder / name, by_rename=action == "save")
        elif path is not None and action == "rename":
            parent = self.random.choice([self.folder, *self.folder.glob("folder-*")])
            path.rename(parent / path.name)
        elif path is not None:
            self._note(name, Version())
            path.unlink()

    def _find(self, name: str) -> Path | None:
        return next(iter(self.folder.rglob(name)), None)

    def _note(self, name: str, version: Version) -> None:
        with self._lock:
            self.versions.setdefault(name, [Version()]).append(version)

    def _write(self, name: str, path: Path, *, by_rename: bool) -> None:
        version = Version(self.random.getrandbits(60), self.random.choice(SIZES), by_rename)
        self._note(name, version)
        if by_rename:
            new = path.with_name(f"{name}.new")
            new.write_bytes(version.content)
            new.rename(path)
        else:
            path.unlink(missing_ok=True)
            path.write_bytes(version.content)


def faults_of(folder: Path, workload: Workload) -> list[str]:
    """What is wrong with a recovered tree. Reading all of it is part of it."""
    found = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    faults = [
        f"{name} was never made"
        for name in found
        if name[:-4] not in workload.versions and name not in workload.versions
    ]
    for name, versions in workload.versions.items():
        # the version noted last may not have been begun when the sync was called
        since = max(0, workload.synced.get(name, 1) - 2)
        content = found.get(name)
        if not any(version.may_look_like(content) for version in versions[since:]):
            faults.append(_told(name, content, versions, since))
    return faults


def _told(name: str, content: bytes | None, versions: list[Version], since: int) -> str:
    """Which of its versions a file is."""
    size = "nothing" if content is None else f"{len(content)} bytes"
    like = [number for number, each in enumerate(versions) if each.may_look_like(content)]
    sizes = [(each.size, "saved by rename" if each.whole else "in place") for each in versions]
    return f"{name} is {size}, version {like} of {sizes}: at least {since} was synced"


def _rounds(world: World, rounds: int, seed: int, longest: float) -> None:
    """``longest``: seconds until a kill, at most."""
    moments = random.Random(seed)
    syncs = 0
    for number in range(rounds):
        mount = world.mount("world")
        workload = Workload(mount, seed=number + 1000 * seed)
        shutil.rmtree(mount.path / "work", ignore_errors=True)
        workload.start()
        threading.Event().wait(moments.uniform(1.0, longest))
        mount.kill()
        workload.join()
        syncs += workload.syncs
        shutil.rmtree(world.data_dir / "world")
        world.drop_cache()
        world.run("recover", "world", "--yes", timeout=120)
        place = world.directory / f"out-{number}"
        world.run("download", "world:/", place, timeout=120)
        faults = faults_of(place, workload)
        assert faults == [], f"round {number} of seed {seed}: {faults}"
        assert world.run("fsck", "world").returncode == 0
        shutil.rmtree(place)
    assert syncs > 0, "nothing was ever synced: these kills show nothing"


@pytest.fixture
def chain_world(world: World) -> World:
    """The world, publishing every second."""
    with world.config_file.open("a") as file:
        file.write('\n[checkpoint]\ninterval = "1 s"\n')
    return world


@pytest.mark.timeout(300)
def test_what_a_killed_daemon_published_can_be_read(chain_world: World) -> None:
    _rounds(chain_world, 2, 1, 3.0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 100 + SLICES))
def test_two_hundred_kills(chain_world: World, seed: int) -> None:
    _rounds(chain_world, LONG_ROUNDS, seed, 6.0)
