"""What is tried within a given traffic, and what follows from what was found."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.errors import UsageError
from usenetfs.net.verdict import (
    Fate,
    Posting,
    Report,
    Speed,
    Tls,
    enough_connections,
    plan_effort,
    recommend,
    step_counts,
)
from usenetfs.types import DEFAULT_BLOCK_SIZE

TLS = Tls("TLSv1.3", "AES", "CN=a", "CN=b", "2030-01-01T00:00:00+00:00", 400.0, "00")
POSTING = Posting(
    allowed=True,
    message_id=Fate.KEPT,
    seen_after=0.1,
    largest_article=970_000,
    largest_payload=940_000,
    post_ahead=True,
)
REPORT = Report(
    name="main",
    address="h:563",
    login_seconds=0.1,
    round_trip=0.005,
    capabilities=(),
    tls=TLS,
    logged_in=True,
    posting=POSTING,
    pipelining=32,
    pipelining_reason=None,
    connections=8,
    speeds=(Speed(1, 10e6, 20e6), Speed(4, 39e6, 80e6), Speed(8, 40e6, 81e6)),
    bytes_up=1,
    bytes_down=1,
)


@given(st.integers(1, 200), st.integers(0, 10**10), st.booleans())
def test_the_plan_keeps_to_the_traffic(limit: int, traffic: int, posting: bool) -> None:
    try:
        effort = plan_effort(limit, traffic=traffic, posting=posting, speed=True)
    except UsageError:
        assert posting or traffic < 10_000
        assert traffic < 30_000_000
        return
    assert effort.up + effort.down <= traffic
    assert [count for count, _ in effort.steps] == list(step_counts(limit))
    assert posting or effort.up == 0


def test_steps() -> None:
    assert step_counts(1) == (1,)
    assert step_counts(2) == (1, 2)
    assert step_counts(20) == (1, 2, 4, 8, 16, 20)
    assert plan_effort(8, traffic=10**8, posting=True, speed=False).steps == ()


def test_as_few_connections_as_are_nearly_as_fast_in_both_directions() -> None:
    assert enough_connections(REPORT.speeds) == 4
    assert enough_connections([Speed(1, None, 5.0), Speed(2, None, 5.1)]) == 1
    assert enough_connections([Speed(1, 5.0, 9.0), Speed(2, 10.0, 9.0)]) == 2
    assert enough_connections([Speed(1), Speed(2)]) is None
    nothing_measured = replace(REPORT, speeds=(Speed(8),))
    assert recommend(nothing_measured, configured=20, wants_posting=True).connections == 8


def test_without_speeds_nothing_is_said_of_connections() -> None:
    one_session = replace(REPORT, speeds=(), connections=1)
    advice = recommend(one_session, configured=20, wants_posting=True)
    assert advice.connections == 20
    assert not any("connections" in line for line in advice.warnings)


def test_a_good_server() -> None:
    advice = recommend(REPORT, configured=8, wants_posting=True)
    assert (advice.connections, advice.max_pipeline) == (4, 32)
    assert advice.post_ahead
    assert advice.posting
    assert advice.block_size == DEFAULT_BLOCK_SIZE
    assert advice.warnings == ()
    assert not recommend(REPORT, configured=8, wants_posting=False).posting


@pytest.mark.parametrize(
    ("change", "usable", "said"),
    [
        ({"allowed": False, "reason": "440 no", "message_id": None}, False, "may not post: 440 no"),
        ({"message_id": Fate.REWRITTEN}, False, "other Message-IDs"),
        ({"message_id": Fate.LOST, "largest_payload": 0}, False, "was not there afterwards"),
        ({"largest_payload": 256_000}, True, "smaller --block-size"),
        ({"largest_payload": 0, "refused_article": 70_000}, False, ""),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, object], usable: bool, said: str) -> None:
    posting = replace(POSTING, **change)  # type: ignore[arg-type]
    advice = recommend(replace(REPORT, posting=posting), configured=8, wants_posting=True)
    assert advice.posting is usable
    assert said in " ".join(advice.warnings)


def test_blocks_fit_into_what_is_taken_and_grow_only_for_a_long_way() -> None:
    def block(payload: int, round_trip: float, ahead: bool) -> int:
        posting = replace(POSTING, largest_payload=payload, post_ahead=ahead)
        report = replace(REPORT, posting=posting, round_trip=round_trip)
        return recommend(report, configured=8, wants_posting=True).block_size

    assert block(256_000, 0.001, False) == (256_000 - 12_288) // 4096 * 4096
    assert block(940_000, 0.001, False) == DEFAULT_BLOCK_SIZE
    assert block(940_000, 0.050, True) == DEFAULT_BLOCK_SIZE
    assert DEFAULT_BLOCK_SIZE < block(940_000, 0.050, False) < 940_000
    assert block(3_500_000, 0.050, False) < 2_000_000


def test_warnings_about_the_line() -> None:
    report = replace(REPORT, tls=None, connections=3)
    said = " ".join(recommend(report, configured=8, wants_posting=True).warnings)
    assert "not encrypted" in said
    assert "3 connections of 8" in said
    soon = replace(REPORT, tls=replace(TLS, expires_in=12.3))
    assert "expires in 12 days" in recommend(soon, configured=8, wants_posting=True).warnings[0]
