"""The status as Prometheus text (R8)."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from usenetfs.control.model import StatusReport

MEGABYTE = 1e6


class _StatusCollector(Collector):
    def __init__(self, status: StatusReport) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        yield from _transfer(self._status)
        yield from _stored(self._status)
        yield from _chain(self._status)
        yield from _servers(self._status)
        yield from _retries(self._status)
        yield from _process()


def render_metrics(status: StatusReport) -> str:
    """Prometheus text format 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatusCollector(status))
    return generate_latest(registry).decode("utf-8")


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _transfer(status: StatusReport) -> Iterator[Metric]:
    yield _gauge("usenet_upload_mbps", "Megabytes a second sent", status.upload.now / MEGABYTE)
    yield _gauge(
        "usenet_download_mbps", "Megabytes a second received", status.download.now / MEGABYTE
    )
    yield CounterMetricFamily(
        "usenet_upload_bytes", "Octets sent in articles", value=status.upload.total_bytes
    )
    yield CounterMetricFamily(
        "usenet_download_bytes", "Octets received in articles", value=status.download.total_bytes
    )
    depths = GaugeMetricFamily("usenet_queue_depth", "Items in a queue", labels=["queue"])
    for queue in status.queues:
        depths.add_metric([queue.name], queue.depth)
    yield depths


def _stored(status: StatusReport) -> Iterator[Metric]:
    yield _gauge("usenet_files", "Files", status.files)
    yield _gauge("usenet_directories", "Directories", status.directories)
    yield _gauge("usenet_files_bytes", "Sum of the files' sizes", status.bytes)
    blocks = GaugeMetricFamily("usenet_data_bytes", "Octets by durability", labels=["state"])
    for state in ("staged", "posted", "seen", "verified"):
        blocks.add_metric([state], getattr(status.durability, state).bytes)
    yield blocks
    yield _gauge("usenet_cache_bytes", "Octets in the disk cache", status.cache.bytes)
    yield CounterMetricFamily("usenet_cache_hits", "Disk cache hits", value=status.cache.hits)
    yield CounterMetricFamily("usenet_cache_misses", "Disk cache misses", value=status.cache.misses)


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


def _servers(status: StatusReport) -> Iterator[Metric]:
    connections = GaugeMetricFamily(
        "usenet_server_connections", "Connections of a server", labels=["server", "state"]
    )
    health = GaugeMetricFamily("usenet_server_health", "0 to 1", labels=["server"])
    errors = CounterMetricFamily("usenet_server_errors", "Failures", labels=["server"])
    for server in status.servers:
        connections.add_metric([server.name, "busy"], server.busy)
        connections.add_metric([server.name, "open"], server.open)
        health.add_metric([server.name], server.health)
        errors.add_metric([server.name], server.errors)
    yield from (connections, health, errors)


def _retries(status: StatusReport) -> Iterator[Metric]:
    attempts, retries, given_up = (
        CounterMetricFamily(f"usenet_operation_{name}", text, labels=["kind"])
        for name, text in (
            ("attempts", "Tries of operations, first ones included"),
            ("retries", "Tries after the first"),
            ("given_up", "Operations whose tries were used up"),
        )
    )
    for operation in status.retries:
        attempts.add_metric([operation.kind], operation.attempts)
        retries.add_metric([operation.kind], operation.retries)
        given_up.add_metric([operation.kind], operation.given_up)
    yield from (attempts, retries, given_up)


def _process() -> Iterator[Metric]:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    yield _gauge("usenet_memory_usage_bytes", "Resident memory", pages * resource.getpagesize())
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield CounterMetricFamily(
        "usenet_cpu_seconds", "Processor time used", value=usage.ru_utime + usage.ru_stime
    )
