"""A new writer goes on from what the servers gave: cheaply where the chain is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkpoint.chains import Reader, once_only, publisher_of, rows_of
from tests.checkpoint.test_publish import make_index, open_index
from tests.checkpoint.test_replay import reader_of
from tests.index.world import BLOCK, make_file, upload
from tests.transfer.world import KEYS, ExpectLog, FakeServers
from usenetfs.article.message_ids import message_id
from usenetfs.checkpoint.chain import ChainReader
from usenetfs.checkpoint.publish import Publisher
from usenetfs.checkpoint.record import Record
from usenetfs.checkpoint.replay import rebuild
from usenetfs.daemon.recovery import FoundState, prepare_takeover
from usenetfs.errors import FencedError
from usenetfs.index.index import Index
from usenetfs.types import article_id


@pytest.fixture
def servers() -> FakeServers:
    made = FakeServers()
    once_only(made)
    return made


@pytest.fixture
def reader(servers: FakeServers) -> Reader:
    return Reader(servers)


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Index]:
    with make_index(tmp_path / "old.db") as index:
        yield index


def change(index: Index, name: bytes, *, large: bool = False) -> None:
    """Something to publish; ``large``: more than is carried on from the same base."""
    names = [name] + [name + os.urandom(100) for _ in range(1500 if large else 0)]
    for each in names:
        make_file(index, each)
    upload(index, make_file(index, name + b" content", size=BLOCK), 0, os.urandom(BLOCK))


async def recover(servers: FakeServers, path: Path, newest: int) -> tuple[ChainReader, Record]:
    """As ``usenetfs recover`` does."""
    chain = reader_of(servers)
    assert await chain.find_end() == newest
    found = FoundState(chain, await chain.route(newest), newest, posted_after=False)
    record = await rebuild(chain, path, newest=newest, writable=True)
    await prepare_takeover(found, record, path, directory_key=KEYS.directory_key)
    return chain, record


async def published(publisher: Publisher, reader: Reader, index: Index) -> Record:
    """The next checkpoint, which says what the index is."""
    number = await publisher.publish()
    assert reader.state(number).rows() == rows_of(index)
    opened = reader.checkpoint(number)
    assert opened is not None
    return opened.record


@pytest.mark.parametrize(
    "history",
    [
        pytest.param("", id="only the first"),
        pytest.param("s", id="small changes"),
        pytest.param("sls", id="a base that moved"),
        pytest.param("sl", id="a long changeset"),
    ],
)
async def test_a_whole_chain_is_gone_on_with(
    history: str,
    old: Index,
    tmp_path: Path,
    servers: FakeServers,
    reader: Reader,
    autojump_clock: object,
    expect_log: ExpectLog,
) -> None:
    expect_log("read-only from now on")
    old_writer = publisher_of(old, servers, tmp_path)
    newest = await old_writer.publish()
    for number, step in enumerate(history):
        change(old, b"old %d" % number, large=step == "l")
        newest = await old_writer.publish()
    path = tmp_path / "new.db"
    _, record = await recover(servers, path, newest)
    with open_index(path) as index:
        assert index.identity.epoch == record.epoch + 1
        new_writer = publisher_of(index, servers, tmp_path)
        posts = servers.calls["post"]
        taken = await published(new_writer, reader, index)
        assert taken.number == newest + 1
        assert taken.epoch == record.epoch + 1
        assert taken.writer != record.writer
        assert taken.snapshot is None
        # two copies, the first of them twice, and two more of what it depends on
        assert servers.calls["post"] - posts <= 5
        # one long change of the new writer, and one on top of it
        change(index, b"new", large=True)
        await published(new_writer, reader, index)
        change(index, b"newer")
        await published(new_writer, reader, index)
        change(old, b"too late")
        with pytest.raises(FencedError):
            await old_writer.publish()
        assert index.check() == []
    follower = reader_of(servers)
    last = await follower.find_end()
    assert last is not None
    await rebuild(follower, tmp_path / "again.db", newest=last, writable=False)


async def test_what_a_writer_posted_that_was_shut_out_at_once_keeps_its_numbers(
    old: Index,
    tmp_path: Path,
    servers: FakeServers,
    reader: Reader,
    autojump_clock: object,
    expect_log: ExpectLog,
) -> None:
    """No record names its epoch; the next writer computes none of its ids all the same."""
    expect_log("read-only from now on")
    old_writer = publisher_of(old, servers, tmp_path)
    newest = await old_writer.publish()
    await recover(servers, tmp_path / "first.db", newest)
    change(old, b"meanwhile")
    newest = await old_writer.publish()
    with open_index(tmp_path / "first.db") as index:
        change(index, b"in vain", large=True)
        with pytest.raises(FencedError):
            await publisher_of(index, servers, tmp_path).publish()
        vain = index.identity.epoch
    numbers = (article_id(vain, number) for number in range(4))
    assert any(message_id(KEYS.message_id_key, a, 0) in servers.articles for a in numbers)
    await recover(servers, tmp_path / "second.db", newest)
    with open_index(tmp_path / "second.db") as index:
        assert index.identity.epoch > vain
        change(index, b"at last", large=True)
        taken = await published(publisher_of(index, servers, tmp_path), reader, index)
    assert taken.number == newest + 1


async def test_what_the_first_checkpoint_depends_on_has_more_copies(
    old: Index, tmp_path: Path, servers: FakeServers, reader: Reader, autojump_clock: object
) -> None:
    old_writer = publisher_of(old, servers, tmp_path)
    await old_writer.publish()
    change(old, b"long", large=True)
    newest = await old_writer.publish()
    assert reader.copies(newest) == 2
    path = tmp_path / "new.db"
    await recover(servers, path, newest)
    with open_index(path) as index:
        taken = await published(publisher_of(index, servers, tmp_path), reader, index)
    assert taken.base == newest
    assert reader.copies(newest) == 4


async def test_behind_a_lost_checkpoint_the_first_one_has_a_snapshot(
    old: Index,
    tmp_path: Path,
    servers: FakeServers,
    reader: Reader,
    autojump_clock: object,
    expect_log: ExpectLog,
) -> None:
    expect_log("gave a wrong article")
    old_writer = publisher_of(old, servers, tmp_path)
    await old_writer.publish()
    change(old, b"one")
    await old_writer.publish()
    change(old, b"two")
    newest = await old_writer.publish()
    for copy in range(2):
        servers.articles[old_writer._sender.record_id(newest, copy)] = b"damaged"
    path = tmp_path / "new.db"
    _, record = await recover(servers, path, newest)
    assert record.number == newest - 1
    with open_index(path) as index:
        taken = await published(publisher_of(index, servers, tmp_path), reader, index)
    assert taken.snapshot is not None
    assert taken.number == newest + 1


async def test_where_anything_was_lost_the_first_checkpoint_has_a_snapshot(
    old: Index, tmp_path: Path, servers: FakeServers, reader: Reader, autojump_clock: object
) -> None:
    newest = await publisher_of(old, servers, tmp_path).publish()
    path = tmp_path / "new.db"
    chain = reader_of(servers)
    found = FoundState(chain, await chain.route(newest), newest, posted_after=False)
    record = await rebuild(chain, path, newest=newest, writable=True)
    chain.losses.records[0] = "gone around"
    await prepare_takeover(found, record, path, directory_key=KEYS.directory_key)
    with open_index(path) as index:
        taken = await published(publisher_of(index, servers, tmp_path), reader, index)
    assert taken.snapshot is not None
