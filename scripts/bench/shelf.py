"""A filesystem on an INN with what ``bench-read`` reads in it, filled as far as it is needed.

Owns the server, the world and the mount while they are in use; they end with the benchmark. Files
are copied in by ``cp -a``, one after the other, as a user would; only their hashes stay here.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from scripts.bench import servers
from scripts.bench.command import Options
from scripts.bench.data import sha256, write_random, write_tar
from scripts.bench.samples import BenchError
from scripts.trees import copy_sized_tree, hashes
from scripts.world import CommandError, Endpoint, Mount, World

FILESYSTEM: Final = "bench"
START_SIZE: Final = 3_000_000
"""Octets of the files whose beginning is read: some articles each."""


class Shelf:
    """Made at once, filled by :meth:`fill`. ``server``: the INN itself, without any distance."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._folder = options.folder
        self._world: World | None = None
        self._server: Endpoint | None = None
        self._hashes: dict[str, dict[str, bytes]] = {}

    def __repr__(self) -> str:
        return f"<Shelf with {sorted(self._hashes)}>"

    @property
    def server(self) -> Endpoint:
        assert self._server is not None
        return self._server

    @property
    def world(self) -> World:
        assert self._world is not None
        return self._world

    def fill(self, parts: Sequence[str]) -> None:
        """See that these parts are in the filesystem, and everything in it on the server."""
        missing = [part for part in parts if part not in self._hashes]
        if not missing:
            return
        try:
            self._open()
            with self.mounted(self.server.port, cold=False) as mount:
                for part in missing:
                    source = self._folder / "source" / part
                    source.parent.mkdir(exist_ok=True)
                    self._maker(part)(source)
                    self._hashes[part] = _hashes(source)
                    subprocess.run(["cp", "-a", source, mount.path], check=True)
                    mount.sync()
                    _remove(source)
        except (CommandError, TimeoutError, subprocess.CalledProcessError) as error:
            raise BenchError(f"the filesystem could not be filled: {error}") from error

    def _open(self) -> None:
        if self._world is None:
            stack = self._options.stack
            self._server = stack.enter_context(servers.inn(self._folder))
            world = World(self._folder / "w", self._server, connections=self._options.connections)
            self._world = stack.enter_context(world)
            world.run("init", FILESYSTEM)

    def _maker(self, part: str) -> Callable[[Path], None]:
        size, number = self._options.size, int(re.sub(r"\D", "", part) or 0)
        if part == "tree":
            return _make_tree
        share = {"one": size, "eighth": size, "quarter": size // 4, "start": START_SIZE}
        return partial(
            write_random, size=share[part.rstrip("0123456789")], seed=hash_of(part, number)
        )

    def flat(self, part: str) -> Path:
        """The part again as one file, for those who move files (a tree as a tar archive)."""
        path = self._folder / f"{part}.flat"
        if not path.exists():
            if part == "tree":
                top = self._folder / "flat-source"
                _make_tree(top)
                write_tar(path, top)
                shutil.rmtree(top)
            else:
                self._maker(part)(path)
        return path

    @contextlib.contextmanager
    def mounted(self, port: int, *, cold: bool) -> Iterator[Mount]:
        """The filesystem, mounted with the server behind ``port``."""
        world = self.world
        if cold:
            world.drop_cache()
        text = world.config_file.read_text()
        world.config_file.write_text(re.sub(r"(?m)^port = \d+$", f"port = {port}", text))
        mount = world.mount(FILESYSTEM)
        try:
            yield mount
        finally:
            if mount.pid is not None:
                mount.stop()

    def compare(self, mount: Mount, parts: Sequence[str]) -> None:
        """Read these parts and compare them with what was copied in."""
        for part in parts:
            actual = _hashes(mount.path / part)
            if actual != self._hashes[part]:
                wrong = sorted(
                    name for name, value in self._hashes[part].items() if actual.get(name) != value
                )
                raise BenchError(f"{part} came back differently: {wrong[:3]}")


def hash_of(part: str, number: int) -> int:
    """A seed of each part's own."""
    return sum(part.encode()) * 1000 + number


def _make_tree(top: Path) -> None:
    top.mkdir()
    copy_sized_tree(top)


def _hashes(path: Path) -> dict[str, bytes]:
    """Of a folder's files; of a file by itself."""
    return hashes(path) if path.is_dir() else {path.name: sha256(path)}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
