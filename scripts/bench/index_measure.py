"""What is measured of one index: each function takes an open index and returns figures by name.

Times are of single calls, in microseconds: median and 99th percentile. The system's file cache is
warm (the machine has the memory), SQLite's own is as small as ever, and calls go to random places.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Final

import trio

from scripts.bench.checkpoint import QuickServers, change, measured
from scripts.bench.index_fill import Samples, reopen, segment_hash
from scripts.bench.index_load import StoredArticle, StoredMember, load
from scripts.bench.index_tree import BLOCK, LARGE_BLOCKS, Directory, directories, size_of
from tests.checkpoint.chains import publisher_of
from usenetfs.daemon.upkeep import keep_in_shape
from usenetfs.errors import UsenetfsError
from usenetfs.index.articles import ArticleState, InFlightArticle, NewArticle, NewMember
from usenetfs.index.chain import ChainState, Publication, Stage
from usenetfs.index.index import Index
from usenetfs.index.settling import KEPT
from usenetfs.index.staging import StagedBlock
from usenetfs.index.transitions import NewRecord, PostedArticle
from usenetfs.types import ROOT_INODE, ArticleId, BlockNumber, Codec, InodeId, SegmentHash

Figures = dict[str, float]

CALLS: Final = 10_000
NOW_NS: Final = 1_750_000_000_000_000_000
TIMES: Final = (NOW_NS, NOW_NS, NOW_NS)
BATCH: Final = 1000
SUSTAINED: Final = 6.0
"""Seconds."""

LONG_LOG: Final = 60 * 1024 * 1024
_NEW: Final = count(1 << 40)
"""Numbers of contents that are stored nowhere yet."""


def resident() -> float:
    """Octets of memory that this process holds."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1]) * 1024
    raise ValueError("no VmRSS")


def timed(name: str, arguments: Iterable[Any], call: Callable[[Any], object]) -> Figures:
    """``call`` each of the arguments: median and 99th percentile, in microseconds."""
    clock, taken = time.perf_counter_ns, []
    for argument in arguments:
        started = clock()
        call(argument)
        taken.append(clock() - started)
    return _percentiles(name, taken)


def _percentiles(name: str, taken: Sequence[int]) -> Figures:
    ranked = sorted(taken)
    return {
        f"{name} µs": statistics.median(ranked) / 1000,
        f"{name} p99 µs": ranked[len(ranked) * 99 // 100] / 1000,
    }


# --- reading -------------------------------------------------------------------------------------


def lookups(index: Index, samples: Samples, rng: random.Random) -> Figures:
    """Names, whole paths, and directories."""
    files = [rng.choice(samples.files) for _ in range(CALLS)]

    def walk(path: tuple[bytes, ...]) -> None:
        inode = ROOT_INODE
        for name in path:
            found = index.dirents.lookup(inode, name)
            assert found is not None
            inode = found

    def look(file: tuple[int, bytes, int, tuple[bytes, ...]]) -> None:
        parent, name, number, _ = file
        found = index.dirents.lookup(InodeId(parent), name)
        assert found == number
        assert index.inodes.get(found) is not None

    figures = timed("lookup", files, look)
    figures |= timed("path walk", [(*path, name) for _, name, _, path in files], walk)
    figures["path walk depth"] = statistics.mean(len(path) + 1 for *_, path in files)
    return figures | _listing(index, samples, rng)


def _listing(index: Index, samples: Samples, rng: random.Random) -> Figures:
    """A directory of usual size as ``ls -l`` reads it, and a huge one by the entry."""
    usual = [d for d in samples.directories if 10 <= d[1] <= 40]
    chosen = [rng.choice(usual)[0] for _ in range(CALLS // 5)]
    figures = timed("readdir", chosen, lambda d: index.dirents.list(InodeId(d), 0, 1000))
    flat, size = max(samples.directories, key=lambda d: d[1])
    started, after, seen = time.perf_counter_ns(), 0, 0
    while entries := index.dirents.list(InodeId(flat), after, 1000):
        seen, after = seen + len(entries), entries[-1].cookie
    assert seen >= size
    figures["readdir, of a huge one, an entry µs"] = (
        (time.perf_counter_ns() - started) / 1000 / seen
    )
    return figures


def block_lookups(index: Index, samples: Samples, rng: random.Random) -> Figures:
    """Where a block is, in large files; and whether a content is stored already."""
    blocks = [(rng.choice(samples.large), rng.randrange(LARGE_BLOCKS)) for _ in range(CALLS)]

    def locate(block: tuple[int, int]) -> None:
        assert len(index.blocks.locate(InodeId(block[0]), BlockNumber(block[1]), 1)) == 1

    def known(content: bytes) -> None:
        assert index.segments.by_hash(SegmentHash(content)) is not None

    def unknown(content: bytes) -> None:
        assert index.segments.by_hash(SegmentHash(content)) is None

    figures = timed("block lookup", blocks, locate)
    figures |= timed("by content", [rng.choice(samples.hashes) for _ in range(CALLS)], known)
    new = [segment_hash(next(_NEW)) for _ in range(CALLS)]
    return figures | timed("by content, not there", new, unknown)


# --- writing -------------------------------------------------------------------------------------


class Stopwatch:
    """Wall and processor seconds of what is done in its ``with`` blocks."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0
        self._began = (0.0, 0.0)

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.processor += time.process_time() - self._began[1]

    def rates(self, name: str, number: int) -> Figures:
        return {f"{name}/s": number / self.wall, f"{name}/CPU s": number / self.processor}


def tidy(index: Index) -> None:
    """What the daemon does meanwhile: carried changes go, the log is kept short, and where content
    is spread over files, rows go there."""
    while True:
        with index.transaction():
            if not index.changelog.trim(index.changelog.last, 256):
                break
    index.settling.run(KEPT)
    index.maintain()


def insert_files(index: Index, number: int) -> Figures:
    """New files in new directories, a thousand in a transaction; their changes are recorded."""
    watch, made, inside = Stopwatch(), 0, 0
    before = index.inodes.totals().files
    top = _directory(index, ROOT_INODE, b"inserted after %d" % before)
    for batch in _batches(directories(number, seed=next(_NEW))):
        with watch, index.transaction():
            names: list[tuple[InodeId, bytes, InodeId]] = []
            for directory in batch:
                row = (0o040755, 1000, 1000, 2, 0, 0, TIMES)
                (above,) = index.inodes.insert_many([row])
                names.append((top, b"%s %d" % (directory.name, above), above))
                inside += 1
                rows = [
                    (0o100644, 1000, 1000, 1, 0, size_of(n), TIMES)
                    for n in range(len(directory.files))
                ]
                inodes = index.inodes.insert_many(rows)
                names += zip([above] * len(rows), directory.files, inodes, strict=True)
            index.dirents.insert_many(names)
            made += len(names)
        with watch:
            tidy(index)
    _add_links(index, top, inside)
    return watch.rates("files", made)


def _directory(index: Index, parent: InodeId, name: bytes) -> InodeId:
    with index.transaction():
        inode = index.inodes.insert(0o040755, 1000, 1000, 2, 0, 0, TIMES).id
        index.dirents.insert(parent, name, inode)
    _add_links(index, parent, 1)
    return inode


def _add_links(index: Index, directory: InodeId, subdirectories: int) -> None:
    with index.transaction():
        row = index.inodes.get(directory)
        assert row is not None
        index.inodes.update(replace(row, nlink=row.nlink + subdirectories))


def _batches(all_of_them: Iterable[Directory]) -> Iterator[list[Directory]]:
    batch: list[Directory] = []
    for directory in all_of_them:
        batch.append(directory)
        if sum(len(one.files) for one in batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def insert_blocks(index: Index, number: int) -> Figures:
    """Blocks of a new large file, each in an article of its own; then again, as known content."""
    first, again = _file(index, number), _file(index, number)
    hashes = [SegmentHash(segment_hash(next(_NEW))) for _ in range(number)]

    def articles(inode: InodeId) -> Iterator[StoredArticle]:
        for block, content in enumerate(hashes):
            flown = InFlightArticle(
                index.articles.allocate(), 0, ArticleState.POSTED, b"", 724_000, NOW_NS, None, None
            )
            member = StoredMember(inode, BlockNumber(block), content, Codec.NONE, BLOCK, BLOCK)
            yield StoredArticle(flown, [member])

    figures: Figures = {}
    for name, inode in (("new blocks", first), ("known blocks", again)):
        stored, watch = list(articles(inode)), Stopwatch()
        with watch:
            for place, _ in enumerate(load(index, stored, NOW_NS, BATCH)):
                if place % 20 == 0:
                    tidy(index)
            tidy(index)
        figures |= watch.rates(name, number)
    return figures | _block_rows(index, number)


def _block_rows(index: Index, number: int) -> Figures:
    """Rows of the block map alone, captured like all others: what is left when nothing is new.

    They point to content that does not count them, so they are taken away again.
    """
    inode, watch = _file(index, number), Stopwatch()
    insert = "INSERT INTO blocks (inode, number, segment, length) VALUES (?, ?, 1, ?)"
    for start in range(0, number, BATCH):
        rows = [(inode, block, BLOCK) for block in range(start, min(start + BATCH, number))]
        with watch, index.transaction():
            index.database.write_many(insert, rows)
    with watch:
        tidy(index)
    with index.transaction():
        index.database.write("DELETE FROM blocks WHERE inode = ?", (inode,))
    return watch.rates("rows of the block map alone", number)


def _file(index: Index, blocks: int) -> InodeId:
    with index.transaction():
        inode = index.inodes.insert(0o100644, 0, 0, 1, 0, blocks * BLOCK, TIMES).id
        index.dirents.insert(ROOT_INODE, b"large %d" % inode, inode)
    return inode


def write_path(index: Index, articles: int) -> Figures:
    """Blocks from staged to seen by all the steps of the write path, a hundred a transaction."""
    inode, watch = _file(index, articles), Stopwatch()
    for start in range(0, articles, 100):
        hashes = [SegmentHash(segment_hash(next(_NEW))) for _ in range(100)]
        with watch:
            _upload(index, inode, start, hashes)
    with watch:
        tidy(index)
    return watch.rates("blocks, staged to seen,", articles)


def _upload(index: Index, inode: InodeId, start: int, hashes: Sequence[SegmentHash]) -> None:
    generations = [index.staging.next_generation() for _ in hashes]
    with index.transaction():
        index.staging.put_many(
            StagedBlock(
                inode, BlockNumber(start + n), generation, whole=True, extents=(), dirtied_ns=NOW_NS
            )
            for n, generation in enumerate(generations)
        )
    records, flown = [], []
    for n, (generation, content) in enumerate(zip(generations, hashes, strict=True)):
        block = BlockNumber(start + n)
        member = NewMember(inode, block, generation, content, Codec.NONE, BLOCK, BLOCK)
        article: ArticleId = index.articles.allocate()
        flown.append(article)
        records.append(NewRecord(NewArticle(article, 0, b"s" * 32, 724_000, [member])))
    assert sum(index.record_articles(records)) == len(hashes)
    posted = [PostedArticle(article, "one", None, NOW_NS) for article in flown]
    index.mark_outcomes(posted, (), (), NOW_NS)
    assert len(index.mark_outcomes((), flown, (), NOW_NS).freed) == len(hashes)


def deletions(index: Index, samples: Samples, rng: random.Random) -> Figures:
    """Small files, each in the transactions that unlink makes of it; and blocks of a large one."""

    def delete(file: tuple[int, bytes, int, tuple[bytes, ...]]) -> None:
        parent, name, number, _ = file
        with index.transaction():
            assert index.dirents.remove(InodeId(parent), name) == number
        with index.transaction():
            index.blocks.delete_from(InodeId(number), BlockNumber(0), BATCH)
            index.inodes.delete(InodeId(number))

    victims = rng.sample(samples.files, min(1000, len(samples.files) // 4))
    figures = timed("delete", victims, delete)
    watch, blocks = Stopwatch(), 0
    with watch:
        while True:
            with index.transaction():
                gone = index.blocks.delete_from(InodeId(samples.large[-1]), BlockNumber(0), BATCH)
            blocks += gone
            if gone < BATCH:
                break
    tidy(index)
    return figures | watch.rates("deleted blocks", blocks)


# --- size ----------------------------------------------------------------------------------------


def sizes(index: Index, samples: Samples) -> Figures:
    """Octets a row takes, from SQLite's own account of its pages; names are not counted."""
    took: Counter[str] = Counter()
    for schema in index.shards.schemas:
        for name, octets in index.database.rows(
            f"SELECT name, sum(pgsize) FROM dbstat('{schema}', 1) GROUP BY name"
        ):
            took[name] += octets

    def each(table: str, *trees: str) -> float:
        sources = index.shards.sources(table) if index.shards.has(table) else [table]
        rows: int = sum(
            index.database.value(f"SELECT count(*) FROM {source}") for source in sources
        )
        return sum(took[tree] for tree in (table, *trees)) / max(1, rows)

    names: int = index.database.value("SELECT count(*) FROM dirents")
    dirent = each("dirents", "dirents_inode") - samples.name_bytes / names
    segment = each("segments", "segments_hash", "segment_hashes")
    block = each("blocks") + segment
    article = each("articles")
    return {
        "MB": sum(took.values()) / 1e6,
        "B a small file": each("inodes") + dirent + block + article / 20,
        "B of a name's row": dirent,
        "B of an inode": each("inodes"),
        "B a further block": block + article,
        "B of a segment": segment,
    }


# --- publishing, and the log ---------------------------------------------------------------------


async def publication(path: Path) -> Figures:
    """A checkpoint of a hundred changes, servers in memory."""
    servers = QuickServers()
    with reopen(path) as index:
        cut = index.changelog.last
        state = ChainState(b"w" * 8, 0, b"r" * 32, 1, bytes(32), cut=cut, base=0, snapshot=0)
        state = replace(state, snapshot_size=1 << 40)  # large enough that none is due
        published = Publication(0, b"r", b"c", (bytes(32),), Stage.POSTED, state)
        index.chain.begin(published)
        index.chain.finish(published)
        publisher = publisher_of(index, servers, path.parent, piece_size=BLOCK, interval=0.01)
        change(index, next(_NEW))
        figures = await measured(publisher.publish)
        return {
            "checkpoint of 100 changes s": figures["seconds"],
            "its longest pause ms": figures["longest_pause_ms"],
        }


async def sustained(path: Path) -> Figures:
    """Files made as fast as the index takes them, ten a transaction, the daemon's upkeep beside."""
    errors: list[UsenetfsError] = []
    with reopen(path) as index:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_in_shape, index, errors.append)
            figures = await _write_steadily(index)
            nursery.cancel_scope.cancel()
        assert not errors, errors
    return figures


async def _write_steadily(index: Index) -> Figures:
    """The longest log, and how long anybody else waited: from one turn of the loop to the next."""
    rows = [(0o100644, 0, 0, 1, 0, 0, TIMES)] * 10
    pauses, longest_log = [], 0
    deadline, last = time.perf_counter() + SUSTAINED, time.perf_counter()
    while last < deadline:
        with index.transaction():
            inodes = index.inodes.insert_many(rows)
            index.dirents.insert_many((ROOT_INODE, b"steady %d" % n, n) for n in inodes)
        await trio.lowlevel.checkpoint()
        now = time.perf_counter()
        pauses.append(now - last)
        last = now
        if len(pauses) % 16 == 0:
            longest_log = max(longest_log, index.wal_size())
    return {
        "sustained: files/s": 10 * len(pauses) / SUSTAINED,
        "sustained: longest log MB": longest_log / 1e6,
        "sustained: p99 pause ms": sorted(pauses)[len(pauses) * 99 // 100] * 1000,
        "sustained: longest pause ms": max(pauses) * 1000,
    }


def lengthen_log(index: Index) -> int:
    """Write until the log is nearly as long as SQLite lets it get; its size in octets."""
    while index.wal_size() < LONG_LOG:
        rows = [(0o100644, 0, 0, 1, 0, 0, TIMES)] * 100
        with index.transaction():
            inodes = index.inodes.insert_many(rows)
            index.dirents.insert_many((ROOT_INODE, b"log %d" % n, n) for n in inodes)
    return index.wal_size()
