"""What the answers of all servers say about one article. Pure.

Invariant: *lost* is said only where every spool was asked and none has it, and the article is old
enough to have arrived everywhere; *present* only where one has it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Said(enum.StrEnum):
    """What one spool's servers said of an article."""

    HAS = "has"
    MISSING = "missing"
    DAMAGED = "damaged"
    """What was given is cut short, has another CRC, or does not open as this article."""
    UNASKED = "unasked"
    """No server of the spool could be asked."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``reason``: in the server's words, where it is not :attr:`Said.HAS`."""

    said: Said
    reason: str = ""


Answers = Mapping[str, Answer]
"""By spool (a storage group, or a server that shares its spool with none)."""


class Outcome(enum.StrEnum):
    """What it comes to."""

    PRESENT = "present"
    """It is there, and no server that was asked lacks it."""
    DEGRADED = "degraded"
    """It is there, and a server has lost it, or gives something else."""
    FRESH = "fresh"
    """It was posted just now, and is not everywhere yet."""
    UNKNOWN = "unknown"
    """Nobody who was asked has it, and not everybody could be asked."""
    LOST = "lost"
    """Everybody was asked, and nobody has it."""


def judge(answers: Answers, *, fresh: bool) -> Outcome:
    """``fresh``: whether the article may still be on its way from server to server."""
    said = {answer.said for answer in answers.values()}
    if Said.HAS in said:
        if Said.DAMAGED in said or (Said.MISSING in said and not fresh):
            return Outcome.DEGRADED
        return Outcome.FRESH if Said.MISSING in said else Outcome.PRESENT
    if Said.UNASKED in said or not said:
        return Outcome.UNKNOWN
    return Outcome.FRESH if fresh and Said.MISSING in said else Outcome.LOST


def reasons(answers: Answers) -> str:
    """What those said who do not have it, in one line."""
    said = {answer.reason for answer in answers.values() if answer.said is not Said.HAS}
    return "; ".join(sorted(reason for reason in said if reason))
