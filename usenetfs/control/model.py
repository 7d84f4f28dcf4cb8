"""What the daemon says about itself, as stable JSON.

Owns the shape of every answer of the control API. A value here is plain data: no behaviour beyond
reading and writing JSON. Rules for changing it: keys may be added, with a default; none is renamed,
removed or given another unit. Units are in the names or the docstrings: octets, seconds unless the
name says ``_ms``, octets per second for speeds, Unix time for moments.

Light on purpose (the CLI loads it): no pydantic.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self, TypeVar

API_VERSION: Final = 1

MountState = Literal["starting", "mounted", "working", "draining", "unmounting", "not mounted"]
"""``working``: a command has it open, without a mount."""
ServerState = Literal["healthy", "degraded", "down", "idle", "unknown"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all answers."""

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The inverse of ``to_json``; unknown keys are ignored, missing ones take their default.

        ValueError when ``data`` is not of this shape at all.
        """
        return _build(cls, data)


@dataclass(frozen=True, slots=True)
class Amount(Message):
    """Blocks in one state, and the octets they hold."""

    bytes: int = 0
    blocks: int = 0


@dataclass(frozen=True, slots=True)
class DurabilityReport(Message):
    """How safe the data is; every block is counted once, where it stands now."""

    staged: Amount = field(default_factory=Amount)
    """On the local disk only."""
    posted: Amount = field(default_factory=Amount)
    """A server answered 240."""
    seen: Amount = field(default_factory=Amount)
    """A STAT found it afterwards."""
    verified: Amount = field(default_factory=Amount)
    """Fetched whole, and it opened."""


@dataclass(frozen=True, slots=True)
class QueueReport(Message):
    """One bounded queue of the daemon."""

    name: str
    depth: int = 0
    capacity: int | None = None


@dataclass(frozen=True, slots=True)
class SpeedReport(Message):
    """Octets per second: over the last seconds, and since the mount."""

    now: float = 0.0
    average: float = 0.0
    total_bytes: int = 0
    """Since the mount."""


@dataclass(frozen=True, slots=True)
class ServerReport(Message):
    """One server of the provider set."""

    name: str
    state: str = "unknown"
    health: float = 0.0
    """0 (do not ask) to 1 (never failed lately)."""
    open: int = 0
    busy: int = 0
    limit: int = 0
    latency_ms: float | None = None
    errors: int = 0
    last_error: str | None = None
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(frozen=True, slots=True)
class RetryReport(Message):
    """Operations of one kind that are tried again when they fail, since the mount."""

    kind: str
    attempts: int = 0
    retries: int = 0
    given_up: int = 0


@dataclass(frozen=True, slots=True)
class CacheReport(Message):
    """The cache of fetched articles, on disk and in memory."""

    bytes: int = 0
    max_bytes: int = 0
    articles: int = 0
    hits: int = 0
    misses: int = 0
    memory_bytes: int = 0
    memory_max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CheckpointReport(Message):
    """The last published checkpoint, and what it lacks."""

    number: int | None = None
    time: float | None = None
    pending_changes: int = 0
    """Changes that are not in it, about."""
    held_files: int = 0
    """Files that it has as they were before, because their newest data was not safe yet."""
    fenced: str | None = None
    """Why nothing can be published any more: another writer has taken over."""


@dataclass(frozen=True, slots=True)
class LimitsReport(Message):
    """How fast uploads may go. Rates in octets a second; None: no limit."""

    rate: int | None = None
    quiet_hours: str | None = None
    quiet_rate: int = 0
    """In quiet hours; 0: uploads rest."""
    connections: int | None = None
    """Posts at once, at most; None: found from the speed."""
    rate_now: int | None = None
    """What holds at this time of day."""


@dataclass(frozen=True, slots=True)
class RecentError(Message):
    """Something that went wrong lately, with what to do about it."""

    time: float
    code: str
    message: str
    hint: str | None = None
    count: int = 1
    """How often in a row."""


@dataclass(frozen=True, slots=True)
class StatusReport(Message):
    """The answer of ``GET /v1/status`` and of ``usenetfs status --json``."""

    name: str
    state: str = "not mounted"
    """One of :data:`MountState`."""
    mountpoint: str | None = None
    read_only: bool = False
    pid: int | None = None
    version: str = ""
    uptime: float | None = None
    files: int = 0
    directories: int = 0
    bytes: int = 0
    """Sum of the files' sizes."""
    block_size: int = 0
    durability: DurabilityReport = field(default_factory=DurabilityReport)
    staging_limit: int = 0
    queues: tuple[QueueReport, ...] = ()
    upload: SpeedReport = field(default_factory=SpeedReport)
    download: SpeedReport = field(default_factory=SpeedReport)
    limits: LimitsReport = field(default_factory=LimitsReport)
    time_left: float | None = None
    """Seconds until everything staged is seen, at the present speed; None when unknown."""
    servers: tuple[ServerReport, ...] = ()
    retries: tuple[RetryReport, ...] = ()
    cache: CacheReport = field(default_factory=CacheReport)
    checkpoint: CheckpointReport = field(default_factory=CheckpointReport)
    recent_errors: tuple[RecentError, ...] = ()
    api_version: int = API_VERSION

    @property
    def pending_bytes(self) -> int:
        """Octets that are not yet safe: staged or posted."""
        return self.durability.staged.bytes + self.durability.posted.bytes


@dataclass(frozen=True, slots=True)
class SyncReport(Message):
    """The answer of ``POST /v1/sync``, given when everything written before it is safe."""

    duration: float = 0.0
    checkpoint: int | None = None
    """Number of the checkpoint that holds it; None when nothing needed publishing."""


@dataclass(frozen=True, slots=True)
class DropReport(Message):
    """The answer of ``POST /v1/cache/drop``."""

    articles: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class WarmReport(Message):
    """The answer of ``POST /v1/cache/warm``."""

    articles: int = 0
    """In the cache now."""
    fetched: int = 0
    """Of these, fetched for it."""
    bytes: int = 0
    """Octets fetched."""
    failed: int = 0
    """Articles that could not be had."""
    refused: int = 0
    """Articles for which there was no room."""


@dataclass(frozen=True, slots=True)
class RemoveReport(Message):
    """The answer of ``POST /v1/remove``."""

    removed: int = 0
    """Names."""


@dataclass(frozen=True, slots=True)
class UnmountReport(Message):
    """The answer of ``POST /v1/unmount``: the daemon ends after it."""

    pid: int = 0
    pending_bytes: int = 0
    """What stays staged for next time (``lazy``)."""


@dataclass(frozen=True, slots=True)
class ErrorReport(Message):
    """The body of every answer that is no success, under the key ``error``."""

    code: str
    message: str
    hint: str | None = None
    recoverable: bool = False


# --- requests ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UploadRequest(Message):
    """The body of ``POST /v1/upload``. Paths are text as ``os.fsdecode`` makes it."""

    sources: tuple[str, ...]
    """Absolute; a slash at the end stands for what is in a directory rather than itself."""
    target: str
    """Path in the filesystem, from its root."""
    exclude: tuple[str, ...] = ()
    checksum: bool = False
    """Compare contents of files of equal size, instead of their times."""
    dry_run: bool = False
    wait: bool = True
    """Whether to end when everything is safe, rather than when it is staged."""
    listing: bool = False
    """Whether each file is told of."""


@dataclass(frozen=True, slots=True)
class DownloadRequest(Message):
    """The body of ``POST /v1/download``."""

    source: str
    """Path in the filesystem; a slash at the end stands for what is in a directory."""
    target: str
    """Local and absolute."""
    exclude: tuple[str, ...] = ()
    checksum: bool = False
    dry_run: bool = False
    listing: bool = False


# --- reading -------------------------------------------------------------------------------------


def _build(cls: type[T], data: Any) -> T:
    if not isinstance(data, dict):
        raise _mismatch(cls.__name__, data)
    hints = _hints(cls)
    values = {key: _convert(hints[key], value) for key, value in data.items() if key in hints}
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: {error}") from None


def _convert(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _mismatch("list", value)
        return tuple(_convert(typing.get_args(hint)[0], item) for item in value)
    if origin is types.UnionType:
        if value is None:
            return None
        return _convert(next(a for a in typing.get_args(hint) if a is not types.NoneType), value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value)
    if hint is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, hint):
        raise _mismatch(hint.__name__, value)
    return value


def _hints(cls: type) -> dict[str, Any]:
    # ``bytes`` is a field of several classes, so annotations are resolved in the module alone.
    return typing.get_type_hints(cls, localns={})


def _mismatch(expected: str, value: object) -> ValueError:
    return ValueError(f"{value!r:.60} where a {expected} was expected")
