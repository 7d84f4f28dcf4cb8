"""When posted articles are asked for, and what is made of the answers, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from tests.net.fakes import settings
from tests.net.test_providers import running
from tests.transfer.world import ExpectLog
from usenetfs.errors import (
    ArticleMissingError,
    DiskFullError,
    NoHealthyServersError,
    UsenetfsError,
)
from usenetfs.transfer.upload.post_check import AT_ONCE, EARLY, CheckTimes, PostChecker
from usenetfs.types import ArticleId, Lane, MessageId

TIMES = CheckTimes(first=0.5, ceiling=8.0, deadline=60.0, doubt_deadline=20.0)
ONE, ID = ArticleId(1), MessageId("<one@test.example>")

Answer = str | None | UsenetfsError

BETA_AWAY = NoHealthyServersError(
    "away", reasons={"alpha": "430 no", "beta": "refused"}, missing={"alpha"}
)


class World:
    """The servers' answers and what the checker made of them, each with its time."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.answer: Callable[[MessageId], Answer] = lambda _: None
        self.ours = True
        self.asked: list[float] = []
        self.opened: list[float] = []
        self.outcomes: list[tuple[float, ArticleId, str]] = []
        self.errors: list[UsenetfsError] = []
        self.checker = PostChecker(self, self, TIMES, report=self.errors.append)

    @property
    def now(self) -> float:
        return trio.current_time() - self.began

    async def stat(self, message_id: MessageId, *, lane: Lane) -> str | None:
        await trio.lowlevel.checkpoint()
        assert lane is Lane.METADATA
        self.asked.append(self.now)
        answer = self.answer(message_id)
        if isinstance(answer, UsenetfsError):
            raise answer
        return answer

    def seen(self, article: ArticleId, *, verified: bool) -> None:
        self.outcomes.append((self.now, article, "verified" if verified else "seen"))

    def not_seen(self, article: ArticleId, error: UsenetfsError) -> None:
        self.outcomes.append((self.now, article, str(error)))

    async def settle_doubt(self, article: ArticleId, message_id: MessageId) -> bool:
        await trio.lowlevel.checkpoint()
        self.opened.append(self.now)
        if self.answer(message_id) is None:
            raise ArticleMissingError("430")
        return self.ours


@asynccontextmanager
async def checking() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World()
        nursery.start_soon(world.checker.run)
        yield world
        nursery.cancel_scope.cancel()


async def test_waits_grow_until_it_is_seen(autojump_clock: MockClock) -> None:
    async with checking() as world:
        world.answer = lambda _: "alpha" if world.now > 20 else None
        world.checker.posted(ONE, ID, "alpha")
        await trio.sleep(100)
        gaps = [b - a for a, b in zip(world.asked, world.asked[1:], strict=False)]
        assert world.asked[0] == pytest.approx(0.5)
        assert gaps == pytest.approx([1, 2, 4, 8, 8])
        assert world.outcomes == [(world.asked[-1], ONE, "seen")]
        assert world.errors == []


async def test_articles_posted_one_after_the_other_are_asked_for_together(
    autojump_clock: MockClock,
) -> None:
    async with checking() as world:
        world.answer = lambda _: "alpha"
        for number in range(50):
            world.checker.posted(ArticleId(number), ID, "alpha")
            await trio.sleep(0.01)
        await trio.sleep(5)
        assert len(world.outcomes) == 50
        assert len(set(world.asked)) < 10
        assert min(world.asked) >= TIMES.first


async def test_no_more_are_asked_for_at_once_than_there_is_room(autojump_clock: MockClock) -> None:
    async with checking() as world:
        gate = trio.Event()
        under_way = 0

        async def slow(message_id: MessageId, *, lane: Lane) -> str | None:
            nonlocal under_way
            under_way += 1
            await gate.wait()
            return "alpha"

        world.stat = slow  # type: ignore[method-assign]
        for number in range(3 * AT_ONCE):
            world.checker.posted(ArticleId(number), ID, "alpha")
        await trio.sleep(5)
        assert under_way == AT_ONCE
        assert world.checker.waiting == 2 * AT_ONCE
        gate.set()
        await trio.sleep(5)
        assert len(world.outcomes) == 3 * AT_ONCE


async def test_what_is_never_there_is_given_up_at_the_deadline(
    autojump_clock: MockClock, expect_log: Callable[[str], None]
) -> None:
    expect_log("did not appear on any server")
    async with checking() as world:
        world.checker.posted(ONE, ID, "alpha")
        await trio.sleep(200)
        ((when, article, said),) = world.outcomes
        assert article == ONE
        assert TIMES.deadline <= when <= TIMES.deadline + TIMES.ceiling
        assert said.startswith(f"article {ID}: alpha accepted it, and it did not appear")
        assert world.checker.waiting == 0


async def test_time_without_an_answer_does_not_count(autojump_clock: MockClock) -> None:
    async with checking() as world:
        down = NoHealthyServersError("away", reasons={"alpha": "refused", "beta": "refused"})
        world.answer = lambda _: down if world.now < 300 else "alpha"
        world.checker.posted(ONE, ID, "alpha")
        await trio.sleep(400)
        assert [said for _, _, said in world.outcomes] == ["seen"]
        assert world.errors
        assert world.errors[0] is down


async def test_another_server_that_is_away_keeps_nothing_waiting(
    autojump_clock: MockClock, expect_log: Callable[[str], None]
) -> None:
    """The server that took the article says that it is not there: the other cannot help."""
    expect_log("did not appear")
    async with checking() as world:
        world.answer = lambda _: BETA_AWAY
        world.checker.posted(ONE, ID, "alpha")
        await trio.sleep(200)
        ((when, _, _),) = world.outcomes
        assert when <= TIMES.deadline + TIMES.ceiling


async def test_the_servers_themselves_say_it_so_that_it_is_understood(
    autojump_clock: MockClock, expect_log: Callable[[str], None]
) -> None:
    """``alpha`` lost what it accepted, and ``beta`` is away for good: the data is sent again."""
    expect_log("did not appear|given up")
    async with running(settings("alpha"), settings("beta", priority=1)) as (providers, fakes):
        fakes["beta"].reachable = False
        async with checking() as world:
            world.checker = PostChecker(providers, world, TIMES, report=world.errors.append)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.checker.run)
                world.checker.posted(ONE, ID, "alpha")
                await trio.sleep(200)
                nursery.cancel_scope.cancel()
            ((when, _, said),) = world.outcomes
            assert when <= TIMES.deadline + TIMES.ceiling
            assert "alpha accepted it" in said


async def test_an_id_of_the_servers_own_is_opened(autojump_clock: MockClock) -> None:
    async with checking() as world:
        world.answer = lambda _: "alpha" if world.now > 3 else None
        world.checker.posted(ONE, ID, "alpha", rewritten=True)
        await trio.sleep(30)
        assert world.asked == []
        assert [said for _, _, said in world.outcomes] == ["verified"]
        world.ours = False
        world.checker.posted(ArticleId(2), ID, "alpha", rewritten=True)
        await trio.sleep(30)
        assert world.outcomes[-1][1:] == (
            ArticleId(2),
            f"article {ID}: alpha accepted it, and what is there is not ours",
        )


async def test_one_that_does_not_come_holds_up_no_other(autojump_clock: MockClock) -> None:
    async with checking() as world:
        world.answer = lambda message_id: None if message_id == ID else "alpha"
        world.checker.posted(ONE, ID, "alpha")
        for number in range(2, 500):
            world.checker.posted(ArticleId(number), MessageId(f"<{number}@t.example>"), "alpha")
        await trio.sleep(1)
        assert {article for _, article, _ in world.outcomes} == set(range(2, 500))


async def test_one_in_doubt_is_looked_for_at_once(
    autojump_clock: MockClock, expect_log: Callable[[str], None]
) -> None:
    expect_log("did not appear")
    async with checking() as world:
        world.checker.in_doubt(ONE, ID)
        await trio.sleep(100)
        assert world.opened[0] == 0
        ((when, _, said),) = world.outcomes
        assert TIMES.doubt_deadline <= when <= TIMES.doubt_deadline + TIMES.ceiling
        assert "accepted" not in said


async def test_who_waits_does_not_wait_for_the_whole_delay(autojump_clock: MockClock) -> None:
    async with checking() as world:
        world.answer = lambda _: "alpha"
        world.checker.posted(ONE, ID, "alpha")
        await trio.sleep(0.01)
        world.checker.hurry()
        await trio.sleep(5)
        assert world.asked == pytest.approx([TIMES.first / EARLY])
        assert world.outcomes == [(world.asked[0], ONE, "seen")]


async def test_an_early_check_that_finds_nothing_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    async with checking() as world:
        world.answer = lambda _: "alpha" if world.now > 20 else None
        world.checker.posted(ONE, ID, "alpha")
        for _ in range(10):
            world.checker.hurry()
            await trio.sleep(0.03)
        await trio.sleep(100)
        early, *regular = world.asked
        assert early == pytest.approx(TIMES.first / EARLY)
        assert regular[0] == pytest.approx(TIMES.first)
        gaps = [b - a for a, b in pairwise(regular)]
        assert gaps == pytest.approx([1, 2, 4, 8, 8])
        assert world.errors == []


async def test_a_loss_that_cannot_be_written_down_is_told_again_later(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, expect_log: ExpectLog
) -> None:
    """Also where the one server said no and another is out of reach."""
    expect_log("did not appear")
    async with checking() as world:
        world.answer = lambda _: BETA_AWAY
        written, full = world.not_seen, True

        def not_seen(article: ArticleId, error: UsenetfsError) -> None:
            if full:
                raise DiskFullError("no space left")
            written(article, error)

        monkeypatch.setattr(world, "not_seen", not_seen)
        world.checker.posted(ONE, ID, "alpha")
        await trio.sleep(2 * TIMES.deadline)
        assert any(isinstance(error, DiskFullError) for error in world.errors)
        assert world.outcomes == []
        full = False
        await trio.sleep(2 * TIMES.deadline)
        assert [article for _, article, _ in world.outcomes] == [ONE]
