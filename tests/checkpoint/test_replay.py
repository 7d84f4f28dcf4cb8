"""From articles back to an index: the same as it was, or an older one, never a mixed one."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest
import trio

from tests.checkpoint.builder import ChainBuilder, State, state_of
from tests.index import world as files
from tests.transfer.world import FILESYSTEM_ID, KEYS, FakeServers
from usenetfs.article.message_ids import chain_message_id, message_id
from usenetfs.checkpoint.articles import ArticleReader
from usenetfs.checkpoint.chain import ChainReader, Part
from usenetfs.checkpoint.replay import Progress, rebuild
from usenetfs.errors import (
    DataUnavailableError,
    DiskFullError,
    NoHealthyServersError,
    SchemaVersionError,
)
from usenetfs.index.cut import Cut
from usenetfs.index.index import Index
from usenetfs.index.normal_form import FORMS
from usenetfs.index.replica import Replica
from usenetfs.net.retry import RetryManager, RetryPolicy
from usenetfs.types import BlockNumber, article_id

ExpectLog = Callable[[str], None]
ANOTHER_WAY = "another way is looked for"


def reader_of(servers: FakeServers) -> ChainReader:
    return ChainReader(
        ArticleReader(
            servers,
            keys=KEYS,
            filesystem_id=FILESYSTEM_ID,
            retries=RetryManager(RetryPolicy(first=0.1)),
            patience=1.0,
        )
    )


@asynccontextmanager
async def source(path: Path) -> AsyncIterator[Index]:
    """A filesystem with a bit of everything in it."""
    with Index.create(
        path / "source.db",
        filesystem_id=FILESYSTEM_ID,
        name="t",
        block_size=files.BLOCK,
        directory_key=KEYS.directory_key,
    ) as index:
        grow(index, random.Random(0), 20)
        yield index


def grow(index: Index, numbers: random.Random, count: int) -> None:
    """More files, directories, links and attributes; some that were there go or change."""
    folder = files.make_directory(index, b"folder %d" % numbers.getrandbits(60))
    for _ in range(count):
        name = b"%x" % numbers.getrandbits(64)
        inode = files.make_file(index, name, size=2 * files.BLOCK, parent=folder)
        for block in range(numbers.randrange(3)):
            files.upload(index, inode, block, numbers.randbytes(100))
        with index.transaction():
            if numbers.random() < 0.3:
                index.xattrs.set(
                    inode,
                    b"user.x",
                    numbers.randbytes(numbers.choice([0, 127, 128, 200, 16_383, 16_384, 60_000])),
                )
            if numbers.random() < 0.2:
                index.blocks.delete_range(inode, BlockNumber(0), None)
            if numbers.random() < 0.2:
                index.dirents.remove(folder, name)
                index.blocks.delete_range(inode, BlockNumber(0), None)
                index.inodes.delete(inode)


def everything(index: Index) -> State:
    """All rows as they are, derived columns included."""
    return {
        name: {
            tuple(row[place] for place in form.key_places): tuple(row)
            for row in files.rows_of_table(
                index, name, ", ".join(column.name for column in form.columns)
            )
        }
        for name, form in FORMS.items()
    }


async def rebuilt(servers: FakeServers, path: Path) -> tuple[int, Index, ChainReader]:
    reader = reader_of(servers)
    newest = await reader.find_end()
    assert newest is not None
    record = await rebuild(reader, path / "rebuilt.db", newest=newest, writable=True)
    index = Index.open(path / "rebuilt.db", directory_key=KEYS.directory_key)
    return record.number, index, reader


def left_over(path: Path) -> list[Path]:
    return list(path.glob("rebuilt*"))


async def published(path: Path, servers: FakeServers, plan: str) -> tuple[ChainBuilder, State]:
    """A chain after ``plan``: s snapshot, c changeset from the one before, b from the last base."""
    builder = ChainBuilder(servers)
    numbers = random.Random(1)
    async with source(path) as index:
        base = 0
        for number, step in enumerate(plan):
            if number:
                grow(index, numbers, 10)
            if step == "c":
                base = number - 1
            builder.publish(
                index, base=base if number else None, snapshot=step == "s", inline=step == "b"
            )
        return builder, everything(index)


@pytest.mark.parametrize("plan", ["s", "sc", "sbb", "sccc", "scbbscb", "sccs"])
async def test_what_comes_back_is_what_was_there(tmp_path: Path, plan: str) -> None:
    servers = FakeServers()
    _, original = await published(tmp_path, servers, plan)
    number, index, reader = await rebuilt(servers, tmp_path)
    with index:
        assert number == len(plan) - 1
        assert reader.losses.lines() == []
        assert everything(index) == original
        assert index.check(deep=True) == []
        assert index.totals.read() == index.totals.counted()
        grow(index, random.Random(5), 5)  # it is an index like any other
        assert index.check(deep=True) == []


async def test_a_rebuilt_index_has_the_indexes_of_any_other(tmp_path: Path) -> None:
    servers = FakeServers()
    await published(tmp_path, servers, "sc")
    _, index, _ = await rebuilt(servers, tmp_path)

    def schema(database: apsw.Connection) -> list[tuple[str, str]]:
        rows = database.execute(
            "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY 1"
        )
        return [(str(name), str(sql)) for name, sql in rows]

    with index:
        other = apsw.Connection(str(tmp_path / "source.db"))
        assert schema(index.database.connection) == schema(other)
        other.close()


# --- losses --------------------------------------------------------------------------------------


async def test_one_copy_of_each_article_is_enough(tmp_path: Path) -> None:
    servers = FakeServers()
    builder, original = await published(tmp_path, servers, "scs")
    numbers = random.Random(3)
    for record in builder.records:
        ids = [builder.ids_of_record(record.number)]
        for reference in (record.changeset, record.snapshot):
            if reference is not None:
                ids += builder.ids_of_document(reference)
        for copies in ids:
            builder.lose([numbers.choice(copies)])
    number, index, _ = await rebuilt(servers, tmp_path)
    with index:
        assert number == 2
        assert everything(index) == original


async def test_around_a_lost_snapshot_by_the_one_before(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log(ANOTHER_WAY)
    servers = FakeServers()
    builder, original = await published(tmp_path, servers, "sccsc")
    builder.lose_document(builder.records[3].snapshot)
    number, index, reader = await rebuilt(servers, tmp_path)
    with index:
        assert number == 4
        assert everything(index) == original
        assert list(reader.losses.documents) == [(3, Part.SNAPSHOT)]


async def test_a_lost_record_between_does_not_matter_to_a_cumulative_one(tmp_path: Path) -> None:
    servers = FakeServers()
    builder, original = await published(tmp_path, servers, "scbbb")
    builder.lose_record(3)
    number, index, _ = await rebuilt(servers, tmp_path)
    with index:
        assert number == 4
        assert everything(index) == original


@pytest.mark.parametrize(
    ("plan", "lost_record", "lost_changeset", "left"),
    [
        pytest.param("sccc", 3, None, 2, id="the newest"),
        pytest.param("sccc", None, 3, 2, id="the newest one's changeset"),
        pytest.param("sccc", 2, None, 1, id="a base"),
        pytest.param("scbbb", 0, None, None, id="the only snapshot"),
        pytest.param("scccsc", None, 3, 5, id="before a snapshot"),
        pytest.param("sccbb", None, 1, 0, id="the base of a base"),
    ],
)
async def test_otherwise_an_older_state_comes_back(
    tmp_path: Path,
    expect_log: ExpectLog,
    plan: str,
    lost_record: int | None,
    lost_changeset: int | None,
    left: int | None,
) -> None:
    expect_log(ANOTHER_WAY)
    servers = FakeServers()
    builder, _ = await published(tmp_path, servers, plan)
    if lost_record is not None:
        builder.lose_record(lost_record)
    if lost_changeset is not None:
        builder.lose_document(builder.records[lost_changeset].changeset)
    if left is None:
        with pytest.raises(DataUnavailableError, match="no state"):
            await rebuilt(servers, tmp_path)
        return
    number, index, _ = await rebuilt(servers, tmp_path)
    with index:
        assert number == left
        assert state_of(index) == builder.states[left]
        assert index.check(deep=True) == []


async def test_a_chain_whose_beginning_expired_is_given_up_soon(tmp_path: Path) -> None:
    servers = FakeServers()
    builder, _ = await published(tmp_path, servers, "sb")
    builder.lose_document(builder.records[0].snapshot)
    builder.lose_record(0)
    reader = reader_of(servers)
    asked = servers.calls["fetch"]
    with pytest.raises(DataUnavailableError, match="no state"):
        await reader.route(50_000)
    assert servers.calls["fetch"] - asked < 1000


@pytest.mark.parametrize("seed", range(12))
async def test_with_any_tenth_lost_it_is_some_state_and_whole(
    tmp_path: Path, expect_log: ExpectLog, seed: int
) -> None:
    expect_log(ANOTHER_WAY)
    servers = FakeServers()
    builder, _ = await published(tmp_path, servers, "scbbscbcsb")
    numbers = random.Random(seed)
    ids = sorted(servers.articles)
    builder.lose(numbers.sample(ids, len(ids) // 10))
    number, index, _ = await rebuilt(servers, tmp_path)
    with index:
        assert state_of(index) == builder.states[number]
        assert index.check(deep=True) == []


async def test_a_damaged_copy_is_passed_over_and_said(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log("gave a wrong article")
    servers = FakeServers()
    await published(tmp_path, servers, "sc")
    servers.altered["one"] = lambda body: body[:-1] + bytes([body[-1] ^ 1])
    number, index, _ = await rebuilt(servers, tmp_path)
    with index:
        assert number == 1


async def test_a_wrong_article_on_all_servers_is_a_loss(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, expect_log: ExpectLog
) -> None:
    expect_log("gave a wrong article")
    servers = FakeServers()
    await published(tmp_path, servers, "scc")
    newest = [servers.articles[chain_message_id(KEYS.chain_key, 2, copy)] for copy in range(2)]
    for server in servers.servers:
        servers.altered[server] = lambda body: b"another" * 500 if body in newest else body
    number, index, reader = await rebuilt(servers, tmp_path)
    with index:
        assert number == 1
        assert "whole" in reader.losses.records[2]


async def test_a_wrong_article_is_no_loss_while_another_server_is_away(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, expect_log: ExpectLog
) -> None:
    expect_log("gave a wrong article")
    servers = FakeServers()
    await published(tmp_path, servers, "sc")
    servers.altered["one"] = lambda body: b"another" * 500
    servers.away.add("two")
    with pytest.raises(NoHealthyServersError):
        await rebuilt(servers, tmp_path)
    assert left_over(tmp_path) == []


# --- lies ----------------------------------------------------------------------------------------


async def test_a_state_that_does_not_match_its_digest_is_not_taken(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log("does not come out as it was published")
    servers = FakeServers()
    builder = ChainBuilder(servers)
    async with source(tmp_path) as index:
        builder.publish(index)
        grow(index, random.Random(2), 5)
        builder.publish(index, digest=bytes(32))
    number, index, reader = await rebuilt(servers, tmp_path)
    with index:
        assert number == 0
        assert "published" in reader.losses.records[1]


@pytest.mark.parametrize("table", [name for name in FORMS if name != "message_ids"])
async def test_a_row_that_is_lost_while_it_is_applied_is_missed(
    tmp_path: Path, expect_log: ExpectLog, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """The digest is that of what can be read back, not of what was given to SQLite."""
    expect_log("does not come out as it was published")
    servers = FakeServers()
    builder = ChainBuilder(servers)
    async with source(tmp_path) as index:
        with index.transaction():
            index.database.write("INSERT INTO symlinks VALUES (1, x'2f')")
        builder.publish(index)
    applied = Replica.applied

    def forgetful(replica: Replica) -> Cut:
        with replica.database.transaction():
            key = FORMS[table].key
            columns = ", ".join(key)
            replica.database.write(
                f"DELETE FROM {table} WHERE ({columns}) ="
                f" (SELECT {columns} FROM {table} ORDER BY {columns} LIMIT 1)"
            )
            assert replica.database.changes() == 1
        return applied(replica)

    monkeypatch.setattr(Replica, "applied", forgetful)
    with pytest.raises(DataUnavailableError, match="no state"):
        await rebuilt(servers, tmp_path)
    assert left_over(tmp_path) == []


async def test_a_record_of_another_history_is_not_followed(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    servers = FakeServers()
    builder = ChainBuilder(servers)
    async with source(tmp_path) as index:
        builder.publish(index)
        grow(index, random.Random(2), 5)
        builder.publish(index, previous=bytes(32))
    number, index, reader = await rebuilt(servers, tmp_path)
    with index:
        assert number == 0
        assert "does not follow" in reader.losses.records[1]


async def test_another_schema_is_refused_with_advice(tmp_path: Path) -> None:
    servers = FakeServers()
    builder = ChainBuilder(servers)
    async with source(tmp_path) as index:
        builder.publish(index, schema=99)
    with pytest.raises(SchemaVersionError, match="99") as caught:
        await rebuilt(servers, tmp_path)
    assert "newer" in str(caught.value.hint)
    assert not (tmp_path / "rebuilt.db").exists()


# --- weather -------------------------------------------------------------------------------------


async def test_servers_away_are_an_error_of_the_network_not_a_loss(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    servers = FakeServers()
    await published(tmp_path, servers, "sc")
    reader = reader_of(servers)
    await reader.find_end()

    def go_down(progress: Progress) -> None:
        servers.down = True

    servers.down = True
    with pytest.raises(NoHealthyServersError):
        await rebuild(reader, tmp_path / "rebuilt.db", newest=1, writable=True, report=go_down)
    assert not (tmp_path / "rebuilt.db").exists()


async def test_a_full_disk_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect_log: ExpectLog
) -> None:
    expect_log("database or disk is full")  # SQLite says so where a command ran in this process
    servers = FakeServers()
    await published(tmp_path, servers, "sc")
    create = Replica.create

    def on_a_small_disk(path: Path) -> Replica:
        replica = create(path)
        replica.database.connection.pragma("max_page_count", 20)
        return replica

    monkeypatch.setattr(Replica, "create", on_a_small_disk)
    with pytest.raises(DiskFullError):
        await rebuilt(servers, tmp_path)
    assert left_over(tmp_path) == []


async def test_cancelling_leaves_no_file_and_no_thread(tmp_path: Path) -> None:
    servers = FakeServers()
    await published(tmp_path, servers, "s")
    reader = reader_of(servers)
    await reader.route(0)
    servers.gate = trio.Event()
    with trio.move_on_after(0.2) as scope:
        await rebuild(reader, tmp_path / "rebuilt.db", newest=0, writable=True)
    assert scope.cancelled_caught
    assert left_over(tmp_path) == []


async def test_whether_something_newer_was_posted(tmp_path: Path) -> None:
    servers = FakeServers()
    builder, _ = await published(tmp_path, servers, "scc")
    reader = reader_of(servers)
    last = builder.records[2]
    assert not await reader.posted_after(last)
    builder.lose_record(2)
    assert await reader.find_end() == 1
    assert await reader.posted_after(builder.records[1])


async def test_whether_something_newer_was_posted_after_a_crash(tmp_path: Path) -> None:
    """The numbers of a writer that crashed go on behind those that it had reserved."""
    servers = FakeServers()
    builder, _ = await published(tmp_path, servers, "sc")
    record = builder.records[1]
    for number in range(1100, 1120):
        where = message_id(
            KEYS.message_id_key, article_id(record.epoch, record.next_article + number), 0
        )
        servers.articles[where] = b"posted after the crash"
    reader = reader_of(servers)
    assert await reader.posted_after(record)
    assert servers.calls["stat"] < 100
