"""What is left to read when a daemon dies."""

from __future__ import annotations

import logging
import os
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from usenetfs.daemon.last_words import FILE, KEPT, last_words
from usenetfs.errors import DiskFullError


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The limit on core dumps, and what goes into them, are the test process's own."""
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    filter_file = Path("/proc/self/coredump_filter")
    kept = filter_file.read_text()
    yield
    resource.setrlimit(resource.RLIMIT_CORE, limit)
    filter_file.write_text(f"0x{kept.strip()}")


def test_nothing_is_left_of_one_that_ends_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with last_words(tmp_path):
        assert f"process {os.getpid()}, started" in (tmp_path / FILE).read_text()
        assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == []
    assert caplog.records == []


def test_errors_are_logged_and_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, expect_log: Callable[[str], None]
) -> None:
    expect_log("the daemon ends")
    with pytest.raises(DiskFullError), last_words(tmp_path):
        raise DiskFullError("no space left")
    with pytest.raises(ZeroDivisionError), last_words(tmp_path):
        _ = 1 / 0
    first, second = caplog.records
    assert (first.levelno, first.exc_info) == (logging.ERROR, None)
    assert (second.levelno, second.exc_info is None) == (logging.CRITICAL, False)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ("process 5, started today\n", "was killed, or lost power"),
        ("", "was killed, or lost power"),
        (
            "process 5, started today\nFatal Python error: Aborted\n\nThread 1:\n",
            r"process 5, started today\) crashed: Fatal Python error: Aborted; .*crash.log.1",
        ),
    ],
)
def test_the_next_one_tells(
    tmp_path: Path,
    left: str,
    said: str,
    expect_log: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / FILE).write_text(left)
    expect_log("the last daemon")
    with last_words(tmp_path):
        pass
    assert len(caplog.records) == 1
    assert re.search(said, caplog.records[0].getMessage())
    assert (tmp_path / KEPT).read_text() == left


def test_a_directory_that_cannot_be_written(
    tmp_path: Path, expect_log: Callable[[str], None]
) -> None:
    expect_log("a crash would leave no trace")
    with last_words(tmp_path / "nowhere"):
        pass


def test_a_full_disk_keeps_nobody_from_mounting(tmp_path: Path) -> None:
    """A limit on file sizes is the full disk here."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with last_words(tmp_path):
            assert (tmp_path / FILE).read_text() == ""
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
