"""Several servers together, in memory and virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.net.fakes import FakeServer, Hook, Session, article, message_id, open_server, settings
from usenetfs.errors import (
    ArticleMissingError,
    DuplicateArticleError,
    EncodingError,
    NoHealthyServersError,
    PostInDoubtError,
    PostingNotAllowedError,
    PostRejectedError,
    UsenetfsError,
)
from usenetfs.net.providers import MAX_POSTED, ProviderSet
from usenetfs.net.settings import ServerSettings
from usenetfs.net.stream import Stream
from usenetfs.types import Lane


class Dialer:
    """Each server of the set is another server in memory."""

    def __init__(self, servers: dict[str, FakeServer]) -> None:
        self.servers = servers

    async def connect(self, settings: ServerSettings) -> Stream:
        return await self.servers[settings.name].connect(settings)

    async def start_tls(self, stream: Stream, settings: ServerSettings) -> Stream:
        return await self.servers[settings.name].start_tls(stream, settings)


@asynccontextmanager
async def running(
    *servers: ServerSettings,
) -> AsyncIterator[tuple[ProviderSet, dict[str, FakeServer]]]:
    async with open_server() as first, trio.open_nursery() as nursery:
        fakes = {one.name: FakeServer(first._nursery) for one in servers}
        providers = ProviderSet(servers, dialer=Dialer(fakes))
        await nursery.start(providers.run)
        yield providers, fakes
        nursery.cancel_scope.cancel()


def answering(verb: str, words: str) -> Hook:
    async def hook(session: Session, said: str, argument: str) -> bool:
        if said == verb:
            session.say(words)
        return said == verb

    return hook


async def test_the_lower_priority_number_is_asked_first(autojump_clock: MockClock) -> None:
    async with running(settings("b", priority=1), settings("a")) as (providers, fakes):
        fakes["a"].add(1)
        fakes["b"].add(1)
        for _ in range(3):
            assert (await providers.fetch(message_id(1), lane=Lane.READER)).server == "a"
        body = await providers.fetch(message_id(1), lane=Lane.READER, exclude={"a"})
        assert body.server == "b"
        assert body.data == b"data"


@pytest.mark.parametrize("code", ["430 no", "451 taken down", "403 fault", "400 closing"])
async def test_the_next_server_is_asked(
    autojump_clock: MockClock, code: str, expect_log: Callable[[str], None]
) -> None:
    expect_log("a is given up")
    async with running(settings("a"), settings("b", priority=1)) as (providers, fakes):
        fakes["a"].hook = answering("BODY", code)
        fakes["b"].add(1)
        assert (await providers.fetch(message_id(1), lane=Lane.READER)).server == "b"


async def test_a_damaged_body_is_asked_of_the_next(autojump_clock: MockClock) -> None:
    async with running(settings("a"), settings("b", priority=1)) as (providers, fakes):
        fakes["a"].add(1)
        fakes["b"].add(1)
        good = fakes["a"].articles[message_id(1)]
        fakes["a"].articles[message_id(1)] = good.replace(b"pcrc32=", b"pcrc32=0")[:-12] + b"0\r\n"
        assert (await providers.fetch(message_id(1), lane=Lane.READER)).server == "b"
        with pytest.raises(EncodingError):
            await providers.fetch(message_id(1), lane=Lane.READER, exclude={"b"})


async def test_missing_everywhere_is_remembered_for_a_while(autojump_clock: MockClock) -> None:
    async with running(settings("a"), settings("b")) as (providers, fakes):
        for _ in range(2):
            with pytest.raises(ArticleMissingError):
                await providers.fetch(message_id(1), lane=Lane.READER)
        assert fakes["a"].counts["BODY"] == fakes["b"].counts["BODY"] == 1
        fakes["a"].add(1)
        assert (await providers.fetch(message_id(1), lane=Lane.READER, fresh=True)).server == "a"
        await trio.sleep(11)
        assert (await providers.fetch(message_id(1), lane=Lane.READER)).server == "a"


async def test_an_error_says_whether_anybody_was_asked(autojump_clock: MockClock) -> None:
    async with running(settings("a")) as (providers, _):
        said = []
        for _ in range(2):
            with pytest.raises(ArticleMissingError) as caught:
                await providers.fetch(message_id(1), lane=Lane.READER)
            said.append(caught.value.remembered)
        assert said == [False, True]


async def test_a_miss_of_a_fresh_article_is_not_remembered(autojump_clock: MockClock) -> None:
    async with running(settings("a")) as (providers, fakes):
        with pytest.raises(ArticleMissingError):
            await providers.fetch(message_id(1), lane=Lane.READER, fresh=True)
        fakes["a"].add(1)
        assert (await providers.fetch(message_id(1), lane=Lane.READER)).server == "a"


async def test_servers_of_one_group_are_not_asked_twice(autojump_clock: MockClock) -> None:
    async with running(
        settings("a", storage_group="x"),
        settings("b", storage_group="x", priority=1),
        settings("c", priority=2),
    ) as (providers, fakes):
        fakes["c"].add(1)
        assert (await providers.fetch(message_id(1), lane=Lane.READER)).server == "c"
        assert (fakes["a"].counts["BODY"], fakes["b"].counts["BODY"]) == (1, 0)


async def test_no_healthy_server_says_why_for_each(
    autojump_clock: MockClock, expect_log: Callable[[str], None]
) -> None:
    expect_log("given up")
    async with running(settings("a"), settings("b")) as (providers, fakes):
        fakes["a"].reachable = False
        fakes["b"].greeting = "502 the account is over its quota"
        with pytest.raises(NoHealthyServersError) as caught:
            await providers.fetch(message_id(1), lane=Lane.READER)
        assert set(caught.value.reasons) == {"a", "b"}
        assert caught.value.message_id == message_id(1)
        assert all(name in str(caught.value) for name in ("a: ", "b: ", message_id(1)))
        assert "refused" in caught.value.reasons["a"]
        assert "quota" in caught.value.reasons["b"]


async def test_a_server_that_died_is_left_and_comes_back(
    autojump_clock: MockClock, expect_log: Callable[[str], None]
) -> None:
    expect_log("given up")
    async with running(settings("a"), settings("b", priority=1)) as (providers, fakes):
        for number in range(200):
            fakes["a"].add(number)
            fakes["b"].add(number)
        servers = []
        for number in range(200):
            if number == 20:
                fakes["a"].reachable = False
                fakes["a"].drop_all()
            if number == 100:
                fakes["a"].reachable = True
            body = await providers.fetch(message_id(number), lane=Lane.READER)
            servers.append(body.server)
            await trio.sleep(1)
        assert set(servers[:20]) == {"a"}
        assert set(servers[20:100]) == {"b"}
        assert set(servers[165:]) == {"a"}
        assert [status.state for status in providers.statuses()] == ["healthy", "healthy"]


async def test_stat_tells_who_has_it_on_another_connection(autojump_clock: MockClock) -> None:
    async with running(settings("a"), settings("b")) as (providers, fakes):
        await providers.post(article(1))
        poster = next(name for name in fakes if fakes[name].posted)
        server = fakes[poster]
        server.add(1)
        by_session: list[int] = []

        async def look(session: Session, verb: str, argument: str) -> bool:
            if verb == "STAT":
                by_session.append(session.number)
            return False

        server.hook = look
        assert await providers.stat(message_id(1), lane=Lane.METADATA) == poster
        assert by_session == [2]
        assert await providers.stat(message_id(2), lane=Lane.METADATA) is None


async def test_posting_goes_to_the_next_server_when_one_cannot(
    autojump_clock: MockClock, expect_log: Callable[[str], None]
) -> None:
    expect_log("given up")
    async with running(
        settings("a"),
        settings("b", priority=1),
        settings("c", priority=2, posting=False),
    ) as (providers, fakes):
        fakes["a"].reachable = False
        result = await providers.post(article(1))
        assert (result.server, result.message_id) == ("b", message_id(1))
        assert providers.upload_connections == 8


@pytest.mark.parametrize(
    ("verb", "words", "error"),
    [
        ("POST", "440 no posting", PostingNotAllowedError),
        ("POSTED", "441 435 duplicate", DuplicateArticleError),
        ("POSTED", "441 437 too old", PostRejectedError),
        ("POSTED", "441 no reason at all", PostRejectedError),
        ("POSTED", "400 closing", PostInDoubtError),
    ],
)
async def test_refusals_of_an_article_reach_the_caller(
    autojump_clock: MockClock, verb: str, words: str, error: type[UsenetfsError]
) -> None:
    async with running(settings("a")) as (providers, fakes):
        fakes["a"].hook = answering(verb, words)
        with pytest.raises(error) as caught:
            await providers.post(article(1))
        assert str(caught.value).startswith(f"article {message_id(1)}: a")
        assert (caught.value.server, caught.value.message_id) == ("a", message_id(1))
        assert fakes["a"].counts["POST"] == 1


async def test_a_rewritten_message_id_is_told(autojump_clock: MockClock) -> None:
    async with running(settings("a")) as (providers, fakes):
        fakes["a"].hook = answering("POSTED", "240 <other@server.test> received")
        assert (await providers.post(article(1))).message_id == "<other@server.test>"


async def test_what_was_posted_from_here_is_fresh(autojump_clock: MockClock) -> None:
    async with running(settings("a"), settings("b", posting=False)) as (providers, fakes):
        with pytest.raises(ArticleMissingError):
            await providers.fetch(message_id(1), lane=Lane.READER)
        await providers.post(article(1))
        fakes["a"].add(1)
        body = await providers.fetch(message_id(1), lane=Lane.READER)
        assert body.server == "a", "the miss from before the post is forgotten"
        for _ in range(2):
            with pytest.raises(ArticleMissingError):
                await providers.fetch(message_id(1), lane=Lane.READER, exclude={"a"})
        fakes["b"].add(1)  # it has spread
        body = await providers.fetch(message_id(1), lane=Lane.READER, exclude={"a"})
        assert body.server == "b"


@pytest.mark.parametrize(("lost", "twice"), [(2, 0), (0, 1)])
async def test_a_reply_that_belongs_to_a_neighbour_vouches_for_nothing(
    autojump_clock: MockClock, lost: int, twice: int
) -> None:
    """Every other article is there; one reply gets lost, or is said twice."""
    async with running(settings("a", connections=1)) as (providers, fakes):
        server, asked = fakes["a"], 0
        server.round_trip = 1.0
        for number in range(0, 10, 2):
            server.add(number)

        async def slip(session: Session, verb: str, argument: str) -> bool:
            nonlocal asked
            asked += verb == "STAT"
            if verb == "STAT" and asked == twice:
                session.say(f"223 0 {argument}")
            return verb == "STAT" and asked == lost

        server.hook = slip
        found: dict[int, str | None] = {}

        async def look(number: int) -> None:
            found[number] = await providers.stat(message_id(number), lane=Lane.METADATA)

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(look, number)
                await trio.sleep(0.01)
        assert found == {number: None if number % 2 else "a" for number in range(10)}
        assert server.dials == 2


async def test_a_stat_asks_no_group_twice(autojump_clock: MockClock) -> None:
    async with running(
        settings("a", storage_group="x"), settings("b", storage_group="x"), settings("c")
    ) as (providers, fakes):
        assert await providers.stat(message_id(1), lane=Lane.VERIFY) is None
        assert fakes["a"].counts["STAT"] + fakes["b"].counts["STAT"] == 1
        assert fakes["c"].counts["STAT"] == 1


async def test_every_server_has_its_reason(
    autojump_clock: MockClock, expect_log: Callable[[str], None]
) -> None:
    expect_log("given up")
    async with running(
        settings("a"),
        settings("b", storage_group="x"),
        settings("c", storage_group="x"),
        settings("d", posting=False),
    ) as (providers, fakes):
        fakes["a"].reachable = False
        with pytest.raises(NoHealthyServersError) as caught:
            await providers.fetch(message_id(1), lane=Lane.READER, exclude={"d"})
        reasons = caught.value.reasons
        assert set(reasons) == {"a", "b", "c", "d"}
        assert "refused" in reasons["a"]
        assert reasons["b"] == reasons["c"]
        assert "430" in reasons["b"]
        assert "left out" in reasons["d"]
        assert caught.value.missing == {"b", "c"}
        for name in "abc":
            fakes[name].reachable = False
            fakes[name].drop_all()
        with pytest.raises(NoHealthyServersError, match="post to") as caught:
            await providers.post(article(1))
        assert set(caught.value.reasons) == {"a", "b", "c", "d"}
        assert caught.value.reasons["d"] == "posting is off for it"
        assert caught.value.missing == frozenset()


async def test_what_was_posted_is_remembered_within_bounds(autojump_clock: MockClock) -> None:
    async with running(settings("a")) as (providers, _):
        assert providers._posted.maxsize == MAX_POSTED


async def test_the_server_that_takes_articles_faster_gets_more(autojump_clock: MockClock) -> None:
    async with running(settings("slow"), settings("quick")) as (providers, fakes):
        fakes["slow"].round_trip, fakes["quick"].round_trip = 0.4, 0.05

        async def some(start: int) -> None:
            for number in range(start, start + 25):
                await providers.post(article(number))

        async with trio.open_nursery() as nursery:
            for start in range(0, 200, 25):
                nursery.start_soon(some, start)
        posted = {name: len(server.posted) for name, server in fakes.items()}
        assert sum(posted.values()) == 200
        assert posted["quick"] > 2 * posted["slow"] > 0, posted


async def test_one_refusal_after_a_login_that_worked_does_not_give_the_server_up(
    autojump_clock: MockClock,
) -> None:
    """It once did so for a minute, with every other connection to it at work."""
    async with running(settings("a")) as (providers, fakes):
        fakes["a"].add(1)
        usual, fakes["a"].hook = fakes["a"].hook, answering("BODY", "502 Access denied")
        with pytest.raises(NoHealthyServersError):
            await providers.fetch(message_id(1), lane=Lane.READER)
        fakes["a"].hook = usual
        with trio.fail_after(5):
            assert (await providers.fetch(message_id(1), lane=Lane.READER)).data == b"data"
