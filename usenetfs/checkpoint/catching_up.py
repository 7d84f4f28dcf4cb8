"""Getting files into checkpoints that are written while checkpoints are made.

A checkpoint leaves out what has staged content. For most files that is over soon; one that is
written without pause would be left out for ever. :class:`CatchUp` sees to it that

- ``sync`` returns only once everything that was there at the call is in a checkpoint, as it was
  then or later (a :class:`Demand`);
- what has been held back for long gets into a checkpoint without anybody asking.

Each try has two parts: what the demand lacks goes up before everything else, so it is known that
the servers take it, and how fast; then the next checkpoint is cut. From the third on, that is done
in a *stillness*: writes into these files wait from just before the last of it goes up until the cut
is made. It has a bound; one that ends in vain is followed by a pause that grows.

The decisions are :func:`pause_before` and :func:`stillness_of`, which are pure. What they decide is
done here; how checkpoints are made is the Publisher's part, how content goes up the Uploader's.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from usenetfs.checkpoint.demand import Demand
from usenetfs.checkpoint.publish import Publisher, at_once
from usenetfs.errors import FencedError, UsenetfsError
from usenetfs.index.index import Index
from usenetfs.transfer.staged.stillness import Stillness
from usenetfs.transfer.upload.uploader import Uploader
from usenetfs.types import BlockNumber, InodeId

log = logging.getLogger("usenetfs.checkpoint")

WITHOUT: Final = 2
"""Checkpoints that are tried before one for which writers wait."""

STILL: Final = 10.0
"""Seconds that writers wait, at most."""

MOST_HELD: Final = 1000
"""Files for which there may be a stillness: of more, what is lacking is a backlog, and ends."""

CROWD: Final = 200
"""Writers that may wait; more end the stillness, for they take what the kernel may ask at once."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds between two tries, when one was in vain."""

SMALL: Final = 4 << 20
"""Octets of staged content that no stillness is denied for."""

NAMED: Final = 5
"""Files that are named of those that are waited for."""


def pause_before(number: int) -> float:
    """Seconds to wait before the ``number``-th try, from 1."""
    tried = number - WITHOUT - 1
    return 0.0 if tried <= 0 else min(FIRST_PAUSE * 2.0 ** min(tried - 1, 16), LONGEST_PAUSE)


def stillness_of(number: int, *, causes: int, staged: int, speed: float) -> float:
    """Seconds that writers wait, at most, for the ``number``-th try.

    ``causes``: inodes whose content is lacking, ``staged``: octets of it that came while what was
    there before went up at ``speed`` octets a second. There is none that would end in vain.
    """
    can_end = causes <= MOST_HELD and staged <= max(SMALL, speed * STILL / 2)
    return STILL if number > WITHOUT and can_end else 0.0


@dataclass(frozen=True, slots=True)
class Awaited:
    """What is waited for: how many files, and the paths of some."""

    files: int = 0
    paths: tuple[bytes, ...] = ()


class CatchUp:
    """See the module. ``save`` commits what is in memory only. ``most_held``: seconds after which a
    file that is held back is caught up with. ``report`` is told of errors."""

    def __init__(
        self,
        index: Index,
        uploader: Uploader,
        publisher: Publisher,
        stillness: Stillness,
        *,
        save: Callable[[], None],
        most_held: float,
        report: Callable[[UsenetfsError], None],
    ) -> None:
        self._index = index
        self._uploader = uploader
        self._publisher = publisher
        self._stillness = stillness
        self._save = save
        self._most_held = most_held
        self._report = report
        self._syncing: list[Demand] = []

    def __repr__(self) -> str:
        return f"<CatchUp syncs={len(self._syncing)} {self._stillness!r}>"

    def awaited(self) -> Awaited:
        """What the syncs under way wait for."""
        inodes: set[int] = set().union(*(demand.lacking for demand in self._syncing))
        some = map(InodeId, heapq.nsmallest(NAMED, inodes))
        paths = (self._index.dirents.path_of(inode) for inode in some)
        return Awaited(len(inodes), tuple(path for path in paths if path))

    async def sync(self, uploaded: Callable[[], None] = lambda: None) -> int:
        """Return when everything there is now is in a checkpoint, as it is now or later; its
        number. ``uploaded`` hears when the content is on the servers.

        FencedError if it never will be. It waits for as long as the servers do not take it, and can
        be cancelled.
        """
        self._save()
        with self._publisher.demands.open(self._index.inodes.last_id()) as demand:
            self._syncing.append(demand)
            try:
                await self._publisher.unless_fenced(self._uploader.sync)
                uploaded()
                number = await self._publisher.publish_surely()
                if not demand.met:
                    number = await self._meet(demand)
                return number
            finally:
                self._syncing.remove(demand)

    async def run(self) -> None:
        """See that nothing is held back for ever, until cancelled or fenced."""
        while not self._publisher.fenced.is_set():
            with self._publisher.demands.open(self._index.inodes.last_id()) as demand:
                await trio.sleep(self._most_held)
                try:
                    if not demand.met and demand.lacking:
                        log.debug("%r has been held back for long", demand)
                        await self._meet(demand, first=WITHOUT + 1)
                except FencedError:
                    return
                except UsenetfsError as error:
                    log.info("what is held back is not in a checkpoint yet: %s", error)
                except Exception as error:  # the mount must live on
                    log.exception("a fault of usenetfs: what is held back is tried again later")
                    self._report(UsenetfsError(f"internal error while catching up: {error!r}"))

    # --- trying ----------------------------------------------------------------------------------

    async def _meet(self, demand: Demand, first: int = WITHOUT) -> int:
        """Try until it is met; the number of the checkpoint that did. ``first``: as if so many
        tries had been made."""
        for number in itertools.count(first):
            await self._pause(demand, pause_before(number))
            if demand.met:
                break
            causes = demand.causes
            staged, speed = await self._go_up(causes)
            still = stillness_of(number, causes=len(causes), staged=staged, speed=speed)
            moment = partial(self._still, demand, still) if still else at_once
            await self._publisher.publish_surely(moment)
        return self._publisher.state.number

    async def _go_up(self, causes: Iterable[int]) -> tuple[int, float]:
        """All that is staged of ``causes`` now goes up: octets that came meanwhile, and the speed.

        Returns at a time at which the servers take what is posted.
        """
        inodes = [InodeId(inode) for inode in causes]
        before, started = self._staged(inodes), trio.current_time()
        await self._publisher.unless_fenced(partial(self._uploader.settle, inodes))
        passed = max(trio.current_time() - started, 0.1)
        return self._staged(inodes), before / passed

    def _staged(self, inodes: Iterable[InodeId]) -> int:
        self._save()
        return sum(sum(self._index.staged_bytes_of(inode).values()) for inode in inodes)

    async def _pause(self, demand: Demand, seconds: float) -> None:
        """Other checkpoints may meet it meanwhile."""
        until = trio.current_time() + seconds
        while not demand.met and (left := until - trio.current_time()) > 0:
            await self._publisher.published.wait_at_most(left)

    @asynccontextmanager
    async def _still(self, demand: Demand, seconds: float) -> AsyncIterator[bool]:
        """The moment at which nothing is staged of what the demand lacks, if it comes in time."""
        with self._stillness.over(demand.causes, self._index.inodes.last_id()):
            ready = False
            with trio.move_on_after(seconds):
                ready = await self._settled(demand)
            if not ready:
                log.debug("no moment without changes was found for %r", demand)
            yield ready

    async def _settled(self, demand: Demand) -> bool:
        while self._stillness.waiting <= CROWD:
            self._save()
            causes = demand.causes
            self._stillness.widen(causes)  # names may have passed to others
            left = [inode for inode in map(InodeId, causes) if self._is_staged(inode)]
            if not left:
                return True
            await self._publisher.unless_fenced(partial(self._uploader.settle, left))
        return False

    def _is_staged(self, inode: InodeId) -> bool:
        return self._index.staging.next(inode, BlockNumber(0)) is not None
