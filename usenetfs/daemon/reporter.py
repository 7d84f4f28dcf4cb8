"""Where a mount stands, read from its parts: nothing is waited for, and nothing is changed.

Owns the meters of speed and the history. Everything comes from counters and memory, but for the
names of a few files; a status takes about a millisecond, whatever the filesystem holds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import trio

import usenetfs
from usenetfs.control.model import (
    Amount,
    CacheReport,
    CheckpointReport,
    CountReport,
    DurabilityReport,
    HistoryReport,
    IndexingReport,
    LimitsReport,
    QueueReport,
    RetryReport,
    ServerReport,
    StatusReport,
    UploadReport,
)
from usenetfs.daemon.activity import failure_rate, job_reports, kind_reports, transfer_reports
from usenetfs.daemon.history import INTERVAL, History
from usenetfs.daemon.parts import Parts
from usenetfs.daemon.process import ProcessMeter
from usenetfs.daemon.speed import SpeedMeter
from usenetfs.daemon.verification import Verifications
from usenetfs.net.status import ServerStatus
from usenetfs.options import DaemonOptions
from usenetfs.types import Durability


class Reporter:
    """``checkpoint`` and ``limits``: what to say of them."""

    def __init__(
        self,
        options: DaemonOptions,
        parts: Parts,
        *,
        checkpoint: Callable[[], CheckpointReport],
        limits: Callable[[], LimitsReport],
        verifications: Verifications,
    ) -> None:
        self._options = options
        self._verifications = verifications
        self._parts = parts
        self._checkpoint = checkpoint
        self._limits = limits
        self._started = time.monotonic()
        self._upload = SpeedMeter(lambda: parts.uploader.counts.bytes_posted)
        self._download = SpeedMeter(lambda: parts.fetcher.bytes_fetched)
        self._indexed = SpeedMeter(parts.index.inodes.last_id)
        self._process = ProcessMeter()
        self._history = History(
            lambda: parts.uploader.counts.bytes_posted,
            lambda: parts.fetcher.bytes_fetched,
            lambda: parts.uploader.batches.depth + parts.uploader.flight.queue.depth,
            lambda: pending_bytes(durability_report(parts)),
        )
        self.web: str | None = None
        """Address of the web page, while it is served."""

    async def measure(self) -> None:
        """Sample the speeds until cancelled."""
        while True:
            await trio.sleep(INTERVAL)
            for meter in (self._upload, self._download, self._indexed, self._process):
                meter.sample()
            self._history.sample()

    def history(self) -> HistoryReport:
        """The last minutes."""
        return self._history.report()

    def status(self, state: str) -> StatusReport:
        """Where everything stands; ``state`` is that of the mount."""
        parts, options = self._parts, self._options
        totals = parts.index.inodes.totals()
        upload, indexed = self._upload.report(), self._indexed.report()
        durability = durability_report(parts)
        transfers, on_their_way = transfer_reports(parts.tracker, parts.index)
        return StatusReport(
            name=options.name,
            state=state,
            mountpoint=None if options.mountpoint is None else str(options.mountpoint),
            read_only=options.read_only,
            pid=os.getpid(),
            version=usenetfs.__version__,
            uptime=time.monotonic() - self._started,
            files=totals.files,
            directories=totals.directories,
            bytes=totals.bytes,
            block_size=parts.staged.block_size,
            durability=durability,
            staging_limit=options.settings.staging.max_size,
            queues=self._queues(),
            upload=upload,
            download=self._download.report(),
            limits=self._limits(),
            time_left=_time_left(pending_bytes(durability), upload.now),
            servers=tuple(_server(status) for status in parts.providers.statuses()),
            retries=self._retries(),
            cache=self.cache(),
            checkpoint=self._checkpoint(),
            recent_errors=parts.errors.list(),
            failure_rate=failure_rate(parts.tracker),
            uploads=self._uploads(),
            indexing=IndexingReport(indexed.now, indexed.total_bytes),
            process=self._process.report(),
            operations=kind_reports(parts.tracker),
            transfers=transfers,
            files_in_transfer=on_their_way,
            jobs=job_reports(parts.tracker),
            verified=self._verifications.verified(),
            last_verification=self._verifications.last,
            time=time.time(),
            web=self.web,
        )

    def cache(self) -> CacheReport:
        """The cache of fetched articles."""
        stats, fetcher, settings = self._parts.cache.stats(), self._parts.fetcher, self._options
        return CacheReport(
            bytes=stats.bytes,
            max_bytes=settings.settings.cache.max_size,
            articles=stats.articles,
            hits=stats.hits,
            misses=stats.misses,
            memory_bytes=fetcher.memory_used,
            memory_max_bytes=settings.settings.cache.memory_size,
        )

    def _queues(self) -> tuple[QueueReport, ...]:
        uploader = self._parts.uploader
        return (
            QueueReport("segmenting", uploader.batches.depth, uploader.batches.capacity),
            QueueReport("packing", uploader.packing),
            QueueReport("uploading", uploader.flight.queue.depth, uploader.flight.queue.capacity),
            QueueReport("posting", uploader.counts.active_posts, uploader.posters),
            QueueReport("checking", uploader.checker.waiting),
            QueueReport("fetching", self._parts.fetcher.active),
            QueueReport("writers waiting", self._parts.files.waiting_writers),
        )

    def _uploads(self) -> UploadReport:
        counts = self._parts.uploader.counts
        return UploadReport(counts.articles_posted, counts.blocks_uploaded, counts.blocks_linked)

    def _retries(self) -> tuple[RetryReport, ...]:
        retries = self._parts.retries
        return tuple(
            RetryReport(
                kind,
                counts.attempts,
                counts.retries,
                counts.given_up,
                _counts(retries.reasons(kind)),
            )
            for kind, counts in retries.counts().items()
        )


def durability_report(parts: Parts) -> DurabilityReport:
    """How safe everything is."""
    totals = parts.index.durability_totals()

    def amount(state: Durability) -> Amount:
        found = totals[state]
        return Amount(bytes=found.bytes, blocks=found.count)

    return DurabilityReport(
        staged=amount(Durability.STAGED),
        posted=amount(Durability.POSTED),
        seen=amount(Durability.SEEN),
        verified=amount(Durability.VERIFIED),
    )


def pending_bytes(durability: DurabilityReport) -> int:
    """What is not safe yet."""
    return durability.staged.bytes + durability.posted.bytes


def _time_left(pending: int, speed: float) -> float | None:
    if not pending:
        return 0.0
    return pending / speed if speed > 1024 else None


def _counts(counts: dict[str, int]) -> tuple[CountReport, ...]:
    return tuple(CountReport(name, count) for name, count in sorted(counts.items()))


def _server(status: ServerStatus) -> ServerReport:
    return ServerReport(
        name=status.name,
        state=status.state,
        health=status.health,
        open=status.open,
        busy=status.busy,
        limit=status.limit,
        latency_ms=None if status.latency is None else status.latency * 1000,
        errors=status.errors,
        last_error=status.last_error,
        bytes_up=status.bytes_up,
        bytes_down=status.bytes_down,
        waiting=status.waiting,
        requests=_counts(status.requests),
        retries=_counts(status.retries),
    )
