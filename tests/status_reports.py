"""A status with something in every place, for what shows it."""

from __future__ import annotations

from typing import Any, Final

from usenetfs.config.units import human_duration, human_size
from usenetfs.control.model import (
    Amount,
    CacheReport,
    CheckpointReport,
    CountReport,
    DurabilityReport,
    IndexingReport,
    JobReport,
    KindReport,
    LimitsReport,
    ProcessReport,
    QueueReport,
    RecentError,
    RetryReport,
    ServerReport,
    SpeedReport,
    StatusReport,
    TransferReport,
    UploadReport,
)

NOW: Final = 1_800_000_000.0

BUSY: Final = StatusReport(
    name="photos",
    state="mounted",
    mountpoint="/home/me/photos",
    pid=4711,
    version="0.1.0",
    uptime=7265.0,
    files=48_213,
    directories=1_377,
    bytes=183_456_789_012,
    block_size=716_800,
    durability=DurabilityReport(
        staged=Amount(2_345_678_901, 3_273),
        posted=Amount(45_875_200, 64),
        seen=Amount(181_000_000_000, 252_512),
        verified=Amount(65_234_911, 91),
    ),
    staging_limit=53_687_091_200,
    queues=(
        QueueReport("segmenting", 4, 1000),
        QueueReport("packing", 7),
        QueueReport("uploading", 17, 1000),
        QueueReport("posting", 8, 12),
        QueueReport("checking", 61),
        QueueReport("fetching", 2),
        QueueReport("writers waiting", 0),
    ),
    upload=SpeedReport(94_321_000.0, 61_200_000.0, 444_600_000_000),
    download=SpeedReport(12_800_000.0, 3_150_000.0, 22_900_000_000),
    limits=LimitsReport(rate=100_000_000, rate_now=100_000_000),
    time_left=25.4,
    servers=(
        ServerReport(
            "primary",
            state="healthy",
            health=0.98,
            open=20,
            busy=12,
            limit=20,
            latency_ms=31.4,
            errors=3,
            bytes_up=444_600_000_000,
            bytes_down=20_000_000_000,
            waiting=5,
            requests=(CountReport("BODY", 31_000), CountReport("POST", 615_000)),
        ),
        ServerReport(
            "block-account",
            state="down",
            health=0.12,
            limit=8,
            errors=41,
            last_error="cannot reach news.example.net:563: connection refused",
        ),
    ),
    retries=(RetryReport("post", 615_003, 3, 0, (CountReport("connection_lost", 3),)),),
    cache=CacheReport(
        bytes=8_123_456_789,
        max_bytes=21_474_836_480,
        articles=11_052,
        hits=9_120,
        misses=1_014,
        memory_bytes=88_000_000,
        memory_max_bytes=100_663_296,
    ),
    checkpoint=CheckpointReport(number=412, time=NOW - 21, pending_changes=318, held_files=3),
    recent_errors=(
        RecentError(
            NOW - 95,
            "connect",
            "block-account: cannot reach news.example.net:563: connection refused",
            "check host and port: usenetfs server test block-account",
            count=12,
        ),
        RecentError(NOW - 1200, "post_rejected", "primary rejected an article: 441 437"),
    ),
    failure_rate=0.0117,
    uploads=UploadReport(615_003, 620_411, 15_870),
    indexing=IndexingReport(212.4, 49_590),
    process=ProcessReport(312_000_000, 87.4, 5_121.0, 12_000_000.0, 110_000_000.0, 10**9, 10**11),
    operations=(
        KindReport("upload", 86, 614_917, 3, 0, 2.4, 1.9, 4.4),
        KindReport("fetch", 2, 31_000, 0, 12, 0.08, 0.06, 0.21),
        KindReport("sync"),
        KindReport("checkpoint", 0, 412, 0, 0, 1.1, 0.9, 2.6),
        KindReport("import", 1),
        KindReport("export"),
    ),
    transfers=(
        TransferReport("/2026/iceland/raw/DSC_0413.NEF", "up", 58_720_256, 21_504_000, 30, "check"),
        TransferReport("/2026/iceland/raw/DSC_0414.NEF", "up", 61_005_824, 61_005_824, 12, "post"),
        TransferReport("/videos/waterfall.mkv", "down", 4_123_456_789, 0, 2, ""),
    ),
    files_in_transfer=57,
    jobs=(
        JobReport(
            "3f2a-17",
            "import",
            "/home/me/Pictures/2026 to /2026",
            "sending",
            False,
            4_120,
            3_388,
            0,
            98_000_000_000,
            71_300_000_000,
            94_000_000.0,
            284.0,
            ("/2026/iceland/raw/DSC_0414.NEF",),
        ),
    ),
    time=NOW,
    web="http://127.0.0.1:8119/",
)


def figures(data: dict[str, Any]) -> list[str]:
    """What everything that shows a status must show of it: computed from its JSON."""
    durability, upload, download = data["durability"], data["upload"], data["download"]
    cache, checkpoint, uploads = data["cache"], data["checkpoint"], data["uploads"]
    found = [data["name"], data["state"], data["mountpoint"], human_duration(data["uptime"])]
    for state in ("staged", "posted", "seen", "verified"):
        found += [human_size(durability[state]["bytes"]), f"{durability[state]['blocks']:,}"]
    for speed in (upload, download):
        found += [f"{human_size(speed['now'])}/s", f"{human_size(speed['average'])}/s on average"]
    found += [f"{human_duration(data['time_left'])} left", human_size(data["staging_limit"])]
    found += [f"{data['files']:,}", f"{data['directories']:,}", human_size(data["bytes"])]
    for queue in data["queues"]:
        if queue["depth"]:
            found += [queue["name"], str(queue["depth"])]
    for server in data["servers"]:
        found += [server["name"], server["state"], f"{100 * server['health']:.0f} %"]
        found += [f"{server['busy']}/{server['open']}/{server['limit']}", f"{server['errors']:,}"]
        if server["latency_ms"] is not None:
            found.append(f"{server['latency_ms']:.0f} ms")
    found += [human_size(cache[key]) for key in ("bytes", "max_bytes", "memory_bytes")]
    found.append(f"{100 * cache['hits'] / (cache['hits'] + cache['misses']):.0f} %")
    found += [f"number {checkpoint['number']}", f"{checkpoint['pending_changes']:,} changes"]
    found += [f"{uploads['blocks_uploaded']:,}", f"{uploads['blocks_linked']:,}"]
    found += [human_size(data["process"]["memory_bytes"])]
    found += [f"{data['process']['cpu_percent']:.0f} %"]
    for error in data["recent_errors"]:
        found += [error["message"], *([error["hint"]] if error["hint"] else [])]
    return [*found, data["transfers"][0]["path"], data["jobs"][0]["name"]]
