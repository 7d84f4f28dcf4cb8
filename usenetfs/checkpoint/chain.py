"""Reading the chain: its end, its records, and the ways to a state.

A *route* to checkpoint *n* is a snapshot and the changesets that lead from it to *n*, found by
following each record's ``base`` backwards. What cannot be had (a record, or a document that turned
out to be lost) is gone around: a snapshot by the changeset that every later checkpoint with a
snapshot carries beside it, anything else by an older checkpoint. So a reader gets the newest state
that can still be put together, and is told which one it is.

Must not know: what is done with a state.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import trio

from usenetfs.article.container import Kind, unpack
from usenetfs.article.message_ids import chain_message_id, message_id
from usenetfs.checkpoint.articles import ArticleReader
from usenetfs.checkpoint.documents import piece_of
from usenetfs.checkpoint.record import (
    Copies,
    DocumentRef,
    OpenedCheckpoint,
    Record,
    open_checkpoint,
)
from usenetfs.checkpoint.search import find_end
from usenetfs.errors import DataUnavailableError, DocumentError, IntegrityError, UsenetfsError
from usenetfs.types import article_id

log = logging.getLogger("usenetfs.download")

PROBED_COPIES: Final = 2
"""Copies of a record that are asked for before it counts as not there."""

READ_COPIES: Final = 6
"""Copies of a record that are tried before it counts as lost."""

NEXT: Final = 4
"""Numbers of articles that are asked for one by one, to see whether more was posted."""

JUMP: Final = 1400
STRIDE: Final = 16
"""Further ones: every so manieth, up to so many."""

LOOKERS: Final = 8
"""Questions at once."""

MAX_MISSES: Final = 64
"""Records that cannot be used, one after the other, before no older state is looked for: then the
beginning of the chain has expired, and asking for all of it could take days."""

MAX_STEPS: Final = 10_000
"""Changesets of one route; a longer one is a circle or an attempt to keep us busy."""


class Part(enum.StrEnum):
    """What of a checkpoint a step uses."""

    SNAPSHOT = "snapshot"
    CHANGESET = "changeset"


@dataclass(frozen=True, slots=True)
class Step:
    """One document on a route."""

    checkpoint: OpenedCheckpoint
    part: Part

    @property
    def number(self) -> int:
        return self.checkpoint.record.number

    @property
    def reference(self) -> DocumentRef:
        record = self.checkpoint.record
        found = record.snapshot if self.part is Part.SNAPSHOT else record.changeset
        if found is None:
            raise ValueError(f"checkpoint {record.number} has no {self.part}")
        return found

    @property
    def inline(self) -> bytes | None:
        """The compressed document, where it came with the record."""
        is_snapshot = self.part is Part.SNAPSHOT
        return self.checkpoint.snapshot if is_snapshot else self.checkpoint.changeset


@dataclass(frozen=True, slots=True)
class Route:
    """How to get the state of ``target``: a snapshot, then changesets (or changesets alone)."""

    target: Record
    steps: tuple[Step, ...]


@dataclass(slots=True)
class Losses:
    """What turned out not to be usable, for the report and for going around it."""

    records: dict[int, str] = field(default_factory=dict)
    documents: dict[tuple[int, Part], str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.records or self.documents)

    def lines(self) -> list[str]:
        """One line each, oldest first."""
        found = [(number, f"checkpoint {number}: {why}") for number, why in self.records.items()]
        found += [
            (number, f"{part} of checkpoint {number}: {why}")
            for (number, part), why in self.documents.items()
        ]
        return [line for _, line in sorted(found)]


class ChainReader:
    """The chain of one filesystem, as its servers have it now. Keeps the records it read."""

    def __init__(self, articles: ArticleReader) -> None:
        self._articles = articles
        self._records: dict[int, OpenedCheckpoint] = {}
        self.losses = Losses()

    def __repr__(self) -> str:
        return f"<ChainReader records={len(self._records)} {self._articles!r}>"

    @property
    def digest_key(self) -> bytes:
        """What the digests in the records are made with."""
        return self._articles.keys.digest_key

    # --- what is there

    async def exists(self, number: int) -> bool:
        """Whether a copy of the record is there."""
        key = self._articles.keys.chain_key
        for copy in range(PROBED_COPIES):
            if await self._articles.exists(chain_message_id(key, number, copy)):
                return True
        return False

    async def find_end(self, *, known: int = -1) -> int | None:
        """The newest checkpoint that is there; None if there is none."""
        return await find_end(self.exists, known=known)

    async def posted_after(self, record: Record) -> bool:
        """Whether data was posted after a checkpoint: then something newer existed, or will.

        A writer that crashed goes on at a number up to :data:`JUMP` higher: there, a few articles
        may be overlooked.
        """
        return await self._posted(record.epoch, record.next_article)

    async def unused_epoch(self, first: int) -> int:
        """The first epoch from ``first`` in which nobody has posted anything.

        A writer that was shut out before its first checkpoint, or whose checkpoints are lost, has
        left articles in an epoch that no record names. Whoever took that epoch again would compute
        the ids of these for other content.
        """
        while await self._posted(first, 0):
            first += 1
        return first

    async def _posted(self, epoch: int, first: int) -> bool:
        """Whether an article of an epoch is there, from number ``first`` on."""
        numbers = [*range(first, first + NEXT), *range(first + NEXT, first + JUMP, STRIDE)]
        key = self._articles.keys.message_id_key
        found = False
        waiting = iter(numbers)

        async def look() -> None:
            nonlocal found
            for number in waiting:
                wanted = message_id(key, article_id(epoch, number), 0)
                if not found and await self._articles.exists(wanted):
                    found = True

        async with trio.open_nursery() as nursery:
            for _ in range(LOOKERS):
                nursery.start_soon(look)
        return found

    # --- records

    async def checkpoint(self, number: int) -> OpenedCheckpoint:
        """The record of a checkpoint, from whichever copy is whole. DataUnavailableError."""
        found = self._records.get(number)
        if found is not None:
            return found
        if number in self.losses.records:
            raise DataUnavailableError(self.losses.records[number])
        reasons = []
        for copy in range(READ_COPIES):
            wanted = chain_message_id(self._articles.keys.chain_key, number, copy)
            try:
                container = await self._articles.open(
                    wanted, article_id(0, number), Kind.CHECKPOINT
                )
                opened = open_checkpoint(container, number=number)
            except (DataUnavailableError, IntegrityError) as error:
                reasons.append(error.message)
            else:
                self._records[number] = opened
                return opened
        why = reasons[0] if len(set(reasons)) == 1 else "; ".join(dict.fromkeys(reasons))
        self.losses.records[number] = why
        raise DataUnavailableError(f"checkpoint {number} cannot be read: {why}")

    async def container(self, number: int) -> bytes:
        """The opened article of a record that was read: the next writer may post it again."""
        reasons = []
        for copy in range(READ_COPIES):
            wanted = chain_message_id(self._articles.keys.chain_key, number, copy)
            try:
                container = await self._articles.read(
                    wanted, article_id(0, number), Kind.CHECKPOINT
                )
                found = open_checkpoint(unpack(container), number=number)
            except (DataUnavailableError, IntegrityError) as error:
                reasons.append(error.message)
            else:
                if found.record == self._records[number].record:
                    return container
        raise DataUnavailableError(f"checkpoint {number} is gone: {'; '.join(set(reasons))}")

    def forget(self) -> None:
        """Ask for everything anew: what was not there may have come."""
        self._records.clear()
        self.losses = Losses()

    # --- ways to a state

    async def route(self, newest: int, *, held: Collection[int] = ()) -> Route:
        """A way to ``newest``, or to the newest state before it that there is a way to.

        ``held``: states that are here already; changesets that lead from one are way enough. Raises
        DataUnavailableError if there is no way to anything.
        """
        target, misses = newest, 0
        while target >= 0 and misses < MAX_MISSES:
            steps, broken_at = await self._way_back(target, held)
            if broken_at is None:
                record = (await self.checkpoint(target)).record
                return Route(record, tuple(reversed(steps)))
            # every state between the break and the target leads through the break
            misses = misses + 1 if broken_at == target and not steps else 0
            target = broken_at - 1
        raise DataUnavailableError(
            "no state of the filesystem can be put together from what the servers have: "
            + "; ".join(self.losses.lines()[-5:]),
            hint="try again later, or with another server",
        )

    async def _way_back(self, target: int, held: Collection[int]) -> tuple[list[Step], int | None]:
        """Steps from ``target`` backwards, and the checkpoint at which it does not go on."""
        steps: list[Step] = []
        at = target
        after: Record | None = None
        while at not in held and len(steps) < MAX_STEPS:
            try:
                opened = await self.checkpoint(at)
            except DataUnavailableError:
                return steps, at
            record = opened.record
            if after is not None and after.number == at + 1 and after.previous != record.sha256:
                self.losses.records[after.number] = "it does not follow on the one before"
                return steps, after.number
            if self._usable(record.snapshot, at, Part.SNAPSHOT):
                return [*steps, Step(opened, Part.SNAPSHOT)], None
            if record.base is None or not self._usable(record.changeset, at, Part.CHANGESET):
                return steps, at
            steps.append(Step(opened, Part.CHANGESET))
            after, at = record, record.base
        return steps, None if at in held else at

    def _usable(self, reference: DocumentRef | None, number: int, part: Part) -> bool:
        return reference is not None and (number, part) not in self.losses.documents

    def lost(self, step: Step, error: UsenetfsError) -> None:
        """A document turned out to be unusable; the next route goes around it."""
        self.losses.documents[step.number, step.part] = error.message

    # --- documents

    async def deliver(
        self,
        step: Step,
        send: trio.MemorySendChannel[bytes | UsenetfsError],
        *,
        parallel: int,
    ) -> None:
        """Send a document's pieces in order, ``parallel`` of them on their way at once.

        The last thing sent is the error, if one cannot be had from any copy.
        """
        kind = Kind.SNAPSHOT if step.part is Part.SNAPSHOT else Kind.CHANGESET
        async with send, trio.open_nursery() as nursery:
            ordered, coming = trio.open_memory_channel[
                trio.MemoryReceiveChannel[bytes | UsenetfsError]
            ](max(parallel - 1, 0))
            nursery.start_soon(self._start_pieces, kind, step.reference, ordered, nursery)
            async with coming:
                async for piece in coming:
                    content = await piece.receive()
                    await send.send(content)
                    if isinstance(content, UsenetfsError):
                        break
            nursery.cancel_scope.cancel()

    async def _start_pieces(
        self,
        kind: Kind,
        reference: DocumentRef,
        ordered: trio.MemorySendChannel[trio.MemoryReceiveChannel[bytes | UsenetfsError]],
        nursery: trio.Nursery,
    ) -> None:
        async with ordered:
            for number, copies in enumerate(reference.articles):
                done, result = trio.open_memory_channel[bytes | UsenetfsError](1)
                await ordered.send(result)
                nursery.start_soon(self._piece, kind, number, copies, done)

    async def _piece(
        self,
        kind: Kind,
        number: int,
        copies: Copies,
        done: trio.MemorySendChannel[bytes | UsenetfsError],
    ) -> None:
        reasons = []
        for article, attempt in copies:
            wanted = message_id(self._articles.keys.message_id_key, article, attempt)
            try:
                container = await self._articles.open(wanted, article, kind)
                await done.send(bytes(piece_of(container, kind, number)))
            except (DataUnavailableError, DocumentError) as error:
                reasons.append(error.message)
            except UsenetfsError as error:
                await done.send(error)
                return
            else:
                return
        await done.send(
            DataUnavailableError(f"piece {number} is lost: {'; '.join(dict.fromkeys(reasons))}")
        )
