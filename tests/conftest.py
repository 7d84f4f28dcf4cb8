"""What every test stands under: Hypothesis profiles, and no unexpected warning in the logs.

Python warnings already fail a test (``filterwarnings = error``). The same holds here for what
usenetfs itself logs at WARNING or above: a test that provokes such a line says so with the
``expect_log`` fixture, any other fails. Operators read these lines; one that nobody expects is
either a defect or noise.
"""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from scripts import evidence

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile(
    "ci", deadline=None, derandomize=True, database=None, print_blob=True
)
hypothesis.settings.register_profile(
    "fuzz", deadline=None, max_examples=10_000, print_blob=True, report_multiple_bugs=False
)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default")
)


def pytest_configure() -> None:
    """SIGTERM is like Ctrl-C: fixtures end their servers and mounts before the process does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What a test and the code under it printed and logged is kept where that is asked for."""
    evidence.keep("tests", *(text for _, text in report.sections), report.longreprtext)


_EXPECTED = pytest.StashKey[list[str]]()


@pytest.fixture
def expect_log(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Call it with a regular expression; log lines of WARNING and above that match it may occur."""
    patterns: list[str] = request.node.stash.setdefault(_EXPECTED, [])
    return patterns.append


@pytest.fixture(autouse=True)
def _no_unexpected_log(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    yield
    patterns = request.node.stash.get(_EXPECTED, [])
    unexpected = [
        f"{record.name} {record.levelname}: {record.getMessage()}"
        for phase in ("setup", "call")
        for record in caplog.get_records(phase)
        if record.levelno >= logging.WARNING
        and record.name.partition(".")[0] == "usenetfs"
        # SQLite's own log is the whole process's: on once any test before has served a mount.
        and record.name != "usenetfs.database.sqlite"
        and not any(re.search(pattern, record.getMessage()) for pattern in patterns)
    ]
    assert not unexpected, "log lines that no expect_log() announced:\n" + "\n".join(unexpected)
