"""Each fault, seen from the client; and that none harms the server or another session."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from tests.nntpd.conftest import Client, Start, until_all_are_gone
from tests.servers import GROUP, article, fresh_id
from usenetfs.nntpd.server import RunningServer

BODY = b"".join(b"line %04d\r\n" % number for number in range(1000))


@asynccontextmanager
async def _session(
    start: Start, faults: str, **settings: float
) -> AsyncIterator[tuple[RunningServer, Client]]:
    async with start(faults, **settings) as server, await Client.connect(server) as client:
        yield server, client


async def _posted(client: Client, body: bytes = BODY) -> str:
    message_id = fresh_id()
    assert (await client.submit(article(message_id, body))).startswith("240")
    return message_id


async def test_drop_before_the_reply(start: Start) -> None:
    async with _session(start, "STAT nth 3 drop") as (server, client):
        await client.send(b"STAT <a@b>\r\n" * 5)
        assert (await client.rest()).count(b"430 ") == 2, "what was owed before is sent"
        assert server.counters.faults == Counter(drop=1)
        async with await Client.connect(server) as again:
            assert (await again.ask("STAT <a@b>")).startswith("430")


async def test_drop_amid_a_body(start: Start) -> None:
    async with _session(start, "BODY nth 1 drop-body after=5000") as (server, client):
        message_id = await _posted(client)
        await client.send(f"BODY {message_id}\r\n".encode())
        status, _, kept = (await client.rest()).partition(b"\r\n")
        assert status.startswith(b"222")
        assert kept == BODY[:5000]
        async with await Client.connect(server) as again:
            assert (await again.ask(f"BODY {message_id}")).startswith("222")
            assert len(await again.block()) == 1000


async def test_drop_amid_a_short_body_never_completes_it(start: Start) -> None:
    async with _session(start, "BODY always drop-body after=99999") as (_, client):
        message_id = await _posted(client, b"short\r\n")
        await client.send(f"BODY {message_id}\r\n".encode())
        assert not (await client.rest()).endswith(b"\r\n.\r\n")


@pytest.mark.parametrize("code", [222, 240, 400, 403, 430, 451, 480, 500, 503])
async def test_any_code(start: Start, code: int) -> None:
    async with _session(start, f'BODY nth 1 reply code={code} text="as told"') as (_, client):
        message_id = await _posted(client)
        assert await client.ask(f"BODY {message_id}") == f"{code} as told"
        if code == 222:
            assert await client.block() == []
        if code == 400:
            assert not await client.line()
        else:
            assert (await client.ask(f"BODY {message_id}")).startswith("222")


@pytest.mark.parametrize("code", [340, 440, 441, 502])
async def test_any_code_to_post(start: Start, code: int) -> None:
    async with _session(start, f"POST nth 1 reply code={code}") as (_, client):
        assert (await client.ask("POST")).startswith(str(code))
        if code == 340:
            await client.send(article(fresh_id()))
            assert (await client.line()).startswith("240")
        await _posted(client)


async def test_any_code_to_an_article(start: Start) -> None:
    plan = 'POSTED nth 1 reply code=441 text="437 Too old"\nPOSTED nth 2 reply code=400'
    async with _session(start, plan) as (server, client):
        assert await client.submit(article(fresh_id())) == "441 437 Too old"
        assert (await client.submit(article(fresh_id()))).startswith("400")
        assert not await client.line()
        assert server.counters.articles_stored == 0


async def test_stall_delays_only_its_session(start: Start, autojump_clock: object) -> None:
    async with _session(start, "STAT nth 1 stall seconds=30") as (server, client):
        began = trio.current_time()
        async with await Client.connect(server) as other:
            await client.send(b"STAT <a@b>\r\nDATE\r\n")
            assert (await other.ask("DATE")).startswith("111")
            assert trio.current_time() - began < 30
        assert (await client.line()).startswith("430")
        assert trio.current_time() - began >= 30
        assert (await client.line()).startswith("111")


@pytest.mark.parametrize("fault", ["stall seconds=3600", "drip rate=1"])
async def test_a_client_that_left_is_not_held_by_a_fault(
    start: Start, autojump_clock: object, fault: str
) -> None:
    async with _session(start, f"BODY nth 1 {fault}") as (server, client):
        message_id = await _posted(client)
        began = trio.current_time()
        await client.send(f"BODY {message_id}\r\n".encode())
        await trio.sleep(1)
        assert isinstance(client.stream, trio.SocketStream)
        await client.stream.send_eof()
        assert (await client.rest()).endswith(BODY[-20:] + b".\r\n"), "it is owed, and still sent"
        await until_all_are_gone(server)
        assert trio.current_time() - began < 10


async def test_drip(start: Start, autojump_clock: object) -> None:
    async with _session(start, "BODY nth 1 drip rate=1000") as (_, client):
        message_id = await _posted(client)
        began = trio.current_time()
        await client.ask(f"BODY {message_id}")
        assert len(await client.block()) == 1000
        assert trio.current_time() - began == pytest.approx(len(BODY) / 1000, rel=0.05)


async def test_corrupt_alters_octets_and_no_line(start: Start) -> None:
    async with _session(start, "BODY always corrupt octets=5") as (_, client):
        message_id = await _posted(client)
        await client.ask(f"BODY {message_id}")
        lines = await client.block()
        true = BODY.decode().split("\r\n")[:-1]
        assert [len(line) for line in lines] == [len(line) for line in true]
        assert 1 <= sum(a != b for a, b in zip(lines, true, strict=True)) <= 5


@pytest.mark.parametrize("after", [0, 1, 9, 10, 11, 5000, 10**6])
async def test_truncate_keeps_the_framing(start: Start, after: int) -> None:
    async with _session(start, f"BODY nth 1 truncate after={after}") as (_, client):
        message_id = await _posted(client)
        await client.ask(f"BODY {message_id}")
        kept = "\r\n".join(await client.block()).encode()
        assert BODY.startswith(kept)
        assert len(kept) <= after
        assert (await client.ask("DATE")).startswith("111")


async def test_truncate_before_a_stuffed_dot(start: Start) -> None:
    async with _session(start, "BODY always truncate after=4") as (_, client):
        message_id = await _posted(client, b"a\r\n..\r\n..\r\n")
        await client.ask(f"BODY {message_id}")
        assert await client.block() == ["a"]
        assert (await client.ask("DATE")).startswith("111")


async def test_wrong_article(start: Start) -> None:
    async with _session(start, "BODY nth 2 wrong-article") as (_, client):
        first = await _posted(client, b"first\r\n")
        await _posted(client, b"second\r\n")
        bodies = []
        for _ in range(2):
            assert (await client.ask(f"BODY {first}")).split()[2] == first
            bodies.append(await client.block())
        assert bodies == [["first"], ["second"]]


async def test_lost_reply_and_the_article_is_there(start: Start) -> None:
    async with _session(start, "POST nth 1 lose-reply") as (server, client):
        message_id = fresh_id()
        assert not await client.submit(article(message_id))
        async with await Client.connect(server) as again:
            assert (await again.ask(f"STAT {message_id}")).startswith("223")
            assert (await again.submit(article(message_id))).startswith("441 435")


async def test_dropped_post_and_the_article_is_not_there(start: Start) -> None:
    async with _session(start, "POSTED nth 1 drop") as (server, client):
        message_id = fresh_id()
        assert not await client.submit(article(message_id))
        async with await Client.connect(server) as again:
            assert (await again.ask(f"STAT {message_id}")).startswith("430")
            assert (await again.submit(article(message_id))).startswith("240")


async def test_hidden_for_a_while(start: Start, autojump_clock: object) -> None:
    async with _session(start, "POSTED nth 1 hide seconds=20") as (_, client):
        message_id = await _posted(client)
        assert (await client.ask(f"STAT {message_id}")).startswith("430")
        assert (await client.submit(article(message_id))).startswith("441 435")
        await client.ask(f"GROUP {GROUP}")
        assert (await client.ask("STAT 1")).startswith("423")
        await trio.sleep(21)
        assert (await client.ask(f"STAT {message_id}")).startswith("223")


async def test_discarded_silently(start: Start) -> None:
    async with _session(start, "POSTED nth 1 discard") as (server, client):
        message_id = await _posted(client)
        assert (await client.ask(f"BODY {message_id}")).startswith("430")
        assert server.counters.articles_stored == 0
        assert (await client.submit(article(message_id))).startswith("240")


@pytest.mark.parametrize("tell", ["yes", "no"])
async def test_rewritten_message_id(start: Start, tell: str) -> None:
    async with _session(start, f"POSTED nth 1 rewrite-id tell={tell}") as (_, client):
        message_id = fresh_id()
        told = (await client.submit(article(message_id))).split()[-1]
        assert (told == message_id) == (tell == "no")
        assert (await client.ask(f"STAT {message_id}")).startswith("430")
        await client.ask(f"GROUP {GROUP}")
        rewritten = (await client.ask("STAT 1")).split()[2]
        assert rewritten == (told if tell == "yes" else rewritten)
        await client.ask(f"HEAD {rewritten}")
        assert f"Message-ID: {rewritten}" in await client.block()


async def test_refused_as_duplicate(start: Start) -> None:
    async with _session(start, "POSTED nth 1 duplicate") as (_, client):
        message_id = fresh_id()
        assert (await client.submit(article(message_id))).startswith("441 435")
        assert (await client.ask(f"STAT {message_id}")).startswith("430")


async def test_expired(start: Start, autojump_clock: object) -> None:
    plan = "STAT nth 2 expire\nPOSTED nth 2 expire seconds=60"
    async with _session(start, plan) as (_, client):
        first, second = await _posted(client), await _posted(client)
        assert (await client.ask(f"STAT {first}")).startswith("223")
        assert (await client.ask(f"STAT {first}")).startswith("430")
        assert (await client.ask(f"BODY {first}")).startswith("430")
        assert (await client.ask(f"STAT {second}")).startswith("223")
        await trio.sleep(61)
        assert (await client.ask(f"STAT {second}")).startswith("430")


@pytest.mark.parametrize(
    ("rule", "greeting"),
    [
        ('too-many text="Enough"', "502 Enough"),
        ("reply code=400 text=Later", "400 Later"),
        ("drop", ""),
    ],
)
async def test_refused_at_the_greeting(start: Start, rule: str, greeting: str) -> None:
    async with start(f"CONNECT nth 1 {rule}") as server:
        async with await Client.open(server) as client:
            assert await client.line() == greeting
            assert not await client.line()
        async with await Client.connect(server) as again:
            assert (await again.ask("DATE")).startswith("111")


async def test_late_greeting(start: Start, autojump_clock: object) -> None:
    async with start("CONNECT always stall seconds=9") as server:
        began = trio.current_time()
        async with await Client.connect(server):
            assert trio.current_time() - began >= 9


@pytest.mark.parametrize("silent", ["yes", "no"])
async def test_session_ended_after_a_time(
    start: Start, autojump_clock: object, silent: str
) -> None:
    async with _session(start, f"CONNECT nth 1 end seconds=50 silent={silent}") as (_, client):
        await trio.sleep(49)
        assert (await client.ask("DATE")).startswith("111")
        rest = await client.rest()
        assert rest.startswith(b"400 ") if silent == "no" else not rest


@pytest.mark.parametrize("silent", ["yes", "no"])
async def test_a_session_that_is_over_does_not_outlive_its_client(
    start: Start, silent: str
) -> None:
    """A reply is held back when the session's time ends, and the client does not wait for it."""
    plan = f"CONNECT nth 1 end seconds=0.2 silent={silent}\nDATE nth 1 stall seconds=60"
    async with start(plan) as server:
        async with await Client.connect(server) as client:
            await client.send(b"DATE\r\n")
            await trio.sleep(0.4)
            assert server.counters.connections == 1
        with trio.fail_after(5):
            await until_all_are_gone(server)


async def test_session_ended_after_articles(start: Start) -> None:
    async with _session(start, "CONNECT nth 1 end articles=3") as (server, client):
        message_id = await _posted(client)
        await _posted(client)
        assert (await client.ask(f"BODY {message_id}")).startswith("222")
        assert len(await client.block()) == 1000
        assert (await client.line()).startswith("400")
        assert not await client.line()
        async with await Client.connect(server) as again:
            assert (await again.ask(f"STAT {message_id}")).startswith("223")


async def test_mixture_ends_in_order(start: Start) -> None:
    """Many sessions under all kinds of faults: the server lives, and counts come out even."""
    plan = """
        seed 3
        CONNECT p=0.05 too-many
        CONNECT p=0.2  end articles=3
        *       p=0.02 drop
        BODY    p=0.1  drop-body
        BODY    p=0.1  corrupt
        BODY    p=0.1  truncate
        BODY    p=0.1  wrong-article
        STAT    p=0.05 reply code=503
        POSTED  p=0.1  lose-reply
        POSTED  p=0.1  discard
        POSTED  p=0.1  rewrite-id
        POSTED  p=0.1  drop
    """

    async def one(server: RunningServer, work: Callable[[Client], object]) -> None:
        async with await Client.open(server) as client:
            if (await client.line()).startswith("200"):
                work(client)
                message_id = fresh_id()
                await client.submit(article(message_id))
                await client.send(f"BODY {message_id}\r\nSTAT {message_id}\r\nQUIT\r\n".encode())
                await client.rest()

    async with start(plan) as server:
        seen: list[Client] = []
        for _ in range(20):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(one, server, seen.append)
        await until_all_are_gone(server)
        assert server.counters.peak_connections <= 10
        assert len(server.counters.faults) >= 9
        assert seen
