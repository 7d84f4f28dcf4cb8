"""Reading a filesystem from its servers alone: keys, states, indexes.

For commands that work without a mount (recover, checkpoints, views of the past). Opens the servers
for as long as a call lasts. What it makes is an index file at a place that the caller names;
putting it into its place, and taking the filesystem over, is the caller's part.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import trio

from usenetfs.article.key_record import KeyRecordLocator
from usenetfs.article.keys import KeySet
from usenetfs.checkpoint.articles import ArticleReader
from usenetfs.checkpoint.chain import MAX_MISSES, ChainReader, Route
from usenetfs.checkpoint.key_records import FoundRecord, KeyRecords
from usenetfs.checkpoint.record import Record
from usenetfs.checkpoint.replay import Report, rebuild
from usenetfs.checkpoint.takeover import go_on, start_anew
from usenetfs.config.models import Settings
from usenetfs.config.servers import server_settings
from usenetfs.daemon.plain_values import make_retries
from usenetfs.daemon.reasons import run_to_one_end
from usenetfs.errors import DataUnavailableError, FilesystemNotFoundError
from usenetfs.index.index import Index
from usenetfs.index.replica import set_epoch
from usenetfs.index.sqlite_process import leave_out_statistics
from usenetfs.net.providers import ProviderSet

T = TypeVar("T")

PATIENCE: Final = 60.0
"""Seconds to go on while no server can be reached."""

LIST_PARALLEL: Final = 8

SPARSE: Final = 8
"""Once very many records in a row cannot be read, each step is an eighth of the way."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Open servers and how to ask them."""

    providers: ProviderSet
    settings: Settings

    def chain(self, keys: KeySet, filesystem_id: bytes) -> ChainReader:
        """The chain of a filesystem."""
        return ChainReader(
            ArticleReader(
                self.providers,
                keys=keys,
                filesystem_id=filesystem_id,
                retries=make_retries(self.settings),
                patience=PATIENCE,
            )
        )

    def key_records(self) -> KeyRecords:
        return KeyRecords(self.providers, retries=make_retries(self.settings), patience=PATIENCE)


@asynccontextmanager
async def open_servers(settings: Settings, passwords: Mapping[str, str]) -> AsyncIterator[Servers]:
    """The configured servers, for the length of the block."""
    retries = make_retries(settings)
    providers = ProviderSet(
        server_settings(settings, passwords), redial=retries.policy_of("connect")
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(providers.run)
        yield Servers(providers, settings)
        nursery.cancel_scope.cancel()


def with_servers(
    settings: Settings,
    passwords: Mapping[str, str],
    work: Callable[[Servers], Awaitable[T]],
) -> T:
    """Run ``work`` with the servers open; its result, or its one error. Blocks."""

    async def run() -> T:
        async with open_servers(settings, passwords) as servers:
            return await work(servers)

    leave_out_statistics()
    return run_to_one_end(run)


# --- keys ----------------------------------------------------------------------------------------


async def find_by_passphrase(servers: Servers, name: str, passphrase: str) -> FoundRecord:
    """The key file that a name and a passphrase lead to. FilesystemNotFoundError."""
    locator = await trio.to_thread.run_sync(
        lambda: KeyRecordLocator.from_passphrase(passphrase, name=name)
    )
    found = await servers.key_records().find(locator)
    if found is None:
        raise FilesystemNotFoundError(
            f'nothing is found on the servers for the name "{name}" and this passphrase',
            hint="either may be mistyped, or there is no such filesystem on these servers: nobody "
            "can tell which, by design. With the recovery key: usenetfs recover --recovery-key",
        )
    return found


async def find_by_master(servers: Servers, master: bytes) -> FoundRecord:
    """The key file that a recovery key leads to. FilesystemNotFoundError."""
    found = await servers.key_records().find(KeyRecordLocator.from_master(master))
    if found is None:
        raise FilesystemNotFoundError(
            "nothing is found on the servers for this recovery key",
            hint="the key is typed correctly (it has a checksum); the filesystem may be on other "
            "servers, or its articles have expired",
        )
    return found


# --- states --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FoundState:
    """What can be recovered. ``newest``: the newest checkpoint that is there, readable or not."""

    reader: ChainReader = field(repr=False)
    route: Route
    newest: int
    posted_after: bool
    """Whether data was posted after the state was published."""

    @property
    def record(self) -> Record:
        return self.route.target


async def find_state(servers: Servers, keys: KeySet, filesystem_id: bytes) -> FoundState:
    """The newest state of a filesystem. DataUnavailableError if there is none."""
    reader = servers.chain(keys, filesystem_id)
    newest = await reader.find_end()
    if newest is None:
        raise DataUnavailableError(
            "the keys are found, and no checkpoint of the filesystem",
            hint="nothing was ever synced, or the checkpoints are on other servers or expired",
        )
    route = await reader.route(newest)
    return FoundState(reader, route, newest, await reader.posted_after(route.target))


async def build_index(
    found: FoundState, path: Path, *, writable: bool, report: Report, shards: int = 1
) -> Record:
    """Make the index of the state at ``path``, or of an older one where it cannot be had."""
    return await rebuild(
        found.reader, path, newest=found.newest, writable=writable, report=report, shards=shards
    )


async def prepare_takeover(
    found: FoundState, record: Record, path: Path, *, directory_key: bytes
) -> None:
    """Make a rebuilt index the writer's: a new epoch, a new writer, the next number."""
    writer = secrets.token_bytes(8)
    container = None
    if record.number == found.newest and not found.reader.losses:
        with suppress(DataUnavailableError):
            container = await found.reader.container(record.number)
    epoch = await found.reader.unused_epoch(record.epoch + 1)
    if container is None:
        set_epoch(path, epoch)
        with Index.open(path, directory_key=directory_key) as index:
            index.chain.start(start_anew(record, found.newest, writer=writer))
        return
    route = await found.reader.route(record.number)
    with Index.open(path, directory_key=directory_key) as index:
        publication = go_on(route, container, writer=writer, cut=index.changelog.last)
        with index.transaction():
            index.begin_epoch(epoch)
            index.chain.adopt(publication)


async def list_checkpoints(
    reader: ChainReader, newest: int, count: int
) -> list[Record | tuple[int, str]]:
    """The records of the last ``count`` checkpoints, oldest first; lost ones say why."""
    numbers = range(max(0, newest - count + 1), newest + 1)
    found: dict[int, Record | tuple[int, str]] = {}
    limiter = trio.CapacityLimiter(LIST_PARALLEL)

    async def read(number: int) -> None:
        async with limiter:
            try:
                found[number] = (await reader.checkpoint(number)).record
            except DataUnavailableError as error:
                found[number] = number, error.message

    async with trio.open_nursery() as nursery:
        for number in numbers:
            nursery.start_soon(read, number)
    return [found[number] for number in numbers]


async def checkpoint_at(reader: ChainReader, newest: int, moment: float) -> int:
    """The last checkpoint that was published at ``moment`` or before. DataUnavailableError.

    Those that cannot be read count as published in time: a route goes around them to an older one.
    """
    low = -1
    while True:
        low = await _last_before(reader, low, newest, moment)
        later = await _later(reader, low, newest, moment)
        if later is None:
            break
        low = later
    if low < 0:
        raise DataUnavailableError("there is no checkpoint as old as that")
    return low


async def _last_before(reader: ChainReader, low: int, high: int, moment: float) -> int:
    """Of ``low`` to ``high`` the last one that was published in time, if times only grow."""
    while low < high:
        middle = (low + high + 1) // 2
        record = await _readable(reader, middle, low)
        if record is None:
            low = middle
        elif record.time <= moment:
            low = record.number
        else:
            high = record.number - 1
    return low


async def _later(reader: ChainReader, low: int, newest: int, moment: float) -> int | None:
    """One after ``low`` that was published in time all the same: a clock was put back since.

    Looked for at few places, near both ends: a clock that was wrong was so for a while.
    """
    steps = [1 << power for power in range((newest - low).bit_length())]
    places = {low + step for step in steps} | {newest + 1 - step for step in steps}
    for number in sorted(places, reverse=True):
        with suppress(DataUnavailableError):
            if (await reader.checkpoint(number)).record.time <= moment:
                return number
    return None


async def _readable(reader: ChainReader, number: int, low: int) -> Record | None:
    """A record from ``number`` down to ``low``, excluded, that can be read.

    The newest one, unless very many cannot: the beginning of an old chain has expired, and asking
    for all of it could take days.
    """
    distance = 0
    while number - distance > low:
        with suppress(DataUnavailableError):
            return (await reader.checkpoint(number - distance)).record
        distance += 1 if distance < MAX_MISSES else distance // SPARSE
    return None
