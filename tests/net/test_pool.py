"""One server's pool against a server in memory, in virtual time: who is served when."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.net.fakes import Session, message_id
from tests.net.pools import body, post, running
from usenetfs.net.connection import Request
from usenetfs.nntp.grammar import Verb
from usenetfs.types import Lane


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


async def test_questions_of_one_turn_leave_together(autojump_clock: MockClock) -> None:
    """A STAT for each posted article, on its own, would cost a system call and a wake each."""
    async with running(warm_connections=4, reserved_connections=0) as (server, pool):
        await trio.sleep(1)
        before = [session.stream.sends for session in server.sessions]
        server.round_trip = 0.05
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(
                    pool.perform, Request(Verb.STAT, message_id(number), Lane.METADATA)
                )
        asked = [session.commands.count("STAT") for session in server.sessions]
        sends = [s.stream.sends - n for s, n in zip(server.sessions, before, strict=True)]
        assert sorted(asked) == [0, 8, 16, 16]
        assert sorted(sends) == [0, 1, 1, 1]


async def test_a_readers_question_waits_for_no_other(autojump_clock: MockClock) -> None:
    async with running(warm_connections=4, reserved_connections=0) as (server, pool):
        await trio.sleep(1)
        server.round_trip = 0.05
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(
                    pool.perform, Request(Verb.STAT, message_id(number), Lane.READER)
                )
        assert [session.commands.count("STAT") for session in server.sessions] == [1, 1, 1, 1]


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
