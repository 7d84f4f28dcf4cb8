"""Publishing checkpoints: the writer's side of the chain.

:class:`Publisher` owns the order of the steps, each of which a crash may follow::

    cut ─→ draft (thread) ─→ pieces posted and seen ─→ held changes stored ─→ SENDING committed, log
    synced ─→ record, copy 0 (its Message-ID decides whose the number is) ─→ POSTED committed
    ─→ the other copies ─→ all seen ─→ DONE: the chain's new state, one transaction ─→ trimmed

Before SENDING nothing is promised: a crash leaves articles that nobody names, and the next attempt
begins anew. After it the same bytes are posted until the checkpoint is done.

Invariants: whoever can read a checkpoint can read every file in it (``holdback``, and pieces are
seen before the record is sent); what is posted at a number never differs between two tries; after
another writer's record was found at our number, nothing is posted any more (*fenced*).

How documents travel is in ``document_sender``.

Everything here runs on the event loop but what takes long, which goes to threads: reading the cut,
compressing, sealing, syncing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from usenetfs.article.container import Kind, unpack
from usenetfs.article.keys import KeySet
from usenetfs.article.seal import new_salt
from usenetfs.checkpoint.compose import (
    Document,
    container_of,
    next_state,
    wants_snapshot,
)
from usenetfs.checkpoint.demand import Asked, Demands
from usenetfs.checkpoint.document_sender import DocumentSender, give_back
from usenetfs.checkpoint.draft import Draft, Spool, make_draft
from usenetfs.checkpoint.record import DocumentRef, Record, open_checkpoint
from usenetfs.checkpoint.sending import Sender, Taken
from usenetfs.checkpoint.together import together
from usenetfs.errors import FencedError, NetworkError, UsenetfsError
from usenetfs.index.chain import NONE_YET, ChainState, Publication, Stage
from usenetfs.index.cut import Cut
from usenetfs.index.index import Index
from usenetfs.index.schema import SCHEMA_VERSION
from usenetfs.tracker import Kind as Operations
from usenetfs.tracker import Tracker
from usenetfs.transfer.pulse import Pulse

log = logging.getLogger("usenetfs.checkpoint")

LOAD_BEARING_COPIES = 2
"""Further copies of what other checkpoints depend on."""

TRIM_BATCH = 500
"""Rows of the changelog deleted in one transaction."""

PATIENCE = 10
"""An attempt that found nothing to publish is not repeated before this many times its length."""

MAX_PASSED = 8
"""Numbers in a row that the servers may lose before publishing is given up for now."""

MAX_REST = 60.0
"""Seconds between two attempts, at most, after one failed."""


Moment = Callable[[], AbstractAsyncContextManager[bool]]
"""Chooses when to cut: entered before, left right after; False: there is to be no cut now."""


@asynccontextmanager
async def at_once() -> AsyncIterator[bool]:
    """The moment is now."""
    yield True


class CheckpointBlockedError(NetworkError):
    """The servers take checkpoints, and nobody can read them afterwards."""

    error_code = "checkpoint_blocked"


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """``interval``: seconds between checkpoints. ``copies``: of a record. ``spool``: a directory
    for temporary files."""

    interval: float
    copies: int
    piece_size: int
    spool: Path


class Publisher:
    """See the module. ``save`` commits what is in memory only; ``report`` is told of errors."""

    def __init__(
        self,
        index: Index,
        sender: Sender,
        *,
        keys: KeySet,
        settings: PublishSettings,
        save: Callable[[], None],
        report: Callable[[UsenetfsError], None],
        tracker: Tracker | None = None,
    ) -> None:
        self._index = index
        self._sender = sender
        self._keys = keys
        self._settings = settings
        self._documents = DocumentSender(
            index,
            sender,
            hash_key=keys.hash_key,
            spool=settings.spool,
            piece_size=settings.piece_size,
        )
        self._save = save
        self._report = report
        self._tracker = tracker or Tracker()
        self._lock = trio.Lock()
        self._rest = 0.0
        self.active = False
        """Whether a checkpoint is being made or posted now."""
        self.fenced = trio.Event()
        """Set once this writer has been shut out."""
        self.published = Pulse()
        self.demands = Demands()
        """What is wanted in checkpoints; each publication answers them."""
        index.dirents.on_replace = self.demands.replaced
        self._state = self._index.chain.state() or ChainState(os.urandom(8))
        if self._state.fenced:
            self.fenced.set()

    def __repr__(self) -> str:
        return f"<Publisher last={self._state.number} {'fenced' if self.fenced.is_set() else ''}>"

    @property
    def state(self) -> ChainState:
        """The last checkpoint known to be on the servers."""
        return self._state

    def pending(self) -> int:
        """About how many transactions are not in the last checkpoint."""
        return max(0, self._index.changelog.last - self._state.cut)

    # --- the task --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Publish every interval while there is something new, until cancelled or fenced."""
        while not self.fenced.is_set():
            try:
                await self._look_ahead()
                break
            except FencedError:
                return
            except CheckpointBlockedError:
                break  # publishing finds out, or passes over it
            except UsenetfsError as error:
                log.info("whether somebody else writes cannot be asked now: %s", error)
                await trio.sleep(self._settings.interval)
        failures = 0
        while not self.fenced.is_set():
            await trio.sleep(max(self._settings.interval, self._rest))
            try:
                await self.publish()
                failures = 0
            except FencedError:
                return
            except UsenetfsError as error:
                failures += 1
                self._failed(error)
                await trio.sleep(min(2.0**failures, MAX_REST))
            except Exception as error:  # the mount must live on
                failures += 1
                log.exception("a fault of usenetfs stopped a checkpoint: it is tried again")
                self._report(UsenetfsError(f"internal error while publishing: {error!r}"))
                await trio.sleep(min(2.0**failures, MAX_REST))

    def _failed(self, error: UsenetfsError) -> None:
        log.warning("no checkpoint could be published (%s): it is tried again", error)
        self._report(error)

    async def publish_surely(self, moment: Moment = at_once) -> int:
        """:meth:`publish`, again and again until it succeeds; FencedError if it never will."""
        wait = 1.0
        while True:
            try:
                return await self.publish(moment)
            except FencedError:
                raise
            except UsenetfsError as error:
                self._failed(error)
                await trio.sleep(wait)
                wait = min(wait * 2, MAX_REST)

    async def publish(self, moment: Moment = at_once) -> int:
        """Publish what is new at the time of the call; the number of the checkpoint that has it.

        What has staged content is left out. ``moment`` is entered once the chain is free for the
        next one. Raises FencedError; NetworkError and others, after which it may be called again.
        """
        async with self._lock:
            self.active = True
            before = self._state.number
            try:
                name = f"checkpoint {before + 1}"
                with self._tracker.track(Operations.CHECKPOINT, name) as operation:
                    number = await self._publish(moment)
                    if number == before:
                        operation.drop()
                    return number
            finally:
                self.active = False

    async def unless_fenced(self, call: Callable[[], Awaitable[object]]) -> None:
        """Await ``call()``; FencedError, and it is cancelled, if we are fenced before it ends."""
        if self._state.fenced:
            raise FencedError(self._state.fenced)

        async def watch() -> None:
            await self.fenced.wait()
            raise FencedError(self._state.fenced)

        async def run() -> None:
            await call()
            scope.cancel()

        with trio.CancelScope() as scope:
            await together((watch, run))

    # --- the steps -------------------------------------------------------------------------------

    async def _publish(self, moment: Moment) -> int:
        for _ in range(MAX_PASSED):
            if self._state.fenced:
                raise FencedError(self._state.fenced)
            under_way = self._index.chain.under_way()
            if under_way is not None and not await self._complete(under_way):
                continue
            if await self._publish_changes(moment):
                return self._state.number
        raise CheckpointBlockedError("the servers lose every checkpoint that is posted")

    async def _publish_changes(self, moment: Moment) -> bool:
        """From a cut to the end. False: the number was passed over."""
        spool = draft = None
        if wants_snapshot(self._state):
            spool = self._documents.new_spool()
        try:
            async with moment() as chosen:
                cut = self._cut() if chosen else None
                asked = self.demands.cut() if chosen else Asked()
            if cut is None:
                asked.met()
                return True
            state, started = self._state, trio.current_time()
            draft = await trio.to_thread.run_sync(self._draft, cut, state, spool, asked)
            done = not draft.published and not _anew(state)
            self._rest = PATIENCE * (trio.current_time() - started) if done else 0.0
            done = done or await self._send(state, draft)
            if done:
                asked.answered(draft.lacks)
            return done
        finally:
            for made in (spool, draft):
                if made is not None:
                    await give_back(made)

    def _cut(self) -> Cut | None:
        """The index as it is now; None: the last checkpoint has all of it."""
        self._save()
        state = self._state
        nothing_new = not state.held and self._index.changelog.last == state.cut
        return None if nothing_new and not _anew(state) else self._index.cut()

    def _draft(self, cut: Cut, state: ChainState, spool: Spool | None, asked: Asked) -> Draft:
        with cut:
            return make_draft(
                cut,
                state,
                digest_key=self._keys.digest_key,
                scratch=self._settings.spool,
                spool=spool,
                wanted=asked.wanted,
            )

    async def _send(self, state: ChainState, draft: Draft) -> bool:
        """Post the draft's documents, then its record. False: the number was passed over."""
        snapshot = None if draft.snapshot is None else Document.of(draft.snapshot)
        copies = self._settings.copies
        changes, base = await trio.to_thread.run_sync(
            self._documents.changeset, state, self._last, draft
        )
        try:
            changeset = None if changes is None else Document.of(changes)
            changeset_ref = await self._documents.send(changeset, Kind.CHANGESET, copies)
            if snapshot is not None:
                copies += LOAD_BEARING_COPIES
            snapshot_ref = await self._documents.send(snapshot, Kind.SNAPSHOT, copies)
            record = self._record(state, draft, base, changeset_ref, snapshot_ref)
            after = next_state(state, draft, record, snapshot=snapshot, changeset=changeset)
            container = container_of(record, changeset, snapshot, self._keys.hash_key)
        finally:
            if changes is not None:
                await give_back(changes)
        while self._index.chain.drop_held(state.number):  # of an attempt that came to nothing
            await trio.lowlevel.checkpoint()
        for part, data in enumerate(draft.held):
            self._index.chain.store_held(record.number, part, data)
            await trio.lowlevel.checkpoint()
        publication = Publication(
            record.number,
            record.to_bytes(),
            container,
            tuple(new_salt() for _ in range(copies)),
            Stage.SENDING,
            after,
        )
        self._index.chain.begin(publication)
        # What a power cut takes back must not have been sent: the same bytes, or none.
        await trio.to_thread.run_sync(self._index.sync)
        return await self._complete(publication)

    @property
    def _last(self) -> Publication | None:
        return self._index.chain.last()

    def _record(
        self,
        state: ChainState,
        draft: Draft,
        base: int | None,
        changeset: DocumentRef | None,
        snapshot: DocumentRef | None,
    ) -> Record:
        return Record(
            number=state.number + 1,
            writer=state.writer,
            epoch=self._index.identity.epoch,
            schema=SCHEMA_VERSION,
            time=int(time.time()),
            previous=state.record_hash or None,
            base=base,
            changeset=changeset,
            snapshot=snapshot,
            digest=draft.digest,
            counters=draft.counters,
            next_article=self._index.articles.next_number,
        )

    # --- the record ------------------------------------------------------------------------------

    async def _complete(self, publication: Publication) -> bool:
        """From SENDING to the end, whatever of it was done before.

        False: the servers have taken it and lost it, so that nobody can read it. The next number
        then begins anew, with a snapshot.
        """
        await self._strengthen_base(publication)
        if publication.stage is Stage.SENDING:
            if not await self._take_number(publication):
                log.warning("checkpoint %d is taken and lost: passed over", publication.number)
                self._state = self._index.chain.pass_over(self._state, publication.number)
                return False
            self._index.chain.set_posted(publication.number)
        there: list[int] = []
        await together(
            partial(self._copy, publication, copy, there) for copy in range(len(publication.salts))
        )
        if not there:
            log.warning("checkpoint %d was lost by the servers", publication.number)
            publication = replace(publication, after=replace(publication.after, snapshot=NONE_YET))
        self._index.chain.finish(publication)
        self._state = publication.after
        await self._trim()
        if there:
            log.info("checkpoint %d is published", publication.number)
            self.published.fire()
        return bool(there)

    async def _take_number(self, publication: Publication) -> bool:
        """The first copy that can be read says whose the number is. False: none can.

        If it is another writer's whom we cannot see, one of us finds the other at the next one.
        """
        for copy, salt in enumerate(publication.salts):
            taken = await self._sender.take(publication.number, copy, salt, publication.container)
            if taken is Taken.OURS:
                return True
            if taken is Taken.OTHER:
                await self._fence(publication.number, copy)
        return False

    async def _copy(self, publication: Publication, copy: int, there: list[int]) -> None:
        """One copy; it is added to ``there`` unless the servers know its id and have lost it."""
        taken = await self._sender.take(
            publication.number, copy, publication.salts[copy], publication.container
        )
        if taken is Taken.OURS:
            await self._sender.wait_for_record(publication.number, copy)
            if copy == 0:
                # A server may say 240 to what it has already, and keep what it has.
                taken = await self._sender.whose(publication.number, copy, publication.container)
        if taken is Taken.OTHER:
            await self._fence(publication.number, copy)
        if taken is Taken.OURS:
            there.append(copy)

    async def _strengthen_base(self, publication: Publication) -> None:
        """Further copies of the checkpoint before, when this one is the first to depend on it."""
        last = self._last
        if last is None or publication.after.base != last.number or not _moved(last):
            return
        first = len(last.salts)
        for copy in range(first, first + LOAD_BEARING_COPIES):
            await self._sender.take(last.number, copy, new_salt(), last.container)

    async def _trim(self) -> None:
        """Delete what the finished checkpoint carried off, a little at a time."""
        while True:
            with self._index.transaction():
                deleted = self._index.changelog.trim(self._state.cut, TRIM_BATCH)
            await trio.lowlevel.checkpoint()
            if deleted < TRIM_BATCH:
                break
        while self._index.chain.drop_held(self._state.number):
            await trio.lowlevel.checkpoint()

    # --- fencing ---------------------------------------------------------------------------------

    async def _look_ahead(self) -> None:
        """Whether somebody else has gone on where we are: then we are fenced before we begin.

        Nothing is published meanwhile: the answer might come late and find our own checkpoint.
        """
        async with self._lock:
            if self._state.number == NONE_YET or self._index.chain.under_way() is not None:
                return
            number = self._state.number + 1
            if await self._sender.exists(number):
                await self._fence(number, 0)

    async def _fence(self, number: int, copy: int) -> None:
        """Another writer has this number: we write no more."""
        content = await self._sender.read_record(number, self._sender.record_id(number, copy))
        if content is None:
            raise CheckpointBlockedError(f"checkpoint {number} was there, and cannot be read now")
        record = open_checkpoint(unpack(content), number=number).record
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(record.time))
        who = f"another writer ({record.writer.hex()}, since epoch {record.epoch})"
        reason = f"checkpoint {number} was published by {who} on {when}"
        self._state = replace(self._state, fenced=reason)
        self._index.chain.start(self._state)
        self.fenced.set()
        self.published.fire()
        error = FencedError(reason)
        log.error("%s: this mount is read-only from now on. %s", reason, error.hint)
        self._report(error)
        raise error


def _anew(state: ChainState) -> bool:
    """Whether the next checkpoint needs a snapshot, so that there is one in any case."""
    return not state.digest or state.snapshot == NONE_YET


def _moved(last: Publication) -> bool:
    """Whether ``last`` has no snapshot, whose copies were as many from the start."""
    return last.after.snapshot != last.number
