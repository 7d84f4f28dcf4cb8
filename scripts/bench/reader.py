"""A program that reads files as others would, and says how long what took: one line of JSON.

What it reads it throws away (the benchmark compares contents afterwards). Kinds:

- ``sequential PATH…``: one thread for each path, from the start to the end, 1 MiB at a time;
- ``tree PATH``: every file below it, one after the other, in the order of names;
- ``random PATH COUNT``: COUNT aligned reads of 4 KiB at random places;
- ``first PATH…``: opens each, and reads one octet of it;
- ``player PATH SECONDS``: 5 MB/s in pieces of 128 KiB, a seek to anywhere every 5 seconds.

Latencies are in milliseconds. Files are opened anew, so nothing of the kernel's read-ahead state is
left from before.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

PIECE: Final = 1 << 20
PAGE: Final = 4096
PLAYER_PIECE: Final = 128 << 10
PLAYER_RATE: Final = 5_000_000
SEEK_EVERY: Final = 5.0
SEED: Final = 1

Figures = dict[str, float]


def sequential(paths: Sequence[str]) -> Figures:
    """All of them at once."""
    with ThreadPoolExecutor(len(paths)) as pool:
        sizes = list(pool.map(_read_all, paths))
    return {"octets": sum(sizes)}


def _read_all(path: str) -> int:
    buffer = bytearray(PIECE)
    total = 0
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            total += count
    return total


def tree(paths: Sequence[str]) -> Figures:
    """Every file below a folder."""
    total = files = 0
    for folder, folders, names in os.walk(paths[0]):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                total += _read_all(path)
                files += 1
    return {"octets": total, "files": files}


def random_pages(paths: Sequence[str]) -> Figures:
    """The latency of single pages."""
    path, count = paths[0], int(paths[1])
    chosen = random.Random(SEED)
    size = Path(path).stat().st_size
    took = []
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(count):
            place = chosen.randrange(size // PAGE) * PAGE
            started = time.perf_counter()
            if len(os.pread(file.fileno(), PAGE, place)) != PAGE:
                raise EOFError(f"{path} ended early")
            took.append(time.perf_counter() - started)
    return {"octets": count * PAGE, **percentiles(took)}


def first(paths: Sequence[str]) -> Figures:
    """The latency of the first octet, the opening included."""
    took = []
    for path in paths:
        started = time.perf_counter()
        with open(path, "rb", buffering=0) as file:
            if not file.read(1):
                raise EOFError(f"{path} is empty")
        took.append(time.perf_counter() - started)
    return {"octets": len(paths), **percentiles(took)}


def player(paths: Sequence[str]) -> Figures:
    """A stall is how long after it was due a piece came; seeks, due when asked, count apart."""
    path, seconds = paths[0], float(paths[1])
    chosen = random.Random(SEED)
    size = Path(path).stat().st_size
    late: list[float] = []
    seeks: list[float] = []
    total = place = 0
    pause = threading.Event()
    started = due = time.perf_counter()
    next_seek = started
    with open(path, "rb", buffering=0) as file:
        while (asked := time.perf_counter()) < started + seconds:
            seeking = asked >= next_seek or place >= size
            if seeking:
                place = chosen.randrange(max(1, size - PLAYER_PIECE))
                next_seek, due = asked + SEEK_EVERY, asked
            total += len(os.pread(file.fileno(), PLAYER_PIECE, place))
            (seeks if seeking else late).append(time.perf_counter() - due)
            place += PLAYER_PIECE
            # What comes late delays all that follows: the picture stood still meanwhile.
            due = max(due + PLAYER_PIECE / PLAYER_RATE, time.perf_counter())
            pause.wait(max(0.0, due - time.perf_counter()))
    return {
        "octets": total,
        **percentiles(late, "stall"),
        "seek p50 ms": statistics.median(seeks) * 1000,
        "seek max ms": max(seeks) * 1000,
    }


def percentiles(took: Sequence[float], what: str = "") -> Figures:
    """Median, 95th, 99th percentile and maximum of seconds, in milliseconds."""
    ordered = sorted(took)
    name = f"{what} " if what else ""
    found = {
        f"{name}p{percent} ms": ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000
        for percent in (50, 95, 99)
    }
    return {**found, f"{name}max ms": ordered[-1] * 1000}


KINDS: Final[dict[str, Callable[[Sequence[str]], Figures]]] = {
    "sequential": sequential,
    "tree": tree,
    "random": random_pages,
    "first": first,
    "player": player,
}


def main(arguments: Sequence[str]) -> int:
    """The program."""
    work = KINDS[arguments[0]]
    started = time.perf_counter()
    figures = work(arguments[1:])
    print(json.dumps({"seconds": time.perf_counter() - started, **figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
