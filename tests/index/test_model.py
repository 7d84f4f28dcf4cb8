"""The index against plain dictionaries: any order of steps leaves what the dictionaries say.

The model knows names, the content of each block, and what is staged or in flight. After each run
the index is closed, opened again, and checked table by table.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.index.world import (
    BLOCK,
    NOW_NS,
    content_hash,
    create,
    make_file,
    member,
    record,
    reopen,
    set_size,
)
from usenetfs.index.articles import NewMember
from usenetfs.index.staging import StagedBlock, StagingState
from usenetfs.types import ROOT_INODE, ArticleId, BlockNumber, InodeId

NAMES = st.sampled_from([b"a", b"b", b"c", b"d"])
BLOCKS = st.integers(0, 3)
CONTENTS = st.sampled_from([bytes([letter]) * BLOCK for letter in b"uvwxyz"])


@dataclass
class Staged:
    """A block's newest content; ``changed`` counts its changes since it was staged."""

    content: bytes
    generation: int
    article: ArticleId | None = None
    slot: int = 0
    sent: int = 0


@dataclass
class File:
    inode: InodeId
    stored: dict[int, bytes] = field(default_factory=dict)
    """Block → what the block map should say (content, shortened)."""
    staged: dict[int, Staged] = field(default_factory=dict)


class IndexMachine(RuleBasedStateMachine):
    files_of_content = 1

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="usenetfs-model-"))
        self.path = self.directory / "index.db"
        self.index = create(self.path, shards=self.files_of_content)
        self.files: dict[bytes, File] = {}
        self.flying: dict[ArticleId, list[bytes]] = {}
        """Article → content of each slot."""

    def teardown(self) -> None:
        try:
            self.reopened()
            assert self.index.check(deep=True) == []
        finally:
            self.index.close()
            shutil.rmtree(self.directory)

    # --- files that content is spread over

    @rule(whole=st.booleans())
    def settle(self, whole: bool) -> None:
        """Rows go to their files; or they are only carried there, and stay in main."""
        batch = self.index.settling.plan(0)
        if batch:
            self.index.settling.carry(batch)
            if whole:
                self.index.settling.release(batch)

    # --- names

    @rule(name=NAMES)
    def create_or_delete(self, name: bytes) -> None:
        file = self.files.pop(name, None)
        if file is None:
            self.files[name] = File(make_file(self.index, name, size=4 * BLOCK))
            return
        with self.index.transaction():
            assert self.index.dirents.remove(ROOT_INODE, name) == file.inode
            self.index.staging.delete_inode(file.inode)
            assert self.index.blocks.delete_from(file.inode, BlockNumber(0), 99) == len(file.stored)
            self.index.inodes.delete(file.inode)

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: bytes, new: bytes) -> None:
        if old not in self.files or new in self.files:
            return
        with self.index.transaction():
            inode = self.index.dirents.remove(ROOT_INODE, old)
            assert inode is not None
            self.index.dirents.insert(ROOT_INODE, new, inode)
        self.files[new] = self.files.pop(old)

    # --- content

    @rule(name=NAMES, block=BLOCKS, content=CONTENTS)
    def write(self, name: bytes, block: int, content: bytes) -> None:
        file = self.files.get(name)
        if file is None:
            return
        with self.index.transaction():
            generation = self.index.staging.next_generation()
            self.index.staging.put(
                StagedBlock(
                    file.inode, BlockNumber(block), generation, True, ((0, BLOCK),), generation
                )
            )
        staged = file.staged.setdefault(block, Staged(content, generation))
        staged.content, staged.generation = content, generation

    @rule(name=NAMES, size=st.integers(0, 4 * BLOCK))
    def truncate(self, name: bytes, size: int) -> None:
        """To ``size``, and back to the full length with zeros."""
        file = self.files.get(name)
        if file is None:
            return
        block, rest = divmod(size, BLOCK)
        with self.index.transaction():
            set_size(self.index, file.inode, size)
            self.index.staging.truncate(file.inode, size)
            self.index.blocks.delete_from(file.inode, BlockNumber(block + (rest > 0)), 99)
            if rest:
                self.index.blocks.set_length(file.inode, BlockNumber(block), rest)
            set_size(self.index, file.inode, 4 * BLOCK)
        first_gone = block + (rest > 0)
        file.stored = {n: c for n, c in file.stored.items() if n < first_gone}
        file.staged = {n: s for n, s in file.staged.items() if n < first_gone}
        if rest and block in file.stored:
            file.stored[block] = file.stored[block][:rest]
        if rest and block in file.staged:
            row = self.index.staging.get(file.inode, BlockNumber(block))
            assert row is not None
            assert row.generation > file.staged[block].generation
            cut = file.staged[block].content[:rest].ljust(BLOCK, b"\0")
            file.staged[block] = Staged(cut, row.generation)

    # --- uploading

    def _dirty(self) -> list[tuple[File, int, Staged]]:
        return [
            (file, block, staged)
            for file in self.files.values()
            for block, staged in file.staged.items()
            if staged.article is None
        ]

    @precondition(lambda self: self._dirty())
    @rule(data=st.data())
    def upload(self, data: st.DataObject) -> None:
        """Some dirty blocks go: equal content is linked, the rest becomes one article."""
        dirty = self._dirty()
        picked = data.draw(st.lists(st.sampled_from(range(len(dirty))), unique=True, min_size=1))
        fresh: dict[bytes, int] = {}
        members: list[NewMember] = []
        owners: list[Staged] = []
        for file, block, staged in (dirty[n] for n in picked):
            where = (file.inode, BlockNumber(block), staged.generation)
            digest = content_hash(staged.content)
            known = self.index.segments.by_hash(digest)
            flying = self.index.articles.segment_in_flight(digest)
            if known is not None:
                assert self.index.link_known(*where, known.id, len(staged.content))
                file.stored[block] = staged.content
                del file.staged[block]
            elif flying is not None:
                assert self.index.link_staged(*where, flying.article, flying.slot)
                staged.article, staged.slot = flying.article, flying.slot
                staged.sent = staged.generation
            elif staged.content not in fresh:
                fresh[staged.content] = len(members)
                members.append(member(file.inode, block, staged.generation, staged.content))
                owners.append(staged)
        if members:
            article, waiting = record(self.index, *members)
            assert waiting == len(members)
            self.flying[article] = list(fresh)
            for slot, staged in enumerate(owners):
                staged.article, staged.slot, staged.sent = article, slot, staged.generation

    def _waiting(self, article: ArticleId) -> list[tuple[File, int, Staged]]:
        return [
            (file, block, staged)
            for file in self.files.values()
            for block, staged in file.staged.items()
            if staged.article == article
        ]

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def posted(self, data: st.DataObject) -> None:
        article = data.draw(st.sampled_from(sorted(self.flying)))
        assert self.index.mark_posted(article, "server", None, NOW_NS)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def seen(self, data: st.DataObject) -> None:
        article = data.draw(st.sampled_from(sorted(self.flying)))
        contents = self.flying.pop(article)
        settled = self.index.mark_seen(article, NOW_NS)
        freed, requeued = set(), set()
        for file, block, staged in self._waiting(article):
            file.stored[block] = contents[staged.slot]
            if staged.sent == staged.generation:
                freed.add((file.inode, block))
                del file.staged[block]
            else:
                requeued.add((file.inode, block))
                staged.article = None
        assert set(settled.freed) == freed
        assert set(settled.requeued) == requeued

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def lost(self, data: st.DataObject) -> None:
        article = data.draw(st.sampled_from(sorted(self.flying)))
        waiting = self._waiting(article)
        if data.draw(st.booleans()):
            attempt = self.index.new_attempt(article, b"t" * 32)
            assert (attempt is None) == (not waiting)
            if attempt is not None:
                return
        else:
            settled = self.index.forget_article(article)
            assert set(settled.requeued) == {(file.inode, block) for file, block, _ in waiting}
        del self.flying[article]
        for _file, _block, staged in waiting:
            staged.article = None

    @precondition(lambda self: self.index.articles.list())
    @rule(data=st.data())
    def verified(self, data: st.DataObject) -> None:
        article = data.draw(st.sampled_from([a.id for a in self.index.articles.list()]))
        assert self.index.mark_verified(article)

    @rule()
    def reopened(self) -> None:
        self.index.close()
        self.index = reopen(self.path)

    # --- what must hold

    @invariant()
    def names_are_right(self) -> None:
        listed = self.index.dirents.list(ROOT_INODE, 0, 100)
        assert {e.name: e.inode.id for e in listed} == {n: f.inode for n, f in self.files.items()}

    @invariant()
    def blocks_are_right(self) -> None:
        for file in self.files.values():
            located = self.index.blocks.locate(file.inode, BlockNumber(0), 10)
            assert {b.number: b.length for b in located} == {
                n: len(c) for n, c in file.stored.items()
            }
            for block in located:
                content = file.stored[block.number]
                if len(content) == BLOCK:
                    assert block.hash == content_hash(content)

    @invariant()
    def staging_is_right(self) -> None:
        for file in self.files.values():
            rows = {row.block: row for row in self.index.staging.of_inode(file.inode)}
            assert rows.keys() == file.staged.keys()
            for number, staged in file.staged.items():
                row = rows[BlockNumber(number)]
                assert row.generation == staged.generation
                assert (row.state is StagingState.DIRTY) == (staged.article is None)

    @invariant()
    def references_and_counters_are_right(self) -> None:
        assert self.index.check() == []


IndexMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestIndexMachine = IndexMachine.TestCase
