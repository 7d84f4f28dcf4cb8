"""What a checkpoint of a changing index says: whatever is held back, the published state is sound,
and when nothing is, it is the index itself."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.checkpoint.chains import rows_of
from tests.checkpoint.published import Published
from tests.index.world import (
    BLOCK,
    NOW_NS,
    content_hash,
    create,
    make_directory,
    make_file,
    member,
    record,
    reopen,
    stage,
)
from usenetfs.checkpoint.documents import read_document
from usenetfs.checkpoint.draft import Draft, Spool, make_draft, merged
from usenetfs.index.chain import ChainState
from usenetfs.index.index import Index
from usenetfs.types import ROOT_INODE, BlockNumber, InodeId

DIGEST_KEY = b"d" * 32
WRITER = b"w" * 8
NAMES = st.sampled_from([b"a", b"b", b"c"])
LETTERS = st.sampled_from(b"uvw")
ACTIONS = [
    *("write",) * 5,
    *("rename",) * 5,
    *("publish",) * 4,
    *("arrive",) * 2,
    *("make", "remove", "truncate", "arrive_in_part") * 2,
    *("link", "attribute", "restart"),
]
"""What may happen, as often as it is to."""


def draft_of(index: Index, state: ChainState, spool: Spool | None = None) -> Draft:
    with index.cut() as cut:
        return make_draft(
            cut, state, digest_key=DIGEST_KEY, scratch=index.database.path.parent, spool=spool
        )


class DraftMachine(RuleBasedStateMachine):
    """Files and directories come, go, move and are written; contents arrive late or never."""

    files_of_content = 1

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="usenetfs-draft-"))
        self.path = self.directory / "index.db"
        self.index = create(self.path, shards=self.files_of_content)
        self.published = Published(DIGEST_KEY)
        self.state = ChainState(WRITER)
        self.checkpoint(first=True)
        for number, name in enumerate((b"a", b"b", b"c")):
            directory = make_directory(self.index, name)
            for inode in (
                make_file(self.index, b"a", parent=directory),
                make_file(self.index, b"%d" % number),
            ):
                self._write(inode, 0)
                self._finish(inode, 117 + number)
        self.checkpoint()

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        """One of :data:`ACTIONS` that has something to act on."""
        name = data.draw(st.sampled_from(ACTIONS))
        names = self._names()
        if name in {"remove", "rename", "link"} and not names:
            return
        if name in {"write", "truncate"} and not self._files():
            return
        if name.startswith("arrive") and not self.index.staging.files():
            return
        getattr(self, name)(data)

    def teardown(self) -> None:
        try:
            for (inode,) in self.index.database.rows("SELECT DISTINCT inode FROM local_staging"):
                self._finish(inode)
            self.checkpoint()
            assert self.published.rows() == rows_of(self.index)
            assert self.index.check() == []
        finally:
            self.index.close()
            self.published.connection.close()
            shutil.rmtree(self.directory)

    # --- the live filesystem

    def _names(self) -> list[tuple[int, bytes, int, bool]]:
        rows = self.index.database.rows(
            "SELECT d.parent, d.name, d.inode, i.mode & 61440 = 16384 FROM dirents d"
            " JOIN inodes i ON i.id = d.inode ORDER BY d.parent, d.name"
        )
        return [(parent, name, inode, bool(is_dir)) for parent, name, inode, is_dir in rows]

    def _directories(self) -> list[int]:
        return [ROOT_INODE, *(inode for *_, inode, is_dir in self._names() if is_dir)]

    def _pick_directory(self, data: st.DataObject) -> InodeId:
        return InodeId(data.draw(st.sampled_from(self._directories())))

    def make(self, data: st.DataObject) -> None:
        name, directory = data.draw(NAMES), data.draw(st.integers(0, 3)) == 0
        parent = self._pick_directory(data)
        if self.index.dirents.lookup(parent, name) is not None:
            return
        if directory:
            make_directory(self.index, name, parent=parent)
        else:
            make_file(self.index, name, parent=parent)

    def _drop_name(self, parent: int, name: bytes, inode: int, is_dir: bool) -> None:
        row = self.index.inodes.get(InodeId(inode))
        assert row is not None
        self.index.dirents.remove(InodeId(parent), name)
        nlink = 0 if is_dir else row.nlink - 1
        if is_dir:
            self._add_links(parent, -1)
        if nlink:
            self.index.inodes.update(replace(row, nlink=nlink))
        else:
            self.index.staging.delete_inode(InodeId(inode))
            self.index.blocks.delete_from(InodeId(inode), BlockNumber(0), 99)
            self.index.inodes.delete(InodeId(inode))

    def _add_links(self, directory: int, change: int) -> None:
        row = self.index.inodes.get(InodeId(directory))
        assert row is not None
        self.index.inodes.update(replace(row, nlink=row.nlink + change))

    def remove(self, data: st.DataObject) -> None:
        parent, name, inode, is_dir = data.draw(st.sampled_from(self._names()))
        if is_dir and not self.index.dirents.is_empty(InodeId(inode)):
            return
        with self.index.transaction():
            self._drop_name(parent, name, inode, is_dir)

    def rename(self, data: st.DataObject) -> None:
        """To a free name or over another, as rename(2) would."""
        name = data.draw(NAMES)
        parent, old_name, inode, is_dir = data.draw(st.sampled_from(self._names()))
        to = self._pick_directory(data)
        below: int | None = to
        while below is not None and below != ROOT_INODE:
            if below == inode:
                return
            parents = self.index.dirents.parents_of(InodeId(below))
            below = parents[0][0] if parents else None
        target = self.index.dirents.lookup(to, name)
        if target == inode:
            return
        with self.index.transaction():
            if target is not None:
                row = self.index.inodes.get(target)
                assert row is not None
                target_is_dir = stat.S_ISDIR(row.mode)
                if target_is_dir and not self.index.dirents.is_empty(target):
                    return
                self._drop_name(to, name, target, target_is_dir)
            self.index.dirents.remove(InodeId(parent), old_name)
            self.index.dirents.replace(to, name, InodeId(inode))
            if is_dir:
                self._add_links(parent, -1)
                self._add_links(to, 1)

    def link(self, data: st.DataObject) -> None:
        name = data.draw(NAMES)
        _, _, inode, is_dir = data.draw(st.sampled_from(self._names()))
        parent = self._pick_directory(data)
        if is_dir or self.index.dirents.lookup(parent, name) is not None:
            return
        row = self.index.inodes.get(InodeId(inode))
        assert row is not None
        with self.index.transaction():
            self.index.dirents.insert(parent, name, InodeId(inode))
            self.index.inodes.update(replace(row, nlink=row.nlink + 1))

    # --- contents

    def _files(self) -> list[int]:
        return sorted({inode for *_, inode, is_dir in self._names() if not is_dir})

    def write(self, data: st.DataObject) -> None:
        block = data.draw(st.integers(0, 1))
        self._write(InodeId(data.draw(st.sampled_from(self._files()))), block)

    def _write(self, inode: InodeId, block: int) -> None:
        stage(self.index, inode, block)
        row = self.index.inodes.get(inode)
        assert row is not None
        with self.index.transaction():
            self.index.inodes.update(
                replace(row, size=max(row.size, (block + 1) * BLOCK), mtime_ns=row.mtime_ns + 1)
            )

    def arrive(self, data: st.DataObject) -> None:
        """All that is staged of a file reaches the servers."""
        inode = data.draw(st.sampled_from(self.index.staging.files()))
        self._finish(inode, data.draw(LETTERS))

    def arrive_in_part(self, data: st.DataObject) -> None:
        inode = data.draw(st.sampled_from(self.index.staging.files()))
        self._settle(inode, self.index.staging.of_inode(inode)[0].block, data.draw(LETTERS))

    def _finish(self, inode: int, letter: int = 120) -> None:
        for row in self.index.staging.of_inode(InodeId(inode)):
            self._settle(inode, row.block, letter)

    def _settle(self, inode: int, block: int, letter: int) -> None:
        row = self.index.staging.get(InodeId(inode), BlockNumber(block))
        assert row is not None
        content = bytes([letter]) * BLOCK
        known = self.index.segments.by_hash(content_hash(content))
        if known is not None:
            assert self.index.link_known(
                row.inode, row.block, row.generation, known.id, len(content)
            )
            return
        article, _ = record(self.index, member(row.inode, block, row.generation, content))
        self.index.mark_seen(article, NOW_NS)

    def truncate(self, data: st.DataObject) -> None:
        inode = InodeId(data.draw(st.sampled_from(self._files())))
        row = self.index.inodes.get(inode)
        assert row is not None
        with self.index.transaction():
            self.index.staging.truncate(inode, 0)
            self.index.blocks.delete_from(inode, BlockNumber(0), 99)
            self.index.inodes.update(replace(row, size=0))

    def attribute(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([b"user.a", b"user.b"]))
        inode = self._pick_directory(data)
        with self.index.transaction():
            self.index.xattrs.set(inode, name, data.draw(st.binary(max_size=200)))

    # --- checkpoints

    def restart(self, data: st.DataObject) -> None:
        self.index.close()
        self.index = reopen(self.path)

    def publish(self, data: st.DataObject) -> None:
        self.checkpoint()

    def checkpoint(self, *, first: bool = False) -> None:
        number = self.state.number + 1
        self.index.settling.run(kept=5)
        spool = Spool(self.directory, 1000)
        draft = draft_of(self.index, self.state, spool)
        before = self.published.rows()
        snapshot = Published(DIGEST_KEY)
        snapshot.apply(self._unpacked(spool))
        if first:
            self.published.connection.close()
            self.published = snapshot
        else:
            if draft.published:
                self.published.apply(draft.published.whole())
            assert snapshot.rows() == self.published.rows()
            snapshot.connection.close()
        spool.close()
        assert self.published.digest() == draft.digest
        self.published.check()
        staged = {
            inode
            for (inode,) in self.index.database.rows("SELECT DISTINCT inode FROM local_staging")
        }
        self._files_are_whole(staged, before)
        if not staged:
            assert len(draft.held) == 0
            live = rows_of(self.index)
            assert self.published.rows() == live
        for part, data in enumerate(draft.held):
            self.index.chain.store_held(number, part, data)
        draft.close()
        self.state = replace(self.state, number=number, cut=draft.through, digest=draft.digest)
        with self.index.transaction():
            self.index.chain.set_state(self.state)
            self.index.changelog.trim(draft.through, 1000)
        while self.index.chain.drop_held(number):
            continue

    def _files_are_whole(
        self, staged: set[int], before: dict[str, set[tuple[object, ...]]]
    ) -> None:
        """A file with staged content is as it was published before."""
        now = self.published.rows()
        for table in ("inodes", "blocks", "xattrs"):
            for inode in staged:
                was = {row for row in before[table] if row[0] == inode}
                assert {row for row in now[table] if row[0] == inode} == was

    @staticmethod
    def _unpacked(spool: Spool) -> bytes:
        pieces = (spool.piece(number) for number in range(spool.count))
        return b"".join(read_document(pieces, size=spool.size, sha256=spool.sha256))


DraftMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestDraftMachine = DraftMachine.TestCase


def test_pieces_of_a_spool_are_read_by_several_threads_at_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 4096)
    spool.fill(os.urandom(65_536) for _ in range(100))
    whole = spool.whole()
    expected = [whole[at : at + 4096] for at in range(0, len(whole), 4096)]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            assert list(threads.map(spool.piece, range(spool.count))) == expected
    spool.close()


def test_merged_changes_lead_from_the_base_to_the_newest(tmp_path: Path) -> None:
    with create(tmp_path / "index.db") as index:
        spool = Spool(tmp_path, 1 << 20)
        first = draft_of(index, ChainState(WRITER), spool)
        base = Published(DIGEST_KEY)
        base.apply(DraftMachine._unpacked(spool))
        state = ChainState(WRITER, number=0, cut=first.through, digest=first.digest)
        make_file(index, b"one")
        second = draft_of(index, state)
        state = replace(state, number=1, cut=second.through, digest=second.digest)
        with index.transaction():
            assert index.dirents.remove(ROOT_INODE, b"one")
            index.inodes.delete(InodeId(2))
        make_file(index, b"two")
        third = draft_of(index, state)
        base.apply(merged([second.published.whole()], third.published.whole()))
        assert base.rows() == rows_of(index)
        assert base.digest() == third.digest
        for draft in (first, second, third):
            draft.close()
        spool.close()
        base.connection.close()
