"""Whether a recovery would find everything: the chain's articles and the record of the keys.

The way is the one that ``recover`` goes: the newest record, and the snapshot and changesets that
lead to it. Each piece and each record has copies; it is lost when none of them is there. What is
lost is gone around as ``recover`` would (``checkpoint/chain.py``), so what comes out is which
checkpoint can be recovered, and whether something had to be gone around.

Older checkpoints, which only ``mount --at`` needs, are not asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import trio

from usenetfs.article.container import Kind, unpack
from usenetfs.article.key_record import KeyRecordLocator
from usenetfs.article.keys import KeySet
from usenetfs.article.message_ids import chain_message_id, message_id
from usenetfs.article.seal import open_seal
from usenetfs.checkpoint.articles import ArticleReader
from usenetfs.checkpoint.chain import ChainReader, Part, Route, Step
from usenetfs.checkpoint.key_records import KeyRecords
from usenetfs.errors import (
    DataUnavailableError,
    IntegrityError,
    NetworkError,
)
from usenetfs.health.asking import Asker
from usenetfs.health.tally import ChainFindings
from usenetfs.health.verdict import Outcome, judge
from usenetfs.types import ArticleId, MessageId, article_id

log = logging.getLogger("usenetfs.download")

ROUNDS: Final = 64
"""Ways that are looked through before no further one is sought."""

PARALLEL: Final = 16
"""Pieces asked for at once."""

MAX_PROBLEMS: Final = 20
"""Lines that say what is wrong."""

LINE: Final = 200
"""Characters of one."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """One article of the chain."""

    message_id: MessageId
    article: ArticleId
    kind: Kind


class ChainCheck:
    """``copies``: of each record, as many as are posted. ``data``: fetch, rather than ask."""

    def __init__(
        self,
        asker: Asker,
        reader: ArticleReader,
        records: KeyRecords,
        *,
        filesystem_id: bytes,
        copies: int,
        data: bool,
    ) -> None:
        self._asker = asker
        self._reader = reader
        self._records = records
        self._filesystem_id = filesystem_id
        self._copies = copies
        self._data = data
        self._asked = 0
        self._problems: list[str] = []

    def __repr__(self) -> str:
        return f"<ChainCheck asked={self._asked} problems={len(self._problems)}>"

    @property
    def _keys(self) -> KeySet:
        return self._reader.keys

    async def check(
        self, newest: int | None, locator: KeyRecordLocator, *, fresh: bool
    ) -> ChainFindings:
        """``newest``: the last checkpoint known to be published; None: there is none yet.
        ``fresh``: whether it may still be on its way from server to server."""
        keys = await self._check_keys(locator)
        if newest is None:
            return ChainFindings(Outcome.PRESENT, keys=keys, problems=tuple(self._problems))
        chain = ChainReader(self._reader)
        recoverable: int | None = None
        try:
            recoverable = await self._recoverable(chain, newest)
            outcome = Outcome.DEGRADED if self._problems else Outcome.PRESENT
            if recoverable != newest:
                outcome = Outcome.FRESH if fresh else Outcome.LOST
        except DataUnavailableError as error:
            outcome = Outcome.FRESH if fresh else Outcome.LOST
            for line in chain.losses.lines() or [error.message]:
                self._problem(line)
        except NetworkError as error:
            outcome = Outcome.UNKNOWN
            self._problem(f"the chain could not be asked for: {error}")
        if outcome in {Outcome.LOST, Outcome.DEGRADED}:
            log.warning("the chain is %s: %s", outcome.value, "; ".join(self._problems[:3]))
        return ChainFindings(
            outcome,
            newest=newest,
            recoverable=recoverable,
            articles=self._asked,
            keys=keys,
            problems=tuple(self._problems),
        )

    async def _recoverable(self, chain: ChainReader, newest: int) -> int:
        """The newest checkpoint that can be recovered. DataUnavailableError, NetworkError."""
        for _ in range(ROUNDS):
            route = await chain.route(newest)
            lost = await self._lost_step(route)
            if lost is None:
                for line in chain.losses.lines():
                    self._problem(line)
                return route.target.number
            chain.lost(lost, DataUnavailableError("a piece of it is lost"))
        raise DataUnavailableError("too much of the chain is lost to look for a way around it all")

    async def _lost_step(self, route: Route) -> Step | None:
        """A step of the way of which something is lost, if there is one."""
        for step in route.steps:
            key = self._keys.chain_key
            record = [
                _Copy(
                    chain_message_id(key, step.number, copy),
                    article_id(0, step.number),
                    Kind.CHECKPOINT,
                )
                for copy in range(self._copies)
            ]
            await self._there(record, f"the record of checkpoint {step.number}")
            if step.inline is None and not await self._has_document(step):
                return step
        return None

    async def _has_document(self, step: Step) -> bool:
        kind = Kind.SNAPSHOT if step.part is Part.SNAPSHOT else Kind.CHANGESET
        name = f"the {step.part} of checkpoint {step.number}"
        key = self._keys.message_id_key
        missing = False
        unasked: NetworkError | None = None
        pieces = iter(enumerate(step.reference.articles))

        async def work() -> None:
            nonlocal missing, unasked
            for number, copies in pieces:
                where = [_Copy(message_id(key, *copy), copy[0], kind) for copy in copies]
                try:
                    missing |= not await self._there(where, f"piece {number} of {name}")
                except NetworkError as error:
                    unasked = error

        async with trio.open_nursery() as nursery:
            for _ in range(PARALLEL):
                nursery.start_soon(work)
        if unasked is not None and not missing:
            raise unasked
        return not missing

    async def _there(self, copies: Iterable[_Copy], name: str) -> bool:
        """Whether one of the copies is there; NetworkError when that cannot be known."""
        outcomes = [await self._outcome(copy) for copy in copies]
        if any(outcome in {Outcome.PRESENT, Outcome.DEGRADED} for outcome in outcomes):
            gone = outcomes.count(Outcome.LOST)
            if gone:
                self._problem(f"{name}: {gone} of {len(outcomes)} copies are lost")
            elif Outcome.DEGRADED in outcomes:
                self._problem(f"{name}: not every server has it")
            return True
        if Outcome.UNKNOWN in outcomes:
            raise NetworkError(f"{name} could not be asked for on every server")
        self._problem(f"{name} is lost")
        return False

    async def _outcome(self, copy: _Copy) -> Outcome:
        self._asked += 1

        async def open_body(body: bytearray) -> bool:
            await trio.to_thread.run_sync(self._open, copy, body)
            return True

        if not self._data:
            outcome = judge(await self._asker.stat(copy.message_id), fresh=False)
            if outcome is not Outcome.LOST:
                return outcome
        return judge((await self._asker.read(copy.message_id, open_body))[0], fresh=False)

    def _open(self, copy: _Copy, body: bytearray) -> None:
        plaintext = open_seal(
            self._keys.data_key, self._filesystem_id, copy.article, copy.kind, body
        )
        if unpack(plaintext).kind is not copy.kind:
            raise IntegrityError("an article of the chain holds something else")

    async def _check_keys(self, locator: KeyRecordLocator) -> Outcome:
        """The record that the recovery key leads to. Finding it reads it: it is small."""
        try:
            if await self._records.find(locator) is not None:
                return Outcome.PRESENT
            self._problem("the record of the keys is not there")
        except DataUnavailableError as error:
            self._problem(error.message)
        except NetworkError as error:
            self._problem(f"the record of the keys could not be asked for: {error}")
            return Outcome.UNKNOWN
        return Outcome.LOST

    def _problem(self, line: str) -> None:
        line = line if len(line) <= LINE else line[: LINE - 1] + "…"
        if line not in self._problems and len(self._problems) < MAX_PROBLEMS:
            self._problems.append(line)
