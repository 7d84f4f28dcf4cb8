"""Counts in pages are what a plain counter says, and cost what they should."""

from __future__ import annotations

import sys
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from usenetfs.fs.lookup_counts import FULL, PAGE, LookupCounts
from usenetfs.types import InodeId

INODES = st.sampled_from([1, 2, PAGE - 1, PAGE, 7 * PAGE + 3, 1 << 40]).map(InodeId)
STEPS = st.tuples(INODES, st.one_of(st.integers(1, 3), st.sampled_from([FULL - 1, FULL, 700])))


@given(st.lists(st.tuples(STEPS, st.booleans()), max_size=60))
def test_it_is_a_counter(steps: list[tuple[tuple[InodeId, int], bool]]) -> None:
    counts, plain = LookupCounts(), Counter[InodeId]()
    for (inode, count), more in steps:
        if more:
            for _ in range(count):
                counts.add(inode)
            plain[inode] += count
        else:
            counts.subtract(inode, count)
            plain[inode] = max(0, plain[inode] - count)
        for known, expected in plain.items():
            assert (known in counts) == (expected > 0)
        assert len(counts) == sum(1 for left in plain.values() if left)
    for inode, left in plain.items():
        counts.subtract(inode, left)
        assert inode not in counts
    assert not counts._pages
    assert not counts._many


def test_a_large_directory_costs_an_octet_for_each_entry() -> None:
    counts = LookupCounts()
    for inode in range(5000, 105_000):
        counts.add(InodeId(inode))
    assert len(counts) == 100_000
    octets = sys.getsizeof(counts._pages) + sum(map(sys.getsizeof, counts._pages.values()))
    assert octets < 120_000
