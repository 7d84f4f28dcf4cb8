"""A pool whose server ends sessions, falls silent, refuses or fails, in virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.net.fakes import Session
from tests.net.pools import body, outcome, running
from usenetfs.errors import (
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    UsenetfsError,
)


@pytest.mark.parametrize("pause", [0, 1])
async def test_a_session_that_ended_while_idle_is_noticed_without_error(
    pause: float,
    autojump_clock: MockClock,
) -> None:
    async with running(warm_connections=1) as (server, pool):
        server.add(1)
        await pool.perform(body(1))
        server.drop_all()
        await trio.sleep(pause)
        assert (await pool.perform(body(1))).code == 222
        assert server.dials == 2
        if pause:
            assert pool.status().errors == 0


@pytest.mark.parametrize("words", [None, "400 too busy"])
async def test_a_server_that_hangs_up_on_an_idle_session_is_dialled_ever_less(
    words: str | None, expect_log: Callable[[str], None], autojump_clock: MockClock
) -> None:
    """The warm connection is wanted all the time, and nothing was owed when it ended."""
    expect_log("given up")
    async with running(warm_connections=1) as (server, pool), trio.open_nursery() as nursery:

        async def hang_up() -> None:
            while True:
                await trio.sleep(0.1)
                for session in list(server.sessions):
                    if words is not None:
                        session.say(words)
                    session.drop()

        nursery.start_soon(hang_up)
        await trio.sleep(600)
        assert 10 < server.dials < 40
        assert pool.status().state == "down"
        assert pool.last_error is not None
        nursery.cancel_scope.cancel()


async def test_a_session_that_idled_for_too_long_is_no_failure(autojump_clock: MockClock) -> None:
    async with running(warm_connections=1) as (server, pool):
        for _ in range(10):
            await trio.sleep(20)
            server.drop_all()
        await trio.sleep(1)
        assert server.dials == 11
        assert pool.status().errors == 0
        server.add(1)
        assert (await pool.perform(body(1))).code == 222


@pytest.mark.parametrize("words", ["400 idle for too long", "205 bye", "503 timeout"])
async def test_a_session_that_the_server_ends_under_a_request_is_replaced(
    words: str, autojump_clock: MockClock
) -> None:
    async with running() as (server, pool):
        server.add(1)

        async def end(session: Session, verb: str, argument: str) -> bool:
            if verb == "BODY" and session.number == 1:
                session.say(words)
                session.drop()
                return words[0] != "5"
            return False

        server.hook = end
        response = await pool.perform(body(1))
        assert response.code in {222, 503}


async def test_a_request_is_given_up_after_three_connections(
    expect_log: Callable[[str], None], autojump_clock: MockClock
) -> None:
    expect_log("given up")
    async with running() as (server, pool):

        async def die(session: Session, verb: str, argument: str) -> bool:
            if verb == "BODY":
                session.drop()
                await trio.sleep_forever()
            return False

        server.hook = die
        with pytest.raises(ConnectionLostError):
            await pool.perform(body(1))
        assert server.counts["BODY"] == 3
        assert pool.status().retries == {"connection_lost": 2}


async def test_idle_connections_are_asked_for_the_date_and_replaced_when_silent(
    autojump_clock: MockClock,
) -> None:
    async with running(warm_connections=1) as (server, pool):
        await trio.sleep(95)
        assert server.counts["DATE"] == 3
        mute = True

        async def silent(session: Session, verb: str, argument: str) -> bool:
            return mute and verb == "DATE"

        server.hook = silent
        await trio.sleep(50)
        mute = False
        await trio.sleep(5)
        assert server.dials == 2
        assert pool.status().open == 1
        assert "idle check" in str(pool.last_error)


async def test_surplus_connections_are_closed_in_time(autojump_clock: MockClock) -> None:
    async with running(warm_connections=1) as (server, pool):
        server.round_trip = 0.5
        server.add(1)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(pool.perform, body(1))
        assert len(server.sessions) > 1
        await trio.sleep(180)
        assert len(server.sessions) == 1
        assert server.counts["QUIT"] >= 1


async def test_a_silent_server_costs_the_response_timeout_and_no_more(
    expect_log: Callable[[str], None], autojump_clock: MockClock
) -> None:
    expect_log("given up")
    async with running() as (server, pool):

        async def silent(session: Session, verb: str, argument: str) -> bool:
            return verb == "BODY"

        server.hook = silent
        started = trio.current_time()
        with pytest.raises(ConnectionLostError, match="no answer within 20 s"):
            await pool.perform(body(1))
        assert trio.current_time() - started < 3 * (20 + 2 + 2)


async def test_a_dripping_server_is_given_up_after_the_article_timeout(
    expect_log: Callable[[str], None], autojump_clock: MockClock
) -> None:
    expect_log("given up")
    async with running() as (server, pool):

        async def drip(session: Session, verb: str, argument: str) -> bool:
            if verb != "BODY":
                return False
            session.say("222 0 x")
            while True:
                session.say(b"x")
                await trio.sleep(1)

        server.hook = drip
        started = trio.current_time()
        with pytest.raises(ConnectionLostError, match="no complete answer"):
            await pool.perform(body(1))
        assert trio.current_time() - started < 3 * (60 + 4)


async def test_a_connection_that_only_fails_is_replaced(autojump_clock: MockClock) -> None:
    async with running(connections=1) as (server, pool):

        async def fail(session: Session, verb: str, argument: str) -> bool:
            if verb == "BODY":
                session.say("503 program fault")
            return verb == "BODY"

        server.hook = fail
        for _ in range(4):
            assert (await pool.perform(body(1))).code == 503
            assert server.dials == 1
        await trio.sleep(5)
        assert (await pool.perform(body(1))).code == 503
        assert server.dials == 2


async def test_a_server_that_counted_dead_sessions_is_soon_used_as_before(
    autojump_clock: MockClock, expect_log: Callable[[str], None]
) -> None:
    """The line broke, and for three minutes the server let no more than one in beside them."""
    expect_log("given up")
    async with running(connections=40) as (server, pool), trio.open_nursery() as nursery:
        server.round_trip = 5.0
        for number in range(50):
            server.add(number)

        async def read(number: int) -> None:
            while True:
                await outcome(pool, body(number))
                await trio.sleep(1)

        for number in range(50):
            nursery.start_soon(read, number)
        await trio.sleep(10)
        assert pool.status().open == 40
        server.limit = 1
        server.drop_all()
        await trio.sleep(180)
        assert pool.limit < 10
        server.limit = 40
        await trio.sleep(480)
        assert pool.status().open == 40
        assert server.peak <= 40
        nursery.cancel_scope.cancel()


async def test_the_limit_is_learned_and_rises_again(autojump_clock: MockClock) -> None:
    async with running(connections=6) as (server, pool):
        server.limit, server.round_trip = 2, 1.0
        server.add(1)
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(pool.perform, body(1))
        assert pool.limit == 2
        assert pool.breaker.state.value == "closed"
        server.limit = 100
        await trio.sleep(1000)
        assert pool.limit == 6


async def test_a_server_that_lets_us_in_and_hangs_up_is_dialled_ever_less(
    expect_log: Callable[[str], None], autojump_clock: MockClock
) -> None:
    expect_log("given up")
    async with running(warm_connections=1) as (server, pool):

        async def hang_up(session: Session, verb: str, argument: str) -> bool:
            if verb == "BODY":
                session.drop()
                await trio.sleep_forever()
            return False

        server.hook = hang_up
        server.add(1)
        dials = []
        for _ in range(10):
            before = server.dials
            for _ in range(60):
                await outcome(pool, body(1))
                await trio.sleep(1)
            dials.append(server.dials - before)
        assert dials[0] <= 15
        assert dials[-1] <= 3, dials
        server.hook = None
        await trio.sleep(80)
        assert not isinstance(await outcome(pool, body(1)), UsenetfsError)
        assert pool.status().state == "healthy"


async def test_the_limit_is_learned_from_a_session_that_is_ended(autojump_clock: MockClock) -> None:
    async with running(connections=4) as (server, pool):
        server.round_trip = 0.5
        server.add(1)

        async def late(session: Session, verb: str, argument: str) -> bool:
            if verb == "BODY" and len(server.sessions) > 2 and session.number > 2:
                session.say("502 You have exceeded the connection limit")
                session.drop()
                await trio.sleep_forever()
            return False

        server.hook = late
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(pool.perform, body(1))
        assert pool.limit == 2
        assert pool.status().state == "healthy"


async def test_the_breaker_opens_and_a_probe_closes_it(
    expect_log: Callable[[str], None], autojump_clock: MockClock
) -> None:
    expect_log("given up")
    async with running(warm_connections=1) as (server, pool):
        server.reachable = False
        server.add(1)
        with pytest.raises(ConnectError, match="refused"):
            await pool.perform(body(1))
        assert pool.status().state == "down"
        dials = server.dials
        with pytest.raises(ConnectError, match="tried again in"):
            await pool.perform(body(1))
        assert server.dials == dials
        server.reachable = True
        await trio.sleep(61)
        assert pool.breaker.state.value == "closed"
        assert (await pool.perform(body(1))).code == 222


async def test_a_wrong_password_is_not_tried_again_and_again(
    expect_log: Callable[[str], None], autojump_clock: MockClock
) -> None:
    expect_log("given up")
    async with running(username="me", password="wrong") as (server, pool):

        async def refuse(session: Session, verb: str, argument: str) -> bool:
            if verb == "AUTHINFO":
                session.say("381 more" if argument.startswith("USER") else "481 no")
            return verb == "AUTHINFO"

        server.hook = refuse
        with pytest.raises(AuthenticationError) as caught:
            await pool.perform(body(1))
        assert "wrong" not in str(caught.value)
        assert server.dials == 1
