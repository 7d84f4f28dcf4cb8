"""A million files come back within minutes, at the distance of a real provider.

The index is written directly (uploading a million files is another test's business), published by
the daemon as it publishes any, and recovered by the command.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from scripts.bench.servers import distance
from scripts.world import ServerProcess, World
from tests.e2e.conftest import NAME
from usenetfs.index.chain import ChainState, ChainTable
from usenetfs.index.database import Database
from usenetfs.index.totals import TotalsTable
from usenetfs.types import article_id

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

FILES = 1_000_000
PER_DIRECTORY = 1000
PER_ARTICLE = 150
LATENCY = "30 ms"
LINE = 12_500_000.0
"""Octets a second of a home line: 100 Mbit/s."""
SNAPSHOT_COPIES = 4
LIMIT = 180.0
"""Seconds for all of ``usenetfs recover``."""


def fill(path: Path) -> None:
    """Rows for files of 4 kB in directories, with names, times and hashes like real ones."""
    numbers = random.Random(1)
    connection = apsw.Connection(str(path))
    connection.pragma("synchronous", "off")
    now = 1_790_000_000_000_000_000

    def inodes() -> Iterator[tuple[int, ...]]:
        for directory in range(FILES // PER_DIRECTORY):
            yield (2 + directory, 0o040755, 1000, 1000, 2, 0, 0, now, now, now)
        for file in range(FILES):
            at = now + numbers.getrandbits(50)
            size = numbers.randrange(1, 8192)
            yield (100_000 + file, 0o100644, 1000, 1000, 1, size, 0, at, at, at)

    def dirents() -> Iterator[tuple[int, int, bytes, int]]:
        for directory in range(FILES // PER_DIRECTORY):
            yield (1, numbers.getrandbits(62), b"directory %d" % directory, 2 + directory)
        for file in range(FILES):
            name = b"IMG_%08d.jpeg" % numbers.randrange(10**8)
            yield (2 + file // PER_DIRECTORY, numbers.getrandbits(62), name, 100_000 + file)

    with connection:
        connection.execute(
            "UPDATE inodes SET nlink = ? WHERE id = 1", (2 + FILES // PER_DIRECTORY,)
        )
        connection.executemany("INSERT INTO inodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", inodes())
        connection.executemany("INSERT INTO dirents VALUES (?, ?, ?, ?)", dirents())
        connection.executemany(
            "INSERT INTO segments VALUES (?, ?, 4096, 4000, 1, ?, ?, 1)",
            (
                (
                    1 + n,
                    numbers.randbytes(16),
                    article_id(1, 10 + n // PER_ARTICLE),
                    n % PER_ARTICLE,
                )
                for n in range(FILES)
            ),
        )
        connection.executemany(
            "INSERT INTO blocks VALUES (?, 0, ?, 4096)",
            ((100_000 + n, 1 + n) for n in range(FILES)),
        )
        connection.executemany(
            "INSERT INTO articles VALUES (?, 0, 2, 700000, 1790000000, ?, ?)",
            (
                (article_id(1, 10 + n), PER_ARTICLE, PER_ARTICLE * 4096)
                for n in range(-(-FILES // PER_ARTICLE))
            ),
        )
        connection.execute(
            "INSERT INTO local_meta VALUES ('next_article', 100000)"
            " ON CONFLICT (key) DO UPDATE SET value = 100000"
        )
    connection.close()


def to_be_published_whole(path: Path) -> None:
    """As after a takeover: the next checkpoint is a snapshot of everything."""
    database = Database(path)
    chain, totals = ChainTable(database), TotalsTable(database)
    state = chain.state()
    assert state is not None
    with database.transaction():
        totals.recount()
    chain.start(ChainState(state.writer, number=state.number, record_hash=state.record_hash))
    database.close()


@pytest.mark.timeout(1500)
def test_a_million_files_come_back(folder: Path) -> None:
    with ServerProcess(folder / "server") as near:
        world = World(folder, near.endpoint)
        with world:
            world.run("init", NAME)
            index = world.data_dir / NAME / "index.db"
            fill(index)
            to_be_published_whole(index)
            mount = world.mount(NAME)
            started = time.monotonic()
            mount.sync(timeout=900)
            print(f"snapshot published after {time.monotonic() - started:.1f} s")
            mount.stop()
            shutil.rmtree(world.data_dir)
    octets = sum(file.stat().st_size for file in (folder / "server").rglob("*") if file.is_file())
    print(f"{octets / SNAPSHOT_COPIES / 1e6:.0f} MB to download, at least")
    with ServerProcess(folder / "server", "--latency", LATENCY) as far:
        for rate in (None, LINE):
            with distance(far.endpoint, 0, rate=rate) as line, World(folder, line) as world:
                recover(world, rate)
                shutil.rmtree(world.data_dir)


def recover(world: World, rate: float | None) -> None:
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = world.run("recover", NAME, "--yes", "--json", timeout=600)
    took, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    answer = json.loads(done.stdout)
    line = "any rate" if rate is None else f"{rate / 1e6:g} MB/s"
    print(f"recovered {answer['files']} files at {line} in {took:.1f} s ({processor:.1f} s of CPU)")
    assert answer["files"] == FILES
    assert answer["lost"] == []
    assert took < LIMIT
