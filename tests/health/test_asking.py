"""One article asked of every spool; and that nobody is held up by it."""

from __future__ import annotations

from collections.abc import Callable

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.net.fakes import Session, message_id, settings
from tests.net.test_providers import running
from usenetfs.errors import SealError
from usenetfs.health.asking import Asker
from usenetfs.health.verdict import Answers, Said
from usenetfs.types import Lane


def said(answers: Answers) -> dict[str, Said]:
    return {spool: answer.said for spool, answer in answers.items()}


async def taken(body: bytearray) -> bytes:
    await trio.lowlevel.checkpoint()
    return bytes(body)


async def test_every_spool_is_asked_once(autojump_clock: MockClock) -> None:
    servers = (
        settings("a"),
        settings("b", priority=1, storage_group="shared"),
        settings("c", priority=2, storage_group="shared"),
        settings("d", priority=3),
    )
    async with running(*servers) as (providers, fakes):
        fakes["a"].add(1)
        fakes["d"].add(1)
        asker = Asker(providers)
        answers = await asker.stat(message_id(1))
        assert said(answers) == {"a": Said.HAS, "shared": Said.MISSING, "d": Said.HAS}
        assert [fakes[name].counts["STAT"] for name in "abcd"] == [1, 1, 0, 1]


async def test_a_body_comes_from_the_first_that_has_it_whole(autojump_clock: MockClock) -> None:
    servers = (settings("a"), *(settings(name, priority=n) for n, name in enumerate("bcd", 1)))
    async with running(*servers) as (providers, fakes):
        for name in "bcd":
            fakes[name].add(1, b"right" if name != "b" else b"wrong")
        fakes["d"].articles.clear()

        async def open_body(body: bytearray) -> bytes:
            await trio.lowlevel.checkpoint()
            if body != b"right":
                raise SealError("it is another article")
            return bytes(body)

        answers, opened = await Asker(providers).read(message_id(1), open_body)
        assert opened == b"right"
        expected = (Said.MISSING, Said.DAMAGED, Said.HAS, Said.MISSING)
        assert said(answers) == dict(zip("abcd", expected, strict=True))
        assert answers["b"].reason == "it is another article"
        assert [fakes[name].counts["BODY"] for name in "abcd"] == [1, 1, 1, 0]


async def test_what_was_missing_before_is_asked_again(autojump_clock: MockClock) -> None:
    """What is remembered of a miss spares readers a question; here it would be a guess."""
    async with running(settings("a")) as (providers, fakes):
        asker = Asker(providers)
        assert said((await asker.read(message_id(1), taken))[0]) == {"a": Said.MISSING}
        fakes["a"].add(1)
        answers, opened = await asker.read(message_id(1), taken)
        assert (said(answers), opened) == ({"a": Said.HAS}, b"data")


async def test_one_outage_is_waited_for_once(autojump_clock: MockClock, expect_log) -> None:  # type: ignore[no-untyped-def]
    expect_log("is given up")
    async with running(settings("a"), settings("b", priority=1)) as (providers, fakes):
        for number in range(50):
            fakes["b"].add(number)
        fakes["a"].reachable = False
        asker = Asker(providers, patience=10)
        started = trio.current_time()
        for number in range(50):
            answers = await asker.stat(message_id(number))
            assert said(answers) == {"a": Said.UNASKED, "b": Said.HAS}
            assert "refused" in answers["a"].reason
        assert 10 <= trio.current_time() - started < 20


async def test_an_outage_shorter_than_patience_costs_no_answer(
    autojump_clock: MockClock, expect_log: Callable[[str], None]
) -> None:
    expect_log("a is given up for 1 s, then tried again: refused")
    async with running(settings("a")) as (providers, fakes):
        fakes["a"].add(1)
        fakes["a"].reachable = False
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def come_back() -> None:
                await trio.sleep(2)
                fakes["a"].reachable = True

            answers = await Asker(providers, patience=60).stat(message_id(1))
            assert said(answers) == {"a": Said.HAS}


async def test_a_reader_goes_before_everything_that_verify_waits_for(
    autojump_clock: MockClock,
) -> None:
    """Counted at the server: twenty bodies wait for one connection when a reader comes."""
    asked: list[str] = []
    gate = trio.Event()

    async def note(session: Session, verb: str, argument: str) -> bool:
        if verb == "BODY":
            asked.append(argument)
            await gate.wait()
        return False

    async with running(settings("a", connections=1)) as (providers, fakes):
        fakes["a"].hook = note
        for number in range(30):
            fakes["a"].add(number)
        asker = Asker(providers)
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(asker.read, message_id(number), taken)
            await wait_all_tasks_blocked()
            before = len(asked)

            async def read_by_program() -> None:
                await providers.fetch(message_id(25), lane=Lane.READER)

            nursery.start_soon(read_by_program)
            await wait_all_tasks_blocked()
            gate.set()
        place = asked.index(message_id(25))
        assert place <= before + 1, "after what was on the wire already, and nothing else"
        assert len(asked) == 21
