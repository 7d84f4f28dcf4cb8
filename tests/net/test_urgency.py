"""What was asked for ahead of time moves up when somebody waits for it."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.net.fakes import Session, message_id, settings
from tests.net.test_providers import running
from usenetfs.net.urgency import Urgency
from usenetfs.types import Lane


async def test_a_waiting_request_changes_its_lane(autojump_clock: MockClock) -> None:
    async with running(settings("a", connections=1, max_pipeline=1)) as (providers, fakes):
        gate = trio.Event()
        asked: list[str] = []

        async def wait(session: Session, verb: str, argument: str) -> bool:
            if verb == "BODY":
                asked.append(argument)
                await gate.wait()
            return False

        fakes["a"].hook = wait
        urgencies = [Urgency(Lane.READAHEAD) for _ in range(4)]

        async def fetch(number: int) -> None:
            await providers.fetch(
                message_id(number), lane=Lane.READAHEAD, urgency=urgencies[number]
            )

        async with trio.open_nursery() as nursery:
            for number in range(4):
                fakes["a"].add(number)
                nursery.start_soon(fetch, number)
                await trio.testing.wait_all_tasks_blocked()
            assert [urgency.sent() for urgency in urgencies] == [True, False, False, False]
            assert [urgency.server for urgency in urgencies] == ["a"] * 4
            urgencies[3].hurry(Lane.READER)
            urgencies[3].hurry(Lane.VERIFY)  # nothing is ever made less urgent
            urgencies[0].hurry(Lane.READER)  # has left already
            assert urgencies[3].lane is Lane.READER
            await trio.sleep(2)
            assert urgencies[0].waiting_since_sent() == 0.0
            await trio.sleep(3)
            assert urgencies[0].waiting_since_sent() == 3.0
            assert urgencies[3].waiting_since_sent() == 0.0
            gate.set()
        assert asked == [message_id(number) for number in (0, 3, 1, 2)]


async def test_others_that_could_be_asked_are_counted_by_storage_group(
    autojump_clock: MockClock,
) -> None:
    servers = [
        settings("a", storage_group="x"),
        settings("b", storage_group="x"),
        settings("c"),
        settings("d"),
    ]
    async with running(*servers) as (providers, fakes):
        fakes["a"].add(1)
        urgency = Urgency(Lane.READER)
        await providers.fetch(message_id(1), lane=Lane.READER, exclude={"d"}, urgency=urgency)
        assert urgency.alternatives == 1
