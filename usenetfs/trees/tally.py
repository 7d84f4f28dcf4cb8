"""What a transfer of files has done so far: counts, failures, and how to say them.

One :class:`Tally` a transfer; the engine counts, whoever watches reads :meth:`Tally.progress` a few
times a second. Events are plain dictionaries, the same whether they cross the control socket or
not; ``docs/transfers.md`` lists them. Bounded: failures are handed on as they happen, and only
counted here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]


def shown(path: bytes) -> str:
    """A path as text; octets that are no UTF-8 as U+FFFD."""
    return path.decode("utf-8", "replace")


def _nobody(event: Event) -> None:
    """Where events go when nobody listens."""


@dataclass(slots=True)
class Tally:
    """``emit`` is told of each event; ``listing``: of every file, too."""

    emit: Callable[[Event], None] = _nobody
    listing: bool = False
    counting: bool = True
    """Whether ``found`` still grows."""
    found: int = 0
    """Files and other things that are no directory."""
    found_bytes: int = 0
    done: int = 0
    """Of those found: transferred, left alone, failed."""
    skipped: int = 0
    failed: int = 0
    bytes_done: int = 0
    """Octets transferred or left alone."""
    bytes_skipped: int = 0
    """Octets left alone because they are there already."""
    current: dict[bytes, None] = field(default_factory=dict)
    """What is being worked on, oldest first."""

    def finished(self, path: bytes, action: str) -> None:
        """One thing is done."""
        self.done += 1
        if self.listing:
            self.emit({"event": "file", "path": shown(path), "action": action})

    def skip(self, path: bytes, size: int) -> None:
        """One thing is there already."""
        self.done += 1
        self.skipped += 1
        self.bytes_done += size
        self.bytes_skipped += size
        if self.listing:
            self.emit({"event": "file", "path": shown(path), "action": "unchanged"})

    def fail(self, path: bytes, reason: str, *, counted: bool = True) -> None:
        """One thing could not be transferred. ``counted``: whether it is among those found."""
        self.failed += 1
        self.done += counted
        self.emit({"event": "failed", "path": shown(path), "reason": reason})

    def lose(self, path: bytes, offset: int, length: int, reason: str) -> None:
        """A part of a file could not be had; :meth:`fail` follows for the file."""
        self.emit(
            {
                "event": "lost",
                "path": shown(path),
                "offset": offset,
                "length": length,
                "reason": reason,
            }
        )

    def warn(self, path: bytes, reason: str) -> None:
        """Something about a file that was transferred could not be kept."""
        self.emit({"event": "warning", "path": shown(path), "reason": reason})

    def progress(self, phase: str, **more: Any) -> Event:
        """Where it stands."""
        return {
            "event": "progress",
            "phase": phase,
            "counting": self.counting,
            "files": {
                "found": self.found,
                "done": self.done,
                "skipped": self.skipped,
                "failed": self.failed,
            },
            "bytes": {
                "found": self.found_bytes,
                "done": self.bytes_done,
                "skipped": self.bytes_skipped,
            },
            "current": [shown(path) for path in list(self.current)[:8]],
            **more,
        }
