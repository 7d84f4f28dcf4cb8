"""``make bench-metadata``: many small files, names and attributes rather than content.

Each piece of work is done in a fresh mount of usenetfs, in a folder on the local disk, and in a
pyfuse3 filesystem that does nothing (``nothing.py``), which is what kernel and pyfuse3 cost by
themselves. *Cold* means mounted anew, so that neither the kernel nor the daemon remembers anything;
the local disk's pages are warm in any case. The CPU is that of the program and of the daemon.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from scripts.bench import servers
from scripts.bench.command import Options, run_benchmark, settle
from scripts.bench.data import write_tar
from scripts.bench.machine import CHECKOUT
from scripts.bench.processes import Watch, ended_whatever_happens, run_measured
from scripts.bench.samples import MB, BenchError, Contestant, Sample, Scenario
from scripts.trees import copy_sized_tree, total_size
from scripts.world import COMMAND, CommandError, Mount, World

FILESYSTEM: Final = "bench"
TIMEOUT: Final = 300.0
SIZE: Final = 4096
SMALL: Final = 5000
REMOVED: Final = 10_000
MANY: Final = 100_000
WIDE: Final = 1000
"""Directories that the many files are in, when they are to be found."""

Command = Callable[[Path], list[str]]


def _small(what: str, *numbers: int) -> Command:
    program = [sys.executable, "-m", "scripts.bench.small_files", what]
    return lambda top: [*program, str(top / "files"), *map(str, numbers)]


@dataclass(frozen=True, slots=True)
class Work:
    """``before``: what is made in the filesystem first, outside of the time taken. ``filled``: so
    many directories with so many empty files are there, and the mount is cold. ``source``: made
    once beside everything; its octets are the payload. ``keeps``: it reads back what it wrote, so
    that it cannot be done on a filesystem that keeps nothing."""

    key: str
    title: str
    command: Command
    before: Command | None = None
    filled: tuple[int, int] | None = None
    source: Callable[[], int] | None = None
    keeps: bool = False
    synced: bool = False


def works(folder: Path) -> list[Work]:
    """All kinds. Sources are made below ``folder``."""
    archive, repository = folder / "tree.tar", folder / "repository"
    create = _small("create", SMALL, SIZE)
    return [
        Work("create", f"create, write and close {SMALL} files of 4 KiB", create),
        Work("stat", f"attributes of {SMALL} files, cached", _small("stat"), before=create),
        Work(
            "remove",
            f"rm -rf of {REMOVED} files",
            _small("remove"),
            before=_small("create", REMOVED, SIZE),
        ),
        Work(
            "find",
            f"find over {MANY} files in {WIDE} directories, cold",
            lambda top: [sys.executable, "-m", "scripts.bench.small_files", "find", str(top)],
            filled=(WIDE, MANY // WIDE),
        ),
        Work(
            "list",
            f"list a directory of {MANY} entries, cold",
            lambda top: [
                sys.executable,
                "-m",
                "scripts.bench.small_files",
                "list",
                str(top / "d00000"),
            ],
            filled=(1, MANY),
        ),
        Work(
            "untar",
            "unpack a source tree",
            lambda top: ["tar", "-xf", str(archive), "-C", str(top)],
            source=partial(_make_archive, archive),
            synced=True,
        ),
        Work(
            "clone",
            f"git clone of {SMALL} files",
            lambda top: ["git", "clone", "-q", "--no-local", str(repository), str(top / "clone")],
            source=partial(_make_repository, repository),
            keeps=True,
        ),
    ]


def _make_archive(archive: Path) -> int:
    tree = archive.with_name("tree")
    copy_sized_tree(tree)
    write_tar(archive, tree)
    size = total_size(tree)
    shutil.rmtree(tree)
    return size


def _make_repository(repository: Path) -> int:
    """Files of some kilobytes of text, fifty a directory, committed."""
    for number in range(SMALL):
        file = repository / f"d{number // 50:03}" / f"f{number:05}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{number} {secrets.token_hex(20)}\n" * 60)
    size = total_size(repository)
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for arguments in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "files"]):
        subprocess.run(["git", "-C", str(repository), *arguments], check=True)
    return size


def _fill(top: Path, directories: int, files: int) -> None:
    for number in range(directories):
        directory = top / f"d{number:05}"
        directory.mkdir()
        for file in range(files):
            (directory / f"f{file:06}").touch()


# --- where it is done ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MetadataBench:
    """One kind of work; what each contestant does with it. ``size``: octets of payload."""

    work: Work
    options: Options
    size: int
    filled: Filled | None

    def contestants(self) -> list[Contestant]:
        no = "it keeps nothing" if self.work.keeps else ""
        return [
            Contestant("mount", lambda _: self._in_mount()),
            Contestant("local disk", lambda _: self._on_disk()),
            Contestant("does nothing", lambda _: self._on_nothing(), absent=no),
        ]

    def _on_disk(self) -> Sample:
        if self.filled is not None:
            return self._measured(self.filled.source, None)
        folder = self.options.folder / f"disk-{secrets.token_hex(2)}"
        folder.mkdir()
        try:
            self._prepare(folder)
            return self._measured(folder, None)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _on_nothing(self) -> Sample:
        folder = self.options.folder / f"nothing-{secrets.token_hex(2)}"
        folder.mkdir()
        numbers = map(str, self.work.filled or ())
        command = [sys.executable, "-m", "scripts.bench.nothing", str(folder), *numbers]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=CHECKOUT)
        with process, ended_whatever_happens(process):
            deadline = time.monotonic() + 30
            while not folder.is_mount():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchError("the filesystem that does nothing was not mounted")
            try:
                self._prepare(folder)
                return self._measured(folder, process.pid)
            finally:
                subprocess.run(["fusermount3", "-u", str(folder)], check=False)
                process.wait(timeout=30)
                folder.rmdir()

    def _in_mount(self) -> Sample:
        try:
            if self.filled is not None:
                return self._in_world(self.filled.world)
            directory = self.options.folder / f"w{secrets.token_hex(2)}"
            with (
                servers.inn(self.options.folder) as server,
                World(directory, server, connections=self.options.connections) as world,
            ):
                world.run("init", FILESYSTEM)
                return self._in_world(world)
        except (CommandError, TimeoutError) as error:
            raise BenchError(str(error)) from error

    def _in_world(self, world: World) -> Sample:
        mount = world.mount(FILESYSTEM)
        assert mount.pid is not None
        self._prepare(mount.path)
        sample = self._measured(mount.path, mount.pid, mount if self.work.synced else None)
        mount.stop()
        return sample

    def _prepare(self, top: Path) -> None:
        if self.work.before is not None:
            run_measured(self.work.before(top), timeout=TIMEOUT, directory=CHECKOUT)

    def _measured(self, top: Path, pid: int | None, synced: Mount | None = None) -> Sample:
        settle()
        watch = Watch.begin(pid) if pid is not None else None
        memory = watch.peak_rss() if watch is not None else 0
        ended = run_measured(self.work.command(top), timeout=TIMEOUT, directory=CHECKOUT)
        said = json.loads(ended.stdout) if ended.stdout else {"seconds": ended.seconds}
        extra: dict[str, float] = {}
        if synced is not None:
            command = [str(COMMAND), "sync", FILESYSTEM]
            done = run_measured(command, timeout=TIMEOUT, environment=synced.world.environment)
            extra["until seen s"] = ended.seconds + done.seconds
        if "count" in said:
            extra["files/s"] = said["count"] / said["seconds"]
        cpu, peak = ended.cpu_seconds, None
        if watch is not None:
            cpu, peak = cpu + watch.cpu_seconds(), watch.peak_rss()
            extra["grew MB"] = (peak - memory) / MB
        if not self.size:
            extra["CPU s"] = cpu
        return Sample(self.size, said["seconds"], cpu, peak, extra)


@dataclass(frozen=True, slots=True)
class Filled:
    """A filesystem with many files, and the folder that they were taken from."""

    world: World
    source: Path


@contextlib.contextmanager
def _filled(options: Options, directories: int, files: int) -> Iterator[Filled]:
    source = options.folder / "source"
    source.mkdir()
    try:
        _fill(source, directories, files)
        with (
            servers.inn(options.folder) as server,
            World(options.folder / "w", server, connections=options.connections) as world,
        ):
            world.run("init", FILESYSTEM)
            world.run("upload", f"{source}/", f"{FILESYSTEM}:/", timeout=TIMEOUT)
            yield Filled(world, source)
    except (CommandError, TimeoutError) as error:
        raise BenchError(str(error)) from error
    finally:
        shutil.rmtree(source, ignore_errors=True)
        shutil.rmtree(options.folder / "w", ignore_errors=True)


@contextlib.contextmanager
def _open(work: Work, options: Options) -> Iterator[Sequence[Contestant]]:
    size = work.source() if work.source is not None else 0
    with contextlib.ExitStack() as stack:
        filled = None
        if work.filled is not None:
            filled = stack.enter_context(_filled(options, *work.filled))
        yield MetadataBench(work, options, size, filled).contestants()


def scenarios(options: Options) -> list[Scenario]:
    """One for each kind of work."""
    return [
        Scenario(work.key, work.title, "local disk", partial(_open, work, options))
        for work in works(options.folder)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    purpose = "Measure what small files, names and attributes cost."
    return run_benchmark("metadata", purpose, scenarios, arguments)


if __name__ == "__main__":
    sys.exit(main())
