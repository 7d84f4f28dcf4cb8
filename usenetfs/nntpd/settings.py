"""What an embedded server is told: plain values, checked where they make no sense."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from usenetfs.errors import ConfigurationError
from usenetfs.nntpd.faults import FaultPlan
from usenetfs.nntpd.spool import DEFAULT_SEGMENT_SIZE

DEFAULT_GROUPS = ("alt.binaries.test", "alt.binaries.misc", "alt.test", "misc.test")
MAX_ARTICLE = 1_000_000
"""Octets of an article, headers included: what INN takes unless told otherwise."""


@dataclass(frozen=True, slots=True)
class NntpdSettings:
    """An embedded server. Raises ConfigurationError where values contradict each other."""

    spool: Path
    host: str = "127.0.0.1"
    """Address to listen on; loopback unless somebody asks for more."""
    port: int = 0
    """0: any free one."""
    groups: tuple[str, ...] = DEFAULT_GROUPS
    users: dict[str, str] = field(default_factory=dict, repr=False)
    """User names and passwords; empty: nobody has to log in."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    implicit_tls: bool = True
    """With a certificate: TLS from the first octet. False: STARTTLS is offered."""
    latency: float = 0.0
    """Seconds from a command's arrival to its reply's departure: a round trip."""
    max_article: int = MAX_ARTICLE
    max_connections: int = 1000
    durable: bool = False
    """Acknowledge an article only once it survives the loss of power."""
    posting: bool = True
    faults: FaultPlan = field(default_factory=FaultPlan)
    idle_timeout: float = 600.0
    """Seconds without a command, or in which a reply is not taken, that end a session."""
    segment_size: int = DEFAULT_SEGMENT_SIZE
    """Octets of a file of the spool."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise ConfigurationError(f"port {self.port} is out of range")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigurationError("TLS needs a certificate and its key")
        if self.latency < 0 or self.max_article < 1 or self.max_connections < 1:
            raise ConfigurationError("latency and limits of the server must be positive")
        if self.idle_timeout <= 0 or self.segment_size < 1:
            raise ConfigurationError("idle timeout and segment size must be positive")
        if not self.groups:
            raise ConfigurationError("a news server needs a newsgroup")
