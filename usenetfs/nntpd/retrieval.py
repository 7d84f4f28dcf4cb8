"""Answers about stored articles: ARTICLE, HEAD, BODY, STAT and GROUP, and the faults in them.

Owns a session's group and current article. Pure but for reading the spool: makes answers, sends
none. Must not know: streams, tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import trio

from usenetfs.nntp.grammar import BLOCK_CODES, Verb
from usenetfs.nntp.server import ServerProtocol
from usenetfs.nntpd.faults import Action, Fault
from usenetfs.nntpd.shared import Shared
from usenetfs.nntpd.spool import StoredArticle
from usenetfs.nntpd.wire import FilePart

BLOCK_TAIL = b".\r\n"


@dataclass(slots=True)
class Answer:
    """What goes out: ``head``, then perhaps octets of the spool; ``late`` seconds after its time,
    at most ``rate`` octets a second; and then perhaps the end of the session."""

    head: bytes
    part: FilePart | None = None
    late: float = 0.0
    rate: float = math.inf
    ends_session: bool = False


class Reader:
    """The reading side of a session."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._group: str | None = None
        self._current = 0

    def __repr__(self) -> str:
        return f"<Reader group={self._group} current={self._current}>"

    def enter_group(self, name: str) -> tuple[int, str]:
        """The reply to GROUP."""
        if name not in self._shared.settings.groups:
            return 411, f"No such group {name}"
        count = self._shared.spool.count(name)
        self._group, self._current = name, min(count, 1)
        return 211, f"{count} 1 {count} {name}"

    def answer(
        self,
        protocol: ServerProtocol,
        verb: Verb,
        arguments: tuple[str, ...],
        fault: Fault | None,
    ) -> Answer:
        """The answer to one of the four commands, as the fault will have it."""
        found = self._find(arguments[0] if arguments else None, fault)
        if isinstance(found, tuple):
            return Answer(protocol.reply(*found))
        text = f"{found.number} {found.message_id}"
        if verb is Verb.STAT:
            return Answer(protocol.reply(223, f"{text} status"))
        article = found.article
        if fault is not None and fault.action is Action.WRONG_ARTICLE:
            article = self._shared.spool.any_other(found.message_id) or article
        # The protocol's block is empty here; its place is taken by the spool's octets.
        line = protocol.reply_block(BLOCK_CODES[verb], text, b"").removesuffix(BLOCK_TAIL)
        if verb is Verb.HEAD:
            whole = article.read(0, article.head_length - 2) + BLOCK_TAIL
            return _spoilt(line, whole, fault) if fault else Answer(line + whole)
        start = article.head_length if verb is Verb.BODY else 0
        if fault is not None:
            return _spoilt(line, article.read(start), fault)
        part = FilePart(article.descriptor, article.offset + start, article.length - start)
        return Answer(line, part)

    def _find(self, wanted: str | None, fault: Fault | None) -> _Found | tuple[int, str]:
        """The article, or the reply that says why there is none."""
        found = self._by_id(wanted) if wanted and wanted[0] == "<" else self._by_number(wanted)
        if isinstance(found, tuple):
            return found
        now, visibility = trio.current_time(), self._shared.visibility
        if fault is not None and fault.action is Action.EXPIRE:
            visibility.vanishes[found.message_id] = now + fault.rule.value("seconds")
        if not visibility.visible(found.message_id, now):
            return (423 if found.number else 430), "No such article"
        if found.number:
            self._current = found.number
        return found

    def _by_id(self, message_id: str) -> _Found | tuple[int, str]:
        article = self._shared.spool.find(message_id)
        return (430, "No such article") if article is None else _Found(0, message_id, article)

    def _by_number(self, wanted: str | None) -> _Found | tuple[int, str]:
        if self._group is None:
            return 412, "Not in a newsgroup"
        number = self._current if wanted is None else int(wanted)
        if not number and wanted is None:
            return 420, "No article selected"
        numbered = self._shared.spool.by_number(self._group, number)
        if numbered is None:
            return 423, f"No such article number {number}"
        return _Found(number, *numbered)


@dataclass(frozen=True, slots=True)
class _Found:
    number: int
    """0 where it was asked for by its Message-ID."""
    message_id: str
    article: StoredArticle


def _spoilt(line: bytes, block: bytes, fault: Fault) -> Answer:
    """A block with its terminator after a fault. The status line always is right."""
    rule = fault.rule
    match fault.action:
        case Action.DROP_BODY:
            # Less than all, whatever the size: a block that arrives whole is no fault.
            kept = block[: min(int(rule.value("after")), len(block) - len(BLOCK_TAIL))]
            return Answer(line + kept, ends_session=True)
        case Action.TRUNCATE:
            # What is cut amid a line end or before a lone dot must not end the block early.
            kept = block.removesuffix(BLOCK_TAIL)[: int(rule.value("after"))].rstrip(b"\r\n.")
            return Answer(line + kept + (b"\r\n" if kept else b"") + BLOCK_TAIL)
        case Action.CORRUPT:
            return Answer(line + corrupted(block, fault))
        case Action.DRIP:
            return Answer(line + block, rate=max(1.0, rule.value("rate")))
        case _:
            return Answer(line + block)


def corrupted(block: bytes, fault: Fault) -> bytes:
    """Octets of the block's middle altered; line ends, lengths and escapes left alone."""
    damaged = bytearray(block)
    low = len(block) // 4
    places = [
        place
        for place in (
            fault.random.randrange(low, max(low + 1, len(block) - len(block) // 4))
            for _ in range(64 * int(fault.rule.value("octets")))
        )
        if damaged[place] not in b"\r\n.="
    ]
    for place in places[: int(fault.rule.value("octets"))]:
        damaged[place] = 65 + (damaged[place] + 1) % 26
    return bytes(damaged)
