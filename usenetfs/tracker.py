"""What is being done, and how what was done went (R7).

An *operation* is something that takes a while and may fail: an article on its way from staging to
the servers, an article being fetched, a checkpoint, a sync, an import. It has an id, a kind, a
name, a duration, an outcome, and *stages*, so that one upload can be followed through the pipeline.
While it works, :func:`current_id` names it, in every task and thread started for it: that is the id
in log lines.

Owns what is active, the last ones that ended, the last that failed, counts and histograms by kind.
Invariants: everything is bounded, whatever the number of operations; kinds are few and fixed (they
are labels of metrics); each operation ends once. Cheap on purpose, some microseconds for each
operation: one is kept for an article, none for a write.

Knows neither what operations do nor who looks at them. Belongs to the event-loop thread.
"""

from __future__ import annotations

import enum
import itertools
import secrets
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

BOUNDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
"""Upper ends of the histograms' buckets, in seconds; one more has what is above."""

KEPT: Final = 256
"""Operations that ended and are remembered; as many again that failed."""

MAX_ACTIVE: Final = 10_000
"""Operations that are listed while they go on; those beyond are only counted."""

MAX_TIMINGS: Final = 64
"""Names of things that are only timed."""


class Kind(enum.StrEnum):
    """What an operation is."""

    UPLOAD = "upload"
    """An article, from the block's claim until it was seen on a server."""
    FETCH = "fetch"
    """An article, from the servers to an opened seal."""
    SYNC = "sync"
    CHECKPOINT = "checkpoint"
    IMPORT = "import"
    """``usenetfs upload``."""
    EXPORT = "export"
    """``usenetfs download``."""
    VERIFY = "verify"
    """``usenetfs verify``."""


class Outcome(enum.StrEnum):
    """How an operation stands."""

    ACTIVE = "active"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """Nobody wanted it any more."""


class Histogram:
    """Durations, by bucket."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0
        """Seconds, of all of them."""

    def __repr__(self) -> str:
        return f"<Histogram of {self.count}, {self.total:.3f} s>"

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """A duration that ``share`` of them did not exceed, as well as the buckets tell; None
        before the first."""
        count = self.count
        if not count:
            return None
        wanted, below = share * count, 0
        for number, bucket in enumerate(self.counts):
            if bucket and below + bucket >= wanted:
                if number == len(BOUNDS):
                    return BOUNDS[-1]
                low = BOUNDS[number - 1] if number else 0.0
                return low + (BOUNDS[number] - low) * (wanted - below) / bucket
            below += bucket
        return BOUNDS[-1]


class Operation:
    """See the module. Made by :meth:`Tracker.begin`, which explains the arguments."""

    __slots__ = (
        "_last",
        "_tracker",
        "duration",
        "error",
        "error_code",
        "inodes",
        "kind",
        "more",
        "name",
        "number",
        "octets",
        "outcome",
        "progress",
        "stage",
        "stages",
        "started",
        "started_at",
    )

    def __init__(
        self,
        tracker: Tracker,
        number: int,
        kind: Kind,
        name: str,
        inodes: Sequence[int],
        more: int,
        octets: int,
        started: float,
        started_at: float,
    ) -> None:
        self._tracker = tracker
        self.number = number
        self.kind = kind
        self.name = name
        self.inodes = inodes
        self.more = more
        self.octets = octets
        self.started = self._last = started
        self.started_at = started_at
        """Unix time."""
        self.stage = ""
        """What it is at now; what it ended in."""
        self.stages: dict[str, float] = {}
        """Seconds that each stage took, in order."""
        self.progress: Callable[[], Mapping[str, Any]] | None = None
        """Where it stands, for operations that can say: an event of ``docs/transfers.md``."""
        self.duration: float | None = None
        self.outcome = Outcome.ACTIVE
        self.error = ""
        """What it failed with."""
        self.error_code = ""

    def __repr__(self) -> str:
        return f"<Operation {self.id} {self.kind} {self.name!r} {self.outcome} {self.stage}>"

    @property
    def id(self) -> str:
        """Of this process alone, so that a log kept over several mounts has no two of them."""
        return f"{self._tracker.run}-{self.number}"

    def passed(self, stage: str, following: str = "") -> None:
        """What it did until now was ``stage``; now it is at ``following``."""
        now = self._tracker.clock()
        took = now - self._last
        self._last = now
        self.stages[stage] = self.stages.get(stage, 0.0) + took
        self.stage = following
        self._tracker.stages[self.kind, stage].observe(took)

    def drop(self) -> None:
        """There was nothing to be done: it counts for nothing."""
        if self.outcome is Outcome.ACTIVE:
            self.outcome = Outcome.CANCELLED
            self._tracker.dropped(self)

    def end(self, error: BaseException | None = None, *, cancelled: bool = False) -> None:
        """It is over; a second end counts for nothing."""
        if self.outcome is not Outcome.ACTIVE:
            return
        self.duration = self._tracker.clock() - self.started
        self.outcome = Outcome.CANCELLED if cancelled else Outcome.DONE
        if error is not None and not cancelled:
            # Not the error itself: its traceback holds on to buffers.
            self.outcome = Outcome.FAILED
            self.error = str(error)
            self.error_code = getattr(error, "error_code", "internal")
        self._tracker.ended(self)


_CURRENT: ContextVar[Operation | None] = ContextVar("usenetfs_operation", default=None)


def current_id() -> str:
    """The id of the operation on whose behalf this runs; empty where there is none."""
    operation = _CURRENT.get()
    return "" if operation is None else operation.id


@contextmanager
def on_behalf_of(operation: Operation | None) -> Iterator[None]:
    """What runs inside, tasks and threads included, belongs to ``operation``."""
    token = _CURRENT.set(operation)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@dataclass(slots=True)
class Counts:
    """Operations of one kind that ended."""

    done: int = 0
    failed: int = 0
    cancelled: int = 0


class _Made(dict[tuple[Kind, str], Histogram]):
    def __missing__(self, key: tuple[Kind, str]) -> Histogram:
        self[key] = made = Histogram()
        return made


def _new_run() -> str:
    return secrets.token_hex(2)


@dataclass(slots=True, repr=False)
class Tracker:
    """See the module. ``clock`` in seconds from anywhere, ``wall`` in Unix time."""

    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    run: str = field(default_factory=_new_run)
    """What the ids of this process begin with."""
    counts: Mapping[Kind, Counts] = field(default_factory=lambda: {k: Counts() for k in Kind})
    durations: Mapping[Kind, Histogram] = field(
        default_factory=lambda: {k: Histogram() for k in Kind}
    )
    stages: _Made = field(default_factory=_Made)
    """By kind and stage. Stages are named in the code, so there are few."""
    timings: dict[str, Histogram] = field(default_factory=dict)
    """Of what is only timed: requests of the kernel."""
    _active: dict[int, Operation] = field(default_factory=dict)
    _recent: deque[Operation] = field(default_factory=lambda: deque(maxlen=KEPT))
    _failed: deque[Operation] = field(default_factory=lambda: deque(maxlen=KEPT))
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __repr__(self) -> str:
        return f"<Tracker {self.run} active={len(self._active)}>"

    # --- while it works --------------------------------------------------------------------------

    def begin(
        self,
        kind: Kind,
        name: str,
        *,
        stage: str = "",
        inodes: Sequence[int] = (),
        more: int = 0,
        octets: int = 0,
        age: float = 0.0,
    ) -> Operation:
        """An operation that whoever has it must end. ``inodes``: files that it concerns, and
        how many ``more``; ``octets``: how much it moves; ``age``: seconds since it began."""
        now = self.clock()
        started_at = self.wall() - age
        operation = Operation(
            self, next(self._numbers), kind, name, inodes, more, octets, now - age, started_at
        )
        operation.stage = stage
        if len(self._active) < MAX_ACTIVE:
            self._active[operation.number] = operation
        return operation

    @contextmanager
    def track(
        self, kind: Kind, name: str, *, inodes: Sequence[int] = (), octets: int = 0
    ) -> Iterator[Operation]:
        """An operation for as long as the block lasts; it fails with what the block raises."""
        operation = self.begin(kind, name, inodes=inodes, octets=octets)
        token = _CURRENT.set(operation)
        try:
            yield operation
        except BaseException as error:
            operation.end(error, cancelled=not isinstance(error, Exception))
            raise
        else:
            operation.end()
        finally:
            _CURRENT.reset(token)

    @contextmanager
    def timed(self, kind: Kind, stage: str) -> Iterator[None]:
        """A stage of what has no operation of its own yet."""
        began = self.clock()
        try:
            yield
        finally:
            self.stages[kind, stage].observe(self.clock() - began)

    def observe(self, name: str, seconds: float) -> None:
        """Something that is only timed; beyond :data:`MAX_TIMINGS` names they share one."""
        histogram = self.timings.get(name)
        if histogram is None:
            name = name if len(self.timings) < MAX_TIMINGS else "other"
            histogram = self.timings.setdefault(name, Histogram())
        histogram.observe(seconds)

    def dropped(self, operation: Operation) -> None:
        """Called by the operation."""
        self._active.pop(operation.number, None)

    def ended(self, operation: Operation) -> None:
        """Called by the operation."""
        self._active.pop(operation.number, None)
        self._recent.append(operation)
        counts = self.counts[operation.kind]
        if operation.outcome is Outcome.CANCELLED:
            counts.cancelled += 1
            return
        assert operation.duration is not None
        self.durations[operation.kind].observe(operation.duration)
        if operation.outcome is Outcome.FAILED:
            counts.failed += 1
            self._failed.append(operation)
        else:
            counts.done += 1

    # --- looking at it ---------------------------------------------------------------------------

    def active(self, kind: Kind | None = None, limit: int = MAX_ACTIVE) -> list[Operation]:
        """What goes on, the oldest first."""
        chosen = (o for o in self._active.values() if kind is None or o.kind is kind)
        return list(itertools.islice(chosen, limit))

    def recent(self) -> list[Operation]:
        """What ended lately, the newest last."""
        return list(self._recent)

    def failures(self) -> list[Operation]:
        """What failed, the newest last."""
        return list(self._failed)

    def find(self, operation_id: str) -> Operation | None:
        """The operation of this id, if it is still known."""
        run, _, number = operation_id.rpartition("-")
        if run != self.run or not (number.isascii() and number.isdigit()):
            return None
        wanted = int(number)
        known = itertools.chain(self._recent, self._failed)
        return self._active.get(wanted) or next((o for o in known if o.number == wanted), None)
