"""What a checkpoint of a large index costs, and how long the event loop is held up.

A synthetic index of N files (inode, name, block, segment each; twenty segments an article) in
directories of fifty. Servers are in memory, so what is measured is ours. A task ticks every
millisecond meanwhile; the longest pause between two ticks is how long a mount would have waited.

    python -m scripts.bench.checkpoint [N]
    python -m scripts.bench.checkpoint --new N [--staged N]

The second form: one checkpoint of N new files, of which some have content that is not uploaded yet;
and by how much memory grows meanwhile.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from tests.checkpoint.chains import Reader, publisher_of
from tests.transfer.world import FILESYSTEM_ID, KEYS, FakeServers
from usenetfs.article.message_ids import chain_message_id
from usenetfs.article.wire import OutgoingArticle
from usenetfs.article.yenc import decode_body
from usenetfs.checkpoint.publish import Publisher
from usenetfs.index.chain import ChainState
from usenetfs.index.index import Index
from usenetfs.index.sqlite_process import leave_out_statistics
from usenetfs.net.providers import FetchedBody, PostResult
from usenetfs.types import ROOT_INODE, Lane, MessageId

BLOCK = 716_800

_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i <= ?1)"
_FILL = (
    (
        f"{_NUMBERS} INSERT INTO inodes SELECT i, CASE WHEN i % 50 = 2 THEN 16877 ELSE 33188 END,"
        " 1000, 1000, CASE WHEN i % 50 = 2 THEN 2 ELSE 1 END, CASE WHEN i % 50 = 2 THEN 0 ELSE 5000"
        " + i % 90000 END, 0, 1700000000000000000 + i * 7919, 1690000000000000000 + i * 104729,"
        " 1700000000000000000 + i * 7919 FROM n"
    ),
    (
        f"{_NUMBERS} INSERT INTO dirents SELECT CASE WHEN i % 50 = 2 THEN 1 ELSE i - i % 50 + 2 -"
        " CASE WHEN i % 50 < 2 THEN 50 ELSE 0 END END, abs(random()) >> 2 | 4,"
        " CAST(printf('document number %d.txt', i) AS BLOB), i FROM n"
    ),
    (
        f"{_NUMBERS} INSERT INTO segments SELECT i, randomblob(16), 5000 + i % 90000, 3000 + i % 9,"
        " 1, (1 << 40) + i / 20, i % 20, 1 FROM n WHERE i % 50 <> 2"
    ),
    f"{_NUMBERS} INSERT INTO blocks SELECT i, 0, i, 5000 + i % 90000 FROM n WHERE i % 50 <> 2",
    (
        "INSERT INTO articles SELECT article, 0, 2, 700000, 1700000000, count(*), sum(raw_length)"
        " FROM segments GROUP BY article"
    ),
    "UPDATE inodes SET nlink = 2 + (SELECT count(*) FROM inodes WHERE id % 50 = 2) WHERE id = 1",
)


class QuickServers(FakeServers):
    """They keep what they are sent as it is: decoding is not what is measured."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: dict[MessageId, bytes] = {}

    async def post(self, article: OutgoingArticle, *, lane: Lane = Lane.UPLOAD) -> PostResult:
        await trio.lowlevel.checkpoint()
        self.sent[article.message_id] = article.wire
        return PostResult("one", article.message_id)

    async def stat(
        self, message_id: MessageId, *, lane: Lane, exclude: AbstractSet[str] = frozenset()
    ) -> str | None:
        await trio.lowlevel.checkpoint()
        return "one" if message_id in self.sent else None

    async def fetch(self, message_id: MessageId, **how: Any) -> FetchedBody:
        if message_id in self.sent:
            self.decode(message_id)
        return await super().fetch(message_id, **how)

    @property
    def octets(self) -> int:
        return sum(map(len, self.sent.values()))

    def decode(self, message_id: MessageId) -> None:
        """Make one article readable."""
        wire = self.sent[message_id]
        self.articles[message_id] = bytes(decode_body(wire[wire.index(b"\r\n\r\n") + 4 :]))


def fill(index: Index, count: int) -> None:
    """Rows as if ``count`` files had been made and uploaded."""
    index.changelog.close()  # these go into the first snapshot; their capture is not the question
    with index.transaction():
        for sql in _FILL:
            index.database.write(sql, (count,) if "?1" in sql else ())
        index.totals.recount()


def change(index: Index, start: int) -> None:
    """A hundred changes: new files, new times."""
    for number in range(50):
        with index.transaction():
            times = (time.time_ns(),) * 3
            inode = index.inodes.insert(0o100644, 0, 0, 1, 0, 0, times).id
            index.dirents.insert(ROOT_INODE, b"new %d" % (start + number), inode)
        with index.transaction():
            index.database.write(
                "UPDATE inodes SET mtime_ns = ? WHERE id = ?", (time.time_ns(), 1000 + number * 777)
            )


def new_files(index: Index, count: int, staged: int) -> None:
    """``count`` files in the root, made and uploaded in transactions of a hundred; the content of
    ``staged`` of them has changed since."""
    numbers = random.Random(1)
    first = 1000
    for start in range(first, first + count, 100):
        files, article = range(start, start + 100), (1 << 40) + start // 100
        with index.transaction():
            for table, rows in (
                ("inodes", [(i, 0o100644, 1, 1, 1, 5000, 0, i, i, i) for i in files]),
                ("dirents", [(1, numbers.getrandbits(60) | 4, b"IMG_%08d" % i, i) for i in files]),
                (
                    "segments",
                    [(i, numbers.randbytes(16), 5000, 4000, 1, article, i % 100, 1) for i in files],
                ),
                ("blocks", [(i, 0, i, 5000) for i in files]),
                ("articles", [(article, 0, 2, 400_000, 1_700_000_000, 100, 500_000)]),
            ):
                places = ", ".join("?" * len(rows[0]))
                index.database.write_many(f"INSERT INTO {table} VALUES ({places})", rows)
    with index.transaction():
        index.database.write(
            "INSERT INTO local_staging SELECT id, 0, id, 1, x'', 5000, 1, 1, 1, 0, 0, 0, 0"
            " FROM inodes WHERE id >= ? ORDER BY id % 97, id LIMIT ?",
            (first, staged),
        )


def most_memory(*, forget: bool = False) -> float:
    """The most MB that this process had resident; ``forget``: from now on."""
    if forget:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


async def run_new(count: int, staged: int, folder: Path) -> dict[str, object]:
    path = folder / "index.db"
    with Index.create(
        path,
        filesystem_id=FILESYSTEM_ID,
        name="bench",
        block_size=BLOCK,
        directory_key=KEYS.directory_key,
    ) as index:
        servers = QuickServers()
        publisher = publisher_of(index, servers, folder, piece_size=BLOCK, interval=0.01)
        await publisher.publish()
        with index.transaction():  # otherwise the next one is a snapshot
            index.chain.set_state(replace(publisher.state, snapshot_size=1 << 40))
        publisher = publisher_of(index, servers, folder, piece_size=BLOCK, interval=0.01)
        new_files(index, count, staged)
        index.maintain()
        before = most_memory(forget=True)
        measure = await measured(publisher.publish)
        return {
            "new files": count,
            "held inodes": publisher.state.held,
            **measure,
            "memory before, MB": round(before),
            "at most, MB": round(most_memory()),
            "octets kept by the servers, MB": round(servers.octets / 1e6),
        }


async def measured(call: Callable[[], object]) -> dict[str, float]:
    """Run ``await call()`` beside the ticks: seconds, processor seconds, longest pause."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        last = time.perf_counter()
        while True:
            await trio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last - 0.001), now

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        await trio.sleep(0.05)
        longest = 0.0
        started, processor = time.perf_counter(), time.process_time()
        await call()  # type: ignore[misc]
        result = {
            "seconds": round(time.perf_counter() - started, 3),
            "processor_seconds": round(time.process_time() - processor, 3),
            "longest_pause_ms": round(longest * 1000, 1),
        }
        nursery.cancel_scope.cancel()
    return result


def grown(index: Index, state: ChainState, servers: FakeServers, folder: Path) -> Publisher:
    """A publisher whose changesets have outgrown half of the last snapshot."""
    with index.transaction():
        index.chain.set_state(replace(state, grown=state.snapshot_size + (1 << 20)))
    return publisher_of(index, servers, folder, piece_size=BLOCK, interval=0.01)


async def run(count: int, folder: Path) -> dict[str, object]:
    path = folder / "index.db"
    with Index.create(
        path,
        filesystem_id=FILESYSTEM_ID,
        name="bench",
        block_size=BLOCK,
        directory_key=KEYS.directory_key,
    ) as index:
        fill(index, count)
    servers = QuickServers()
    reader = Reader(servers)
    result: dict[str, object] = {"files": count}
    with Index.open(path, directory_key=KEYS.directory_key) as index:
        index.maintain()
        publisher = publisher_of(index, servers, folder, piece_size=BLOCK, interval=0.01)
        result["first snapshot"] = await measured(publisher.publish)
        snapshot = servers.octets
        result["snapshot octets posted, all copies"] = snapshot
        small = []
        for round_number in range(5):
            change(index, round_number * 100)
            before = servers.octets
            measure = await measured(publisher.publish)
            posted = servers.octets - before
            small.append(measure | {"octets posted, all copies": posted})
        result["after 100 changes"] = small
        servers.decode(chain_message_id(KEYS.chain_key, publisher.state.number))
        opened = reader.checkpoint(publisher.state.number)
        assert opened is not None
        assert opened.record.changeset is not None
        result["changeset octets"] = opened.record.changeset.stored
        publisher = grown(index, publisher.state, servers, folder)
        change(index, 1000)
        result["a later snapshot"] = await measured(publisher.publish)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("files", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--new", type=int, default=0)
    parser.add_argument("--staged", type=int, default=0)
    asked = parser.parse_args()
    leave_out_statistics()
    with tempfile.TemporaryDirectory(prefix="usenetfs-bench-") as made:
        folder = Path(made)
        if asked.new:
            result = trio.run(run_new, asked.new, asked.staged, folder)
        else:
            result = trio.run(run, asked.files, folder)
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
