"""Following a live filesystem: each poll looks for a newer checkpoint and applies what changed.

The mount reads the index through one connection; the changes come through another, in a thread, in
one transaction, so a reader sees the state before or the state after. Then everything that changed
is forgotten here and announced to the kernel, except files that are open: they keep what they had
(``fs/held_open.py``).

A changeset leads from a base that may be older than the state that is here (checkpoints are
cumulative). So the last changeset is kept, and undone before the next one from the same base is
applied. Where that is not possible a whole index is built beside, and the difference is applied.
Whatever way: what comes out must have the digest that was published, or nothing is changed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import trio

from usenetfs.checkpoint.chain import ChainReader, Part, Route, Step
from usenetfs.checkpoint.digest import RowDigest
from usenetfs.checkpoint.following import Touched, check_digest, touched_by
from usenetfs.checkpoint.record import Record
from usenetfs.checkpoint.replay import UnusableError, apply_step, rebuild, remove_index
from usenetfs.daemon.parts import Parts
from usenetfs.errors import DataUnavailableError, DigestError, DocumentError, UsenetfsError
from usenetfs.fs.held_open import HeldOpen
from usenetfs.index.chain import NONE_YET, ChainState
from usenetfs.index.replica import Replica, inverted
from usenetfs.types import InodeId

log = logging.getLogger("usenetfs.daemon")

AT_ONCE: Final = 64 << 20
"""Bytes of changes that are held in memory; more are applied by way of a new index."""


def state_of(record: Record) -> ChainState:
    """What the index of a view says of itself. Nothing is published on from it."""
    return ChainState(
        writer=record.writer,
        number=record.number,
        record_hash=record.sha256,
        time=record.time,
        digest=record.digest,
    )


class Following:
    """Brings the index of a view up to date. One task; :meth:`run` until cancelled."""

    def __init__(self, parts: Parts, reader: ChainReader, path: Path, *, interval: float) -> None:
        self._parts = parts
        self._reader = reader
        self._path = path
        self._interval = interval
        self._digest = RowDigest(reader.digest_key)
        self._released: set[InodeId] = set()
        self._any_released = trio.Event()
        self._held = HeldOpen(parts.index, parts.inodes, parts.content, self._release)
        self._state = ChainState(bytes(8))
        self._last = b""

    def __repr__(self) -> str:
        return f"<Following at checkpoint {self._state.number} {self._held!r}>"

    async def run(self) -> None:
        """Poll every interval."""
        with await trio.to_thread.run_sync(Replica.open, self._path) as replica:
            state, self._last = replica.followed()
            if state is None:
                raise DataUnavailableError(f"{self._path} does not say which state it is")
            self._state = state
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._announce_released)
                while True:
                    try:
                        while await self.poll(replica):
                            pass
                    except UsenetfsError as error:
                        log.warning("the newest checkpoint cannot be had: %s", error)
                        self._parts.errors.report(error)
                    await trio.sleep(self._interval)

    async def poll(self, replica: Replica) -> bool:
        """Whether there was something newer, which is here now."""
        known = self._state.number
        newest = await self._reader.find_end(known=known)
        if newest is None or newest <= known:
            return False
        self._reader.forget()
        held = {known, self._state.base} - {NONE_YET} if self._last else {known}
        route = await self._reader.route(newest, held=held)
        if route.target.number <= known:
            return False
        if not await self._step_by_step(replica, route):
            await self._jump(replica, newest)
        log.info("checkpoint %d is shown", self._state.number)
        return self._state.number > known

    # --- two ways

    async def _step_by_step(self, replica: Replica, route: Route) -> bool:
        """Apply the route's changesets; False if that does not lead there."""
        size = sum(step.reference.size for step in route.steps)
        if size > AT_ONCE or any(step.part is Part.SNAPSHOT for step in route.steps):
            return False
        try:
            changesets = [await self._content_of(step) for step in route.steps]
            last = changesets[-1]
            begin = route.steps[0].checkpoint.record.base
            if begin != self._state.number:
                changesets.insert(0, inverted(self._last))
            base = route.target.base
            await self._apply(
                replica,
                changesets,
                route.target,
                base=NONE_YET if base is None else base,
                last=last,
            )
        except (UnusableError, DigestError, DocumentError) as error:
            log.info("the state of %d is fetched whole: %s", route.target.number, error)
            return False
        return True

    async def _content_of(self, step: Step) -> bytes:
        parts: list[bytes] = []
        await apply_step(self._reader, step, parts.extend)
        return b"".join(parts)

    async def _jump(self, replica: Replica, newest: int) -> None:
        """Build the newest state beside, and apply the difference."""
        beside = self._path.with_name("next.db")
        remove_index(beside)
        record = await rebuild(self._reader, beside, newest=newest, writable=False)
        try:
            if record.number <= self._state.number:
                return
            changes = await trio.to_thread.run_sync(replica.differences_to, beside)
            await self._apply(replica, [changes], record, base=NONE_YET, last=b"")
        finally:
            remove_index(beside)

    # --- applying

    async def _apply(
        self,
        replica: Replica,
        changesets: Sequence[bytes],
        record: Record,
        *,
        base: int,
        last: bytes,
    ) -> None:
        touched = await trio.to_thread.run_sync(touched_by, changesets)
        self._resolve_names(touched)
        state = replace(state_of(record), base=base)
        check = partial(check_digest, self._digest, self._state.digest, record.digest)
        work = partial(
            replica.follow,
            changesets,
            touched.keys,
            touched.inodes,
            check=check,
            state=state,
            last=last,
        )
        self._held.expect(touched.inodes | touched.content)
        try:
            await trio.to_thread.run_sync(work)
            self._state, self._last = state, last
        finally:
            self._announce(touched)
            self._held.settled()
        known = self._parts.inodes.known
        stale = [i for i in touched.content if i not in self._held and known(i)]
        await trio.to_thread.run_sync(self._parts.kernel.content_changed, stale)

    def _resolve_names(self, touched: Touched) -> None:
        """Names that lead elsewhere without changing."""
        for parent, cookie in touched.places:
            name = self._parts.index.database.value(
                "SELECT name FROM dirents WHERE parent = ? AND cookie = ?", (parent, cookie)
            )
            if name is not None:
                touched.names.add((parent, name))

    def _announce(self, touched: Touched) -> None:
        """Forget what is remembered, here and in the kernel."""
        parts = self._parts
        changed = [i for i in touched.inodes | touched.content if i not in self._held]
        parts.inodes.reread(changed)
        parts.operations.reread_capabilities()
        for inode in changed:
            parts.content.forget(inode)
            parts.kernel.attributes_changed(inode)
        for parent, name in touched.names:
            parts.kernel.name_changed(parent, name)

    # --- files that were held

    def _release(self, inode: InodeId) -> None:
        self._released.add(inode)
        self._any_released.set()

    async def _announce_released(self) -> None:
        """What was held is new again: the kernel is told, where it can wait."""
        while True:
            await self._any_released.wait()
            self._any_released = trio.Event()
            released, self._released = self._released, set()
            with suppress(UsenetfsError):
                await trio.to_thread.run_sync(self._parts.kernel.content_changed, released)
