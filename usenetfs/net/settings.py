"""What the news client is told about a server, as plain frozen values.

Owns: the shape of a server's settings, their defaults and their bounds. Whoever builds them (the
configuration layer, a test) has already decided where values come from; a password arrives here
in the clear and is kept out of every ``repr``. Must not know: files, environment, vault.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path

from usenetfs.errors import ConfigurationError

MAX_CONNECTIONS = 500
SHA256_HEX_DIGITS = 64


class TlsMode(enum.Enum):
    """How the connection to a server is protected."""

    NONE = "none"
    IMPLICIT = "implicit"
    """TLS from the first octet (port 563)."""
    STARTTLS = "starttls"
    """RFC 4642: plain greeting, then TLS before anything of ours. Refused by the server: error."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. Every wait of the client on a server ends within one of these."""

    connect: float = 20.0
    """From the start of dialling until the connection is logged in."""
    response: float = 60.0
    """Without a single octet from the server while it owes a reply, or taken by it while an
    article is being sent."""
    article: float = 300.0
    """For one whole reply, or one whole article sent, however steadily it drips."""
    idle_check: float = 30.0
    """A connection idle for so long is asked for the ``DATE``."""
    check_reply: float = 10.0
    """And must answer within this."""
    idle_close: float = 120.0
    """An idle connection above the warm floor is closed after this."""
    close: float = 2.0
    """How long a closing connection may take to say good-bye; it counts as open meanwhile."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """One server. Raises :class:`ConfigurationError` where a value makes no sense."""

    name: str
    host: str
    port: int
    tls: TlsMode = TlsMode.IMPLICIT
    ca_file: Path | None = None
    """PEM file of authorities trusted for this server instead of the system's store."""
    pin_sha256: str | None = None
    """SHA-256 of the server's certificate (DER) in hexadecimal, colons allowed. A pin must match
    whatever else is checked. Without ``ca_file`` it stands in for the chain of authorities, so
    that a self-signed certificate can be used safely."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    connections: int = 8
    """Never exceeded, connecting and closing ones included."""
    warm_connections: int = 1
    """Kept open while nothing is to be done."""
    reserved_connections: int | None = None
    """Connections that only waiting readers may use. None: one in ten."""
    priority: int = 0
    """Lower is asked first."""
    posting: bool = True
    storage_group: str | None = None
    """Servers of one group share a spool: an article missing on one is missing on all."""
    max_pipeline: int = 16
    """Upper bound of requests outstanding on one connection. 1: the server cannot pipeline."""
    post_ahead: bool = False
    """Send the next POST behind an article, before the reply to it. RFC 3977 forbids it, and some
    servers lose or refuse such a POST; only for those that were seen to cope."""
    timeouts: Timeouts = field(default_factory=Timeouts)

    def __post_init__(self) -> None:
        where = f"server {self.name!r}"
        if not self.name or not self.host:
            raise ConfigurationError("a server needs a name and a host")
        if not 0 < self.port < 1 << 16:
            raise ConfigurationError(f"{where}: port {self.port} is out of range")
        if not 1 <= self.connections <= MAX_CONNECTIONS:
            raise ConfigurationError(
                f"{where}: connections must be between 1 and {MAX_CONNECTIONS}",
                hint="the provider's account page says how many it allows",
            )
        if self.warm_connections < 0:
            raise ConfigurationError(f"{where}: warm_connections must not be negative")
        if not 0 <= self.reserved < self.connections:
            raise ConfigurationError(f"{where}: reserved_connections must leave one to others")
        if not 1 <= self.max_pipeline <= 64:
            raise ConfigurationError(f"{where}: max_pipeline must be between 1 and 64")
        if (self.username is None) != (self.password is None):
            raise ConfigurationError(f"{where}: user name and password come together or not at all")
        if self.pin_sha256 is not None and self.pin_bytes is None:
            raise ConfigurationError(
                f"{where}: pin_sha256 must be {SHA256_HEX_DIGITS} hexadecimal digits"
            )
        if self.tls is TlsMode.NONE and (self.pin_sha256 or self.ca_file):
            raise ConfigurationError(
                f"{where}: a pin or an authority is given, and TLS is off", hint="set tls = true"
            )

    @property
    def reserved(self) -> int:
        """Connections that only :attr:`Lane.READER` may take."""
        if self.reserved_connections is not None:
            return self.reserved_connections
        return self.connections // 10

    @property
    def group(self) -> str:
        """The spool this server reads from; servers without a group have one of their own."""
        return f"group:{self.storage_group}" if self.storage_group else f"server:{self.name}"

    @property
    def pin_bytes(self) -> bytes | None:
        """The pin as 32 bytes; None if there is none or it is malformed."""
        if self.pin_sha256 is None:
            return None
        try:
            digest = bytes.fromhex(self.pin_sha256.replace(":", ""))
        except ValueError:
            return None
        return digest if len(digest) * 2 == SHA256_HEX_DIGITS else None
