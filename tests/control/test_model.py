"""The JSON of the control API."""

from __future__ import annotations

import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.control.model import (
    Amount,
    DurabilityReport,
    RecentError,
    ServerReport,
    ServerState,
    StatusReport,
    SyncReport,
)

FULL = StatusReport(
    name="photos",
    state="mounted",
    uptime=5,
    durability=DurabilityReport(staged=Amount(7, 1), posted=Amount(3, 1)),
    servers=(ServerReport("a", latency_ms=1.5, last_error="x"), ServerReport("b")),
    recent_errors=(RecentError(1.0, "network", "m", "h"),),
    time_left=None,
)


def test_it_comes_back() -> None:
    assert StatusReport.from_json(json.loads(json.dumps(FULL.to_json()))) == FULL


@given(st.from_type(StatusReport).filter(lambda report: "NaN" not in json.dumps(report.to_json())))
def test_everything_comes_back(report: StatusReport) -> None:
    assert StatusReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_what_a_newer_daemon_adds_is_ignored() -> None:
    data = FULL.to_json() | {"new": 1}
    data["servers"][0]["new"] = []
    assert StatusReport.from_json(data) == FULL


def test_what_an_older_daemon_lacks_has_a_default() -> None:
    assert StatusReport.from_json({"name": "photos"}) == StatusReport("photos")


@pytest.mark.parametrize(
    "data",
    [None, [], "x", {}, {"name": None}, {"name": "x", "files": "1"}, {"name": "x", "servers": 1}],
)
def test_another_shape_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"expected|missing"):
        StatusReport.from_json(data)


def test_whole_numbers_are_numbers() -> None:
    assert SyncReport.from_json({"duration": 1}).duration == 1.0


def test_what_is_pending() -> None:
    assert FULL.pending_bytes == 10


def test_the_keys_are_stable() -> None:
    """Programs rely on these: one may be added here, none may go or change its name."""
    assert set(FULL.to_json()) >= {
        *("name", "state", "mountpoint", "read_only", "pid", "version", "uptime", "files"),
        *("directories", "bytes", "block_size", "durability", "staging_limit", "queues"),
        *("upload", "download", "time_left", "servers", "cache", "checkpoint", "recent_errors"),
        "api_version",
    }
    assert set(typing.get_args(ServerState)) >= {"healthy", "down"}
