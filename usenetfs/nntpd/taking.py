"""Taking articles: POST and IHAVE, from the invitation to the reply, and the faults in between.

Owns what a session knows of the article that is awaited. Invariant: 240 or 235 is said only after
the spool has the article (and, where durable, the disk), except by a fault that lies. Must not
know: streams.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

import trio

from usenetfs.errors import DiskFullError, LocalStorageError
from usenetfs.nntp.grammar import ARTICLE_CODES, Verb
from usenetfs.nntpd.faults import POSTED, Action, Fault
from usenetfs.nntpd.posting import (
    Filing,
    RefusedPostError,
    examine,
    new_message_id,
    renamed,
)
from usenetfs.nntpd.shared import Shared
from usenetfs.nntpd.spool import Piece

log = logging.getLogger("usenetfs.nntpd")

DUPLICATE = "435 Duplicate"


@dataclass(frozen=True, slots=True)
class Taken:
    """The reply to an article. ``lost``: the connection ends instead of it."""

    code: int = 0
    text: str = ""
    late: float = 0.0
    lost: bool = False
    fault: Fault | None = None
    """The fault whose own code and text are the reply."""


class Taker:
    """The posting side of a session."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self.offered = ""
        """The Message-ID of the last IHAVE."""

    def __repr__(self) -> str:
        return f"<Taker offered={self.offered or None}>"

    def invite(self, verb: Verb) -> tuple[int, str]:
        """The reply to POST or IHAVE."""
        if not self._shared.settings.posting:
            return (440, "Posting not allowed") if verb is Verb.POST else (502, "Not allowed")
        if verb is Verb.POST:
            return 340, f"Ok, recommended Message-ID {new_message_id()}"
        if self.offered in self._shared.spool:
            return 435, "Duplicate"
        return 335, "Send it; end with <CR-LF>.<CR-LF>"

    def too_large(self, verb: Verb, size: int) -> tuple[int, str]:
        """The reply to an article of ``size`` octets, in INN's words."""
        limit = self._shared.settings.max_article
        if verb is Verb.POST:
            return 441, f"Article is bigger than local limit of {limit} bytes"
        return 437, f"Article of {size} bytes exceeds local limit of {limit} bytes"

    async def take(self, verb: Verb, wire: bytes) -> Taken:
        """File an article as it came over the wire, or say why not."""
        refusal = 441 if verb is Verb.POST else 437
        try:
            filing = examine(wire, self._shared.settings.groups, datetime.now(UTC))
            if verb is Verb.IHAVE and filing.message_id != self.offered:
                raise RefusedPostError("Message-ID is not the one that was offered")
        except RefusedPostError as error:
            return Taken(refusal, error.reason)
        fault = self._shared.fault(POSTED, filing.message_id)
        action = None if fault is None else fault.action
        if action is Action.DROP:
            return Taken(lost=True)
        if action is Action.REPLY:
            return Taken(fault=fault)
        if action is Action.DUPLICATE or filing.message_id in self._shared.spool:
            return Taken(refusal, DUPLICATE)
        return await self._file(verb, filing, fault)

    async def _file(self, verb: Verb, filing: Filing, fault: Fault | None) -> Taken:
        told, late, now = filing.message_id, 0.0, trio.current_time()
        visibility = self._shared.visibility
        action = None if fault is None else fault.action
        if fault is not None and action is Action.HIDE:
            visibility.appears[told] = now + fault.rule.value("seconds")
        elif fault is not None and action is Action.EXPIRE:
            visibility.vanishes[told] = now + fault.rule.value("seconds")
        elif fault is not None and action is Action.STALL:
            late = fault.rule.value("seconds")
        elif fault is not None and action is Action.REWRITE_ID:
            filing = renamed(filing, new_message_id())
            told = filing.message_id if fault.rule.flag("tell") else told
        if action is not Action.DISCARD:
            try:
                await self._store(filing)
            except (DiskFullError, LocalStorageError) as error:
                log.warning("an article was refused: %s", error)
                code = 441 if verb is Verb.POST else 436
                return Taken(code, f"436 Cannot store the article: {error.message}")
        if action is Action.LOSE_REPLY:
            return Taken(lost=True)
        return Taken(ARTICLE_CODES[verb], f"Article received {told}", late)

    async def _store(self, filing: Filing) -> None:
        body: list[Piece] = [filing.body, b".\r\n"]
        self._shared.spool.append(filing.message_id, filing.groups, filing.head, body)
        if self._shared.settings.durable:
            await self._shared.commit.wait()
        self._shared.counters.articles_stored += 1
