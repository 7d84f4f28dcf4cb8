"""Files that are written without pause: they are in checkpoints as well.

At any moment some of their content is not on the servers, so without more they would be left out of
every checkpoint, and whoever lost the machine would have none of them.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.world import World, wait_until

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(200)]

PAUSE = 0.02
"""Seconds between two changes."""


class Busy:
    """Somebody who changes a file again and again. ``step``: one change, told its number;
    ``done``: how many are made, ``longest``: seconds that one took."""

    def __init__(self, step: Callable[[int], None]) -> None:
        self._step = step
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.done = 0
        self.longest = 0.0
        self.errors: list[OSError] = []

    def _run(self) -> None:
        try:
            while not self._stop.wait(PAUSE):
                started = time.monotonic()
                self._step(self.done)
                self.longest = max(self.longest, time.monotonic() - started)
                self.done += 1
        except OSError as error:  # the machine is lost
            self.errors.append(error)

    @contextmanager
    def working(self) -> Iterator[None]:
        self._thread.start()
        try:
            wait_until(lambda: self.done > 5, "the file is written", 30)
            yield
        finally:
            self._stop.set()
            self._thread.join(timeout=60)
            assert not self._thread.is_alive(), "a write hangs"


def line(number: int) -> bytes:
    return b"%09d\n" % number


def appending(path: Path) -> Busy:
    """A log that is open all the time."""

    def step(number: int) -> None:
        with path.open("ab", buffering=0) as file:
            file.write(line(number))

    return Busy(step)


def saving(path: Path) -> Busy:
    """A document that is saved by rename."""

    def step(number: int) -> None:
        new = path.with_suffix(".new")
        new.write_bytes(line(number) * 100)
        os.replace(new, path)

    return Busy(step)


def in_place(path: Path) -> Busy:
    """A small database: one of its pages after the other is written anew, and each tells when."""
    path.write_bytes(bytes(64 * 4096))
    descriptor = os.open(path, os.O_RDWR)

    def step(number: int) -> None:
        os.pwrite(descriptor, line(number), number % 64 * 4096)

    return Busy(step)


def configure(world: World, text: str) -> None:
    with world.config_file.open("a") as file:
        file.write(text)


def lose_the_machine(world: World) -> None:
    world._mounts[-1].kill()
    shutil.rmtree(world.data_dir / "world")
    world.drop_cache()
    world.run("recover", "world", "--yes", timeout=120)


@pytest.mark.parametrize("kind", [appending, saving, in_place])
def test_sync_has_what_was_written_before_it(
    world: World, folder: Path, kind: Callable[[Path], Busy]
) -> None:
    mount = world.mount("world")
    busy = kind(mount.path / "hot")
    with busy.working():
        before = busy.done
        world.run("sync", "world", timeout=60)
        mount.kill()
    lose_the_machine(world)
    world.run("download", "world:/", folder / "out", timeout=120)
    content = (folder / "out" / "hot").read_bytes()
    newest = max(int(text) for text in content.replace(b"\0", b"\n").split())
    assert newest >= before - 1, f"{newest} of {before}"
    if kind is appending:
        assert content == b"".join(map(line, range(newest + 1)))
    assert busy.longest < 12


def test_a_file_that_is_never_at_rest_gets_into_checkpoints(world: World, folder: Path) -> None:
    configure(world, '\n[checkpoint]\ninterval = "1 s"\nmax_held = "2 s"\n')
    mount = world.mount("world")
    log, document = appending(mount.path / "log"), saving(mount.path / "document")
    with log.working(), document.working():
        done = log.done, document.done
        started = time.monotonic()
        wait_until(lambda: time.monotonic() > started + 12, "time passes", 20)
        mount.kill()
    lose_the_machine(world)
    world.run("download", "world:/", folder / "out", timeout=120)
    for name, at_least in zip(("log", "document"), done, strict=True):
        newest = max(map(int, (folder / "out" / name).read_bytes().split()))
        assert newest >= at_least - 1
