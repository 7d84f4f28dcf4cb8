"""What people see of a status: the view, the progress line, the live view."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from usenetfs.cli.progress import describe, while_draining
from usenetfs.cli.status_view import render
from usenetfs.control.client import ControlClient
from usenetfs.control.model import (
    Amount,
    CacheReport,
    CheckpointReport,
    DurabilityReport,
    QueueReport,
    RecentError,
    ServerReport,
    SpeedReport,
    StatusReport,
)
from usenetfs.errors import NotMountedError

NOW = 1_000_000.0

STATUS = StatusReport(
    name="photos",
    state="mounted",
    mountpoint="/mnt/[red]photos",
    read_only=True,
    pid=5,
    uptime=7500,
    files=12345,
    directories=67,
    bytes=8_900_000_000,
    durability=DurabilityReport(
        staged=Amount(1_200_000_000, 1700), seen=Amount(7_700_000_000, 11000)
    ),
    staging_limit=50_000_000_000,
    queues=(QueueReport("posting", 8, 8), QueueReport("fetching", 0)),
    upload=SpeedReport(now=90_000_000, average=45_000_000),
    time_left=200,
    servers=(
        ServerReport("a", "healthy", 1.0, open=8, busy=7, limit=20, latency_ms=31.4),
        ServerReport("b", "down", 0.1, errors=3, last_error="refused [Errno 111]"),
    ),
    cache=CacheReport(bytes=5, max_bytes=20_000, hits=3, misses=1),
    checkpoint=CheckpointReport(number=41, time=NOW - 12, pending_changes=7),
    recent_errors=(RecentError(NOW - 60, "network", "it broke", "mend it", count=4),),
)


def shown(status: StatusReport) -> str:
    screen = Console(file=io.StringIO(), width=120, highlight=False)
    screen.print(render(status, now=NOW))
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in str(text).splitlines())


def test_everything_is_shown() -> None:
    assert (
        shown(STATUS)
        == """\
photos  mounted at /mnt/[red]photos, read-only, for 2 h 5 min
contents    12,345 files in 67 directories, 8.90 GB
staged      1.20 GB of 50.0 GB in 1,700 blocks (on this disk only)
posted      0 B in 0 blocks (accepted by a server)
seen        7.70 GB in 11,000 blocks (found on a server)
verified    0 B in 0 blocks (fetched and opened)
queues      posting 8/8
upload      90.0 MB/s now, 45.0 MB/s on average, 3 min 20 s left
download    0 B/s now, 0 B/s on average
blocks      0 sent, 0 known already
cache       5 B of 20.0 kB on disk, 0 B of 0 B in memory, 75 % hits
checkpoint  number 41, 12 s ago; 7 changes not in it
daemon      0 B memory, 0 % of a processor

server    state      health    busy/open/limit    latency    errors
a         healthy    100 %     7/8/20             31 ms      0
b         down       10 %      0/0/0                         3: refused [Errno 111]

recent errors
  1 min 0 s ago: it broke (4 times)
    hint: mend it"""
    )


def test_what_a_sync_waits_for_is_shown() -> None:
    report = CheckpointReport(number=1, time=0.0, awaited_files=1, awaited=("/a.log",))
    text = shown(StatusReport("photos", state="mounted", pid=5, checkpoint=report))
    assert "sync waits for 1 files being changed (/a.log)" in " ".join(text.split())


def test_what_is_not_mounted_is_short() -> None:
    lines = shown(StatusReport("photos")).splitlines()
    assert lines[0] == "photos  not mounted"
    assert len(lines) == 6


def test_a_line_of_progress() -> None:
    assert describe(STATUS, "syncing") == (
        "photos: syncing, 1.20 GB left, 90.0 MB/s, about 3 min 20 s"
    )
    report = CheckpointReport(awaited_files=7, awaited=("/a.log", "/b"))
    assert describe(StatusReport("photos", checkpoint=report), "syncing") == (
        "photos: syncing, 7 files are being changed: /a.log, /b, …"
    )
    down = StatusReport("photos", servers=(ServerReport("b", "down"),))
    assert describe(down, "syncing") == "photos: syncing, no server answers (b)"


def test_the_long_call_gives_its_result_or_its_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("usenetfs.cli.progress.INTERVAL", 0.01)
    asked = threading.Event()

    class Client(ControlClient):
        def status(self) -> StatusReport:
            asked.set()
            return STATUS

    client = Client(None, name="photos")  # type: ignore[arg-type]
    assert while_draining(client, lambda: asked.wait(10), "syncing", leave="go home") is True
    assert "photos: syncing, 1.20 GB left" in capsys.readouterr().err

    def fail() -> None:
        raise NotMountedError("gone")

    with pytest.raises(NotMountedError, match="gone"):
        while_draining(client, fail, "syncing", leave="go home")
