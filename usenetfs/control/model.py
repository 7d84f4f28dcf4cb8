"""What the daemon says about itself, as stable JSON.

Owns the shape of every answer of the control API. A value here is plain data: no behaviour beyond
reading and writing JSON. Rules for changing it: keys may be added, with a default; none is renamed,
removed or given another unit. Units are in the names or the docstrings: octets, seconds unless the
name says ``_ms``, octets per second for speeds, Unix time for moments.

Light on purpose (the CLI loads it): no pydantic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from usenetfs.control.message import Message

API_VERSION: Final = 1

MountState = Literal["starting", "mounted", "working", "draining", "unmounting", "not mounted"]
"""``working``: a command has it open, without a mount."""
ServerState = Literal["healthy", "degraded", "down", "idle", "unknown"]


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
    """What is in it now."""
    capacity: int | None = None
    """What fits; null where something else bounds it."""


@dataclass(frozen=True, slots=True)
class SpeedReport(Message):
    """Octets per second: over the last seconds, and since the mount."""

    now: float = 0.0
    average: float = 0.0
    total_bytes: int = 0
    """Since the mount."""


@dataclass(frozen=True, slots=True)
class CountReport(Message):
    """How often something was."""

    name: str
    count: int = 0


@dataclass(frozen=True, slots=True)
class ServerReport(Message):
    """One server of the provider set."""

    name: str
    state: str = "unknown"
    """``healthy``, ``degraded``, ``down`` (given up for a while), ``idle`` or ``unknown``."""
    health: float = 0.0
    """0 (do not ask) to 1 (never failed lately)."""
    open: int = 0
    """Connections that are logged in."""
    busy: int = 0
    """Of these, those that work on something."""
    limit: int = 0
    """How many there may be; less than configured where the server allows fewer."""
    latency_ms: float | None = None
    """Of a round trip, lately; null before the first."""
    errors: int = 0
    """Since the mount."""
    last_error: str | None = None
    bytes_up: int = 0
    """On the wire, since the mount."""
    bytes_down: int = 0
    waiting: int = 0
    """Requests that wait for a connection."""
    requests: tuple[CountReport, ...] = ()
    """Answered, by verb."""
    retries: tuple[CountReport, ...] = ()
    """Sent again on another connection, by the code of the error."""


@dataclass(frozen=True, slots=True)
class RetryReport(Message):
    """Operations of one kind that are tried again when they fail, since the mount."""

    kind: str
    """``fetch``, ``post``, ``stat``."""
    attempts: int = 0
    """Tries, first ones included."""
    retries: int = 0
    """Tries after the first."""
    given_up: int = 0
    """Operations whose tries were used up."""
    reasons: tuple[CountReport, ...] = ()
    """Why, by the code of the error."""


@dataclass(frozen=True, slots=True)
class CacheReport(Message):
    """The cache of fetched articles, on disk and in memory."""

    bytes: int = 0
    """On disk."""
    max_bytes: int = 0
    articles: int = 0
    """On disk."""
    hits: int = 0
    """Articles that were looked for and found on disk, since the mount."""
    misses: int = 0
    memory_bytes: int = 0
    """Opened articles and decompressed segments."""
    memory_max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CheckpointReport(Message):
    """The last published checkpoint, and what it lacks."""

    number: int | None = None
    """Null before the first."""
    time: float | None = None
    """When it was made."""
    pending_changes: int = 0
    """Changes that are not in it, about."""
    held_files: int = 0
    """Files that it has as they were before, because their newest data was not safe yet."""
    awaited_files: int = 0
    """Files that a sync under way waits for, because they are changed while it works."""
    awaited: tuple[str, ...] = ()
    """Paths of some of them."""
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
class UploadReport(Message):
    """What became of blocks, since the mount."""

    articles_posted: int = 0
    blocks_uploaded: int = 0
    """Blocks whose content went into an article."""
    blocks_linked: int = 0
    """Blocks whose content was on the servers already, or on its way."""


@dataclass(frozen=True, slots=True)
class ProcessReport(Message):
    """What the daemon takes of the machine."""

    memory_bytes: int = 0
    """Resident."""
    cpu_percent: float = 0.0
    """Of one processor, over the last seconds."""
    cpu_seconds: float = 0.0
    disk_read: float = 0.0
    """Octets a second, over the last seconds."""
    disk_write: float = 0.0
    disk_read_bytes: int = 0
    disk_written_bytes: int = 0


@dataclass(frozen=True, slots=True)
class IndexingReport(Message):
    """Files and directories that were added to the index."""

    now: float = 0.0
    """A second, over the last seconds."""
    total: int = 0
    """Since the filesystem was made."""


@dataclass(frozen=True, slots=True)
class KindReport(Message):
    """Operations of one kind, since the mount. Durations in seconds."""

    kind: str
    """``upload`` and ``fetch`` (an article each), ``sync``, ``checkpoint``, ``import``,
    ``export``, ``verify``."""
    active: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    mean: float | None = None
    median: float | None = None
    p95: float | None = None


@dataclass(frozen=True, slots=True)
class TransferReport(Message):
    """A file on its way."""

    path: str
    direction: str
    """``up`` or ``down``."""
    size: int = 0
    left: int = 0
    """Up: octets that are not seen on a server yet."""
    articles: int = 0
    """On their way now."""
    stage: str = ""
    """Up: what the oldest of them is at: ``seal``, ``queue``, ``post``, ``check``."""


@dataclass(frozen=True, slots=True)
class JobReport(Message):
    """An ``usenetfs upload``, ``download`` or ``verify`` under way."""

    id: str
    kind: str
    """``import``, ``export`` or ``verify``; of the last one, articles are counted as files."""
    name: str
    phase: str = ""
    counting: bool = False
    """Whether what was found still grows."""
    files_found: int = 0
    files_done: int = 0
    files_failed: int = 0
    bytes_found: int = 0
    bytes_done: int = 0
    speed: float = 0.0
    time_left: float | None = None
    current: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VerificationReport(Message):
    """What the last ``usenetfs verify`` that came to its end found. Articles, unless it says
    octets."""

    time: float
    """When it ended; Unix time."""
    seconds: float = 0.0
    path: str = "/"
    """What was verified."""
    data: bool = False
    """Whether articles were fetched whole."""
    percent: float | None = None
    unverified: bool = False
    articles: int = 0
    bytes: int = 0
    present: int = 0
    degraded: int = 0
    fresh: int = 0
    unknown: int = 0
    lost: int = 0
    files_damaged: int = 0
    bytes_lost: int = 0
    chain: str | None = None
    """``present``, ``degraded``, ``fresh``, ``unknown`` or ``lost``; null where it was left out."""
    keys: str | None = None


@dataclass(frozen=True, slots=True)
class VerifiedReport(Message):
    """Articles that were verified since the mount, by what came of it."""

    present: int = 0
    degraded: int = 0
    fresh: int = 0
    unknown: int = 0
    lost: int = 0
    bytes_read: int = 0
    """Octets fetched whole for it."""


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
    """``starting``, ``mounted``, ``working`` (a command has it open, without a mount),
    ``draining``, ``unmounting`` or ``not mounted``."""
    mountpoint: str | None = None
    read_only: bool = False
    pid: int | None = None
    """Of the daemon; null where there is none."""
    version: str = ""
    uptime: float | None = None
    """Since the mount."""
    files: int = 0
    directories: int = 0
    bytes: int = 0
    """Sum of the files' sizes."""
    block_size: int = 0
    durability: DurabilityReport = field(default_factory=DurabilityReport)
    staging_limit: int = 0
    """Writers wait when this much is staged."""
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
    failure_rate: float = 0.0
    """Share of the last operations that failed; of 256 at most."""
    uploads: UploadReport = field(default_factory=UploadReport)
    indexing: IndexingReport = field(default_factory=IndexingReport)
    process: ProcessReport = field(default_factory=ProcessReport)
    operations: tuple[KindReport, ...] = ()
    transfers: tuple[TransferReport, ...] = ()
    """Some of the files on their way, at most 12; ``files_in_transfer`` counts more."""
    files_in_transfer: int = 0
    jobs: tuple[JobReport, ...] = ()
    verified: VerifiedReport = field(default_factory=VerifiedReport)
    last_verification: VerificationReport | None = None
    """Null before the first."""
    time: float | None = None
    """When this was true."""
    web: str | None = None
    """Address of the web page, if it is on."""
    api_version: int = API_VERSION

    @property
    def pending_bytes(self) -> int:
        """Octets that are not yet safe: staged or posted."""
        return self.durability.staged.bytes + self.durability.posted.bytes


@dataclass(frozen=True, slots=True)
class Sample(Message):
    """One second of the past."""

    time: float
    upload: float = 0.0
    """Octets a second."""
    download: float = 0.0
    queued: int = 0
    """Segments in the queues of the upload."""
    pending: int = 0
    """Octets staged or posted, and not seen yet."""


@dataclass(frozen=True, slots=True)
class HistoryReport(Message):
    """The answer of ``GET /v1/history``: the last minutes, oldest first."""

    interval: float = 1.0
    """Seconds between two samples."""
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class StageReport(Message):
    """A stage of an operation."""

    stage: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class OperationReport(Message):
    """Something that is being done, or was."""

    id: str
    """As in the log."""
    kind: str
    name: str
    started: float = 0.0
    """Unix time."""
    outcome: str = "active"
    """``active``, ``done``, ``failed`` or ``cancelled``."""
    duration: float | None = None
    stage: str = ""
    stages: tuple[StageReport, ...] = ()
    """That it has behind it."""
    bytes: int = 0
    error: str | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class OperationsReport(Message):
    """The answer of ``GET /v1/operations``: what goes on (at most 1000, oldest first), the last 256
    that ended and the last 256 that failed, newest last."""

    active: tuple[OperationReport, ...] = ()
    recent: tuple[OperationReport, ...] = ()
    failed: tuple[OperationReport, ...] = ()


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
