"""Fetches that several wait for, that become urgent, that are given up, and that are hedged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from usenetfs.article.container import Container, Kind
from usenetfs.errors import NetworkError
from usenetfs.transfer.fetch.fetches import Fetch, Fetches
from usenetfs.types import ArticleId, Lane

ARTICLE = ArticleId(5)
CONTAINER = Container(Kind.DATA, (), (), memoryview(b""))


class Server:
    """Fetches end when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Fetch] = []
        self.answers: trio.Event = trio.Event()
        self.error: Exception | None = None
        self.moves: list[Lane] = []
        self.sent = False

    async def fetch(self, fetch: Fetch) -> Container:
        self.asked.append(fetch)
        fetch.urgency.asking("one", 1, lambda: self.sent, self.moves.append)
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return CONTAINER


@asynccontextmanager
async def flying() -> AsyncIterator[tuple[Fetches, Server, trio.Nursery]]:
    server = Server()
    async with trio.open_nursery() as nursery:
        yield Fetches(nursery, server.fetch), server, nursery
        nursery.cancel_scope.cancel()


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_one_fetch_for_all_and_a_reader_hurries_it() -> None:
    async with flying() as (fetches, server, nursery):
        fetch = fetches.start(ARTICLE, 0, Lane.READAHEAD)
        await settle()
        got: list[Container] = []

        async def reader() -> None:
            got.append(await fetches.wait(fetches.start(ARTICLE, 0, Lane.READER)))

        for _ in range(3):
            nursery.start_soon(reader)
        await settle()
        assert server.asked == [fetch]
        assert server.moves == [Lane.READER]
        assert fetches.reader_waits.is_set()
        server.answers.set()
        await settle()
        assert got == [CONTAINER] * 3
        assert len(fetches) == 0


async def test_read_ahead_never_slows_down_a_reader() -> None:
    async with flying() as (fetches, server, _):
        fetches.start(ARTICLE, 0, Lane.READER)
        await settle()
        fetch = fetches.start(ARTICLE, 0, Lane.READAHEAD)
        assert fetch.urgency.lane is Lane.READER
        assert server.moves == []


async def test_what_has_not_left_can_be_given_up_and_asked_for_anew() -> None:
    async with flying() as (fetches, server, _):
        fetches.start(ARTICLE, 0, Lane.READAHEAD)
        await settle()
        assert fetches.cancel_unsent(ARTICLE)
        assert not fetches.cancel_unsent(ARTICLE)
        assert len(fetches) == 0
        again = fetches.start(ARTICLE, 0, Lane.READER)
        server.answers.set()
        assert await fetches.wait(again) is CONTAINER
        assert len(server.asked) == 2


async def test_what_has_left_or_is_waited_for_is_not_given_up() -> None:
    async with flying() as (fetches, server, nursery):
        fetch = fetches.start(ARTICLE, 0, Lane.READAHEAD)
        await settle()
        server.sent = True
        assert not fetches.cancel_unsent(ARTICLE)
        server.sent = False
        nursery.start_soon(fetches.wait, fetch)
        await settle()
        assert not fetches.cancel_unsent(ARTICLE)
        assert fetch.waiting == 1


async def test_an_error_reaches_everybody_and_is_forgotten() -> None:
    async with flying() as (fetches, server, nursery):
        server.error = NetworkError("lost")
        caught: list[str] = []

        async def reader() -> None:
            with pytest.raises(NetworkError, match="lost"):
                await fetches.wait(fetches.start(ARTICLE, 0, Lane.READER))
            caught.append("lost")

        nursery.start_soon(reader)
        nursery.start_soon(reader)
        await settle()
        server.answers.set()
        await settle()
        assert caught == ["lost"] * 2
        server.error = None
        assert await fetches.wait(fetches.start(ARTICLE, 0, Lane.READER)) is CONTAINER


async def test_the_first_of_two_runners_counts_and_ends_the_other() -> None:
    async with flying() as (fetches, server, _):
        fetch = fetches.start(ARTICLE, 0, Lane.READER)
        await settle()
        other = Container(Kind.DATA, (), (), memoryview(b"other"))

        async def hedge(_: Fetch) -> Container:
            await trio.lowlevel.checkpoint()
            return other

        fetches.run(fetch, hedge)
        assert await fetches.wait(fetch) is other
        await settle()
        assert fetch.runners == 0
        server.answers.set()
        await settle()
        assert fetch.container is other


async def test_an_error_of_one_runner_leaves_it_to_the_other() -> None:
    async with flying() as (fetches, server, _):
        fetch = fetches.start(ARTICLE, 0, Lane.READER)
        await settle()

        async def hedge(_: Fetch) -> Container:
            await trio.lowlevel.checkpoint()
            raise NetworkError("not here")

        fetches.run(fetch, hedge)
        await settle()
        assert not fetch.done.is_set()
        server.answers.set()
        assert await fetches.wait(fetch) is CONTAINER


async def test_who_is_cancelled_takes_nothing_from_the_others(autojump_clock: MockClock) -> None:
    async with flying() as (fetches, server, _):
        fetch = fetches.start(ARTICLE, 0, Lane.READER)
        with trio.move_on_after(1) as scope:
            await fetches.wait(fetch)
        assert scope.cancelled_caught
        server.answers.set()
        assert await fetches.wait(fetch) is CONTAINER
