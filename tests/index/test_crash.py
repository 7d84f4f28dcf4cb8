"""kill -9 at any moment: what was committed is there, and the tables agree.

A child works through random transactions and tells, after each commit, what it committed. It is
killed at a random moment; whatever it told must be found, and nothing half done.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.index.world import (
    BLOCK,
    NOW_NS,
    create,
    make_file,
    member,
    record,
    reopen,
    stage,
)
from usenetfs.index.articles import NewArticle
from usenetfs.index.index import Index
from usenetfs.index.transitions import NewRecord, PostedArticle
from usenetfs.types import ROOT_INODE, BlockNumber, InodeId

CHILD = "import sys; from tests.index.test_crash import work; work(*sys.argv[1:])"


def work(path: str, seed: str) -> None:
    """In the child: until killed. A line on stdout for each file that was committed or deleted."""
    rng = random.Random(seed)
    with reopen(Path(path)) as index:
        names = [entry.name for entry in index.dirents.list(ROOT_INODE, 0, 10_000)]
        for step in range(1_000_000):
            name = b"%s-%d" % (seed.encode(), step)
            inode = make_file(index, name, size=3 * BLOCK)
            tell(b"+" + name)
            names.append(name)
            if rng.random() < 0.3:
                _upload_many(index, inode, rng)
            else:
                _upload(index, inode, rng)
            if rng.random() < 0.4:
                victim = names.pop(rng.randrange(len(names)))
                tell(b"?" + victim)
                _delete(index, victim)
                tell(b"-" + victim)
            if index.shards.spread and rng.random() < 0.3:
                _settle(index, rng)
            if rng.random() < 0.1:
                index.wal_checkpoint_step()
                index.wal_checkpoint_inline()
                _trim(index)
                index.database.shrink(5)


def _upload_many(index: Index, inode: InodeId, rng: random.Random) -> None:
    """Three articles at once, as the uploader and its ledger do it; perhaps known content."""
    records = []
    for block in range(3):
        one = member(inode, block, stage(index, inode, block), b"%d" % rng.randrange(50))
        records.append(NewRecord(NewArticle(index.articles.allocate(), 0, b"s" * 32, 5000, (one,))))
    assert index.record_articles(records) == [1, 1, 1]
    ids = [record.article.id for record in records]
    posted = [PostedArticle(article, "one", None, NOW_NS) for article in ids]
    index.mark_outcomes(posted, ids[1:], ids[2:], NOW_NS)


def _settle(index: Index, rng: random.Random) -> None:
    """Rows go to their files; something else happens meanwhile."""
    batch = index.settling.plan(0)
    if not batch:
        return
    index.settling.carry(batch)
    if rng.random() < 0.5:
        name = b"meanwhile %d" % rng.getrandbits(60)
        _upload(index, make_file(index, name, size=3 * BLOCK), rng)
    index.settling.release(batch)


def _trim(index: Index) -> None:
    """As after a checkpoint: pages become free."""
    with index.transaction():
        index.changelog.trim(index.changelog.last - 20, 100)


def tell(line: bytes) -> None:
    os.write(1, line + b"\n")


def _upload(index: Index, inode: InodeId, rng: random.Random) -> None:
    members = []
    for block in range(3):
        content = b"%d" % rng.randrange(50)
        members.append(member(inode, block, stage(index, inode, block), content))
    article, _ = record(index, *members)
    fate = rng.random()
    if fate < 0.8:
        index.mark_posted(article, "one", None, NOW_NS)
    if fate < 0.6:
        index.mark_seen(article, NOW_NS)
    elif fate > 0.9:
        index.forget_article(article)
    if rng.random() < 0.3:
        with index.transaction():
            index.staging.truncate(inode, BLOCK)
            index.blocks.delete_from(inode, BlockNumber(1), 10)


def _delete(index: Index, name: bytes) -> None:
    inode = index.dirents.lookup(ROOT_INODE, name)
    assert inode is not None
    with index.transaction():
        index.dirents.remove(ROOT_INODE, name)
        index.staging.delete_inode(inode)
        index.blocks.delete_from(inode, BlockNumber(0), 10)
        index.inodes.delete(inode)


def run_and_kill(path: Path, seed: str, lines: int) -> list[bytes]:
    """What the child told before it was killed, somewhere after its ``lines``-th line."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), seed], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        told.extend(child.stdout.readlines())
    assert child.returncode == -9
    return [line.rstrip(b"\n") for line in told if line.endswith(b"\n")]


def survive(path: Path, kills: int, seed: int, shards: int) -> None:
    rng = random.Random(seed)
    create(path, shards=shards).close()
    expected: set[bytes] = set()
    allocated = 0
    for round_number in range(kills):
        told = run_and_kill(path, f"{seed}.{round_number}", rng.randrange(1, 120))
        doubtful: set[bytes] = set()
        for line in told:
            mark, name = line[:1], line[1:]
            if mark == b"+":
                expected.add(name)
            elif mark == b"?":
                doubtful = {name}
            else:
                expected.discard(name)
                doubtful.clear()
        with reopen(path) as index:
            assert index.check(deep=True) == []
            there = {entry.name for entry in index.dirents.list(ROOT_INODE, 0, 100_000)}
            assert expected - doubtful <= there
            unknown = there - expected
            unknown = {name for name in unknown if not name.startswith(b"meanwhile")}
            assert len(unknown) <= 1  # committed, and killed before it was told
            expected = there
            number = index.articles.allocate()
            assert number >= allocated
            allocated = number
            for flown in index.in_flight():
                assert flown.id < number
                if rng.random() < 0.5:
                    index.forget_article(flown.id)
                else:
                    index.mark_seen(flown.id, NOW_NS)
            assert index.check() == []
            if rng.random() < 0.2:
                index.settling.run()
                assert index.check(deep=True) == []


@pytest.mark.parametrize("shards", [1, 16])
def test_killed_a_few_times(path: Path, shards: int) -> None:
    survive(path, 6, 1, shards)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("shards", [1, 16])
def test_killed_200_times(path: Path, shards: int) -> None:
    survive(path, 200, 2, shards)
