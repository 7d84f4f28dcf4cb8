"""Metrics as Prometheus reads them: every name, and the same numbers as the status."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from usenetfs.control.model import (
    Amount,
    CacheReport,
    CheckpointReport,
    CountReport,
    DurabilityReport,
    IndexingReport,
    KindReport,
    LimitsReport,
    ProcessReport,
    QueueReport,
    RetryReport,
    ServerReport,
    SpeedReport,
    StatusReport,
    UploadReport,
    VerificationReport,
    VerifiedReport,
)
from usenetfs.daemon.metrics import render_metrics
from usenetfs.tracker import Kind, Tracker

MONITORING = Path(__file__).parents[2] / "docs/monitoring"

STATUS = StatusReport(
    name='pho"tos\n',
    version="1",
    uptime=12.5,
    files=7,
    directories=2,
    bytes=900,
    durability=DurabilityReport(Amount(1, 2), Amount(3, 4), Amount(5, 6), Amount(7, 8)),
    staging_limit=1000,
    queues=(QueueReport("uploading", 5, 1000), QueueReport("packing", 2)),
    upload=SpeedReport(2e6, 1e6, 55),
    download=SpeedReport(3e6, 1e6, 66),
    limits=LimitsReport(rate_now=5),
    verified=VerifiedReport(present=11, lost=12, bytes_read=13),
    last_verification=VerificationReport(
        1000.0, lost=14, files_damaged=15, unknown=16, chain="present", keys="lost"
    ),
    servers=(
        ServerReport(
            'a"b',
            state="down",
            health=0.5,
            open=3,
            busy=1,
            limit=8,
            latency_ms=30.0,
            errors=2,
            bytes_up=10,
            bytes_down=20,
            waiting=4,
            requests=(CountReport("POST", 9),),
            retries=(CountReport("connection_lost", 1),),
        ),
    ),
    retries=(RetryReport("post", 10, 3, 1, (CountReport("network", 3),)),),
    cache=CacheReport(bytes=5, max_bytes=50, hits=3, misses=1, memory_bytes=4),
    checkpoint=CheckpointReport(number=4, time=1e9, pending_changes=3, held_files=1),
    failure_rate=0.25,
    uploads=UploadReport(11, 12, 13),
    indexing=IndexingReport(2.5, 8),
    process=ProcessReport(100, 50.0, 3.5, 1e6, 2e6, 30, 40),
    operations=(KindReport("upload", active=2, done=3, failed=1), KindReport("fetch", active=1)),
)


def samples(text: str) -> dict[str, float]:
    """Value by ``name{labels}``."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@pytest.fixture
def tracker() -> Tracker:
    tracker = Tracker()
    tracker.durations[Kind.UPLOAD].observe(0.3)
    tracker.durations[Kind.UPLOAD].observe(1000)
    tracker.stages[Kind.UPLOAD, "post"].observe(0.2)
    tracker.observe("read", 0.0002)
    return tracker


def test_the_numbers_are_those_of_the_status(tracker: Tracker) -> None:
    found = samples(render_metrics(STATUS, tracker, {"network": 3}))
    expected = {
        "usenet_upload_mbps": 2.0,
        "usenet_download_mbps": 3.0,
        "usenet_upload_bytes_total": 55,
        "usenet_memory_usage_bytes": 100,
        "usenet_cpu_usage_percent": 50,
        "usenet_disk_write_mbps": 2,
        "usenet_files_indexed_per_second": 2.5,
        "usenet_active_uploads": 2,
        "usenet_active_downloads": 1,
        "usenet_failure_rate": 0.25,
        "usenet_queue_depth{queue=uploading}": 5,
        "usenet_queue_capacity{queue=uploading}": 1000,
        "usenet_data_bytes{state=seen}": 5,
        "usenet_data_blocks{state=verified}": 8,
        "usenet_blocks_total{how=known}": 13,
        "usenet_retries_total{kind=post,reason=network}": 3,
        "usenet_operation_retries_total{kind=post}": 3,
        'usenet_server_up{server=a"b}': 0,
        'usenet_server_latency_seconds{server=a"b}': 0.03,
        'usenet_server_requests_total{server=a"b,verb=POST}': 9,
        'usenet_server_bytes_total{direction=down,server=a"b}': 20,
        "usenet_errors_total{code=network}": 3,
        "usenet_operation_duration_seconds_count{operation=upload}": 2,
        "usenet_operation_duration_seconds_sum{operation=upload}": 1000.3,
        "usenet_operation_duration_seconds_bucket{le=0.25,operation=upload}": 0,
        "usenet_operation_duration_seconds_bucket{le=0.5,operation=upload}": 1,
        "usenet_operation_duration_seconds_bucket{le=300.0,operation=upload}": 1,
        "usenet_operation_duration_seconds_bucket{le=+Inf,operation=upload}": 2,
        "usenet_operation_stage_seconds_count{operation=upload,stage=post}": 1,
        "usenet_request_duration_seconds_count{request=read}": 1,
        "usenet_operations_total{operation=upload,outcome=failed}": 1,
        "usenet_checkpoint_number": 4,
        "usenet_verified_articles_total{outcome=present}": 11,
        "usenet_verified_articles_total{outcome=lost}": 12,
        "usenet_verified_bytes_total": 13,
        "usenet_verification_time_seconds": 1000,
        "usenet_verification_lost_articles": 14,
        "usenet_verification_damaged_files": 15,
        "usenet_verification_unknown_articles": 16,
        "usenet_verification_recovery_lost": 1,
        "usenet_upload_limit_bytes_per_second": 5,
    }
    assert {name: found.get(name) for name in expected} == expected


def test_what_is_not_known_is_not_told(tracker: Tracker) -> None:
    bare = replace(STATUS, checkpoint=CheckpointReport(), limits=LimitsReport(), servers=())
    found = samples(render_metrics(bare, tracker, {}))
    assert not [
        name for name in found if name.startswith(("usenet_checkpoint_time", "usenet_server_"))
    ]
    assert "usenet_upload_limit_bytes_per_second" not in found


def known_names(tracker: Tracker) -> set[str]:
    return {name.partition("{")[0] for name in samples(render_metrics(STATUS, tracker, {"x": 1}))}


def test_dashboard_and_alerts_name_only_what_there_is(tracker: Tracker) -> None:
    known = known_names(tracker)
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(asked) > 10
    alerts = (MONITORING / "alerts.yml").read_text()
    named = set(re.findall(r"\busenet_\w+", " ".join([*asked, alerts])))
    assert named
    assert named <= known


def test_each_alert_has_a_name_of_its_own() -> None:
    names = re.findall(r"- alert: (\w+)", (MONITORING / "alerts.yml").read_text())
    assert len(names) > 5
    assert sorted(set(names)) == sorted(names)


def test_every_metric_is_explained(tracker: Tracker) -> None:
    text = (MONITORING / "README.md").read_text()
    told = set(re.findall(r"`(usenet_\w+)", text))
    families = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(render_metrics(STATUS, tracker, {"x": 1}))
    }
    assert told == families
