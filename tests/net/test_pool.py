"""One server's pool against a server in memory, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.net.fakes import FakeServer, Session, article, message_id, open_server, settings
from usenetfs.errors import (
    AuthenticationError,
    ConnectError,
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


@asynccontextmanager
async def running(**changes: Any) -> AsyncIterator[tuple[FakeServer, Pool]]:
    async with open_server() as server, trio.open_nursery() as nursery:
        pool = Pool(settings(**changes), dialer=server)
        await nursery.start(pool.run)
        yield server, pool
        nursery.cancel_scope.cancel()


def body(number: int, lane: Lane = Lane.READER) -> Request:
    return Request(Verb.BODY, message_id(number), lane)


def post(number: int, lane: Lane = Lane.UPLOAD) -> Request:
    wanted = article(number)
    return Request(Verb.POST, wanted.message_id, lane, article=wanted.wire)


async def outcome(pool: Pool, request: Request) -> Response | UsenetfsError:
    try:
        return await pool.perform(request)
    except UsenetfsError as error:
        return error


async def test_a_body_comes_decoded_and_the_pool_says_how_it_stands(
    autojump_clock: MockClock,
) -> None:
    async with running(warm_connections=1) as (server, pool):
        server.add(1, b"hello")
        response = await pool.perform(body(1))
        assert response.data == b"hello"
        assert response.crc_ok
        assert repr(pool) == (
            "<Pool news: 0 dialling, 1 ready, 0 closing, limit 4, 0 waiting, breaker closed>"
        )
        status = pool.status()
        assert (status.open, status.busy, status.state) == (1, 0, "healthy")
        assert status.requests == {"BODY": 1}
        assert status.bytes_down > 5


@pytest.mark.parametrize("dial_time", [0.0, 2.0])
async def test_the_limit_is_never_exceeded(dial_time: float, autojump_clock: MockClock) -> None:
    async with running(connections=3) as (server, pool):
        server.dial_time, server.round_trip = dial_time, 0.1
        for number in range(40):
            server.add(number)

        async def one(number: int) -> None:
            await pool.perform(body(number) if number % 3 else post(number))

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(one, number)
        assert server.peak == 3
        assert server.counts["BODY"] + server.counts["POST"] == 40


async def test_closing_connections_count(autojump_clock: MockClock) -> None:
    async with running(connections=1) as (server, pool):
        server.add(1)

        async def broken(session: Session, verb: str, argument: str) -> bool:
            if verb == "BODY" and session.number == 1:
                session.say("999 nonsense")
                return True
            return False

        server.hook = broken
        assert (await pool.perform(body(1))).code == 222
        assert server.dials == 2
        assert server.peak == 1


async def test_requests_are_pipelined_on_one_connection(autojump_clock: MockClock) -> None:
    async with running(connections=1) as (server, pool):
        for number in range(12):
            server.add(number)
        gate = trio.Event()

        async def wait(session: Session, verb: str, argument: str) -> bool:
            if verb == "STAT":
                await gate.wait()
            return False

        server.hook = wait
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(
                    pool.perform, Request(Verb.STAT, message_id(number), Lane.READER)
                )
            await trio.testing.wait_all_tasks_blocked()
            assert pool.status().waiting == 0
            gate.set()
        assert server.dials == 1


async def test_pipeline_depth_follows_the_round_trip(autojump_clock: MockClock) -> None:
    async with running(connections=1) as (server, pool):
        server.add(1)

        async def late(session: Session, verb: str, argument: str) -> bool:
            """Answers come 100 ms after their command, however many there are."""
            if verb != "BODY":
                return False
            nursery.start_soon(answer, session)
            return True

        async def answer(session: Session) -> None:
            await trio.sleep(0.1)
            session.say(b"222 0 x\r\n" + server.articles[message_id(1)] + b".\r\n")

        server.hook = late
        async with trio.open_nursery() as nursery:
            started = trio.current_time()
            async with trio.open_nursery() as readers:
                for _ in range(200):
                    readers.start_soon(pool.perform, body(1))
            assert trio.current_time() - started < 200 * 0.1 / 4


async def test_a_post_has_its_connection_to_itself(autojump_clock: MockClock) -> None:
    async with running(connections=2, reserved_connections=0) as (server, pool):
        server.round_trip = 0.05
        for number in range(30):
            server.add(number)
        overlaps: list[str] = []

        async def look(session: Session, verb: str, argument: str) -> bool:
            if verb == "POSTED" and (session.pending or session.commands[-1] != "POST"):
                overlaps.append(repr(session.pending))
            return False

        server.hook = look
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(pool.perform, body(number, Lane.READAHEAD))
            for number in range(100, 110):
                nursery.start_soon(pool.perform, post(number))
        assert not overlaps
        assert len(server.posted) == 10


async def test_endless_read_ahead_does_not_starve_uploads_nor_verification(
    autojump_clock: MockClock,
) -> None:
    async with running(connections=2) as (server, pool):
        server.round_trip = 0.2
        server.add(1)

        async def for_ever() -> None:
            while True:
                await pool.perform(body(1, Lane.READAHEAD))

        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(for_ever)
            with trio.fail_after(60):
                await pool.perform(post(7))
                await pool.perform(Request(Verb.STAT, message_id(1), Lane.VERIFY))
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("busy", [Lane.READAHEAD, Lane.UPLOAD, Lane.VERIFY])
async def test_a_reader_is_served_within_one_article_time(
    busy: Lane, autojump_clock: MockClock
) -> None:
    async with running(connections=4) as (server, pool):
        server.round_trip = 1.0
        server.add(1)

        async def for_ever(number: int) -> None:
            while True:
                await pool.perform(post(number) if busy is Lane.UPLOAD else body(1, busy))

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(for_ever, number)
            await trio.sleep(20.5)
            for _ in range(20):
                started = trio.current_time()
                await pool.perform(body(1))
                # What is under way on one connection (two round trips for a post), and its own.
                under_way = 2 if busy is Lane.UPLOAD else 1
                assert trio.current_time() - started <= under_way + 1.01, pool
                await trio.sleep(0.3)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("connections", [1, 2, 8])
@pytest.mark.parametrize("busy", [Lane.READAHEAD, Lane.METADATA, Lane.VERIFY])
async def test_few_articles_go_before_a_readers(
    connections: int, busy: Lane, autojump_clock: MockClock
) -> None:
    """Counted, not timed: bodies that the same connection owes before the reader's."""
    async with running(connections=connections) as (server, pool):
        server.round_trip = 0.05
        server.add(1)
        server.add(2)
        before: list[int] = []

        async def for_ever() -> None:
            while True:
                await pool.perform(body(1, busy))

        async with trio.open_nursery() as nursery:
            for _ in range(40 * connections):
                nursery.start_soon(for_ever)
            await trio.sleep(20)
            for _ in range(30):
                request = body(2)
                nursery.start_soon(pool.perform, request)
                while not request.connection:  # noqa: ASYNC110 - nothing tells when it is sent
                    await trio.sleep(0.01)
                before.append(list(pool._connections[request.connection].inflight).index(request))
                await request.done.wait()
                await trio.sleep(0.13)
            nursery.cancel_scope.cancel()
        assert max(before) <= (2 if connections == 1 else 1), before


async def test_two_readers_share_whoever_asks_for_more(autojump_clock: MockClock) -> None:
    async with running(connections=4) as (server, pool):
        server.round_trip = 0.1
        server.add(1)
        greedy = 0

        async def ask_for_much() -> None:
            nonlocal greedy
            while True:
                await pool.perform(Request(Verb.BODY, message_id(1), Lane.READER, share="much"))
                greedy += 1

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(ask_for_much)
            await trio.sleep(5)
            waits = []
            for _ in range(20):
                answered = greedy
                await pool.perform(Request(Verb.BODY, message_id(1), Lane.READER, share="little"))
                waits.append(greedy - answered)
            nursery.cancel_scope.cancel()
        # Three rounds of four connections: one under way where it found room, its own, and a phase.
        assert max(waits) <= 4 * 3, waits


async def test_what_nobody_waits_for_steps_back_while_programs_read(
    autojump_clock: MockClock,
) -> None:
    async with running(connections=8) as (server, pool):
        server.round_trip = 0.2
        server.add(1)
        verified = 0

        async def verify() -> None:
            nonlocal verified
            while True:
                await pool.perform(body(1, Lane.VERIFY))
                verified += 1

        def outstanding() -> int:
            return sum(len(connection.inflight) for connection in pool._connections.values())

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(verify)
            await trio.sleep(10)
            alone = outstanding()
            most = 0
            before = verified
            for turn in range(40):
                await pool.perform(body(1))
                if turn > 10:
                    most = max(most, outstanding())
            assert verified > before, "and it goes on all the same"
            await trio.sleep(10)
            assert most <= 4
            assert alone > 8
            assert outstanding() == alone
            nursery.cancel_scope.cancel()


async def test_background_never_takes_the_reserved_connections(autojump_clock: MockClock) -> None:
    async with running(connections=4, reserved_connections=2) as (server, pool):
        server.round_trip = 5.0
        server.add(1)
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(pool.perform, post(number))
            await trio.sleep(12)
            assert len(server.sessions) == 2
            started = trio.current_time()
            await pool.perform(body(1))
            assert trio.current_time() - started < 10.01  # its capabilities are known: one dial
            assert len(server.sessions) == 3


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
