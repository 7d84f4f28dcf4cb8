"""How a server stands, as a value to be shown."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """How a server stands. ``latency`` in seconds; ``health`` from 0 to 1."""

    name: str
    state: str
    health: float
    open: int
    busy: int
    limit: int
    waiting: int
    latency: float | None
    errors: int
    last_error: str | None
    bytes_up: int
    bytes_down: int
    requests: dict[str, int] = field(default_factory=dict)
    """Answered, by verb."""
    retries: dict[str, int] = field(default_factory=dict)
    """Sent again on another connection, by ``error_code``."""
