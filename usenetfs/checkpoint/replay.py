"""From a route to an index: download, apply, verify.

The pieces of a document are fetched several at a time on the event loop and applied, in order, by a
thread, so that neither waits for more than the slower of both; then one thread reads all rows back
and hashes them while another makes the indexes and counts. Nothing of it is believed before the
end: each document must have the size and hash that its checkpoint names, and the index that comes
out must have the digest that the target names. What fails is noted and gone around (``chain``),
with a new file.

Must not know: keys, files other than the index it makes, or who takes the filesystem over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from usenetfs.checkpoint.chain import ChainReader, Route, Step
from usenetfs.checkpoint.digest import RowDigest, digest_bytes
from usenetfs.checkpoint.documents import read_document
from usenetfs.checkpoint.record import Record
from usenetfs.checkpoint.together import together
from usenetfs.errors import (
    DataUnavailableError,
    DigestError,
    DocumentError,
    SchemaVersionError,
    UsenetfsError,
)
from usenetfs.index.cut import Cut
from usenetfs.index.normal_form import FORMS
from usenetfs.index.replica import Replica
from usenetfs.index.schema import SCHEMA_VERSION
from usenetfs.index.shard_files import shard_files
from usenetfs.index.spreading import spread

log = logging.getLogger("usenetfs.download")

PARALLEL: Final = 16
"""Pieces on their way at once: 11 MB, which fills 300 MB/s at a round trip of 30 ms."""

QUEUE: Final = 4
"""Pieces that wait for the thread that applies them."""


@dataclass(frozen=True, slots=True)
class Progress:
    """``stage``: what is done now, for a person. ``done`` of ``total`` bytes; 0 of 0: unknown."""

    stage: str
    done: int = 0
    total: int = 0


Report = Callable[[Progress], None]


def _silent(progress: Progress) -> None:
    """Nobody wants to know."""


async def rebuild(
    reader: ChainReader,
    path: Path,
    *,
    newest: int,
    writable: bool,
    report: Report = _silent,
    shards: int = 1,
) -> Record:
    """Make the index of the newest state up to ``newest`` that can be had, at ``path``.

    Returns that state's record; what was gone around is in ``reader.losses``. ``writable``: see
    :meth:`Replica.finish`; ``shards``: files that it is spread over. Raises DataUnavailableError if
    there is no state to be had, SchemaVersionError if it is of a version that this program does not
    know, and what the local disk and the network raise. On an error there is no file.
    """
    while True:
        route = await reader.route(newest)
        if route.target.schema != SCHEMA_VERSION:
            raise _foreign_schema(route.target)
        try:
            await _build(reader, route, path, writable=writable, report=report, shards=shards)
        except UnusableError as unusable:
            log.warning(
                "%s of checkpoint %d cannot be used (%s): another way is looked for",
                unusable.step.part,
                unusable.step.number,
                unusable.error,
            )
            reader.lost(unusable.step, unusable.error)
        except DigestError as error:
            log.warning("%s: an older state is looked for", error)
            reader.losses.records[route.target.number] = error.message
            newest = route.target.number - 1
        else:
            return route.target


class UnusableError(Exception):
    """A step's document is lost or wrong."""

    def __init__(self, step: Step, error: UsenetfsError) -> None:
        super().__init__(str(error))
        self.step = step
        self.error = error


async def _build(
    reader: ChainReader,
    route: Route,
    path: Path,
    *,
    writable: bool,
    report: Report,
    shards: int,
) -> None:
    remove_index(path)
    total = sum(step.reference.stored for step in route.steps)
    done = 0

    def received(size: int) -> None:
        nonlocal done
        done += size
        report(Progress("downloading the index", done, total))

    try:
        with await trio.to_thread.run_sync(Replica.create, path) as replica:
            for step in route.steps:
                await apply_step(reader, step, replica.apply, received)
            report(Progress("checking the index"))
            await _settle(replica, route.target, reader.digest_key, writable=writable)
            report(Progress("finishing the index"))
            await trio.to_thread.run_sync(replica.finish)
        await trio.to_thread.run_sync(spread, path, shards)
    except BaseException:
        remove_index(path)
        raise


async def apply_step(
    reader: ChainReader,
    step: Step,
    apply: Callable[[Iterable[bytes]], None],
    received: Callable[[int], None] = lambda _: None,
) -> None:
    """Feed a step's raw changeset to ``apply``, in a thread. :class:`UnusableError`."""
    failure: UsenetfsError | None = None
    send, receive = trio.open_memory_channel[bytes | UsenetfsError](QUEUE)
    async with trio.open_nursery() as nursery:
        if step.inline is None:
            nursery.start_soon(partial(reader.deliver, step, send, parallel=PARALLEL))
        else:
            send.close()
        pieces = (
            _from_loop(receive, received)
            if step.inline is None
            else _at_hand(step.inline, received)
        )
        reference = step.reference
        raw = read_document(pieces, size=reference.size, sha256=reference.sha256)
        try:
            await trio.to_thread.run_sync(apply, raw)
        except UsenetfsError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if isinstance(failure, DocumentError | DataUnavailableError):
        raise UnusableError(step, failure)
    if failure is not None:
        raise failure


def _from_loop(
    receive: trio.MemoryReceiveChannel[bytes | UsenetfsError], received: Callable[[int], None]
) -> Iterator[bytes]:
    """In the thread: what the loop downloads, as it comes."""
    while True:
        try:
            piece = trio.from_thread.run(receive.receive)
        except trio.EndOfChannel:
            return
        if isinstance(piece, UsenetfsError):
            raise piece
        received(len(piece))
        yield piece


def _at_hand(content: bytes, received: Callable[[int], None]) -> Iterator[bytes]:
    received(len(content))
    yield content


async def _settle(replica: Replica, record: Record, digest_key: bytes, *, writable: bool) -> None:
    """Verify that the rows are those of ``record``, and make them an index meanwhile. DigestError.

    What is verified is what can be read back from the file after everything was applied: a row that
    was lost on the way there is missed here. Making indexes changes none of it (counts and links
    are not part of a published row), so neither waits for the other.
    """
    total = 0

    async def verify(cut: Cut) -> None:
        nonlocal total
        total = await trio.to_thread.run_sync(_digest_of, cut, digest_key)

    async def settle() -> None:
        await trio.to_thread.run_sync(partial(replica.settle, writable=writable))

    with await trio.to_thread.run_sync(replica.applied) as cut:
        await together([settle, partial(verify, cut)])
    if digest_bytes(total) != record.digest:
        raise DigestError(
            f"the state of checkpoint {record.number} does not come out as it was published"
        )


def _digest_of(cut: Cut, digest_key: bytes) -> int:
    """The sum over all tables. For one thread: more of them would wait for the interpreter, which
    does most of it."""
    digest = RowDigest(digest_key)
    with cut:
        return sum(digest.encoded_rows(table, cut.encoded(table)) for table in FORMS)


def remove_index(path: Path) -> None:
    """Remove an index and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal", "-lock"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    for shard in shard_files(path):
        shard.unlink(missing_ok=True)


def _foreign_schema(record: Record) -> SchemaVersionError:
    newer = record.schema > SCHEMA_VERSION
    return SchemaVersionError(
        f"checkpoint {record.number} has schema version {record.schema},"
        f" this program knows {SCHEMA_VERSION}",
        hint="install a newer usenetfs" if newer else "recover it with an older usenetfs first",
    )
