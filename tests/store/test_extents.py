"""Extents against a plain set of integers, and their stored form."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.store.extents import Extents

SPACE = 64
ranges = st.tuples(st.integers(0, SPACE), st.integers(0, SPACE)).map(
    lambda pair: (min(pair), max(pair))
)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), ranges),
        st.tuples(st.just("subtract"), ranges),
        st.tuples(st.just("truncate"), ranges),
    ),
    max_size=40,
)


def as_set(extents: Extents) -> set[int]:
    return {byte for start, end in extents for byte in range(start, end)}


@given(operations, ranges)
def test_behaves_like_a_set_of_integers(
    steps: list[tuple[str, tuple[int, int]]], probe: tuple[int, int]
) -> None:
    extents, model = Extents(), set[int]()
    for name, (start, end) in steps:
        if name == "add":
            extents.add(start, end)
            model |= set(range(start, end))
        elif name == "subtract":
            extents.subtract(start, end)
            model -= set(range(start, end))
        else:
            extents.truncate(start)
            model -= set(range(start, SPACE))
        pairs = list(extents)
        assert all(low < high for low, high in pairs)
        assert all(left[1] < right[0] for left, right in pairwise(pairs))
    start, end = probe
    asked = set(range(start, end))
    assert as_set(extents) == model
    assert extents.total() == len(model)
    assert extents.end == max(model, default=-1) + 1
    assert len(extents) == len(list(extents))
    assert extents.covers(start, end) == (asked <= model)
    inside = {byte for low, high in extents.within(start, end) for byte in range(low, high)}
    assert inside == asked & model
    assert Extents.unpack(extents.pack()) == extents == Extents(pairs_of(model))


def pairs_of(model: set[int]) -> list[tuple[int, int]]:
    return [(byte, byte + 1) for byte in sorted(model)]


def test_stored_form_is_what_it_was_in_version_one() -> None:
    extents = Extents([(0, 4096), (8192, 716_800)])
    assert extents.pack().hex(" ", -4) == "01000000 00001000 00002000 0000f00a 00"
    assert Extents().pack() == b"\x01"
    assert Extents.unpack(b"\x01") == Extents()


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\x02",
        b"\x01\x00",
        b"\x01\x00\x00\x00\x00",
        b"\x01" + bytes(8),
        b"\x01\x02\0\0\0\x01\0\0\0",
        b"\x01\x00\0\0\0\x01\0\0\0\x01\0\0\0\x02\0\0\0",
    ],
)
def test_a_damaged_stored_form_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="packed extents"):
        Extents.unpack(packed)


def test_what_does_not_fit_the_stored_form_is_refused() -> None:
    with pytest.raises(ValueError, match="stored form"):
        Extents([(0, 1 << 32)]).pack()


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (3, 2)])
def test_what_is_not_a_range_is_refused(start: int, end: int) -> None:
    extents = Extents([(0, 10)])
    for operation in (extents.add, extents.subtract, extents.covers):
        with pytest.raises(ValueError, match="not a range"):
            operation(start, end)
    with pytest.raises(ValueError, match="negative"):
        extents.truncate(-1)
    assert extents == Extents([(0, 10)])


def test_a_copy_is_independent() -> None:
    extents = Extents([(0, 10)])
    twin = extents.copy()
    twin.add(20, 30)
    assert list(extents) == [(0, 10)]
    assert extents != twin
    assert extents != [(0, 10)]
    assert repr(twin) == "Extents([0..10, 20..30])"


def test_sequential_writing_stays_one_range() -> None:
    extents = Extents()
    for start in range(0, 716_800, 4096):
        extents.add(start, start + 4096)
    assert list(extents) == [(0, 716_800)]
    assert len(extents.pack()) == 9
