"""What changesets touch, and the way back from a cumulative one."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import apsw
import pytest

from tests.checkpoint.builder import ChainBuilder, differences, digest_of, state_of
from tests.checkpoint.test_replay import grow, rebuilt, source
from tests.transfer.world import KEYS, FakeServers
from usenetfs.checkpoint.changeset import Change, Operation, Table, encode_changes
from usenetfs.checkpoint.digest import RowDigest
from usenetfs.checkpoint.following import check_digest, touched_by
from usenetfs.errors import DigestError, DocumentError
from usenetfs.index.chain import ChainState
from usenetfs.index.index import Index
from usenetfs.index.replica import Replica, followed_state, inverted, store_state

DIGEST = RowDigest(KEYS.digest_key)


async def test_changes_forwards_and_back_and_forwards(tmp_path: Path) -> None:
    servers = FakeServers()
    numbers = random.Random(4)
    async with source(tmp_path) as index:
        builder = ChainBuilder(servers)
        builder.publish(index)
        states = [state_of(index)]
        for _ in range(3):
            grow(index, numbers, 6)
            states.append(state_of(index))
    _, copy, _ = await rebuilt(servers, tmp_path)
    path = tmp_path / "rebuilt.db"
    copy.close()
    store_state(path, ChainState(bytes(8), number=0, digest=digest_of(states[0])))
    changes = [b"".join(encode_changes(differences(states[0], state))) for state in states]
    with (
        Index.open(path, directory_key=KEYS.directory_key, read_only=True) as reading,
        Replica.open(path) as replica,
    ):
        previous = 0
        for number in (1, 2, 3):
            work = [inverted(changes[previous])] if previous else []
            work.append(changes[number])
            touched = touched_by(work)
            old, new = digest_of(states[previous]), digest_of(states[number])
            replica.follow(
                work,
                touched.keys,
                touched.inodes,
                check=partial(check_digest, DIGEST, old, new),
                state=ChainState(bytes(8), number=number, digest=new, base=0),
                last=changes[number],
            )
            previous = number
            assert state_of(reading) == states[number]
            assert reading.check() == []  # every count follows, and none is counted anew
        assert replica.followed()[1] == changes[3]
    state = followed_state(path)
    assert state is not None
    assert (state.number, state.base) == (3, 0)


async def test_counts_are_right_when_content_moves_to_another_article(tmp_path: Path) -> None:
    servers = FakeServers()
    async with source(tmp_path) as index:
        ChainBuilder(servers).publish(index)
        before = state_of(index)
        rows = index.database.rows("SELECT id, article FROM segments ORDER BY id")
        segment, article = rows[0][0], rows[-1][1]
        assert rows[0][1] != article
        with index.transaction():
            index.database.write(
                "UPDATE segments SET article = ?, slot = 9 WHERE id = ?", (article, segment)
            )
        after = state_of(index)
    _, copy, _ = await rebuilt(servers, tmp_path)
    copy.close()
    changes = b"".join(encode_changes(differences(before, after)))
    touched = touched_by([changes])
    path = tmp_path / "rebuilt.db"
    with Replica.open(path) as replica:
        replica.follow(
            [changes],
            touched.keys,
            touched.inodes,
            check=partial(check_digest, DIGEST, digest_of(before), digest_of(after)),
            state=ChainState(bytes(8), number=1, digest=digest_of(after), base=0),
            last=changes,
        )
        with Index.open(path, directory_key=KEYS.directory_key, read_only=True) as reading:
            assert state_of(reading) == after
            assert reading.check() == []


async def test_a_state_that_does_not_come_out_leaves_the_old_one(tmp_path: Path) -> None:
    servers = FakeServers()
    async with source(tmp_path) as index:
        ChainBuilder(servers).publish(index)
        before = state_of(index)
        grow(index, random.Random(4), 6)
        changes = b"".join(encode_changes(differences(before, state_of(index))))
    _, copy, _ = await rebuilt(servers, tmp_path)
    copy.close()
    touched = touched_by([changes])
    with Replica.open(tmp_path / "rebuilt.db") as replica:
        with pytest.raises(DigestError):
            replica.follow(
                [changes],
                touched.keys,
                touched.inodes,
                check=lambda rows, others: check_digest(
                    DIGEST, digest_of(before), bytes(32), rows, others
                ),
                state=ChainState(bytes(8), number=1),
                last=b"",
            )
        with Index.open(
            tmp_path / "rebuilt.db", directory_key=KEYS.directory_key, read_only=True
        ) as reading:
            assert state_of(reading) == before


async def test_the_difference_to_another_index(tmp_path: Path) -> None:
    servers = FakeServers()
    async with source(tmp_path) as index:
        builder = ChainBuilder(servers)
        builder.publish(index)
        _, copy, _ = await rebuilt(servers, tmp_path)
        copy.close()
        (tmp_path / "rebuilt.db").rename(tmp_path / "old.db")
        grow(index, random.Random(4), 6)
        builder.publish(index, snapshot=True)
        after = state_of(index)
    _, copy, _ = await rebuilt(servers, tmp_path)
    copy.close()
    with Replica.open(tmp_path / "old.db") as replica:
        changes = replica.differences_to(tmp_path / "rebuilt.db")
        replica.apply([changes])
        with Index.open(
            tmp_path / "old.db", directory_key=KEYS.directory_key, read_only=True
        ) as reading:
            assert state_of(reading) == after


def test_what_is_touched() -> None:
    dirents, blocks = Table("dirents", (1, 2, 0, 0)), Table("blocks", (1, 2, 0, 0))
    changes = [
        Change(dirents, Operation.INSERT, None, (1, 9, b"new", 5)),
        Change(dirents, Operation.DELETE, (2, 8, b"gone", 6), None),
        Change(blocks, Operation.INSERT, None, (7, 0, 3, 100)),
    ]
    touched = touched_by([b"".join(encode_changes(changes))])
    assert touched.names == {(1, b"new"), (2, b"gone")}
    assert touched.inodes == {1, 2, 5, 6}
    assert touched.content == {7}
    assert touched.keys == {"dirents": {(1, 9), (2, 8)}, "blocks": {(7, 0)}}


def test_a_name_that_leads_elsewhere_is_found_by_its_place() -> None:
    connection = apsw.Connection(":memory:")
    connection.execute(
        "CREATE TABLE dirents (parent, cookie, name, inode, PRIMARY KEY (parent, cookie))"
    )
    connection.execute("INSERT INTO dirents VALUES (1, 9, x'61', 5)")
    session = apsw.Session(connection, "main")
    session.attach("dirents")
    connection.execute("UPDATE dirents SET inode = 6")
    touched = touched_by([session.changeset()])
    session.close()
    assert touched.places == {(1, 9)}
    assert touched.inodes == {1, 5, 6}


def test_an_unknown_table_is_refused() -> None:
    changes = encode_changes([Change(Table("secrets", (1,)), Operation.INSERT, None, (1,))])
    with pytest.raises(DocumentError, match="secrets"):
        touched_by([b"".join(changes)])
