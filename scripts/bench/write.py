"""``make bench-write``: into a filesystem, until everything was *seen* on the server.

Through the mount (a program copies, then ``usenetfs sync``) and by ``usenetfs upload`` without a
mount, beside Nyuu and the bare loop posting the same octets in one file (a tree as a tar archive).
Each run meets a fresh filesystem on an empty INN. The CPU is that of the daemon, of the program
that copies and of the command together. Afterwards every cache is thrown away, the filesystem is
mounted again, and everything is read back from the server and compared.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from scripts.bench import servers
from scripts.bench.command import Options, run_benchmark, settle
from scripts.bench.data import write_compressible, write_random, write_tar
from scripts.bench.machine import CHECKOUT
from scripts.bench.movers import BARE, Mover
from scripts.bench.processes import Watch, run_measured
from scripts.bench.samples import BenchError, Contestant, Sample, Scenario
from scripts.trees import copy_sized_tree, hashes, total_size
from scripts.world import COMMAND, CommandError, World
from usenetfs.config.units import human_size

FILESYSTEM: Final = "bench"
TIMEOUT: Final = 600.0
WRITERS: Final = 100
FILES: Final = 1000
FILE_SIZE: Final = 100_000
"""Octets of each of the files from concurrent writers, when 1 GB is asked for."""


@dataclass(frozen=True, slots=True)
class Work:
    """What goes in. ``source``: a folder whose content does; ``flat``: the same in one file."""

    key: str
    title: str
    source: Path
    flat: Path
    make: Callable[[Work, int], None]
    command: Callable[[Work, Path], list[str]]
    """Copies the content of ``source`` into a folder."""


def _cp(work: Work, target: Path) -> list[str]:
    return ["cp", "-a", f"{work.source}/.", str(target)]


def _tar(work: Work, target: Path) -> list[str]:
    return ["tar", "-xf", str(work.flat), "-C", str(target)]


def _writers(work: Work, target: Path) -> list[str]:
    program = [sys.executable, "-m", "scripts.bench.writers"]
    return [*program, str(work.source), str(target), str(WRITERS)]


def _make_random(work: Work, size: int) -> None:
    write_random(work.flat, size)


def _make_compressible(work: Work, size: int) -> None:
    write_compressible(work.flat, size)


def _make_tree(work: Work, _: int) -> None:
    copy_sized_tree(work.source)
    write_tar(work.flat, work.source)


def _make_many(work: Work, size: int) -> None:
    each = max(1, FILE_SIZE * size // 1_000_000_000)
    for number in range(FILES):
        write_random(work.source / f"{number:04}", each, seed=number + 1)
    write_tar(work.flat, work.source)


def works(options: Options) -> list[Work]:
    """All four kinds."""
    folder, what = options.folder, human_size(options.size)
    one, text = folder / "one", folder / "text"
    return [
        Work("random", f"{what} random", one, one / "random.bin", _make_random, _cp),
        Work("compressible", f"{what} of text", text, text / "text.txt", _make_compressible, _cp),
        Work("tree", "a source tree", folder / "tree", folder / "tree.tar", _make_tree, _tar),
        Work(
            "writers",
            f"{FILES} files by {WRITERS} writers",
            folder / "many",
            folder / "many.tar",
            _make_many,
            _writers,
        ),
    ]


@dataclass(frozen=True, slots=True)
class WriteBench:
    """One kind of work, made; what each contestant does with it."""

    work: Work
    options: Options
    expected: dict[str, bytes]
    size: int

    def contestants(self) -> list[Contestant]:
        mover = Mover(self.work.flat, self.options.folder, self.options.connections)
        return [
            Contestant("mount", lambda _: self._run(self._through_mount)),
            Contestant("usenetfs upload", lambda _: self._run(self._by_upload)),
            mover.uploader("bare loop", BARE, servers.inn, 0),
            mover.nyuu(servers.inn, 0),
        ]

    def _run(self, way: Callable[[World], Sample]) -> Sample:
        """In a world of its own; what it wrote is read back from the server and compared."""
        directory = self.options.folder / f"w{secrets.token_hex(2)}"
        try:
            with (
                servers.inn(self.options.folder) as server,
                World(directory, server, connections=self.options.connections) as world,
            ):
                world.run("init", FILESYSTEM)
                sample = way(world)
                self._compare(world)
        except (CommandError, TimeoutError) as error:
            raise BenchError(str(error)) from error
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return sample

    def _through_mount(self, world: World) -> Sample:
        mount = world.mount(FILESYSTEM)
        assert mount.pid is not None
        settle()
        watch = Watch.begin(mount.pid)
        command = self.work.command(self.work, mount.path)
        copied = run_measured(command, timeout=TIMEOUT, directory=CHECKOUT)
        command = [str(COMMAND), "sync", FILESYSTEM]
        synced = run_measured(command, timeout=TIMEOUT, environment=world.environment)
        cpu = watch.cpu_seconds() + copied.cpu_seconds + synced.cpu_seconds
        peak = watch.peak_rss()
        mount.stop()
        return Sample(
            self.size,
            copied.seconds + synced.seconds,
            cpu,
            peak,
            {
                "copy s": copied.seconds,
                "copy MB/s": self.size / 1e6 / copied.seconds,
                "sync s": synced.seconds,
            },
        )

    def _by_upload(self, world: World) -> Sample:
        settle()
        command = [str(COMMAND), "upload", "--json", f"{self.work.source}/", f"{FILESYSTEM}:/"]
        ended = run_measured(command, timeout=TIMEOUT, environment=world.environment)
        return Sample(self.size, ended.seconds, ended.cpu_seconds, ended.peak_rss)

    def _compare(self, world: World) -> None:
        world.drop_cache()
        mount = world.mount(FILESYSTEM)
        actual = hashes(mount.path)
        mount.stop()
        for path in sorted(self.expected.keys() | actual.keys()):
            if actual.get(path) != self.expected.get(path):
                raise BenchError(f"{path} came back differently, or not at all")


@contextlib.contextmanager
def _open(work: Work, options: Options) -> Iterator[Sequence[Contestant]]:
    work.source.mkdir()
    try:
        work.make(work, options.size)
        bench = WriteBench(work, options, hashes(work.source), total_size(work.source))
        yield bench.contestants()
    finally:
        shutil.rmtree(work.source, ignore_errors=True)
        work.flat.unlink(missing_ok=True)


def scenarios(options: Options) -> list[Scenario]:
    """One for each kind of work."""
    return [
        Scenario(
            work.key,
            f"{work.title}, INN, {options.connections} connections",
            "bare loop",
            partial(_open, work, options),
        )
        for work in works(options)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    purpose = "Measure writing until everything was seen on the server."
    return run_benchmark("write", purpose, scenarios, arguments)


if __name__ == "__main__":
    sys.exit(main())
