"""Fetches that several wait for, that become urgent, that are given up, and that are hedged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from usenetfs.article.container import Container, Kind
from usenetfs.transfer.flights import Flight, Flights
from usenetfs.types import ArticleId, Lane

ARTICLE = ArticleId(5)
CONTAINER = Container(Kind.DATA, (), (), memoryview(b""))


class Server:
    """Fetches end when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Flight] = []
        self.answers: trio.Event = trio.Event()
        self.error: Exception | None = None
        self.moves: list[Lane] = []
        self.sent = False

    async def fetch(self, flight: Flight) -> Container:
        self.asked.append(flight)
        flight.urgency.asking("one", 1, lambda: self.sent, self.moves.append)
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return CONTAINER


@asynccontextmanager
async def flying() -> AsyncIterator[tuple[Flights, Server, trio.Nursery]]:
    server = Server()
    async with trio.open_nursery() as nursery:
        yield Flights(nursery, server.fetch), server, nursery
        nursery.cancel_scope.cancel()


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_one_fetch_for_all_and_a_reader_hurries_it() -> None:
    async with flying() as (flights, server, nursery):
        flight = flights.start(ARTICLE, 0, Lane.READAHEAD)
        await settle()
        got: list[Container] = []

        async def reader() -> None:
            got.append(await flights.wait(flights.start(ARTICLE, 0, Lane.READER)))

        for _ in range(3):
            nursery.start_soon(reader)
        await settle()
        assert server.asked == [flight]
        assert server.moves == [Lane.READER]
        assert flights.reader_waits.is_set()
        server.answers.set()
        await settle()
        assert got == [CONTAINER] * 3
        assert len(flights) == 0


async def test_read_ahead_never_slows_down_a_reader() -> None:
    async with flying() as (flights, server, _):
        flights.start(ARTICLE, 0, Lane.READER)
        await settle()
        flight = flights.start(ARTICLE, 0, Lane.READAHEAD)
        assert flight.urgency.lane is Lane.READER
        assert server.moves == []


async def test_what_has_not_left_can_be_given_up_and_asked_for_anew() -> None:
    async with flying() as (flights, server, _):
        flights.start(ARTICLE, 0, Lane.READAHEAD)
        await settle()
        assert flights.cancel_unsent(ARTICLE)
        assert not flights.cancel_unsent(ARTICLE)
        assert len(flights) == 0
        again = flights.start(ARTICLE, 0, Lane.READER)
        server.answers.set()
        assert await flights.wait(again) is CONTAINER
        assert len(server.asked) == 2


async def test_what_has_left_or_is_waited_for_is_not_given_up() -> None:
    async with flying() as (flights, server, nursery):
        flight = flights.start(ARTICLE, 0, Lane.READAHEAD)
        await settle()
        server.sent = True
        assert not flights.cancel_unsent(ARTICLE)
        server.sent = False
        nursery.start_soon(flights.wait, flight)
        await settle()
        assert not flights.cancel_unsent(ARTICLE)
        assert flight.waiting == 1


async def test_an_error_reaches_everybody_and_is_forgotten() -> None:
    async with flying() as (flights, server, nursery):
        server.error = RuntimeError("lost")
        caught: list[str] = []

        async def reader() -> None:
            with pytest.raises(RuntimeError, match="lost"):
                await flights.wait(flights.start(ARTICLE, 0, Lane.READER))
            caught.append("lost")

        nursery.start_soon(reader)
        nursery.start_soon(reader)
        await settle()
        server.answers.set()
        await settle()
        assert caught == ["lost"] * 2
        server.error = None
        assert await flights.wait(flights.start(ARTICLE, 0, Lane.READER)) is CONTAINER


async def test_the_first_of_two_runners_counts_and_ends_the_other() -> None:
    async with flying() as (flights, server, _):
        flight = flights.start(ARTICLE, 0, Lane.READER)
        await settle()
        other = Container(Kind.DATA, (), (), memoryview(b"other"))

        async def hedge(_: Flight) -> Container:
            await trio.lowlevel.checkpoint()
            return other

        flights.run(flight, hedge)
        assert await flights.wait(flight) is other
        await settle()
        assert flight.runners == 0
        server.answers.set()
        await settle()
        assert flight.container is other


async def test_an_error_of_one_runner_leaves_it_to_the_other() -> None:
    async with flying() as (flights, server, _):
        flight = flights.start(ARTICLE, 0, Lane.READER)
        await settle()

        async def hedge(_: Flight) -> Container:
            await trio.lowlevel.checkpoint()
            raise RuntimeError("not here")

        flights.run(flight, hedge)
        await settle()
        assert not flight.done.is_set()
        server.answers.set()
        assert await flights.wait(flight) is CONTAINER


async def test_who_is_cancelled_takes_nothing_from_the_others(autojump_clock: MockClock) -> None:
    async with flying() as (flights, server, _):
        flight = flights.start(ARTICLE, 0, Lane.READER)
        with trio.move_on_after(1) as scope:
            await flights.wait(flight)
        assert scope.cancelled_caught
        server.answers.set()
        assert await flights.wait(flight) is CONTAINER
