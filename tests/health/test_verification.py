"""Verification over a real index and articles in memory: what it counts on, and in what steps."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.transfer.world import (
    BLOCK,
    FILESYSTEM_ID,
    KEYS,
    FakeServers,
    World,
    opened_world,
    uploading,
)
from usenetfs.article.message_ids import message_id
from usenetfs.health.asking import Asker
from usenetfs.health.choice import STEP, Wish
from usenetfs.health.tally import Findings
from usenetfs.health.verdict import Outcome
from usenetfs.health.verification import BODIES, Terms, Verification
from usenetfs.index.articles import Article
from usenetfs.net.providers import FetchedBody
from usenetfs.types import Durability, InodeId, MessageId


@pytest.fixture
def servers() -> FakeServers:
    return FakeServers()


async def stored_files(world: World, count: int, size: int) -> list[InodeId]:
    """On the servers alone."""
    async with uploading(world):
        inodes = [world.new_file(size) for _ in range(count)]
        for inode in inodes:
            world.write(inode, 0, os.urandom(size))
        await world.uploader.sync()
    world.servers.calls.clear()
    return inodes


@dataclass
class Run:
    """One verification, and what it told."""

    events: list[dict[str, Any]] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    may_record: bool = True
    busy: bool = False

    async def over(self, world: World, wish: Wish, *, window: float = 0.0) -> Findings:
        findings = Findings(self.events.append)
        verification = Verification(
            world.index,
            Asker(world.servers, patience=1.0),
            world.cache,
            wish,
            findings,
            keys=KEYS,
            filesystem_id=FILESYSTEM_ID,
            terms=Terms(window, lambda: self.may_record, lambda: self.busy),
        )
        await verification.run(self.phases.append)
        return findings


def articles(world: World) -> list[Article]:
    return world.index.articles.list()


def id_of(article: Article) -> MessageId:
    return message_id(KEYS.message_id_key, article.id, article.attempt)


async def test_each_article_is_asked_for_once_and_fetched_once(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers) as world:
        await stored_files(world, 3, 4 * BLOCK)
        count = len(articles(world))
        run = Run()
        findings = await run.over(world, Wish())
        assert findings.outcomes == {Outcome.PRESENT: count}
        assert servers.calls == {"stat": count * len(servers.servers)}
        assert run.phases == ["counting", "asking"]
        assert world.index.durability_totals()[Durability.VERIFIED].count == 0
        servers.calls.clear()
        data = await Run().over(world, Wish(data=True))
        assert data.outcomes == {Outcome.PRESENT: count}
        assert servers.calls == {"fetch": count, "stat": count * (len(servers.servers) - 1)}
        assert data.bytes_read == sum(article.size for article in articles(world))
        totals = world.index.durability_totals()
        assert (totals[Durability.SEEN].count, totals[Durability.VERIFIED].count) == (0, 12)
        assert world.cache.stats().articles == 0, "what is verified does not drive out what is read"


async def test_nothing_is_recorded_where_nothing_may_change(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers) as world:
        await stored_files(world, 1, 4 * BLOCK)
        findings = await Run(may_record=False).over(world, Wish(data=True))
        assert findings.bytes_read > 0
        assert world.index.durability_totals()[Durability.VERIFIED].count == 0


async def test_a_member_that_the_index_knows_otherwise_is_lost_alone(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    expect_log: Callable[[str], None],
) -> None:
    """The article opens; one block of those that rest on it is not in it."""
    expect_log("does not hold what the index says")
    async with opened_world(tmp_path, servers) as world:
        inodes = await stored_files(world, 4, 1000)
        (shared,) = articles(world)
        location = world.index.blocks.locate(inodes[2], 0, 1)[0]  # type: ignore[arg-type]
        with world.index.transaction():
            world.index.database.write(
                "UPDATE segments SET hash = ? WHERE id = ?", (bytes(16), location.segment)
            )
        run = Run()
        assert (await run.over(world, Wish())).outcomes == {Outcome.PRESENT: 1}
        findings = await run.over(world, Wish(data=True))
        assert +findings.outcomes == {Outcome.LOST: 1}
        (lost,) = [event for event in run.events if event["event"] == "lost"]
        assert (lost["path"], lost["length"]) == (f"/file-{inodes[2]}", 1000)
        row = world.index.articles.get(shared.id)
        assert row is not None
        assert row.state is Durability.SEEN


async def test_the_body_of_another_article_is_noticed(
    tmp_path: Path,
    servers: FakeServers,
    patient_clock: MockClock,
    expect_log: Callable[[str], None],
) -> None:
    """Sealed by the same key, whole, and the wrong one."""
    expect_log("is lost")
    async with opened_world(tmp_path, servers) as world:
        await stored_files(world, 2, 50 * BLOCK)
        first, second, *others = articles(world)
        servers.articles[id_of(first)] = servers.articles[id_of(second)]
        assert (await Run().over(world, Wish())).outcomes[Outcome.LOST] == 0
        findings = await Run().over(world, Wish(data=True))
        assert findings.outcomes == {Outcome.LOST: 1, Outcome.PRESENT: len(others) + 1}
        assert findings.bytes_lost == first.bytes


async def test_lost_is_said_only_after_a_second_question(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    """A server that denies everything once."""
    async with opened_world(tmp_path, servers) as world:
        await stored_files(world, 1, BLOCK)
        (only,) = articles(world)
        kept = servers.articles.pop(id_of(only))
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def come_back() -> None:
                await trio.sleep(0.2)
                servers.articles[id_of(only)] = kept

            findings = await Run().over(world, Wish(data=True))
        assert findings.outcomes == {Outcome.PRESENT: 1}


async def test_what_vanishes_or_is_posted_anew_meanwhile(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock
) -> None:
    async with opened_world(tmp_path, servers) as world:
        inodes = await stored_files(world, 2, 30 * BLOCK)
        servers.gate = trio.Event()
        first = articles(world)[0]
        body = servers.articles.pop(id_of(first))
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def change() -> None:
                await trio.sleep(0.1)
                world.delete(inodes[1])
                with world.index.transaction():
                    world.index.articles.set_attempt(first.id, 5, None)
                again = world.index.articles.get(first.id)
                assert again is not None
                servers.articles[id_of(again)] = body
                assert servers.gate is not None
                servers.gate.set()

            findings = await Run().over(world, Wish(data=True))
        assert findings.outcomes[Outcome.LOST] == 0
        assert findings.gone + findings.outcomes[Outcome.PRESENT] == findings.done


@pytest.mark.parametrize("busy", [False, True])
async def test_while_others_work_it_takes_one_article_at_a_time(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock, *, busy: bool
) -> None:
    """Counted: the requests that are under way together."""
    async with opened_world(tmp_path, servers) as world:
        await stored_files(world, 2, 20 * BLOCK)
        most = now = 0
        fetch = servers.fetch

        async def counted(*arguments: Any, **options: Any) -> FetchedBody:
            nonlocal most, now
            now += 1
            most = max(most, now)
            try:
                await trio.sleep(0.1)
                return await fetch(*arguments, **options)
            finally:
                now -= 1

        servers.fetch = counted  # type: ignore[method-assign]
        findings = await Run(busy=busy).over(world, Wish(data=True))
        assert findings.outcomes == {Outcome.PRESENT: len(articles(world))}
        assert most == (1 if busy else BODIES)


async def test_it_works_in_small_steps(
    tmp_path: Path, servers: FakeServers, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two steps others have their turn: counted by a task that only counts its turns."""
    async with opened_world(tmp_path, servers) as world:
        inodes = await stored_files(world, 1, BLOCK)
        location = world.index.blocks.locate(inodes[0], 0, 1)[0]  # type: ignore[arg-type]
        extra = 50 * STEP
        with world.index.transaction():
            world.index.database.write_many(
                "INSERT INTO articles (id, attempt, state, size, posted, blocks, bytes)"
                " VALUES (?, 0, 2, 1000, 1, 1, 1)",
                [(location.article + 1 + number,) for number in range(extra)],
            )
        rows: list[int] = []
        listed = world.index.articles.list

        def note(*arguments: Any, **options: Any) -> list[Article]:
            found = listed(*arguments, **options)
            rows.append(len(found))
            return found

        monkeypatch.setattr(world.index.articles, "list", note)
        servers.articles |= {id_of(article): b"" for article in listed(limit=extra + 1)}
        turns = 0
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def count_turns() -> None:
                nonlocal turns
                while True:
                    await trio.lowlevel.checkpoint()
                    turns += 1

            findings = await Run().over(world, Wish())
            nursery.cancel_scope.cancel()
        assert findings.outcomes == {Outcome.PRESENT: extra + 1}
        assert max(rows) <= STEP
        assert turns > 2 * extra / STEP
