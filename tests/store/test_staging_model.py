"""Staging against a model in memory."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.store.places import (
    BLOCK,
    BLOCKS,
    PER_FILE,
    SIZE,
    allocated,
    block,
    small,
)
from usenetfs.store.staging import Staging
from usenetfs.types import BlockNumber, InodeId


class StagingMachine(RuleBasedStateMachine):
    """Every operation, on two inodes in a few groups, with two descriptors only."""

    inodes = st.sampled_from([InodeId(1), InodeId(257), InodeId(300)])
    offsets = st.integers(0, SIZE - 1)
    lengths = st.one_of(st.integers(0, 100), st.integers(0, SIZE))

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.store = self.opened()
        self.model: dict[int, bytearray] = {}
        self.fill = 0

    def opened(self) -> Staging:
        return small(self.directory, max_open=2)

    def content(self, inode: int) -> bytearray:
        return self.model.setdefault(inode, bytearray(SIZE))

    def data(self, length: int) -> bytes:
        self.fill = self.fill % 255 + 1
        return bytes([self.fill]) * length

    @rule(inode=inodes, offset=offsets, length=lengths)
    def write_span(self, inode: InodeId, offset: int, length: int) -> None:
        data = self.data(min(length, SIZE - offset))
        self.store.write_span(inode, offset, memoryview(data))
        self.content(inode)[offset : offset + len(data)] = data

    @rule(inode=inodes, number=st.integers(0, BLOCKS - 1), start=st.integers(0, BLOCK))
    def write(self, inode: InodeId, number: int, start: int) -> None:
        data = self.data(BLOCK - start)
        self.store.write(inode, block(number), start, data)
        at = number * BLOCK + start
        self.content(inode)[at : at + len(data)] = data

    @rule(
        inode=inodes,
        number=st.integers(0, BLOCKS - 1),
        ends=st.tuples(st.integers(0, BLOCK), st.integers(0, BLOCK)),
    )
    def zero(self, inode: InodeId, number: int, ends: tuple[int, int]) -> None:
        start, end = sorted(ends)
        self.store.zero(inode, block(number), start, end)
        self.content(inode)[number * BLOCK + start : number * BLOCK + end] = bytes(end - start)

    @rule(inode=inodes, numbers=st.sets(st.integers(0, BLOCKS - 1)))
    def discard(self, inode: InodeId, numbers: set[int]) -> None:
        self.store.discard(inode, map(block, numbers))
        for number in numbers:
            self.content(inode)[number * BLOCK : (number + 1) * BLOCK] = bytes(BLOCK)

    @rule(inode=inodes)
    def discard_inode(self, inode: InodeId) -> None:
        self.store.discard_inode(inode)
        self.model.pop(inode, None)

    @rule()
    def reclaim(self) -> None:
        self.store.reclaim()
        assert self.store.reclaimable() == 0

    @rule(inode=inodes)
    def sync(self, inode: InodeId) -> None:
        self.store.sync(inode)

    @rule()
    def sync_all(self) -> None:
        self.store.sync_all()

    @rule()
    def reopen_and_sweep(self) -> None:
        self.store.close()
        self.store = self.opened()
        self.store.sweep(self.live)
        assert self.store.usage() == allocated(self.directory)

    def live(self, inode: InodeId, group: int) -> set[BlockNumber]:
        content = self.content(inode)
        numbers = range(group * PER_FILE, min((group + 1) * PER_FILE, BLOCKS))
        return {block(n) for n in numbers if any(content[n * BLOCK : (n + 1) * BLOCK])}

    @rule(inode=inodes, offset=offsets, length=lengths)
    def read_span(self, inode: InodeId, offset: int, length: int) -> None:
        expected = bytes(self.content(inode)[offset : offset + length]).ljust(length, b"\0")
        assert self.store.read_span(inode, offset, length) == expected

    @precondition(lambda self: self.store.reclaimable() == 0)
    @rule()
    def nothing_is_kept_for_nothing(self) -> None:
        self.store.sweep(self.live)
        assert set(self.store.inodes()) == {i for i, content in self.model.items() if any(content)}

    @invariant()
    def everything_reads_back(self) -> None:
        for inode, content in self.model.items():
            assert self.store.read_span(InodeId(inode), 0, SIZE) == content

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)


class SharingMachine(StagingMachine):
    """The same, where new inodes share files: all, at first, later those above all that are there.

    Of the file that is being filled something may be kept until half of it was discarded.
    """

    inodes = st.sampled_from([InodeId(number) for number in (1, 257, 300, 301, 302, 303)])

    def opened(self) -> Staging:
        there = [inode for inode, content in getattr(self, "model", {}).items() if any(content)]
        return small(self.directory, max_open=2, new_from=max(there, default=0) + 1)


TestModel = StagingMachine.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestShared = SharingMachine.TestCase
TestShared.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
