"""What it would bring to spread segments over files: the same rows in 1, 4, 16 and 64 of them.

A model, not the index: the table of segments as in ``usenetfs/index/schema.py`` with the pragmas of
``usenetfs/index/database.py``, a row's file chosen by its hash. Once with all files attached to one
connection, as one transaction needs it; once with a thread and a connection for each half of the
files, which is as parallel as two cores allow (and is no transaction any more).

    python -m scripts.bench.index_shards [ROWS]
"""

from __future__ import annotations

import hashlib
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from usenetfs.index.database import CACHE, WAL_FALLBACK_PAGES
from usenetfs.index.schema import CREATE_SCHEMA

Row = tuple[int, bytes]

SHARDS: Final = (1, 4, 16, 64)
BATCH: Final = 1000
SMALL: Final = 500
"""Transactions of three rows."""

LOOKUPS: Final = 20_000
_TABLE: Final = next(text for text in CREATE_SCHEMA.split(";") if "TABLE segments" in text)
_INDEX: Final = "CREATE UNIQUE INDEX {}.segments_hash ON segments (hash)"
_INSERT: Final = "INSERT INTO {}.segments VALUES (?, ?, 716800, 716800, 0, ?1 + (1 << 40), 0, 1)"
_BY_HASH: Final = "SELECT id, article FROM {}.segments WHERE hash = ?"
_BY_ID: Final = "SELECT hash, article FROM {}.segments WHERE id = ?"


def make(folder: Path, shards: int) -> list[Path]:
    paths = [folder / f"shard{number:02}.db" for number in range(shards)]
    for path in paths:
        connection = apsw.Connection(str(path))
        connection.pragma("journal_mode", "wal")
        connection.execute(_TABLE)
        connection.execute(_INDEX.format("main"))
        connection.close()
    return paths


@contextmanager
def attached(paths: Sequence[Path], cache: int) -> Iterator[apsw.Connection]:
    """A connection to all of them, which share the page cache of one."""
    connection = apsw.Connection(":memory:", statementcachesize=512)
    for number, path in enumerate(paths):
        connection.execute(f"ATTACH ? AS s{number}", (str(path),))
        connection.execute(f"PRAGMA s{number}.synchronous = normal")
        connection.execute(f"PRAGMA s{number}.cache_size = {-(cache // 1024 // len(paths))}")
    connection.wal_autocheckpoint(WAL_FALLBACK_PAGES // len(paths))
    yield connection
    connection.close()


def spread(rows: Sequence[Row], shards: int) -> list[list[Row]]:
    found: list[list[Row]] = [[] for _ in range(shards)]
    for row in rows:
        found[row[1][0] % shards].append(row)
    return found


def insert(connection: apsw.Connection, rows: Sequence[Row], shards: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for number, part in enumerate(spread(rows, shards)):
        if part:
            connection.executemany(_INSERT.format(f"s{number}"), part)
    connection.execute("COMMIT")


def content(number: int) -> bytes:
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).digest()


def rows_of(first: int, count: int) -> list[Row]:
    return [(number, content(number)) for number in range(first, first + count)]


def measure(folder: Path, shards: int, rows: int) -> dict[str, float]:
    paths, figures = make(folder, shards), {}
    batches = [rows_of(1 + start, BATCH) for start in range(0, rows, BATCH)]
    with attached(paths, CACHE) as connection:
        started, processor = time.perf_counter(), time.process_time()
        for batch in batches:
            insert(connection, batch, shards)
        figures["rows/s"] = rows / (time.perf_counter() - started)
        figures["rows/CPU s"] = rows / (time.process_time() - processor)
        small = []
        for number in range(SMALL):
            three = rows_of((1 << 30) + 3 * number, 3)
            began = time.perf_counter_ns()
            insert(connection, three, shards)
            small.append(time.perf_counter_ns() - began)
        figures["commit of 3 rows µs"] = statistics.median(small) / 1000
        figures |= _lookups(connection, shards, rows)
    started = time.perf_counter()
    with attached(paths, CACHE) as connection:
        for number in range(shards):
            connection.execute(f"SELECT count(*) FROM s{number}.sqlite_schema").fetchall()
        figures["open ms"] = (time.perf_counter() - started) * 1000
    figures["MB"] = sum(path.stat().st_size for path in paths) / 1e6
    figures["rows/s, two threads"] = _in_threads(folder / "threads", shards, batches)
    return figures


def _lookups(connection: apsw.Connection, shards: int, rows: int) -> dict[str, float]:
    rng, by_hash, by_id = random.Random(1), [], []
    clock = time.perf_counter_ns
    for _ in range(LOOKUPS):
        number = rng.randrange(1, rows + 1)
        digest = content(number)
        place = f"s{digest[0] % shards}"
        began = clock()
        assert connection.execute(_BY_HASH.format(place), (digest,)).fetchone() is not None
        by_hash.append(clock() - began)
        began = clock()
        assert connection.execute(_BY_ID.format(place), (number,)).fetchone() is not None
        by_id.append(clock() - began)
    return {
        "by hash µs": statistics.median(by_hash) / 1000,
        "by id µs": statistics.median(by_id) / 1000,
    }


def _in_threads(folder: Path, shards: int, batches: Sequence[Sequence[Row]]) -> float:
    """Rows a second when two threads have half of the files each; one file has one thread."""
    folder.mkdir()
    paths = make(folder, shards)
    workers = min(2, shards)

    def work(worker: int) -> None:
        """Files ``worker``, ``worker`` + 2, …; what is theirs was picked out beforehand."""
        with attached(paths[worker::workers], CACHE // workers) as connection:
            for batch in mine[worker]:
                connection.execute("BEGIN IMMEDIATE")
                for number, part in enumerate(batch):
                    if part:
                        connection.executemany(_INSERT.format(f"s{number}"), part)
                connection.execute("COMMIT")

    mine = [
        [spread(batch, shards)[worker::workers] for batch in batches] for worker in range(workers)
    ]
    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(map(len, batches)) / (time.perf_counter() - started)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    columns = []
    for shards in SHARDS:
        with tempfile.TemporaryDirectory(prefix="usenetfs-bench-") as folder:
            columns.append(measure(Path(folder), shards, rows))
    print("| files | " + " | ".join(map(str, SHARDS)) + " |")
    print("|---|" + "--:|" * len(SHARDS))
    for name in columns[0]:
        cells = (
            f"{figures[name]:,.0f}" if figures[name] >= 100 else f"{figures[name]:.3g}"
            for figures in columns
        )
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
