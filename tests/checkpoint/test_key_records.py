"""Key records: the newest counts, taken numbers are passed over, doubt is no loss."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from tests.transfer.world import FakeServers
from usenetfs.article.key_record import KeyRecordLocator
from usenetfs.article.wire import OutgoingArticle
from usenetfs.checkpoint.key_records import COPIES, KeyRecords
from usenetfs.errors import (
    DataUnavailableError,
    DuplicateArticleError,
    NetworkError,
    NoHealthyServersError,
    PostInDoubtError,
)
from usenetfs.net.retry import RetryManager, RetryPolicy

ExpectLog = Callable[[str], None]
GROUPS = ["alt.binaries.test"]
LOCATOR = KeyRecordLocator.from_master(bytes(range(32)))
OTHER = KeyRecordLocator.from_master(bytes(32))


def records(servers: FakeServers, *, patience: float = 30.0) -> KeyRecords:
    return KeyRecords(
        servers, retries=RetryManager(RetryPolicy(first=0.1, retries=5)), patience=patience
    )


async def test_what_is_published_is_found(autojump_clock: trio.testing.MockClock) -> None:
    servers = FakeServers()
    keys = records(servers)
    assert await keys.find(LOCATOR) is None
    assert await keys.publish(LOCATOR, b"first", groups=GROUPS) == 0
    assert len(servers.articles) == COPIES
    assert await keys.publish(LOCATOR, b"second", groups=GROUPS) == 1
    found = await keys.find(LOCATOR)
    assert found is not None
    assert (found.generation, found.key_file) == (1, b"second")
    assert await keys.find(OTHER) is None


async def test_one_copy_is_enough_and_an_older_one_better_than_none(
    autojump_clock: trio.testing.MockClock,
) -> None:
    servers = FakeServers()
    keys = records(servers)
    for content in (b"first", b"second"):
        await keys.publish(LOCATOR, content, groups=GROUPS)
    del servers.articles[LOCATOR.message_id(1, 0)]
    found = await keys.find(LOCATOR)
    assert found is not None
    assert found.key_file == b"second"
    body = bytearray(servers.articles[LOCATOR.message_id(1, 1)])
    body[100] ^= 1
    servers.articles[LOCATOR.message_id(1, 1)] = bytes(body)
    found = await keys.find(LOCATOR)
    assert found is not None
    assert found.key_file == b"first"
    for copy in range(COPIES):
        del servers.articles[LOCATOR.message_id(0, copy)]
    with pytest.raises(DataUnavailableError, match="cannot be read"):
        await keys.find(LOCATOR)


async def test_a_taken_number_is_passed_over(autojump_clock: trio.testing.MockClock) -> None:
    servers = FakeServers()

    def known(article: OutgoingArticle) -> None:
        if article.message_id == LOCATOR.message_id(0, 0):
            raise DuplicateArticleError("441 435 duplicate")

    servers.before_post = known
    assert await records(servers).publish(LOCATOR, b"content", groups=GROUPS) == 1
    found = await records(servers).find(LOCATOR)
    assert found is not None
    assert found.generation == 1


async def test_a_lost_reply_is_asked_about_again(autojump_clock: trio.testing.MockClock) -> None:
    servers = FakeServers()
    lost: list[str] = []

    def lose(article: OutgoingArticle) -> None:
        if article.message_id not in lost:
            lost.append(article.message_id)
            raise PostInDoubtError("the connection ended")

    def known(article: OutgoingArticle) -> None:
        if article.message_id in servers.articles:
            raise DuplicateArticleError("441 435 duplicate")

    servers.after_post, servers.before_post = lose, known
    assert await records(servers).publish(LOCATOR, b"content", groups=GROUPS) == 0
    assert len(lost) == COPIES


async def test_what_does_not_appear_is_an_error(autojump_clock: trio.testing.MockClock) -> None:
    servers = FakeServers()
    servers.invisible.add(LOCATOR.message_id(0, 0))
    with pytest.raises(NetworkError, match="does not appear"):
        await records(servers).publish(LOCATOR, b"content", groups=GROUPS)


async def test_no_server_is_not_no_record(autojump_clock: trio.testing.MockClock) -> None:
    servers = FakeServers()
    servers.down = True
    with pytest.raises(NoHealthyServersError):
        await records(servers, patience=5.0).find(LOCATOR)


async def test_a_wrong_article_on_one_server_hides_nothing_on_another(
    autojump_clock: trio.testing.MockClock,
) -> None:
    servers = FakeServers()
    keys = records(servers, patience=5.0)
    for content in (b"first", b"second"):
        await keys.publish(LOCATOR, content, groups=GROUPS)
    newest = [servers.articles[LOCATOR.message_id(1, copy)] for copy in range(COPIES)]
    servers.altered["one"] = lambda body: b"something else" * 100 if body in newest else body
    found = await keys.find(LOCATOR)
    assert found is not None
    assert found.key_file == b"second"
    servers.away.add("two")  # then nobody knows, and the older one is not what counts
    with pytest.raises(NoHealthyServersError):
        await keys.find(LOCATOR)
