"""What a verification has found so far, and how to say it.

The engine counts, whoever watches reads :meth:`Findings.progress` a few times a second. Events are
plain dictionaries; ``docs/verify.md`` lists them. Bounded: lost parts are handed on as they are
found, and only counted here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from usenetfs.health.verdict import Answers, Outcome, Said

Event = dict[str, Any]

MAX_SPOOLS: Final = 256
"""Of which answers are counted one by one; nobody has as many."""


def _nobody(event: Event) -> None:
    """Where events go when nobody listens."""


@dataclass(frozen=True, slots=True)
class ChainFindings:
    """What a recovery would find. ``newest``: the last checkpoint that was published here, None
    before the first; ``recoverable``: what it would get back to, None where that is nothing or is
    not known; ``articles`` of records, documents and the key record that were asked for."""

    outcome: Outcome
    newest: int | None = None
    recoverable: int | None = None
    articles: int = 0
    keys: Outcome = Outcome.UNKNOWN
    """The record of the keys that a recovery key leads to."""
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class Findings:
    """``emit`` is told of each event."""

    emit: Callable[[Event], None] = _nobody
    counting: bool = True
    found: int = 0
    """Articles to ask for."""
    found_bytes: int = 0
    """Octets of their sealed bodies."""
    done: int = 0
    bytes_done: int = 0
    bytes_skipped: int = 0
    bytes_read: int = 0
    """Of those done: fetched whole."""
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    gone: int = 0
    """Articles that no file needed any more when the answer came."""
    spools: dict[str, Counter[Said]] = field(default_factory=dict)
    files_damaged: int = 0
    bytes_lost: int = 0
    bytes_held: int = 0
    """Of those lost: still in the disk cache."""
    bytes_pending: int = 0
    """Octets that were not asked for, because they are not seen on a server yet."""
    chain: ChainFindings | None = None
    current: list[str] = field(default_factory=list)

    def note(self, outcome: Outcome, answers: Answers, size: int) -> None:
        """One article was asked for."""
        self.done += 1
        self.bytes_done += size
        self.outcomes[outcome] += 1
        for spool, answer in answers.items():
            if spool in self.spools or len(self.spools) < MAX_SPOOLS:
                self.spools.setdefault(spool, Counter())[answer.said] += 1

    def skip(self, size: int) -> None:
        """One article is not needed any more."""
        self.done += 1
        self.bytes_done += size
        self.gone += 1

    def lose(self, path: bytes, offset: int, length: int, *, held: bool, reason: str) -> None:
        """A part of a file. ``held``: whether the disk cache still has it whole."""
        self.bytes_lost += length
        self.bytes_held += length * held
        self.emit(
            {
                "event": "lost",
                "path": path.decode("utf-8", "replace"),
                "offset": offset,
                "length": length,
                "cached": held,
                "reason": reason,
            }
        )

    def progress(self, phase: str, **more: Any) -> Event:
        """Where it stands."""
        return {
            "event": "progress",
            "phase": phase,
            "counting": self.counting,
            "articles": {
                "found": max(self.found, self.done),
                "done": self.done,
                **{outcome.value: self.outcomes[outcome] for outcome in Outcome},
                "gone": self.gone,
            },
            "bytes": {
                "found": max(self.found_bytes, self.bytes_done),
                "done": self.bytes_done,
                "read": self.bytes_read,
            },
            "lost": {
                "files": self.files_damaged,
                "bytes": self.bytes_lost,
                "cached": self.bytes_held,
            },
            "not_seen_yet": self.bytes_pending,
            "servers": [
                {"name": spool, **{said.value: counts[said] for said in Said}}
                for spool, counts in self.spools.items()
            ],
            "chain": None if self.chain is None else _chain(self.chain),
            "current": list(self.current),
            **more,
        }


def _chain(chain: ChainFindings) -> dict[str, Any]:
    return {
        "outcome": chain.outcome.value,
        "newest": chain.newest,
        "recoverable": chain.recoverable,
        "articles": chain.articles,
        "keys": chain.keys.value,
        "problems": list(chain.problems),
    }
