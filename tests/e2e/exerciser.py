"""Random work on one file beside a copy of it in memory; the first difference is an error.

In the manner of fsx: reads, writes, appends, memory maps, truncation both ways, holes, syncs,
closing and opening again, and the kernel's pages dropped, at random places that like block
borders. A seed gives the same run again:

    python -m tests.e2e.exerciser --operations 1000000 --seed 7 [-o writeback]

which makes a world of its own over the embedded server. Every ``CHECK`` operations the whole file
is compared; whoever wants more between two steps gives ``every`` a call (drop the caches, sync).
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from scripts.world import ServerProcess, World

BLOCK: Final = 716_800
MAX_SIZE: Final = 3 * BLOCK + 100_000
MAX_PIECE: Final = 64 * 1024
CHECK: Final = 2_000
REMEMBERED: Final = 30
"""Operations told when something is wrong."""


class DifferenceError(AssertionError):
    """The file is not what it should be; the text has the seed and what came before."""


class Exerciser:
    """Works on the new file ``path``. Use as a context manager."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._model = bytearray()
        self._history: deque[str] = deque(maxlen=REMEMBERED)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self._pattern = self._random.randbytes(2 * MAX_PIECE)
        self._steps: list[tuple[str, Callable[[], str]]] = [
            ("read", self._read),
            ("write", self._write),
            ("append", self._append),
            ("map and read", self._map_read),
            ("map and write", self._map_write),
            ("truncate", self._truncate),
            ("hole", self._hole),
            ("sync", self._sync),
            ("reopen", self._reopen),
            ("drop pages", self._drop_pages),
        ]
        self._weights = [30, 30, 4, 10, 10, 5, 3, 1, 3, 4]

    def __enter__(self) -> Exerciser:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def run(self, operations: int, every: tuple[int, Callable[[], None]] | None = None) -> None:
        """``operations`` steps, and ``every[1]()`` after each ``every[0]`` of them."""
        for number in range(1, operations + 1):
            name, step = self._random.choices(self._steps, self._weights)[0]
            self.counts[name] += 1
            self._history.append(f"{number}: {name} ?")
            self._history[-1] = f"{number}: {name} {step()}"
            if every is not None and number % every[0] == 0:
                every[1]()
                self._history.append(f"{number}: between")
            if number % CHECK == 0 or number == operations:
                self.check()

    def check(self) -> None:
        """Compare all of it, and its size."""
        self._same(os.pread(self._file, MAX_SIZE + 1, 0), 0, len(self._model) + 1)
        size = os.fstat(self._file).st_size
        if size != len(self._model):
            self._fail(f"size {size} instead of {len(self._model)}")

    # --- steps: each returns what it did, for the history

    def _read(self) -> str:
        start, end = self._piece()
        self._same(os.pread(self._file, end - start, start), start, end)
        return f"{start}..{end}"

    def _write(self) -> str:
        start, end = self._piece()
        self._put(start, self._bytes(end - start))
        return f"{start}..{end}"

    def _append(self) -> str:
        content = self._bytes(self._random.randint(1, MAX_PIECE // 4))
        start = len(self._model)
        if start + len(content) > MAX_SIZE:
            return "(full)"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            assert os.write(file, content) == len(content)
        finally:
            os.close(file)
        self._model += content
        return f"{start}..{len(self._model)}"

    def _map_read(self) -> str:
        return self._mapped(write=False)

    def _map_write(self) -> str:
        return self._mapped(write=True)

    def _mapped(self, *, write: bool) -> str:
        if not self._model:
            return "(empty)"
        start = self._random.randrange(len(self._model))
        end = min(start + self._random.randint(1, MAX_PIECE), len(self._model))
        base = start - start % mmap.ALLOCATIONGRANULARITY
        access = mmap.ACCESS_WRITE if write else mmap.ACCESS_READ
        with mmap.mmap(self._file, end - base, access=access, offset=base) as mapped:
            self._same(mapped[start - base : end - base], start, end)
            if write:
                content = self._bytes(end - start)
                mapped[start - base : end - base] = content
                self._model[start:end] = content
                if self._random.random() < 0.5:
                    mapped.flush()
        return f"{start}..{end}"

    def _truncate(self) -> str:
        size = self._place()
        os.ftruncate(self._file, size)
        self._resize(size)
        return str(size)

    def _hole(self) -> str:
        size, cut = len(self._model), self._random.randint(0, len(self._model))
        os.ftruncate(self._file, cut)
        os.ftruncate(self._file, size)
        self._resize(cut)
        self._resize(size)
        return f"{cut}..{size}"

    def _sync(self) -> str:
        os.fsync(self._file)
        return ""

    def _reopen(self) -> str:
        os.close(self._file)
        self._file = os.open(self.path, os.O_RDWR)
        return ""

    def _drop_pages(self) -> str:
        os.fdatasync(self._file)
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)
        return ""

    # --- helpers

    def _place(self) -> int:
        """Anywhere, but often near a block border or the end."""
        choice = self._random.random()
        if choice < 0.3:
            border = self._random.randint(0, MAX_SIZE // BLOCK) * BLOCK
            return min(max(0, border + self._random.randint(-5000, 5000)), MAX_SIZE)
        if choice < 0.5:
            return min(max(0, len(self._model) + self._random.randint(-5000, 5000)), MAX_SIZE)
        return self._random.randint(0, MAX_SIZE)

    def _piece(self) -> tuple[int, int]:
        start = self._place()
        return start, min(start + self._random.randint(1, MAX_PIECE), MAX_SIZE)

    def _bytes(self, size: int) -> bytes:
        start = self._random.randrange(MAX_PIECE)
        return self._pattern[start : start + size]

    def _put(self, start: int, content: bytes) -> None:
        assert os.pwrite(self._file, content, start) == len(content)
        if content and start > len(self._model):
            self._resize(start)
        self._model[start : start + len(content)] = content

    def _resize(self, size: int) -> None:
        del self._model[size:]
        self._model += bytes(size - len(self._model))

    def _same(self, found: bytes, start: int, end: int) -> None:
        expected = self._model[start:end]
        if found == expected:
            return
        if len(found) != len(expected):
            self._fail(f"{len(found)} bytes at {start} instead of {len(expected)}")
        first = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
        self._fail(f"byte {start + first} is {found[first]:02x}, not {expected[first]:02x}")

    def _fail(self, what: str) -> None:
        last = "\n  ".join(self._history)
        raise DifferenceError(f"{what}; seed {self.seed}; the last operations:\n  {last}")


def main(arguments: list[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="random work on one file, compared with memory")
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("-o", dest="options", action="append", default=[])
    chosen = parser.parse_args(arguments)
    print(f"seed {chosen.seed}", flush=True)
    options = [word for option in chosen.options for word in ("-o", option)]
    with tempfile.TemporaryDirectory(prefix="ufs-") as name:
        folder = Path(name)
        with ServerProcess(folder / "server") as server, World(folder, server.endpoint) as world:
            world.run("init", "exercise")
            mount = world.mount("exercise", *options)
            began = time.monotonic()
            with Exerciser(mount.path / "file", chosen.seed) as exerciser:
                exerciser.run(chosen.operations)
            took = time.monotonic() - began
            mount.stop()
    print(f"{chosen.operations} operations, no difference, {took:.0f} s: {dict(exerciser.counts)}")


if __name__ == "__main__":
    main()
