"""Sizes and durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.config.units import (
    format_duration,
    format_size,
    human_duration,
    human_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("20 GiB", 20 * 1024**3),
        ("20GiB", 20 * 1024**3),
        (" 500 mb ", 500_000_000),
        ("1.5 KiB", 1536),
        ("4k", 4096),
        ("0", 0),
        ("716800 B", 716_800),
        (4096, 4096),
        (4096.0, 4096),
    ],
)
def test_sizes_are_read(text: object, octets: int) -> None:
    assert parse_size(text) == octets


@pytest.mark.parametrize(
    "text", ["", "GiB", "20 GiBs", "-1", "1e9", "20 GiB 5", "٣ GiB x", None, True, [], 1.5, -1]
)
def test_what_is_no_size_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a size; write .20 GiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30 s", 30),
        ("5min", 300),
        ("250 ms", 0.25),
        ("1.5 h", 5400),
        ("1 d", 86400),
        (2, 2),
        ("7", 7),
    ],
)
def test_durations_are_read(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "30 parsecs", "-1 s", None, False, float("nan"), -0.5])
def test_what_is_no_duration_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a duration; write .30 s"):
        parse_duration(text)


@given(st.integers(0, 2**60))
def test_a_written_size_reads_back(octets: int) -> None:
    assert parse_size(format_size(octets)) == octets


@given(st.integers(0, 10**9))
def test_a_written_duration_reads_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(
        milliseconds / 1000
    )


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (90_100_000, "90.1 MB"), (2**40, "1.10 TB")],
)
def test_sizes_for_people(octets: int, text: str) -> None:
    assert human_size(octets) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "200 ms"),
        (3, "3.0 s"),
        (59, "59 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text
