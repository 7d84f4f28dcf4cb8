"""What the sessions of one server share, and the group commit among them.

Owns: the spool's durability, and which articles a fault hides. Must not know: sessions.
"""

from __future__ import annotations

import math
import ssl
from dataclasses import dataclass, field

import trio

from usenetfs.errors import LocalStorageError
from usenetfs.nntpd.counters import ServerCounters
from usenetfs.nntpd.faults import Fault, FaultDecider
from usenetfs.nntpd.settings import NntpdSettings
from usenetfs.nntpd.spool import Spool


class GroupCommit:
    """Syncs of the spool, one at a time, each shared by all who asked before it began."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._asked = trio.Event()
        self._next = _Round()

    def __repr__(self) -> str:
        return f"<GroupCommit {'asked' if self._asked.is_set() else 'idle'}>"

    async def wait(self) -> None:
        """Return when all that was appended before survives the loss of power.

        LocalStorageError if the disk failed.
        """
        mine = self._next
        self._asked.set()
        await mine.done.wait()
        if mine.error is not None:
            raise LocalStorageError(f"the spool cannot be synced: {mine.error.strerror}")

    async def run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            current, self._next = self._next, _Round()
            try:
                await trio.to_thread.run_sync(self._spool.take_unsynced().sync)
            except OSError as error:
                current.error = error
            current.done.set()


@dataclass(slots=True)
class _Round:
    done: trio.Event = field(default_factory=trio.Event)
    error: OSError | None = None


@dataclass(slots=True)
class Visibility:
    """Times at which articles appear and vanish by a fault; as many as such faults fired."""

    appears: dict[str, float] = field(default_factory=dict)
    vanishes: dict[str, float] = field(default_factory=dict)

    def visible(self, message_id: str, now: float) -> bool:
        appears = self.appears.get(message_id, -math.inf)
        return appears <= now < self.vanishes.get(message_id, math.inf)


@dataclass(slots=True)
class Shared:
    """See the module. ``tls`` is there where TLS can be had."""

    settings: NntpdSettings
    spool: Spool
    counters: ServerCounters
    faults: FaultDecider
    commit: GroupCommit
    tls: ssl.SSLContext | None = None
    visibility: Visibility = field(default_factory=Visibility)

    def fault(self, where: str, message_id: str = "") -> Fault | None:
        """The fault of this moment, counted."""
        fault = self.faults.decide(where, message_id)
        if fault is not None:
            self.counters.faults[fault.action.value] += 1
        return fault
