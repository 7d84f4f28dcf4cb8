"""What happened in an embedded server, for tests to assert on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class ServerCounters:
    """Since the start."""

    connections: int = 0
    """Open now."""
    peak_connections: int = 0
    refused: int = 0
    """Turned away because of the limit; not among the others."""
    sessions: int = 0
    commands: Counter[str] = field(default_factory=Counter)
    """By verb; lines that are no command under ``BAD``."""
    faults: Counter[str] = field(default_factory=Counter)
    """By action."""
    articles_stored: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0

    def opened(self) -> None:
        self.sessions += 1
        self.connections += 1
        self.peak_connections = max(self.peak_connections, self.connections)

    def closed(self) -> None:
        self.connections -= 1
