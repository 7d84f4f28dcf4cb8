"""What the tracker, the history and the process meter become in a status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.transfer.world import BLOCK, FakeServers, opened_world
from usenetfs.control.model import HistoryReport
from usenetfs.daemon.activity import (
    MOST_FILES,
    failure_rate,
    job_reports,
    kind_reports,
    operations_report,
    transfer_reports,
)
from usenetfs.daemon.history import SAMPLES, History
from usenetfs.daemon.process import ProcessMeter, disk_bytes
from usenetfs.errors import DiskFullError
from usenetfs.tracker import Kind, Tracker
from usenetfs.trees.tally import Tally
from usenetfs.types import ROOT_INODE


@pytest.fixture
def tracker() -> Tracker:
    return Tracker()


async def test_files_on_their_way_have_names_and_what_is_left(
    tmp_path: Path, tracker: Tracker
) -> None:
    async with opened_world(tmp_path, FakeServers()) as world:
        inode = world.new_file(3 * BLOCK)
        world.write(inode, BLOCK, b"x" * BLOCK)
        with world.index.transaction():
            odd = world.index.inodes.insert(0o100644, 0, 0, 1, 0, 7, (1, 1, 1)).id
            world.index.dirents.insert(ROOT_INODE, b"na\xffme\x1b", odd)
        gone = world.new_file()
        world.delete(gone)
        up = tracker.begin(Kind.UPLOAD, "article 1/1", stage="seal", inodes=(inode, gone))
        up.passed("seal", "queue")
        tracker.begin(Kind.UPLOAD, "article 1/2", stage="post", inodes=(inode,))
        tracker.begin(Kind.FETCH, "article 1/3", inodes=(odd,))
        told, count = transfer_reports(tracker, world.index)
        assert count == 3  # one of them has no name any more
        first, second = told
        assert (first.path, first.direction, first.size, first.left) == (
            f"/file-{inode}",
            "up",
            3 * BLOCK,
            BLOCK,
        )
        assert (first.articles, first.stage) == (2, "queue")
        assert (second.path, second.direction, second.left) == ("/na\ufffdme\x1b", "down", 0)


async def test_only_some_are_told_of(tmp_path: Path, tracker: Tracker) -> None:
    async with opened_world(tmp_path, FakeServers()) as world:
        for _ in range(MOST_FILES + 5):
            tracker.begin(Kind.UPLOAD, "article", inodes=(world.new_file(),))
        told, count = transfer_reports(tracker, world.index)
        assert (len(told), count) == (MOST_FILES, MOST_FILES + 5)


def test_kinds_rates_and_operations(tracker: Tracker) -> None:
    assert failure_rate(tracker) == 0
    assert all(kind.mean is None for kind in kind_reports(tracker))
    for number in range(4):
        operation = tracker.begin(Kind.UPLOAD, f"article 1/{number}", octets=5)
        operation.passed("post")
        operation.end(DiskFullError("full") if number == 0 else None)
    tracker.begin(Kind.FETCH, "article 1/9").end(cancelled=True)
    tracker.begin(Kind.SYNC, "sync")
    assert failure_rate(tracker) == 0.25
    kinds = {kind.kind: kind for kind in kind_reports(tracker)}
    assert (kinds["upload"].done, kinds["upload"].failed, kinds["sync"].active) == (3, 1, 1)
    assert kinds["upload"].p95 is not None
    report = operations_report(tracker)
    assert [each.kind for each in report.active] == ["sync"]
    assert len(report.recent) == 5
    [failed] = report.failed
    assert (failed.error, failed.error_code, failed.bytes) == ("full", "disk_full", 5)
    assert [stage.stage for stage in failed.stages] == ["post"]
    json.dumps(report.to_json(), allow_nan=False)


def test_jobs_say_where_they_stand(tracker: Tracker) -> None:
    tally = Tally(found=10, found_bytes=1000, done=4, bytes_done=300, failed=1)
    operation = tracker.begin(Kind.IMPORT, "/a to /b")
    operation.progress = lambda: tally.progress("sending", speed=5.0, time_left=None)
    tracker.begin(Kind.EXPORT, "/c to /d")
    upload, download = job_reports(tracker)
    assert (upload.name, upload.phase, upload.files_found, upload.files_done) == (
        "/a to /b",
        "sending",
        10,
        4,
    )
    assert (upload.bytes_done, upload.files_failed, upload.speed) == (300, 1, 5.0)
    assert (download.kind, download.phase) == ("export", "")


def test_the_history_is_bounded_and_in_octets_a_second() -> None:
    now, sent = [100.0], [0]
    history = History(lambda: sent[0], lambda: 0, lambda: 3, lambda: 9, clock=lambda: now[0])
    for _ in range(SAMPLES + 10):
        now[0] += 2
        sent[0] += 500
        history.sample()
    report = history.report()
    assert len(report.samples) == SAMPLES
    assert {sample.upload for sample in report.samples} == {250.0}
    assert (report.samples[-1].queued, report.samples[-1].pending) == (3, 9)
    assert HistoryReport.from_json(report.to_json()) == report


def test_what_the_process_takes() -> None:
    meter = ProcessMeter()
    sum(range(200_000))
    meter.sample()
    report = meter.report()
    assert report.memory_bytes > 10_000_000
    assert report.cpu_seconds > 0
    assert report.cpu_percent >= 0
    assert report.disk_read_bytes >= 0
    assert disk_bytes()[1] >= 0
