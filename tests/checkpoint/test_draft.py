"""What a checkpoint of a changing index says: whatever is held back, the published state is sound,
and when nothing is, it is the index itself."""

from __future__ import annotations

import shutil
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

import apsw
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

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
from usenetfs.checkpoint.digest import RowDigest, digest_bytes
from usenetfs.checkpoint.documents import read_document
from usenetfs.checkpoint.draft import Draft, Spool, make_draft, merged
from usenetfs.index.chain import ChainState
from usenetfs.index.index import Index
from usenetfs.index.normal_form import FORMS, encoded_rows, normalise
from usenetfs.index.schema import CREATE_SCHEMA
from usenetfs.types import ROOT_INODE, BlockNumber, InodeId

DIGEST_KEY = b"d" * 32
WRITER = b"w" * 8


class Published:
    """A reader's side: the tables, and nothing derived."""

    def __init__(self) -> None:
        self.connection = apsw.Connection(":memory:")
        self.connection.execute(CREATE_SCHEMA)

    def apply(self, changes: bytes) -> None:
        """Whatever does not fit fails."""
        apsw.Changeset.apply(changes, self.connection)

    def rows(self) -> dict[str, set[tuple[object, ...]]]:
        return table_rows(self.connection)

    def digest(self) -> bytes:
        row_digest = RowDigest(DIGEST_KEY)
        return digest_bytes(
            sum(row_digest.encoded_rows(t, encoded_rows(self.connection, t)) for t in FORMS)
        )

    def one(self, sql: str, *bindings: object) -> list[tuple[object, ...]]:
        return list(self.connection.execute(sql, bindings))

    def check(self) -> None:
        """All that must hold in any published state."""
        assert self.one("SELECT * FROM dirents WHERE inode NOT IN (SELECT id FROM inodes)") == []
        assert self.one("SELECT * FROM dirents WHERE parent NOT IN (SELECT id FROM inodes)") == []
        assert self.one("SELECT * FROM blocks WHERE segment NOT IN (SELECT id FROM segments)") == []
        assert self.one("SELECT * FROM blocks WHERE inode NOT IN (SELECT id FROM inodes)") == []
        assert (
            self.one("SELECT * FROM segments WHERE article NOT IN (SELECT id FROM articles)") == []
        )
        assert (
            self.one(
                "SELECT i.id FROM inodes i WHERE i.mode & 61440 = 32768 AND i.nlink <>"
                " (SELECT count(*) FROM dirents d WHERE d.inode = i.id)"
            )
            == []
        )
        reached = self.one(
            "WITH RECURSIVE r(id) AS (SELECT 1 UNION SELECT d.inode FROM dirents d"
            " JOIN r ON d.parent = r.id) SELECT id FROM inodes WHERE id NOT IN (SELECT id FROM r)"
        )
        assert reached == []


def table_rows(connection: apsw.Connection) -> dict[str, set[tuple[object, ...]]]:
    found = {}
    for name, form in FORMS.items():
        columns = ", ".join(column.name for column in form.columns)
        rows = connection.execute(f"SELECT {columns} FROM {name}")
        found[name] = {normalise(name, row) for row in rows}
    return found


def draft_of(index: Index, state: ChainState, spool: Spool | None = None) -> Draft:
    with index.cut() as cut:
        return make_draft(cut, state, digest_key=DIGEST_KEY, spool=spool)


class DraftMachine(RuleBasedStateMachine):
    """Files and directories come, go, move and are written; contents arrive late or never."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="usenetfs-draft-"))
        self.path = self.directory / "index.db"
        self.index = create(self.path)
        self.published = Published()
        self.state = ChainState(WRITER)
        self.versions: dict[int, dict[int, bytes]] = {}
        """Inode → what its blocks say in its last state without anything staged."""
        self.checkpoint(first=True)

    def teardown(self) -> None:
        try:
            for (inode,) in self.index.database.rows("SELECT DISTINCT inode FROM local_staging"):
                self._finish(inode)
            self.checkpoint()
            assert self.published.rows() == table_rows(self.index.database.connection)
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

    @rule(data=st.data(), name=st.sampled_from([b"a", b"b", b"c"]), directory=st.booleans())
    def make(self, data: st.DataObject, name: bytes, directory: bool) -> None:
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

    @precondition(lambda self: self._names())
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        parent, name, inode, is_dir = data.draw(st.sampled_from(self._names()))
        if is_dir and not self.index.dirents.is_empty(InodeId(inode)):
            return
        with self.index.transaction():
            self._drop_name(parent, name, inode, is_dir)

    @precondition(lambda self: self._names())
    @rule(data=st.data(), name=st.sampled_from([b"a", b"b", b"c"]))
    def rename(self, data: st.DataObject, name: bytes) -> None:
        """To a free name or over another, as rename(2) would."""
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

    @precondition(lambda self: self._names())
    @rule(data=st.data(), name=st.sampled_from([b"a", b"b", b"c"]))
    def link(self, data: st.DataObject, name: bytes) -> None:
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

    @precondition(lambda self: self._files())
    @rule(data=st.data(), block=st.integers(0, 1))
    def write(self, data: st.DataObject, block: int) -> None:
        inode = InodeId(data.draw(st.sampled_from(self._files())))
        stage(self.index, inode, block)
        row = self.index.inodes.get(inode)
        assert row is not None
        with self.index.transaction():
            self.index.inodes.update(
                replace(row, size=max(row.size, (block + 1) * BLOCK), mtime_ns=row.mtime_ns + 1)
            )

    @precondition(lambda self: self.index.staging.files())
    @rule(data=st.data(), letter=st.sampled_from(b"uvw"))
    def arrive(self, data: st.DataObject, letter: int) -> None:
        """All that is staged of a file reaches the servers."""
        self._finish(data.draw(st.sampled_from(self.index.staging.files())), letter)

    @precondition(lambda self: self.index.staging.files())
    @rule(data=st.data(), letter=st.sampled_from(b"uvw"))
    def arrive_in_part(self, data: st.DataObject, letter: int) -> None:
        inode = data.draw(st.sampled_from(self.index.staging.files()))
        self._settle(inode, self.index.staging.of_inode(inode)[0].block, letter)

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

    @precondition(lambda self: self._files())
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        inode = InodeId(data.draw(st.sampled_from(self._files())))
        row = self.index.inodes.get(inode)
        assert row is not None
        with self.index.transaction():
            self.index.staging.truncate(inode, 0)
            self.index.blocks.delete_from(inode, BlockNumber(0), 99)
            self.index.inodes.update(replace(row, size=0))

    @rule(name=st.sampled_from([b"user.a", b"user.b"]), data=st.data())
    def attribute(self, name: bytes, data: st.DataObject) -> None:
        inode = self._pick_directory(data)
        with self.index.transaction():
            self.index.xattrs.set(inode, name, data.draw(st.binary(max_size=200)))

    # --- checkpoints

    @rule()
    def restart(self) -> None:
        self.index.close()
        self.index = reopen(self.path)

    @rule()
    def checkpoint(self, first: bool = False) -> None:
        number = self.state.number + 1
        spool = Spool(self.directory, 1000)
        draft = draft_of(self.index, self.state, spool)
        before = self.published.rows()
        snapshot = Published()
        snapshot.apply(self._unpacked(spool))
        if first:
            self.published.connection.close()
            self.published = snapshot
        else:
            if draft.published:
                self.published.apply(draft.published)
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
            assert draft.held == ()
            live = table_rows(self.index.database.connection)
            assert self.published.rows() == live
        for part, data in enumerate(draft.held):
            self.index.chain.store_held(number, part, data)
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


DraftMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestDraftMachine = DraftMachine.TestCase


def test_merged_changes_lead_from_the_base_to_the_newest(tmp_path: Path) -> None:
    with create(tmp_path / "index.db") as index:
        spool = Spool(tmp_path, 1 << 20)
        first = draft_of(index, ChainState(WRITER), spool)
        base = Published()
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
        base.apply(merged([second.published], third.published))
        assert base.rows() == table_rows(index.database.connection)
        assert base.digest() == third.digest
        spool.close()
        base.connection.close()
