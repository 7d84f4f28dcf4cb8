"""Articles up and down through the real client, against servers that misbehave by plan.

The real ``ProviderSet``, ``Poster``, ``PostChecker`` and ``Fetcher`` talk over sockets to two
embedded servers, both under the same fault plan; this module stands where the index does. All of
them run in one event loop in real time, with timeouts short enough for thousands of articles.

Asserted whatever the plan: what is read is what was written or a typed error that names the article
and a server; no operation takes longer than its timeouts allow; no server ever counts more
connections than the limit; at the end no connection, task or descriptor is left.

From the command line, with what a failing test printed, or all of it::

    python -m tests.transfer.campaign [--articles 2000] [--plan NAME …] [--mixture SEED]
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.transfer.fault_plans import (
    DEAD_ENDS,
    DEAD_UPLOADS,
    LOSES_ARTICLES,
    PLANS,
    mixture,
)
from usenetfs.article.container import Member
from usenetfs.article.hashing import segment_hash
from usenetfs.article.keys import KeySet
from usenetfs.article.newsgroups import NewsgroupChoice
from usenetfs.article.seal import new_salt
from usenetfs.errors import (
    DataUnavailableError,
    IntegrityError,
    NoHealthyServersError,
    UsenetfsError,
)
from usenetfs.index.blocks import BlockLocation
from usenetfs.net.providers import ProviderSet
from usenetfs.net.retry import RetryManager, RetryPolicy
from usenetfs.net.settings import ServerSettings, Timeouts, TlsMode
from usenetfs.nntpd import NntpdSettings, serve
from usenetfs.nntpd.faults import parse_plan
from usenetfs.nntpd.server import RunningServer
from usenetfs.transfer.fetch.fetcher import Fetcher, open_fetcher
from usenetfs.transfer.pulse import Pulse
from usenetfs.transfer.upload.post_check import CheckTimes, PostChecker
from usenetfs.transfer.upload.poster import Poster, Recorded
from usenetfs.types import (
    ArticleId,
    BlockNumber,
    Codec,
    InodeId,
    Lane,
    MessageId,
    SegmentId,
    article_id,
)

KEYS = KeySet.from_master(bytes(range(32)), bytes(16))
FILESYSTEM = bytes(16)
LIMIT = 6
"""Connections to each of the two servers."""
POSTERS = READERS = 12
TIMEOUTS = Timeouts(
    connect=3.0,
    response=2.0,
    article=5.0,
    idle_check=1.0,
    check_reply=1.0,
    idle_close=3.0,
    close=2.0,
)
PATIENCE = 6.0
CHECK = CheckTimes(first=0.2, ceiling=1.0, deadline=1.5, doubt_deadline=1.5)
LONGEST_READ = PATIENCE + 2 * 3 * (TIMEOUTS.article + TIMEOUTS.connect)
"""Two servers, each asked over three connections at worst, from the last moment of patience."""
SIZES = (1, 500, 3_000, 3_000, 9_000, 40_000)


@dataclass(slots=True)
class Piece:
    """Something to store. ``location`` once it was seen."""

    content: bytes
    location: BlockLocation | None = None
    posts: int = 0


@dataclass(slots=True)
class Flight:
    """What the index would know of an article on its way."""

    piece: int
    salt: bytes
    attempt: int = 0
    message_id: MessageId | None = None
    """Once posted."""


@dataclass(slots=True)
class Report:
    """What came out of one plan."""

    name: str
    articles: int
    stored: int = 0
    read: int = 0
    failed: int = 0
    reposts: int = 0
    up_seconds: float = 0.0
    down_seconds: float = 0.0
    longest_read: float = 0.0
    peaks: tuple[int, ...] = ()
    faults: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        errors = ", ".join(f"{name} {count}" for name, count in sorted(self.errors.items()))
        return (
            f"{self.name}: {self.stored}/{self.articles} stored in {self.up_seconds:.1f} s "
            f"({self.reposts} sent again), {self.read} read in {self.down_seconds:.1f} s "
            f"(longest {self.longest_read:.1f} s), {self.failed} errors; peak connections "
            f"{'/'.join(map(str, self.peaks))} of {LIMIT}; faults: {faults or 'none'}"
            + (f"; errors: {errors}" if errors else "")
        )


class Store:
    """Stands where the index and the uploader do; the ``Outcomes`` of the checker."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = list(pieces)
        self.waiting = deque(range(len(pieces)))
        self.flights: dict[ArticleId, Flight] = {}
        self.stored = 0
        self.errors: list[UsenetfsError] = []
        self.changed = Pulse()
        self.poster: Poster | None = None
        self._number = 0

    def record(self, piece: int) -> Recorded:
        self._number += 1
        article, salt = article_id(1, self._number), new_salt()
        content = self.pieces[piece].content
        self.pieces[piece].posts += 1
        self.flights[article] = Flight(piece, salt)
        member = Member(
            InodeId(2),
            BlockNumber(piece),
            segment_hash(KEYS.hash_key, content),
            Codec.NONE,
            len(content),
            len(content),
        )
        return Recorded(article, 0, salt, [(member, content)], 0)

    def new_attempt(self, article: ArticleId, salt: bytes) -> int:
        flight = self.flights[article]
        flight.attempt, flight.salt = flight.attempt + 1, salt
        return flight.attempt

    def seen(self, article: ArticleId, *, verified: bool) -> None:
        flight = self.flights.pop(article)
        assert self.poster is not None
        computed = self.poster.message_id(article, flight.attempt)
        content = self.pieces[flight.piece].content
        self.pieces[flight.piece].location = BlockLocation(
            BlockNumber(flight.piece),
            len(content),
            SegmentId(article),
            segment_hash(KEYS.hash_key, content),
            Codec.NONE,
            len(content),
            len(content),
            article,
            0,
            flight.attempt,
            flight.message_id if flight.message_id != computed else None,
        )
        self.stored += 1
        self.changed.fire()

    def not_seen(self, article: ArticleId, error: UsenetfsError) -> None:
        self.errors.append(error)
        self.waiting.append(self.flights.pop(article).piece)
        self.changed.fire()

    async def settle_doubt(self, article: ArticleId, message_id: MessageId) -> bool:
        assert self.poster is not None
        return await self.poster.carries(article, self.flights[article].salt, message_id)


# --- the world -----------------------------------------------------------------------------------


@asynccontextmanager
async def two_servers(folder: Path, plan: str) -> AsyncIterator[list[RunningServer]]:
    async with trio.open_nursery() as nursery:
        servers: list[RunningServer] = []
        for name in ("a", "b"):
            settings = NntpdSettings(folder / name, faults=parse_plan(plan))
            servers.append(await nursery.start(serve, settings))
        yield servers
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def client(
    servers: Sequence[RunningServer], *, alone: bool = True
) -> AsyncIterator[ProviderSet]:
    """A fresh client; at the end no server has a connection of it left, and no task is left
    (``alone``: nobody else starts any in this event loop)."""
    before = trio.lowlevel.current_statistics().tasks_living
    settings = [
        ServerSettings(
            name, server.host, server.port, TlsMode.NONE, connections=LIMIT, timeouts=TIMEOUTS
        )
        for name, server in zip(("alpha", "beta"), servers, strict=True)
    ]
    async with trio.open_nursery() as nursery:
        providers = ProviderSet(settings)
        await nursery.start(providers.run)
        yield providers
        nursery.cancel_scope.cancel()
    with trio.fail_after(5):  # a connection or a task that stays
        while any(server.counters.connections for server in servers) or (  # noqa: ASYNC110
            alone and trio.lowlevel.current_statistics().tasks_living > before
        ):
            await trio.sleep(0.01)


async def upload(store: Store, providers: ProviderSet, retries: RetryManager) -> None:
    """Until everything was seen."""
    poster = Poster(
        providers,
        keys=KEYS,
        filesystem_id=FILESYSTEM,
        groups=NewsgroupChoice(["alt.binaries.test"]),
        new_attempt=store.new_attempt,
        retries=retries,
        report=store.errors.append,
    )
    store.poster = poster
    checker = PostChecker(providers, store, CHECK, report=store.errors.append)

    async def work() -> None:
        while True:
            if not store.waiting:
                await store.changed.wait_at_most(0.2)
                continue
            recorded = store.record(store.waiting.popleft())
            (sealed,) = await poster.seal([recorded])
            posted = await poster.post(sealed)
            assert posted is not None
            computed = poster.message_id(recorded.article, posted.attempt)
            store.flights[recorded.article].message_id = posted.message_id
            checker.posted(
                recorded.article,
                posted.message_id,
                posted.server,
                rewritten=posted.message_id != computed,
            )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(checker.run)
        for _ in range(POSTERS):
            nursery.start_soon(work)
        while store.stored < len(store.pieces):
            await store.changed.wait_at_most(1.0)
        nursery.cancel_scope.cancel()


async def read_all(store: Store, fetcher: Fetcher, wanted: list[int], report: Report) -> list[int]:
    """Read ``wanted``; those that ended in an error. Wrong bytes fail at once."""
    queue, failed = deque(wanted), []

    async def work() -> None:
        while queue:
            number = queue.popleft()
            began = trio.current_time()
            error = await _read_one(store.pieces[number], fetcher)
            report.longest_read = max(report.longest_read, trio.current_time() - began)
            if error is not None:
                failed.append(number)
                report.errors[error.error_code] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(READERS):
            nursery.start_soon(work)
    return failed


async def _read_one(piece: Piece, fetcher: Fetcher) -> UsenetfsError | None:
    assert piece.location is not None
    try:
        data = await fetcher.segment(piece.location, lane=Lane.READER)
    except (DataUnavailableError, IntegrityError) as error:
        check_says_what(error)
        return error
    assert data == piece.content, "wrong bytes"
    return None


def check_says_what(error: UsenetfsError) -> None:
    """An error names its article and a server."""
    said = str(error)
    assert error.message_id, said
    assert error.message_id in said
    assert "alpha" in said or "beta" in said, said


def _retries(source: random.Random) -> RetryManager:
    policy = RetryPolicy(first=0.05, ceiling=0.5, retries=None)
    return RetryManager(kinds={"post": policy, "fetch": policy}, rng=source)


# --- one plan ------------------------------------------------------------------------------------


async def run_plan(
    name: str,
    plan: str,
    *,
    articles: int,
    seed: int,
    folder: Path,
    loses: bool = False,
    time_limit: float = 840.0,
) -> Report:
    """A plan under which everything must arrive. AssertionError or TooSlowError if not.

    ``loses``: the plan takes articles away for good.
    """
    source = random.Random(seed)
    pieces = [Piece(source.randbytes(source.choice(SIZES))) for _ in range(articles)]
    store, report = Store(pieces), Report(name, articles)
    retries = _retries(source)
    descriptors = _open_descriptors()
    with trio.fail_after(time_limit):
        async with two_servers(folder, plan) as servers:
            began = trio.current_time()
            async with client(servers) as providers:
                await upload(store, providers, retries)
            report.up_seconds = trio.current_time() - began
            wanted = list(range(articles))
            # What failed is read once more by a client that remembers nothing, as after a mount.
            for _ in range(8):
                failed = await _download(store, servers, retries, wanted, report)
                report.failed += len(failed)
                wanted = failed
            _settle(report, store, servers, unread=wanted)
    assert not wanted or loses, f"{len(wanted)} articles could never be read"
    assert _open_descriptors() <= descriptors, "a descriptor was left"
    return report


async def run_dead_end(name: str, plan: str, *, seed: int, folder: Path) -> Report:
    """A plan that lets nothing up, or nothing down: the errors say so, and nothing hangs."""
    source = random.Random(seed)
    pieces = [Piece(source.randbytes(500)) for _ in range(8)]
    store, report = Store(pieces), Report(name, len(pieces))
    retries = _retries(source)
    with trio.fail_after(180):
        async with two_servers(folder, plan) as servers:
            async with client(servers, alone=False) as providers:
                if name in DEAD_UPLOADS:
                    await _upload_until_it_complains(store, providers, retries)
                else:
                    await upload(store, providers, retries)
            if name in DEAD_UPLOADS:
                assert not store.stored, "the plan let something through"
                _check_upload_errors(store, report)
            else:
                wanted = list(range(len(pieces)))
                failed = await _download(store, servers, retries, wanted, report, alone=False)
                report.failed = len(failed)
                assert len(failed) == len(wanted), "the plan let something through"
            _settle(report, store, servers, unread=list(range(report.failed)))
    return report


async def _upload_until_it_complains(
    store: Store, providers: ProviderSet, retries: RetryManager
) -> None:
    """It never ends by itself; but it has to say why within what the timeouts allow."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload, store, providers, retries)
        with trio.fail_after(60):
            while not store.errors:  # noqa: ASYNC110 - the list has no event
                await trio.sleep(0.05)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()


def _check_upload_errors(store: Store, report: Report) -> None:
    assert store.errors, "nothing was said"
    for error in store.errors:
        check_says_what(error)
        report.errors[error.error_code] += 1
        if isinstance(error, NoHealthyServersError):
            assert set(error.reasons) == {"alpha", "beta"}


async def _download(
    store: Store,
    servers: Sequence[RunningServer],
    retries: RetryManager,
    wanted: list[int],
    report: Report,
    *,
    alone: bool = True,
) -> list[int]:
    if not wanted:
        return []
    began = trio.current_time()
    async with client(servers, alone=alone) as providers, _fetcher(providers, retries) as fetcher:
        failed = await read_all(store, fetcher, wanted, report)
    report.down_seconds += trio.current_time() - began
    return failed


def _fetcher(providers: ProviderSet, retries: RetryManager) -> AbstractAsyncContextManager[Fetcher]:
    return open_fetcher(
        providers,
        None,
        keys=KEYS,
        filesystem_id=FILESYSTEM,
        memory=4,
        patience=PATIENCE,
        retries=retries,
    )


def _settle(
    report: Report, store: Store, servers: Sequence[RunningServer], *, unread: list[int]
) -> None:
    report.stored = store.stored
    report.read = store.stored - len(unread) if report.down_seconds else 0
    report.reposts = sum(max(0, piece.posts - 1) for piece in store.pieces)
    report.peaks = tuple(server.counters.peak_connections for server in servers)
    for server in servers:
        report.faults += server.counters.faults
    assert max(report.peaks) <= LIMIT, f"{report.peaks} connections at a server that allows {LIMIT}"
    assert report.longest_read <= LONGEST_READ, f"a read took {report.longest_read:.1f} s"


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- the command line ----------------------------------------------------------------------------


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="Articles up and down under fault plans.")
    parser.add_argument("--articles", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--mixtures", type=int, default=20)
    parser.add_argument("--mixture", type=int, metavar="SEED", help="only the one of this seed")
    parser.add_argument("--plan", action="append", help="only this one; may be given again")
    options = parser.parse_args()
    logging.getLogger("usenetfs").addHandler(logging.NullHandler())
    plans: list[tuple[str, str, int]] = []
    ends: list[str] = []
    if options.mixture is not None:
        plans = [(*mixture(options.mixture), options.mixture)]
    else:
        chosen = options.plan or [*PLANS, *DEAD_ENDS]
        plans = [(name, text, options.seed) for name, text in PLANS.items() if name in chosen]
        ends = [name for name in DEAD_ENDS if name in chosen]
        if not options.plan:
            seeds = range(options.seed, options.seed + options.mixtures)
            plans += [(*mixture(seed), seed) for seed in seeds]
    for name, text, seed in plans:
        with tempfile.TemporaryDirectory(prefix="campaign.") as folder:
            report = trio.run(_run_one, name, text, options.articles, seed, Path(folder))
        print(report.line(), flush=True)
    with tempfile.TemporaryDirectory(prefix="campaign.") as folder:
        for report in trio.run(run_dead_ends, ends, options.seed, Path(folder)):
            print(report.line(), flush=True)
    return 0


async def _run_one(name: str, text: str, articles: int, seed: int, folder: Path) -> Report:
    loses = any(plan in name for plan in LOSES_ARTICLES)
    return await run_plan(name, text, articles=articles, seed=seed, folder=folder, loses=loses)


async def run_dead_ends(names: Sequence[str], seed: int, folder: Path) -> list[Report]:
    """Several at once: they mostly wait."""
    reports: list[Report] = []

    async def one(name: str) -> None:
        place = folder / name.replace(" ", "-")
        reports.append(await run_dead_end(name, DEAD_ENDS[name], seed=seed, folder=place))

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(one, name)
    return reports


if __name__ == "__main__":
    sys.exit(main())
