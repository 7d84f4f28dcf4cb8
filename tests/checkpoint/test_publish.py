"""Publishing: what a reader finds, whatever happens between two steps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from tests.checkpoint.chains import Reader, once_only, publisher_of, rows_of
from tests.index.world import BLOCK, NOW_NS, make_file, set_size, stage, upload
from tests.transfer.world import FILESYSTEM_ID, KEYS, ExpectLog, FakeServers, until
from usenetfs.article.wire import OutgoingArticle
from usenetfs.checkpoint import compose, document_sender, publish
from usenetfs.checkpoint.publish import CheckpointBlockedError, Publisher
from usenetfs.errors import (
    FencedError,
    LocalStorageError,
    NoHealthyServersError,
    PostInDoubtError,
    UsenetfsError,
)
from usenetfs.index.chain import ChainState
from usenetfs.index.index import Index
from usenetfs.types import Lane, MessageId


def make_index(path: Path) -> Index:
    return Index.create(
        path,
        filesystem_id=FILESYSTEM_ID,
        name="t",
        block_size=BLOCK,
        directory_key=KEYS.directory_key,
        now_ns=NOW_NS,
    )


def open_index(path: Path) -> Index:
    return Index.open(path, directory_key=KEYS.directory_key)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.db"


@pytest.fixture
def index(path: Path) -> Iterator[Index]:
    with make_index(path) as opened:
        yield opened


@pytest.fixture
def servers() -> FakeServers:
    made = FakeServers()
    once_only(made)
    return made


@pytest.fixture
def reader(servers: FakeServers) -> Reader:
    return Reader(servers)


@pytest.fixture
def publisher(index: Index, servers: FakeServers, tmp_path: Path) -> Publisher:
    return publisher_of(index, servers, tmp_path)


async def test_what_is_published_is_the_index(
    index: Index, publisher: Publisher, reader: Reader, autojump_clock: object
) -> None:
    assert await publisher.publish() == 0
    assert reader.state(0).rows() == rows_of(index)
    for number in range(1, 6):
        inode = make_file(index, b"file %d" % number, size=BLOCK)
        upload(index, inode, 0, bytes([number]) * BLOCK)
        assert await publisher.publish() == number
        assert reader.state(number).rows() == rows_of(index)
    opened = reader.checkpoint(5)
    assert opened is not None
    assert opened.record.base == 0  # cumulative: those in between are not needed
    assert opened.record.counters.files == 5
    assert index.changelog.pending() == 0


async def test_nothing_new_is_not_published(
    index: Index, publisher: Publisher, servers: FakeServers, autojump_clock: object
) -> None:
    await publisher.publish()
    posts = servers.calls["post"]
    assert await publisher.publish() == 0
    assert servers.calls["post"] == posts


async def test_a_file_is_published_when_its_data_is_safe(
    index: Index, publisher: Publisher, reader: Reader, autojump_clock: object
) -> None:
    await publisher.publish()
    late = make_file(index, b"late", size=BLOCK)
    stage(index, late, 0)
    make_file(index, b"empty")
    assert await publisher.publish() == 1
    state = reader.state(1)
    assert state.one("SELECT name FROM dirents") == [(b"empty",)]
    assert publisher.state.held == 1
    upload(index, late, 0, b"x" * BLOCK)
    assert await publisher.publish() == 2
    assert reader.state(2).rows() == rows_of(index)
    assert publisher.state.held == 0


async def test_only_what_waits_makes_no_checkpoint(
    index: Index, publisher: Publisher, reader: Reader, autojump_clock: object
) -> None:
    await publisher.publish()
    stage(index, make_file(index, b"late", size=BLOCK), 0)
    # the directory's own times are published; the file is not
    number = await publisher.publish()
    assert await publisher.publish() == number
    assert reader.last() == number


@pytest.mark.parametrize("steps", range(12))
async def test_a_crash_after_any_post_goes_on(
    steps: int,
    path: Path,
    tmp_path: Path,
    servers: FakeServers,
    reader: Reader,
    autojump_clock: object,
) -> None:
    """The daemon dies after the n-th post; the next one goes on with the same chain."""
    with make_index(path) as index:
        await publisher_of(index, servers, tmp_path, piece_size=500).publish()
        for number in range(40):
            upload(
                index,
                make_file(index, os.urandom(100) + b"%d" % number, size=BLOCK),
                0,
                os.urandom(BLOCK),
            )
        left = steps
        with trio.CancelScope() as scope:

            def count(article: OutgoingArticle) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    scope.cancel()

            servers.after_post = count
            await publisher_of(index, servers, tmp_path, piece_size=500).publish()
    servers.after_post = lambda article: None
    with open_index(path) as index:
        publisher = publisher_of(index, servers, tmp_path, piece_size=500)
        make_file(index, b"after the crash")
        number = await publisher.publish()
        assert reader.last() == number
        assert number in {1, 2}
        assert reader.state(number).rows() == rows_of(index)
        reader.state(1)
        assert reader.copies(number) == 2
        assert index.check() == []


async def test_a_crash_before_the_end_is_recorded(
    path: Path, tmp_path: Path, servers: FakeServers, reader: Reader, autojump_clock: object
) -> None:
    """All is posted and seen, but the daemon died before it noted so."""
    with make_index(path) as index:
        publisher = publisher_of(index, servers, tmp_path)
        await publisher.publish()
        make_file(index, b"one")
        with trio.CancelScope() as scope:
            finish = index.chain.finish

            def die(publication: object) -> None:
                scope.cancel()
                raise trio.Cancelled._create(source="unknown")

            index.chain.finish = die  # type: ignore[method-assign]
            await publisher.publish()
        index.chain.finish = finish  # type: ignore[method-assign]
    with open_index(path) as index:
        publisher = publisher_of(index, servers, tmp_path)
        assert await publisher.publish() == 1
        assert reader.last() == 1
        assert reader.state(1).rows() == rows_of(index)


async def test_a_lost_reply_does_not_matter(
    index: Index,
    publisher: Publisher,
    servers: FakeServers,
    reader: Reader,
    autojump_clock: object,
) -> None:
    lost: set[str] = set()

    def lose(article: OutgoingArticle) -> None:
        if article.message_id not in lost:
            lost.add(article.message_id)
            raise PostInDoubtError("the connection ended before the reply")

    servers.after_post = lose
    await publisher.publish()
    make_file(index, b"one")
    assert await publisher.publish() == 1
    assert reader.state(1).rows() == rows_of(index)


async def test_a_forgery_on_one_server_hides_nothing_on_another(
    index: Index,
    publisher: Publisher,
    servers: FakeServers,
    reader: Reader,
    autojump_clock: object,
) -> None:
    """Somebody saw the id and was first with it on the server that is asked first."""
    await publisher.publish()
    make_file(index, b"one")
    lost: set[str] = set()

    def lose(article: OutgoingArticle) -> None:
        if article.message_id not in lost:
            lost.add(article.message_id)
            raise PostInDoubtError("the connection ended before the reply")

    servers.after_post = lose
    servers.altered["one"] = lambda body: bytes(reversed(body))
    assert await publisher.publish() == 1
    servers.altered.clear()
    assert reader.state(1).rows() == rows_of(index)


async def test_while_the_servers_are_away_nothing_is_lost(
    index: Index,
    publisher: Publisher,
    servers: FakeServers,
    reader: Reader,
    autojump_clock: object,
    expect_log: ExpectLog,
) -> None:
    expect_log("no checkpoint could be published")
    await publisher.publish()
    servers.down = True
    make_file(index, b"one")
    with pytest.raises(NoHealthyServersError):
        await publisher.publish()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.publish_surely)
        await trio.sleep(100)
        servers.down = False
    assert publisher.state.number == 1
    assert reader.state(1).rows() == rows_of(index)


async def test_a_disk_that_fails_is_a_typed_error(
    index: Index, servers: FakeServers, tmp_path: Path, autojump_clock: object
) -> None:
    publisher = publisher_of(index, servers, tmp_path / "not there")
    with pytest.raises(LocalStorageError):
        await publisher.publish()
    assert publisher.state.number == -1


async def test_a_fault_of_ours_does_not_end_the_task(
    index: Index,
    servers: FakeServers,
    tmp_path: Path,
    expect_log: ExpectLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expect_log("a fault of usenetfs stopped a checkpoint")
    errors: list[UsenetfsError] = []
    publisher = publisher_of(index, servers, tmp_path, interval=0.01, errors=errors)
    monkeypatch.setattr(publish, "MAX_REST", 0.05)
    faults = [RuntimeError("a bug"), RuntimeError("again")]

    def fail_at_first() -> None:
        if faults:
            raise faults.pop()

    monkeypatch.setattr(publisher, "_save", fail_at_first)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        await until(lambda: publisher.state.number == 0)
        nursery.cancel_scope.cancel()
    assert len(errors) == 2


async def test_the_task_publishes_every_interval(
    index: Index, servers: FakeServers, tmp_path: Path, reader: Reader
) -> None:
    publisher = publisher_of(index, servers, tmp_path, interval=0.05)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        for number in range(3):
            await until(lambda number=number: publisher.state.number == number)  # type: ignore[misc]
            make_file(index, b"file %d" % number)
        await until(lambda: publisher.state.number == 3)
        posts = servers.calls["post"]
        await trio.sleep(0.5)
        assert servers.calls["post"] == posts
        nursery.cancel_scope.cancel()
    assert reader.state(3).rows() == rows_of(index)


async def test_the_base_moves_and_snapshots_come_when_they_pay(
    index: Index,
    publisher: Publisher,
    reader: Reader,
    autojump_clock: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(document_sender, "CUMULATIVE_LIMIT", 800)
    monkeypatch.setattr(compose, "SNAPSHOT_WORTH", 3000)
    await publisher.publish()
    for number in range(1, 30):
        make_file(index, os.urandom(150))
        assert await publisher.publish() == number
        assert reader.state(number).rows() == rows_of(index)
    records = [opened.record for n in range(30) if (opened := reader.checkpoint(n)) is not None]
    assert len(records) == 30
    bases = {  # beside a snapshot nothing depends on the base any more
        record.base for record in records if record.base is not None and record.snapshot is None
    }
    snapshots = [record.number for record in records if record.snapshot is not None]
    assert len(bases) > 4
    assert len(snapshots) >= 2
    for number in bases | set(snapshots):
        assert reader.copies(number) == 4, number
    assert all(record.changeset is not None for record in records[1:])
    assert all(record.previous == before.sha256 for before, record in pairwise(records))


async def test_a_snapshot_leaves_out_what_waits(
    index: Index,
    publisher: Publisher,
    reader: Reader,
    autojump_clock: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inode = make_file(index, b"kept", size=BLOCK)
    upload(index, inode, 0, b"old" + bytes(BLOCK - 3))
    await publisher.publish()
    monkeypatch.setattr(compose, "SNAPSHOT_WORTH", 0)
    before = reader.state(0).one("SELECT * FROM blocks")
    for _ in range(20):
        make_file(index, os.urandom(150))
    await publisher.publish()
    with index.transaction():
        set_size(index, inode, 2 * BLOCK)
    stage(index, inode, 1)
    make_file(index, b"other")
    number = await publisher.publish()
    opened = reader.checkpoint(number)
    assert opened is not None
    assert opened.record.snapshot is not None
    state = reader.state(number)
    assert state.one("SELECT size FROM inodes WHERE id = ?", inode) == [(BLOCK,)]
    assert state.one("SELECT * FROM blocks") == before
    assert state.one("SELECT count(*) FROM dirents") == [(22,)]


# --- two writers ----------------------------------------------------------------------------------


async def published_and_backed_up(path: Path, servers: FakeServers, tmp_path: Path) -> Path:
    """Make the index at ``path``, publish checkpoint 0, and copy it; where the copy is."""
    with make_index(path) as index:
        await publisher_of(index, servers, tmp_path).publish()
    backup = tmp_path / "backup.db"
    shutil.copy(path, backup)
    return backup


async def test_the_second_writer_is_fenced(
    tmp_path: Path,
    path: Path,
    servers: FakeServers,
    reader: Reader,
    autojump_clock: object,
    expect_log: ExpectLog,
) -> None:
    """A backup of the index is used again while its original goes on."""
    expect_log("read-only from now on")
    backup = await published_and_backed_up(path, servers, tmp_path)
    with open_index(path) as index, open_index(backup) as other:
        first = publisher_of(index, servers, tmp_path)
        second = publisher_of(other, servers, tmp_path)
        make_file(index, b"original")
        staged = make_file(other, b"copy")
        stage(other, staged, 0)
        make_file(other, b"empty")
        assert await first.publish() == 1
        errors: list[UsenetfsError] = []
        second = publisher_of(other, servers, tmp_path, errors=errors)
        with pytest.raises(FencedError, match="checkpoint 1 was published by another writer"):
            await second.publish()
        assert second.fenced.is_set()
        assert [type(error) for error in errors] == [FencedError]
        posts = servers.calls["post"]
        with pytest.raises(FencedError):
            await second.publish_surely()
        assert servers.calls["post"] == posts
        assert other.staging.files() == [staged]
        with pytest.raises(FencedError):
            await second.unless_fenced(trio.sleep_forever)
    with open_index(backup) as other:
        assert publisher_of(other, servers, tmp_path).fenced.is_set()
    assert reader.last() == 1


async def test_a_server_that_says_240_to_what_it_has_already_lets_nobody_pass(
    tmp_path: Path,
    path: Path,
    autojump_clock: object,
    expect_log: ExpectLog,
) -> None:
    """It keeps the first article; whoever comes second must not believe its own is there."""
    expect_log("read-only from now on")
    servers = FakeServers()
    backup = await published_and_backed_up(path, servers, tmp_path)
    with open_index(path) as index, open_index(backup) as other:
        make_file(index, b"original")
        assert await publisher_of(index, servers, tmp_path).publish() == 1
        make_file(other, b"copy")
        with pytest.raises(FencedError, match="checkpoint 1 was published by another writer"):
            await publisher_of(other, servers, tmp_path).publish()


async def test_it_is_fenced_before_it_begins_if_it_can_be_known(
    tmp_path: Path,
    path: Path,
    servers: FakeServers,
    autojump_clock: object,
    expect_log: ExpectLog,
) -> None:
    expect_log("read-only from now on")
    backup = await published_and_backed_up(path, servers, tmp_path)
    with open_index(path) as index:
        make_file(index, b"original")
        await publisher_of(index, servers, tmp_path).publish()
    with open_index(backup) as other:
        publisher = publisher_of(other, servers, tmp_path)
        await publisher.run()  # returns: there is nothing more to do
        assert publisher.fenced.is_set()


async def test_its_own_checkpoint_is_not_taken_for_another_writers(
    tmp_path: Path,
    path: Path,
    servers: FakeServers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first question, whether somebody has gone on, is answered late."""
    with make_index(path) as index:
        await publisher_of(index, servers, tmp_path, interval=0.05).publish()
    ask, asked = servers.stat, trio.Event()

    async def slowly(message_id: MessageId, *, lane: Lane) -> str | None:
        if not asked.is_set():
            asked.set()
            await trio.sleep(1)
        return await ask(message_id, lane=lane)

    monkeypatch.setattr(servers, "stat", slowly)
    with open_index(path) as index:
        make_file(index, b"new")
        publisher = publisher_of(index, servers, tmp_path, interval=0.05)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publisher.run)
            await asked.wait()
            assert await publisher.publish() == 1
            await trio.sleep(1.5)
            nursery.cancel_scope.cancel()
        assert not publisher.fenced.is_set()


async def test_whoever_is_not_fenced_ends_with_the_call(publisher: Publisher) -> None:
    done = []

    async def work() -> None:
        await trio.lowlevel.checkpoint()
        done.append(True)

    await publisher.unless_fenced(work)
    assert done


@pytest.mark.parametrize("sent", [False, True])
async def test_a_number_that_the_servers_lost_is_passed_over(
    sent: bool,
    index: Index,
    publisher: Publisher,
    servers: FakeServers,
    reader: Reader,
    autojump_clock: object,
    expect_log: ExpectLog,
) -> None:
    """They know its ids and have no article; what was held back before is not forgotten."""
    expect_log("passed over|lost by the servers")
    await publisher.publish()
    waiting = make_file(index, b"waiting", size=BLOCK)
    stage(index, waiting, 0)
    make_file(index, b"one")
    await publisher.publish()
    make_file(index, b"two")
    if sent:
        with trio.CancelScope() as scope:
            servers.after_post = lambda article: scope.cancel()
            await publisher.publish()
        servers.after_post = lambda article: None
    for copy in range(4):
        servers.articles[publisher._sender.record_id(2, copy)] = b"lost"
    assert await publisher.publish() == 3
    taken = reader.checkpoint(3)
    assert taken is not None
    assert taken.record.snapshot is not None
    assert reader.state(3).one("SELECT count(*) FROM dirents") == [(2,)]
    upload(index, waiting, 0, b"x" * BLOCK)
    assert await publisher.publish() == 4
    assert reader.state(4).rows() == rows_of(index)
    assert not publisher.fenced.is_set()


async def test_a_number_is_not_passed_over_while_a_server_is_away_that_may_have_its_record(
    tmp_path: Path,
    path: Path,
    servers: FakeServers,
    reader: Reader,
    autojump_clock: object,
    expect_log: ExpectLog,
) -> None:
    """Else two writers would go on, each with numbers of its own."""
    expect_log("read-only from now on")
    backup = await published_and_backed_up(path, servers, tmp_path)
    with open_index(path) as index, open_index(backup) as other:
        make_file(index, b"original")
        await publisher_of(index, servers, tmp_path).publish()
        make_file(other, b"copy")
        servers.altered["one"] = lambda body: b"something else" * 100
        servers.away.add("two")
        second = publisher_of(other, servers, tmp_path)
        with pytest.raises(NoHealthyServersError):
            await second.publish()
        servers.away.clear()
        with pytest.raises(FencedError):
            await second.publish()
    assert reader.last() == 1


async def test_servers_that_lose_everything_are_an_error(
    index: Index,
    publisher: Publisher,
    servers: FakeServers,
    autojump_clock: object,
    expect_log: ExpectLog,
) -> None:
    expect_log("passed over")
    for number in range(20):
        for copy in range(4):
            servers.articles[publisher._sender.record_id(number, copy)] = b"lost"
    with pytest.raises(CheckpointBlockedError):
        await publisher.publish()


async def test_a_new_writer_takes_over_and_the_old_one_is_fenced(
    tmp_path: Path,
    path: Path,
    servers: FakeServers,
    reader: Reader,
    autojump_clock: object,
    expect_log: ExpectLog,
) -> None:
    expect_log("read-only from now on")
    with make_index(path) as index:
        old = publisher_of(index, servers, tmp_path)
        await old.publish()
        make_file(index, b"one")
        await old.publish()
        record = reader.checkpoint(1)
        assert record is not None
        copy = tmp_path / "new.db"
        index.database.connection.execute("VACUUM INTO ?", (str(copy),))
        with open_index(copy) as recovered:
            recovered.chain.start(
                ChainState(os.urandom(8), number=1, record_hash=record.record.sha256)
            )
            new = publisher_of(recovered, servers, tmp_path)
            assert await new.publish() == 2
            assert reader.state(2).rows() == rows_of(recovered)
            taken = reader.checkpoint(2)
            assert taken is not None
            assert taken.record.snapshot is not None
            assert taken.record.previous == record.record.sha256
        make_file(index, b"too late")
        with pytest.raises(FencedError):
            await old.publish()
