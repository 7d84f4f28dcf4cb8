"""When a posted article is asked for again: by the policy of its kind, which counts it."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.transfer.world import ExpectLog
from usenetfs.errors import UsenetfsError
from usenetfs.net.retry import RetryCounts, RetryManager, RetryPolicy, Strategy
from usenetfs.transfer.upload.post_check import CheckTimes, PostChecker
from usenetfs.types import ArticleId, Lane, MessageId


class NeverThere:
    """A server that has nothing, and those who are told so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.over = trio.Event()

    async def stat(self, message_id: MessageId, *, lane: Lane) -> str | None:
        await trio.lowlevel.checkpoint()
        self.asked.append(trio.current_time())
        return None

    def seen(self, article: ArticleId, *, verified: bool) -> None:
        raise AssertionError("it was never there")

    def not_seen(self, article: ArticleId, error: UsenetfsError) -> None:
        self.over.set()

    async def settle_doubt(self, article: ArticleId, message_id: MessageId) -> bool:
        raise AssertionError("nothing is in doubt")


async def test_checks_follow_the_policy(autojump_clock: MockClock, expect_log: ExpectLog) -> None:
    expect_log("did not appear")
    retries = RetryManager(kinds={"stat": RetryPolicy(Strategy.LINEAR, None, first=2.0, jitter=0)})
    times = CheckTimes(first=1.0, deadline=20.0, again=lambda n: retries.wait_after("stat", n))
    server = NeverThere()
    checker = PostChecker(server, server, times, report=lambda error: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checker.run)
        checker.posted(ArticleId(1), MessageId("<a@b.example>"), "news")
        await server.over.wait()
        nursery.cancel_scope.cancel()
    assert server.asked == [1, 1 + 2, 3 + 4, 7 + 6, 13 + 8]
    assert retries.counts() == {"stat": RetryCounts(attempts=4, retries=4, given_up=0)}
