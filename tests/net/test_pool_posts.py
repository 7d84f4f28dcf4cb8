"""A pool whose callers go away, and what becomes of POSTs, in virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.net.fakes import Session, article, message_id, open_server, settings
from tests.net.pools import body, outcome, post, running
from usenetfs.errors import (
    ConnectionLostError,
    LocalProtocolError,
    PostInDoubtError,
    UsenetfsError,
)
from usenetfs.net.connection import Request
from usenetfs.net.pool import Pool
from usenetfs.nntp.client import Response
from usenetfs.nntp.grammar import Verb
from usenetfs.types import Lane, MessageId


async def test_a_cancelled_reader_does_not_desynchronise_the_connection(
    autojump_clock: MockClock,
) -> None:
    async with running(connections=1) as (server, pool):
        server.round_trip = 1.0
        server.add(1, b"one")
        server.add(2, b"two")
        with trio.move_on_after(0.5):
            await pool.perform(body(1))
        response = await pool.perform(body(2))
        assert response.data == b"two"
        assert server.dials == 1


async def test_a_cancelled_waiter_leaves_the_queue(autojump_clock: MockClock) -> None:
    async with running(connections=1, max_pipeline=1) as (server, pool):
        server.round_trip = 5.0
        server.add(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.perform, body(1))
            await trio.sleep(6)
            with trio.move_on_after(1):
                await pool.perform(body(1))
            assert pool.status().waiting == 0


async def test_a_cancelled_post_gives_its_memory_back_at_once(autojump_clock: MockClock) -> None:
    async with running(connections=1) as (server, pool):

        async def slow(session: Session, verb: str, argument: str) -> bool:
            if verb == "POST" and session.number == 1:
                await trio.sleep(3)
            return False

        server.hook = slow
        wire = bytearray(article(1).wire)
        with trio.move_on_after(1):
            await pool.perform(Request(Verb.POST, message_id(1), Lane.UPLOAD, article=wire))
        wire.clear()  # BufferError if anything still looked at it
        assert (await pool.perform(post(2))).code == 240
        assert server.posted == [message_id(2)]


async def test_a_session_lost_after_the_article_left_leaves_it_in_doubt(
    autojump_clock: MockClock,
) -> None:
    async with running() as (server, pool):

        async def lose(session: Session, verb: str, argument: str) -> bool:
            if verb == "POSTED":
                session.drop()
            return verb == "POSTED"

        server.hook = lose
        with pytest.raises(PostInDoubtError):
            await pool.perform(post(1))
        assert server.counts["POST"] == 1


async def test_a_session_lost_before_the_article_left_is_no_doubt(
    autojump_clock: MockClock,
) -> None:
    async with running() as (server, pool):

        async def lose(session: Session, verb: str, argument: str) -> bool:
            if verb == "POST" and session.number == 1:
                session.drop()
                await trio.sleep_forever()
            return False

        server.hook = lose
        assert (await pool.perform(post(1))).code == 240
        assert server.counts["POST"] == 2


async def test_a_post_refused_while_it_is_being_sent_is_refused(autojump_clock: MockClock) -> None:
    async with running(connections=1) as (server, pool):

        async def early(session: Session, verb: str, argument: str) -> bool:
            if verb == "POST" and session.number == 1:
                session.say(b"340 go\r\n441 no\r\n")
                await trio.sleep_forever()
            return False

        server.hook = early
        assert (await pool.perform(post(1))).code == 441
        assert (await pool.perform(post(2))).code == 240


async def test_a_request_that_nntp_has_no_words_for_fails_alone(autojump_clock: MockClock) -> None:
    async with running() as (server, pool):
        server.add(1)
        with pytest.raises(LocalProtocolError):
            await pool.perform(Request(Verb.BODY, MessageId("<a b\r\nQUIT>"), Lane.READER))
        assert (await pool.perform(body(1))).code == 222


async def test_the_end_of_the_client_ends_every_wait(autojump_clock: MockClock) -> None:
    async with open_server() as server, trio.open_nursery() as nursery:
        pool = Pool(settings(connections=1, max_pipeline=1), dialer=server)
        server.round_trip = 100.0
        results: list[Response | UsenetfsError] = []

        async def ask(request: Request) -> None:
            results.append(await outcome(pool, request))

        async with trio.open_nursery() as runner:
            await runner.start(pool.run)
            for number in range(3):
                nursery.start_soon(ask, body(number))
            await trio.sleep(1)
            runner.cancel_scope.cancel()
        await trio.sleep(1)
        assert [type(result) for result in results] == [ConnectionLostError] * 3
        assert isinstance(await outcome(pool, body(1)), ConnectionLostError)
        assert all(session.stream.closed for session in server.sessions)


# --- POST sent ahead -----------------------------------------------------------------------------


async def posted_all(pool: Pool, count: int) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(pool.perform, post(number))


@pytest.mark.parametrize("ahead", [False, True])
async def test_a_post_is_sent_ahead_only_where_that_is_set(
    ahead: bool, autojump_clock: MockClock
) -> None:
    async with running(connections=1, post_ahead=ahead) as (server, pool):
        server.round_trip = 0.1
        early = 0

        async def look(session: Session, verb: str, argument: str) -> bool:
            nonlocal early
            if verb == "POSTED":
                await trio.sleep(0.01)
                assert bytes(session.pending) in {b"", b"POST\r\n"}, "one POST and nothing else"
                early += bool(session.pending)
            return False

        server.hook = look
        await posted_all(pool, 12)
        assert sorted(server.posted) == sorted(message_id(number) for number in range(12))
        assert early == (11 if ahead else 0)
        server.add(1)
        assert (await pool.perform(body(1))).code == 222
        assert server.dials == 1


@pytest.mark.parametrize("words", ["441 too early", "500 what?", "440 no", "480 log in", ""])
async def test_a_server_that_does_not_cope_is_noticed_and_loses_nothing(
    words: str, autojump_clock: MockClock, expect_log: Callable[[str], None]
) -> None:
    expect_log("does not take a POST sent ahead")
    async with running(connections=2, post_ahead=True) as (server, pool):
        server.round_trip = 0.1
        early = 0

        async def stumble(session: Session, verb: str, argument: str) -> bool:
            nonlocal early
            if verb == "POSTED":
                await trio.sleep(0.01)
                if session.pending == b"POST\r\n":
                    early += 1
                    session.pending.clear()
                    session.say("240 <taken@news.test> received")
                    if words:
                        session.say(words)
                    return True
            return False

        server.hook = stumble
        await posted_all(pool, 10)
        assert 1 <= early <= 2, "at most once a connection"
        assert len(server.posted) + early == 10
        assert pool.requests["POST"] == 10


async def test_a_reader_is_not_held_up_by_posts_sent_ahead(autojump_clock: MockClock) -> None:
    async with running(connections=2, post_ahead=True) as (server, pool):
        server.round_trip = 0.5
        server.add(1)

        async def for_ever(number: int) -> None:
            while True:
                await pool.perform(post(number))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(for_ever, number)
            await trio.sleep(10)
            for _ in range(10):
                started = trio.current_time()
                await pool.perform(body(1))
                # One article and one POST that was sent ahead, then its own.
                assert trio.current_time() - started <= 4 * 0.5 + 0.6
                await trio.sleep(0.2)
            nursery.cancel_scope.cancel()


async def test_cancelling_a_post_sent_ahead_leaves_the_one_before_it_alone(
    autojump_clock: MockClock,
) -> None:
    async with running(connections=1, post_ahead=True) as (server, pool):
        server.round_trip = 1.0
        results: list[Response | UsenetfsError] = []

        async def first() -> None:
            results.append(await outcome(pool, post(1)))

        wire = bytearray(article(2).wire)
        second = Request(Verb.POST, message_id(2), Lane.UPLOAD, article=wire)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            with trio.CancelScope() as scope:
                nursery.start_soon(pool.perform, post(3))
                await trio.sleep(0.1)

                async def cancel_when_ahead() -> None:
                    while not second.ahead:  # noqa: ASYNC110 - nothing tells
                        await trio.sleep(0.05)
                    scope.cancel()

                nursery.start_soon(cancel_when_ahead)
                await pool.perform(second)
        wire.clear()  # BufferError if anything still looked at it
        assert message_id(2) not in server.posted
        assert sorted(server.posted) == [message_id(1), message_id(3)]
        assert [result.code for result in results if isinstance(result, Response)] == [240]


async def test_a_session_lost_with_a_post_ahead_leaves_one_in_doubt_and_sends_one_again(
    autojump_clock: MockClock,
) -> None:
    async with running(connections=1, post_ahead=True) as (server, pool):
        server.round_trip = 0.1

        async def lose(session: Session, verb: str, argument: str) -> bool:
            if verb == "POSTED" and session.number == 1:
                await trio.sleep(0.05)
                assert session.pending == b"POST\r\n"
                session.drop()
                await trio.sleep_forever()
            return False

        server.hook = lose
        results = []

        async def one(number: int) -> None:
            results.append(await outcome(pool, post(number)))

        async with trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon(one, number)
        doubts = [result for result in results if isinstance(result, PostInDoubtError)]
        assert len(doubts) == 1
        assert len(server.posted) == 1
