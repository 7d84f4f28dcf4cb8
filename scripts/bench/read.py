"""``make bench-read``: out of a filesystem whose content is on the server alone, near and far.

One filesystem on one INN is filled once. Before each run it is mounted anew with an empty cache
(*cold*), with the distance asked for between it and the server. What was read is thrown away by the
reader; after the time has been taken the same files are read again through the same mount and their
hashes compared with what was copied in. NZBGet and the bare loop fetch as many octets as articles
from the same server over the same distance.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from scripts.bench import servers
from scripts.bench.background import background
from scripts.bench.command import Options, run_benchmark, settle
from scripts.bench.machine import CHECKOUT
from scripts.bench.movers import BARE, Mover
from scripts.bench.processes import Watch, run_measured
from scripts.bench.samples import BenchError, Contestant, Sample, Scenario
from scripts.bench.shelf import Shelf
from scripts.world import CommandError, Mount
from usenetfs.config.units import human_size

TIMEOUT: Final = 600.0
NEAR: Final = (0,)
ROUND_TRIPS: Final = (0, 30, 100)
"""Milliseconds."""
PAGES: Final = 200
PLAYER_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Reading:
    """One kind of reading. ``arguments``: those of ``reader.py``, paths below the mount."""

    key: str
    title: str
    parts: tuple[str, ...]
    """What of the shelf it reads."""
    arguments: Callable[[Path], list[str]]
    warm: bool = False
    """Read once before, so that the cache on disk has it; the kernel's pages are dropped."""
    rivals: str = ""
    """The part that the bare loop and NZBGet fetch as well."""
    distances: tuple[int, ...] = ROUND_TRIPS
    """Milliseconds; near alone where distance says nothing."""
    busy: bool = False
    """While a bulk upload, a ``cp -r`` of another tree and a verification run."""


def readings(options: Options) -> list[Reading]:
    """All kinds."""
    what = human_size(options.size)
    quarters = tuple(f"quarter{number}" for number in range(4))
    eights = tuple(f"eighth{number}" for number in range(8))
    starts = tuple(f"start{number:02}" for number in range(20))

    def below(kind: str, names: Sequence[str], *more: str) -> Callable[[Path], list[str]]:
        return lambda top: [kind, *(str(top / name) for name in names), *more]

    return [
        Reading(
            "seq",
            f"cold, {what}",
            ("one",),
            below("sequential", ["one"]),
            rivals="one",
            distances=(0, 30, 50, 100),
        ),
        Reading("tree", "cold, a source tree", ("tree",), below("tree", ["tree"]), rivals="tree"),
        Reading(
            "random",
            f"cold, {PAGES} random pages of 4 KiB in {what}",
            ("one",),
            below("random", ["one"], str(PAGES)),
        ),
        Reading("first", "cold, first octet of 20 files", starts, below("first", starts)),
        Reading(
            "four",
            f"cold, 4 readers of {human_size(options.size // 4)} at once",
            quarters,
            below("sequential", quarters),
        ),
        Reading(
            "warm",
            f"cached, {what}",
            ("one",),
            below("sequential", ["one"]),
            warm=True,
            distances=NEAR,
        ),
        Reading(
            "eight",
            f"cold, 8 readers of {what}",
            eights,
            below("sequential", eights),
            distances=NEAR,
        ),
        Reading(
            "player",
            "a player (5 MB/s, seeks) while much else runs",
            ("one", "tree"),
            below("player", ["one"], str(PLAYER_SECONDS)),
            busy=True,
        ),
    ]


@contextlib.contextmanager
def opened(
    reading: Reading, far: float, options: Options, shelf: Shelf
) -> Iterator[Sequence[Contestant]]:
    """The contestants, with everything they read in its place."""
    shelf.fill(reading.parts)
    with contextlib.ExitStack() as stack:
        distant = stack.enter_context(servers.distance(shelf.server, far))
        found = [Contestant("usenetfs", lambda _: _read(reading, shelf, distant.port))]
        if reading.rivals:
            mover = Mover(shelf.flat(reading.rivals), options.folder, options.connections)
            ids = mover.new_ids()
            mover.client(BARE, "upload", shelf.server, ids)
            depth = 16 if far > 0.05 else 8 if far else 4
            found.append(mover.downloader("bare loop", BARE, distant, ids, depth))
            found.append(mover.nzbget(distant, ids))
        settle()
        yield found


def _read(reading: Reading, shelf: Shelf, port: int) -> Sample:
    try:
        with shelf.mounted(port, cold=not reading.warm) as mount:
            if reading.warm:
                shelf.compare(mount, reading.parts)
                mount.stop()  # the kernel's pages go with it, the cache on disk stays
                mount.start()
            settle()
            sample = _measured(reading, shelf, mount)
            shelf.compare(mount, reading.parts)
    except (CommandError, TimeoutError) as error:
        raise BenchError(str(error)) from error
    return sample


def _measured(reading: Reading, shelf: Shelf, mount: Mount) -> Sample:
    assert mount.pid is not None
    beside: AbstractContextManager[dict[str, float]] = contextlib.nullcontext({})
    if reading.busy:
        beside = background(shelf, mount)
    watch = Watch.begin(mount.pid)
    with beside as others:
        command = [sys.executable, "-m", "scripts.bench.reader", *reading.arguments(mount.path)]
        ended = run_measured(command, timeout=TIMEOUT, directory=CHECKOUT)
    cpu, peak = watch.cpu_seconds() + ended.cpu_seconds, watch.peak_rss()
    said = json.loads(ended.stdout)
    size, seconds = int(said.pop("octets")), said.pop("seconds")
    if any(name.endswith(" ms") for name in said):
        return Sample(0, seconds, cpu, peak, {**said, **others, "CPU s": cpu})
    return Sample(size, seconds, cpu, peak, said)


def scenarios(options: Options) -> list[Scenario]:
    """Each kind at each distance; what says nothing about distance only near."""
    shelf = Shelf(options)
    found = []
    for reading in readings(options):
        for far in reading.distances:
            title = f"{reading.title}, INN, {far} ms, {options.connections} connections"
            opening = partial(opened, reading, far / 1000, options, shelf)
            baseline = "bare loop" if reading.rivals else "usenetfs"
            found.append(Scenario(f"{reading.key}-{far}", title, baseline, opening))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    purpose = "Measure reading what is on the server alone."
    return run_benchmark("read", purpose, scenarios, arguments, connections=20)


if __name__ == "__main__":
    sys.exit(main())
