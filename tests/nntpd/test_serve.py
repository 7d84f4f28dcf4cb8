"""The server as a whole: latency, limits, TLS, durability, counters, bad settings."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from tests.nntpd.conftest import Client, Start, until_all_are_gone
from tests.servers import article, fresh_id
from usenetfs.errors import ConfigurationError, ConnectError, LocalStorageError, UsenetfsError
from usenetfs.nntpd import NntpdSettings, serve
from usenetfs.nntpd.server import RunningServer
from usenetfs.nntpd.spool import Spool, Unsynced

LATENCY = 10.0


async def test_binds_to_loopback(start: Start) -> None:
    async with start() as server:
        assert server.host == "127.0.0.1"
        assert server.port > 0


async def test_latency_delays_each_reply_and_pipelined_ones_together(
    start: Start, autojump_clock: object
) -> None:
    async with start(latency=LATENCY) as server:
        began = trio.current_time()
        client = await Client.connect(server)
        assert trio.current_time() - began == pytest.approx(LATENCY, abs=0.5)
        for commands in (1, 50):
            began = trio.current_time()
            await client.send(b"DATE\r\n" * commands)
            for _ in range(commands):
                await client.line()
            assert trio.current_time() - began == pytest.approx(LATENCY, abs=0.5)
        began = trio.current_time()
        assert (await client.submit(article(fresh_id()))).startswith("240")
        assert trio.current_time() - began == pytest.approx(2 * LATENCY, abs=0.5)
        await client.stream.aclose()


async def test_connection_limit(start: Start) -> None:
    async with start(max_connections=2) as server:
        async with await Client.connect(server), await Client.connect(server):
            async with await Client.open(server) as third:
                assert (await third.line()).startswith("502")
                assert not await third.line()
            assert server.counters.connections == server.counters.peak_connections == 2
            assert server.counters.refused == 1
        await until_all_are_gone(server)
        async with await Client.connect(server):
            assert server.counters.sessions == 3


async def test_posting_forbidden(start: Start) -> None:
    async with start(posting=False) as server:
        client = Client(await trio.open_tcp_stream(server.host, server.port))
        assert (await client.line()).startswith("201")
        assert (await client.ask("MODE READER")).startswith("201")
        assert (await client.ask("POST")).startswith("440")
        assert (await client.ask("IHAVE <a@b>")).startswith("502")
        await client.ask("CAPABILITIES")
        assert not {"POST", "IHAVE"} & set(await client.block())
        await client.stream.aclose()


async def test_idle_session_ends(start: Start, autojump_clock: object) -> None:
    async with start(idle_timeout=100) as server:
        async with await Client.connect(server) as client:
            await trio.sleep(90)
            assert (await client.ask("DATE")).startswith("111")
            assert (await client.rest()).startswith(b"400 ")
        assert server.counters.connections == 0


async def test_client_that_takes_nothing_loses_the_connection(start: Start) -> None:
    async with start(idle_timeout=0.3) as server:
        client = await Client.connect(server)
        message_id = fresh_id()
        body = (b"x" * 126 + b"\r\n") * 7000
        await client.submit(article(message_id, body))
        await client.send(f"BODY {message_id}\r\n".encode() * 20)
        await until_all_are_gone(server)
        await client.stream.aclose()


async def test_ihave_must_bring_what_it_offered(start: Start) -> None:
    async with start() as server, await Client.connect(server) as client:
        offered, brought = fresh_id(), fresh_id()
        assert (await client.submit(article(brought), f"IHAVE {offered}")).startswith("437")
        for message_id in (offered, brought):
            assert (await client.ask(f"STAT {message_id}")).startswith("430")


async def test_counters(start: Start) -> None:
    async with start() as server, await Client.connect(server) as client:
        await client.submit(article(fresh_id()))
        await client.send(b"DATE\r\nDATE\r\nNONSENSE\r\n")
        for _ in range(3):
            await client.line()
        counters = server.counters
        assert counters.commands == {"POST": 1, "DATE": 2, "BAD": 1}
        assert counters.articles_stored == 1
        assert counters.bytes_received > 0
        assert counters.bytes_sent > 0


async def test_lost_client_amid_an_article_leaves_nothing(start: Start) -> None:
    async with start() as server:
        message_id = fresh_id()
        async with await Client.connect(server) as client:
            assert (await client.ask("POST")).startswith("340")
            await client.send(article(message_id).removesuffix(b".\r\n"))
        async with await Client.connect(server) as again:
            assert (await again.ask(f"STAT {message_id}")).startswith("430")


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> dict[str, Any]:
    certificate = authority.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.private_key_pem.write_to_path(key)
    for part in certificate.cert_chain_pems:
        part.write_to_path(chain, append=True)
    return {"tls_certificate": chain, "tls_key": key}


def _client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def _exchange(client: Client) -> None:
    """An article that is larger than any record or buffer there and back."""
    message_id, body = fresh_id(), (b"y" * 126 + b"\r\n") * 7000
    assert (await client.submit(article(message_id, body))).startswith("240")
    assert (await client.ask(f"BODY {message_id}")).startswith("222")
    assert len(await client.block()) == 7000
    await client.ask("CAPABILITIES")
    assert "STARTTLS" not in await client.block()


async def test_implicit_tls(start: Start, authority: trustme.CA, tls: dict[str, Any]) -> None:
    async with start(**tls) as server:
        plain = await trio.open_tcp_stream(server.host, server.port)
        client = Client(
            trio.SSLStream(plain, _client_context(authority), server_hostname="localhost")
        )
        assert (await client.line()).startswith("200")
        await _exchange(client)
        assert (await client.ask("QUIT")).startswith("205")
        await trio.aclose_forcefully(client.stream)


async def test_starttls(start: Start, authority: trustme.CA, tls: dict[str, Any]) -> None:
    async with start(**tls, implicit_tls=False) as server:
        plain = await Client.connect(server)
        await plain.ask("CAPABILITIES")
        assert "STARTTLS" in await plain.block()
        await plain.send(b"DATE\r\nSTARTTLS\r\n")
        assert (await plain.line()).startswith("111")
        assert (await plain.line()).startswith("382")
        client = Client(
            trio.SSLStream(plain.stream, _client_context(authority), server_hostname="localhost")
        )
        await _exchange(client)
        assert (await client.ask("STARTTLS")).startswith("502")
        await trio.aclose_forcefully(client.stream)


async def test_nonsense_instead_of_a_handshake_harms_nobody(
    start: Start, tls: dict[str, Any]
) -> None:
    async with start(**tls) as server:
        async with await Client.open(server) as client:
            await client.send(b"CAPABILITIES\r\n" * 20)
            await client.rest()
        await until_all_are_gone(server)


async def test_no_tls_to_be_had(start: Start) -> None:
    async with start() as server, await Client.connect(server) as client:
        assert (await client.ask("STARTTLS")).startswith("580")
        assert (await client.ask("DATE")).startswith("111")


# --- durability ----------------------------------------------------------------------------------


async def test_durable_articles_are_synced_together_before_they_are_acknowledged(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = Unsynced.sync

    def watched(self: Unsynced) -> None:
        sync(self)
        synced.append(len(self.descriptors))

    monkeypatch.setattr(Unsynced, "sync", watched)

    async def post(server: RunningServer) -> None:
        async with await Client.connect(server) as client:
            for _ in range(5):
                before = len(synced)
                assert (await client.submit(article(fresh_id()))).startswith("240")
                assert len(synced) > before

    async with start(durable=True) as server, trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(post, server)
    assert server.counters.articles_stored == 40
    assert len(synced) < 40


async def test_failing_sync_is_a_refusal(
    start: Start, monkeypatch: pytest.MonkeyPatch, expect_log: Any
) -> None:
    def failing(self: Unsynced) -> None:
        raise OSError(5, "Input/output error")

    expect_log("an article was refused: .*Input/output error")
    monkeypatch.setattr(Unsynced, "sync", failing)
    async with start(durable=True) as server, await Client.connect(server) as client:
        assert (await client.submit(article(fresh_id()))).startswith("441 436")
        assert (await client.ask("DATE")).startswith("111")


async def test_what_fails_in_a_session_ends_no_other(
    start: Start, monkeypatch: pytest.MonkeyPatch, expect_log: Any
) -> None:
    def failing(self: Spool, message_id: str) -> None:
        raise LocalStorageError("the disk is gone")

    expect_log("a session failed")
    async with start() as server, await Client.connect(server) as client:
        with monkeypatch.context() as patched:
            patched.setattr(Spool, "find", failing)
            async with await Client.connect(server) as unlucky:
                assert not await unlucky.ask("STAT <a@b>")
        assert (await client.ask("STAT <a@b>")).startswith("430")


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"port": 70000},
        {"groups": ()},
        {"latency": -1},
        {"max_article": 0},
        {"max_connections": 0},
        {"idle_timeout": 0},
        {"segment_size": 0},
        {"tls_key": Path("key.pem")},
    ],
)
def test_contradicting_settings(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        NntpdSettings(tmp_path, **settings)


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    assert "hush" not in repr(NntpdSettings(tmp_path, users={"me": "hush"}))


async def test_port_taken(start: Start, tmp_path: Path) -> None:
    async with start() as server:
        with pytest.raises(ConnectError, match="cannot listen") as caught:
            await serve(NntpdSettings(tmp_path / "other", port=server.port))
        assert caught.value.hint


async def test_spool_taken(start: Start, tmp_path: Path) -> None:
    async with start():
        with pytest.raises(LocalStorageError, match="another news server"):
            await serve(NntpdSettings(tmp_path / "spool"))


async def test_unusable_certificate(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    with pytest.raises(UsenetfsError, match="certificate"):
        await serve(NntpdSettings(tmp_path / "spool", tls_certificate=bad, tls_key=bad))
