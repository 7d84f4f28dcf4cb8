"""Everything that is measured, as Prometheus text (R8).

Two kinds of names: those that the project promised (``usenet_upload_mbps`` and the like), and
idiomatic ones in base units: counters that end in ``_total``, histograms in seconds. Invariant:
labels are bounded, their values being names of servers, classes of errors, or named in the code.
``docs/monitoring/`` has what to do with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from usenetfs.control.model import ServerReport, StatusReport
from usenetfs.tracker import BOUNDS, Histogram, Tracker

MEGABYTE: Final = 1e6
UPPER: Final = (*(str(bound) for bound in BOUNDS), "+Inf")

Labelled = Iterable[tuple[Sequence[str], float]]


def render_metrics(status: StatusReport, tracker: Tracker, errors: Mapping[str, int]) -> str:
    """Prometheus text format 0.0.4. ``errors``: how many there were, by code."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(status, tracker, errors))
    return generate_latest(registry).decode("utf-8")


class _Collector(Collector):
    def __init__(self, status: StatusReport, tracker: Tracker, errors: Mapping[str, int]) -> None:
        self._status = status
        self._tracker = tracker
        self._errors = errors

    def collect(self) -> Iterator[Metric]:
        status = self._status
        yield from _mount(status)
        yield from _transfer(status)
        yield from _stored(status)
        yield from _chain(status)
        yield from _verified(status)
        yield from _servers(status.servers)
        yield from _retries(status)
        yield from _operations(status)
        yield from _process(status)
        yield from _durations(self._tracker)
        yield _counter("usenet_errors", "Errors that were reported", ["code"], _by(self._errors))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _total(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauges(name: str, text: str, labels: Sequence[str], values: Labelled) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for names, value in values:
        family.add_metric(names, value)
    return family


def _counter(name: str, text: str, labels: Sequence[str], values: Labelled) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for names, value in values:
        family.add_metric(names, value)
    return family


def _by(counts: Mapping[str, int]) -> Labelled:
    return [([name], count) for name, count in sorted(counts.items())]


def _mount(status: StatusReport) -> Iterator[Metric]:
    about = {"name": status.name, "version": status.version}
    yield InfoMetricFamily("usenet", "The filesystem and the program", value=about)
    yield _gauge("usenet_uptime_seconds", "Since the mount", status.uptime or 0.0)
    yield _gauge("usenet_read_only", "1 where nothing may be changed", status.read_only)


def _transfer(status: StatusReport) -> Iterator[Metric]:
    up, down, uploads = status.upload, status.download, status.uploads
    yield _gauge("usenet_upload_mbps", "Megabytes a second sent", up.now / MEGABYTE)
    yield _gauge("usenet_download_mbps", "Megabytes a second received", down.now / MEGABYTE)
    yield _total("usenet_upload_bytes", "Octets sent in articles", up.total_bytes)
    yield _total("usenet_download_bytes", "Octets received in articles", down.total_bytes)
    yield _total("usenet_articles_posted", "Articles that a server took", uploads.articles_posted)
    blocks = [(["sent"], uploads.blocks_uploaded), (["known"], uploads.blocks_linked)]
    yield _counter("usenet_blocks", "Blocks uploaded, or known already", ["how"], blocks)
    depths = [([queue.name], queue.depth) for queue in status.queues]
    yield _gauges("usenet_queue_depth", "Items in a queue", ["queue"], depths)
    limits = [([q.name], q.capacity) for q in status.queues if q.capacity is not None]
    yield _gauges("usenet_queue_capacity", "Items a queue takes", ["queue"], limits)
    limit = status.limits.rate_now
    if limit is not None:
        yield _gauge("usenet_upload_limit_bytes_per_second", "Uploads keep to it", limit)


def _stored(status: StatusReport) -> Iterator[Metric]:
    yield _gauge("usenet_files", "Files", status.files)
    yield _gauge("usenet_directories", "Directories", status.directories)
    yield _gauge("usenet_files_bytes", "Sum of the files' sizes", status.bytes)
    yield _gauge("usenet_files_indexed_per_second", "Files added to the index", status.indexing.now)
    yield _total("usenet_files_indexed", "Files ever added to the index", status.indexing.total)
    states = ("staged", "posted", "seen", "verified")
    amounts = [([state], getattr(status.durability, state)) for state in states]
    octets = [(name, amount.bytes) for name, amount in amounts]
    yield _gauges("usenet_data_bytes", "Octets by durability", ["state"], octets)
    blocks = [(name, amount.blocks) for name, amount in amounts]
    yield _gauges("usenet_data_blocks", "Blocks by durability", ["state"], blocks)
    yield _gauge("usenet_staging_limit_bytes", "Writers wait beyond it", status.staging_limit)
    cache = status.cache
    yield _gauge("usenet_cache_bytes", "Octets in the disk cache", cache.bytes)
    yield _gauge("usenet_cache_limit_bytes", "Octets it may hold", cache.max_bytes)
    yield _gauge("usenet_cache_memory_bytes", "Octets of opened articles", cache.memory_bytes)
    yield _total("usenet_cache_hits", "Disk cache hits", cache.hits)
    yield _total("usenet_cache_misses", "Disk cache misses", cache.misses)


def _chain(status: StatusReport) -> Iterator[Metric]:
    checkpoint = status.checkpoint
    if checkpoint.number is not None and checkpoint.time is not None:
        yield _gauge("usenet_checkpoint_number", "The last checkpoint", checkpoint.number)
        yield _gauge("usenet_checkpoint_time_seconds", "When it was made", checkpoint.time)
    yield _gauge(
        "usenet_checkpoint_pending_changes", "Changes not in it", checkpoint.pending_changes
    )
    yield _gauge("usenet_checkpoint_held_files", "Files it has as before", checkpoint.held_files)
    yield _gauge("usenet_fenced", "1 once another writer took over", checkpoint.fenced is not None)


def _verified(status: StatusReport) -> Iterator[Metric]:
    done, last = status.verified, status.last_verification
    outcomes = ("present", "degraded", "fresh", "unknown", "lost")
    counts = [([outcome], getattr(done, outcome)) for outcome in outcomes]
    yield _counter("usenet_verified_articles", "Asked for by verify", ["outcome"], counts)
    yield _total("usenet_verified_bytes", "Octets fetched by verify", done.bytes_read)
    if last is not None:
        yield _gauge("usenet_verification_time_seconds", "When the last one ended", last.time)
        yield _gauge("usenet_verification_lost_articles", "Lost, in the last one", last.lost)
        yield _gauge("usenet_verification_damaged_files", "Of the last one", last.files_damaged)
        unknown = last.unknown
        yield _gauge("usenet_verification_unknown_articles", "Not asked for, in it", unknown)
        if last.chain is not None:
            lost = "lost" in {last.chain, last.keys}
            yield _gauge("usenet_verification_recovery_lost", "1: recover would fail", lost)


def _servers(servers: Sequence[ServerReport]) -> Iterator[Metric]:
    label = ["server"]

    def each(name: str, text: str, values: Mapping[str, float]) -> Metric:
        return _gauges(name, text, label, [([server], value) for server, value in values.items()])

    connections = [
        ([s.name, state], count)
        for s in servers
        for state, count in (("busy", s.busy), ("open", s.open))
    ]
    yield _gauges(
        "usenet_server_connections", "Connections of a server", ["server", "state"], connections
    )
    limits = {s.name: s.limit for s in servers}
    yield each("usenet_server_connections_limit", "Connections it allows", limits)
    yield each("usenet_server_health", "0 to 1", {s.name: s.health for s in servers})
    up = {s.name: float(s.state != "down") for s in servers}
    yield each("usenet_server_up", "0 while it is given up", up)
    waiting = {s.name: s.waiting for s in servers}
    yield each("usenet_server_waiting", "Requests that wait for a connection", waiting)
    latency = {s.name: s.latency_ms / 1000 for s in servers if s.latency_ms is not None}
    yield each("usenet_server_latency_seconds", "Round trip", latency)
    failures = [([s.name], s.errors) for s in servers]
    yield _counter("usenet_server_errors", "Failures", label, failures)
    moved = [
        ([s.name, direction], octets)
        for s in servers
        for direction, octets in (("up", s.bytes_up), ("down", s.bytes_down))
    ]
    yield _counter("usenet_server_bytes", "Octets on the wire", ["server", "direction"], moved)
    requests = [([s.name, each.name], each.count) for s in servers for each in s.requests]
    yield _counter("usenet_server_requests", "Requests answered", ["server", "verb"], requests)
    again = [([s.name, each.name], each.count) for s in servers for each in s.retries]
    yield _counter(
        "usenet_server_retries", "Sent again on another connection", ["server", "reason"], again
    )


def _retries(status: StatusReport) -> Iterator[Metric]:
    kinds = status.retries
    yield _counter(
        "usenet_operation_attempts",
        "Tries of operations, first ones included",
        ["kind"],
        [([o.kind], o.attempts) for o in kinds],
    )
    yield _counter(
        "usenet_operation_retries",
        "Tries after the first",
        ["kind"],
        [([o.kind], o.retries) for o in kinds],
    )
    yield _counter(
        "usenet_operation_given_up",
        "Operations whose tries were used up",
        ["kind"],
        [([o.kind], o.given_up) for o in kinds],
    )
    reasons = [([o.kind, reason.name], reason.count) for o in kinds for reason in o.reasons]
    yield _counter("usenet_retries", "Why something is tried again", ["kind", "reason"], reasons)


def _operations(status: StatusReport) -> Iterator[Metric]:
    active = {kind.kind: kind.active for kind in status.operations}
    yield _gauge("usenet_active_uploads", "Articles on their way up", active.get("upload", 0))
    yield _gauge("usenet_active_downloads", "Articles on their way down", active.get("fetch", 0))
    yield _gauge(
        "usenet_failure_rate", "Share of the last operations that failed", status.failure_rate
    )
    yield _gauges("usenet_operations_active", "Under way", ["operation"], _by(active))
    ended = [
        ([kind.kind, outcome], getattr(kind, outcome))
        for kind in status.operations
        for outcome in ("done", "failed", "cancelled")
    ]
    yield _counter("usenet_operations", "That ended", ["operation", "outcome"], ended)


def _process(status: StatusReport) -> Iterator[Metric]:
    process = status.process
    yield _gauge("usenet_memory_usage_bytes", "Resident memory", process.memory_bytes)
    yield _gauge("usenet_cpu_usage_percent", "Of one processor", process.cpu_percent)
    yield _total("usenet_cpu_seconds", "Processor time used", process.cpu_seconds)
    yield _gauge("usenet_disk_read_mbps", "Megabytes a second", process.disk_read / MEGABYTE)
    yield _gauge("usenet_disk_write_mbps", "Megabytes a second", process.disk_write / MEGABYTE)
    yield _total("usenet_disk_read_bytes", "Octets read from disks", process.disk_read_bytes)
    yield _total("usenet_disk_written_bytes", "Octets written", process.disk_written_bytes)


def _durations(tracker: Tracker) -> Iterator[Metric]:
    yield _histograms(
        "usenet_operation_duration_seconds",
        "From beginning to end",
        ["operation"],
        (([kind.value], histogram) for kind, histogram in tracker.durations.items()),
    )
    yield _histograms(
        "usenet_operation_stage_seconds",
        "Stages of operations",
        ["operation", "stage"],
        (([kind.value, stage], each) for (kind, stage), each in sorted(tracker.stages.items())),
    )
    yield _histograms(
        "usenet_request_duration_seconds",
        "Requests of the kernel, by kind",
        ["request"],
        (([name], histogram) for name, histogram in sorted(tracker.timings.items())),
    )


def _histograms(
    name: str,
    text: str,
    labels: Sequence[str],
    values: Iterable[tuple[Sequence[str], Histogram]],
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for names, histogram in values:
        below, buckets = 0, []
        for upper, count in zip(UPPER, histogram.counts, strict=True):
            below += count
            buckets.append((upper, float(below)))
        family.add_metric(names, buckets, histogram.total)
    return family
