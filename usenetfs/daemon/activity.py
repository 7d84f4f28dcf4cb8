"""What the tracker knows, as the control API tells it: operations, files on their way, jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from usenetfs.control.model import (
    JobReport,
    KindReport,
    OperationReport,
    OperationsReport,
    StageReport,
    TransferReport,
)
from usenetfs.index.index import Index
from usenetfs.tracker import Kind, Operation, Outcome, Tracker
from usenetfs.types import Durability, InodeId

MOST_FILES: Final = 12
"""Files that are told of by name: each costs some questions to the index."""
MOST_ACTIVE: Final = 1000
MOST_LOOKED_AT: Final = 200
"""Articles on their way, whose files are counted; those after them are as many again."""
JOBS: Final = (Kind.IMPORT, Kind.EXPORT, Kind.VERIFY)


def operation_report(operation: Operation) -> OperationReport:
    """One operation."""
    return OperationReport(
        id=operation.id,
        kind=operation.kind.value,
        name=operation.name,
        started=operation.started_at,
        outcome=operation.outcome.value,
        duration=operation.duration,
        stage=operation.stage,
        stages=tuple(StageReport(name, seconds) for name, seconds in operation.stages.items()),
        bytes=operation.octets,
        error=operation.error or None,
        error_code=operation.error_code or None,
    )


def operations_report(tracker: Tracker) -> OperationsReport:
    """What goes on, what ended last, what failed last."""

    def told(operations: Iterable[Operation]) -> tuple[OperationReport, ...]:
        return tuple(operation_report(operation) for operation in operations)

    return OperationsReport(
        active=told(tracker.active(limit=MOST_ACTIVE)),
        recent=told(tracker.recent()),
        failed=told(tracker.failures()),
    )


def kind_reports(tracker: Tracker) -> tuple[KindReport, ...]:
    """How operations of each kind went."""
    return tuple(_kind(tracker, kind) for kind in Kind)


def _kind(tracker: Tracker, kind: Kind) -> KindReport:
    counts, durations = tracker.counts[kind], tracker.durations[kind]
    ended = durations.count
    return KindReport(
        kind=kind.value,
        active=len(tracker.active(kind)),
        done=counts.done,
        failed=counts.failed,
        cancelled=counts.cancelled,
        mean=durations.total / ended if ended else None,
        median=durations.quantile(0.5),
        p95=durations.quantile(0.95),
    )


def failure_rate(tracker: Tracker) -> float:
    """Share of the last operations that failed."""
    ended = [o for o in tracker.recent() if o.outcome is not Outcome.CANCELLED]
    return sum(o.outcome is Outcome.FAILED for o in ended) / len(ended) if ended else 0.0


def transfer_reports(tracker: Tracker, index: Index) -> tuple[tuple[TransferReport, ...], int]:
    """Some of the files on their way, those that wait longest first, and how many there are."""
    found: dict[tuple[str, int], list[Operation]] = {}
    unnamed = 0
    for direction, kind in (("up", Kind.UPLOAD), ("down", Kind.FETCH)):
        for operation in tracker.active(kind, limit=MOST_LOOKED_AT):
            unnamed += operation.more
            for inode in operation.inodes:
                found.setdefault((direction, inode), []).append(operation)
    told: list[TransferReport] = []
    for (direction, inode), operations in found.items():
        if len(told) == MOST_FILES:
            break
        told += _transfer(index, direction, InodeId(inode), operations)
    return tuple(told), len(found) + unnamed


def _transfer(
    index: Index, direction: str, inode: InodeId, operations: list[Operation]
) -> Iterator[TransferReport]:
    row, path = index.inodes.get(inode), index.dirents.path_of(inode)
    if row is None or path is None:
        return
    left = 0
    if direction == "up":
        staged = index.staged_bytes_of(inode)
        left = staged[Durability.STAGED] + staged[Durability.POSTED]
    yield TransferReport(
        path=path.decode("utf-8", "replace"),
        direction=direction,
        size=row.size,
        left=left,
        articles=len(operations),
        stage=operations[0].stage,
    )


def job_reports(tracker: Tracker) -> tuple[JobReport, ...]:
    """Imports, exports and verifications under way."""
    return tuple(_job(operation) for kind in JOBS for operation in tracker.active(kind))


def _job(operation: Operation) -> JobReport:
    event: Any = operation.progress() if operation.progress is not None else {}
    files, octets = event.get("files", {}), event.get("bytes", {})
    if operation.kind is Kind.VERIFY:
        articles = event.get("articles", {})
        files = {**articles, "failed": articles.get("lost", 0)}
    return JobReport(
        id=operation.id,
        kind=operation.kind.value,
        name=operation.name,
        phase=event.get("phase", ""),
        counting=event.get("counting", False),
        files_found=files.get("found", 0),
        files_done=files.get("done", 0),
        files_failed=files.get("failed", 0),
        bytes_found=octets.get("found", 0),
        bytes_done=octets.get("done", 0),
        speed=event.get("speed", 0.0),
        time_left=event.get("time_left"),
        current=tuple(event.get("current", ())),
    )
