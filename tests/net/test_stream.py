"""Real sockets on loopback: TLS that is checked, or refused; nothing left open."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from tests.net.fakes import article, message_id
from usenetfs.article.yenc import encode_body
from usenetfs.errors import (
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    NoHealthyServersError,
)
from usenetfs.net.providers import ProviderSet
from usenetfs.net.settings import ServerSettings, Timeouts, TlsMode
from usenetfs.net.stream import NetworkDialer, TcpStream
from usenetfs.nntpd import NntpdSettings, serve
from usenetfs.types import Lane


class Certificates:
    """An authority of our own and a certificate of it for localhost."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        self.ca_file = folder / "ca.pem"
        self.certificate = folder / "cert.pem"
        self.key = folder / "key.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        issued.cert_chain_pems[0].write_to_path(str(self.certificate))
        issued.private_key_pem.write_to_path(str(self.key))
        der = ssl.PEM_cert_to_DER_cert(self.certificate.read_text())
        self.pin = hashlib.sha256(der).hexdigest()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@asynccontextmanager
async def connected(
    spool: Path, server: dict[str, Any], client: dict[str, Any]
) -> AsyncIterator[ProviderSet]:
    async with trio.open_nursery() as nursery:
        running = await nursery.start(serve, NntpdSettings(spool=spool, **server))
        one = ServerSettings(name="news", host="localhost", port=running.port, **client)
        providers = ProviderSet([one])
        await nursery.start(providers.run)
        yield providers
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("mode", [TlsMode.IMPLICIT, TlsMode.STARTTLS, TlsMode.NONE])
async def test_articles_go_there_and_back(
    tmp_path: Path, certificates: Certificates, mode: TlsMode
) -> None:
    server: dict[str, Any] = {"users": {"me": "secret"}}
    client: dict[str, Any] = {"tls": mode, "username": "me", "password": "secret"}
    client["connections"] = 2
    if mode is not TlsMode.NONE:
        server |= {"tls_certificate": certificates.certificate, "tls_key": certificates.key}
        server["implicit_tls"] = mode is TlsMode.IMPLICIT
        client["ca_file"] = certificates.ca_file
    async with connected(tmp_path / "spool", server, client) as providers:
        with trio.fail_after(20):
            await providers.post(_yenc_article())
            body = await providers.fetch(message_id(1), lane=Lane.READER)
            assert body.data == CONTENT
            many: list[bytearray] = []

            async def fetch() -> None:
                many.append((await providers.fetch(message_id(1), lane=Lane.READAHEAD)).data)

            async with trio.open_nursery() as nursery:
                for _ in range(30):  # pipelined: what follows a body comes with its end
                    nursery.start_soon(fetch)
        assert len(many) == 30
        assert all(data == CONTENT for data in many)
        assert "secret" not in repr(providers)


async def test_a_line_that_is_slow_is_not_one_that_is_dead() -> None:
    """All of an article is with the kernel at once; that the server takes it by and by counts."""

    async def take_slowly(stream: trio.SocketStream) -> None:
        await stream.send_all(b"200 hello\r\n")
        await stream.receive_some(1000)
        await stream.send_all(b"500 what?\r\n")
        await stream.receive_some(1000)
        await stream.send_all(b"340 send it\r\n")
        end = b""
        while not end.endswith(b"\r\n.\r\n"):
            end = (end + await stream.receive_some(8 * 1024))[-5:]
            await trio.sleep(0.1)
        await stream.send_all(b"240 thanks\r\n")

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024)
    one = ServerSettings(
        name="news",
        host="127.0.0.1",
        port=listener.socket.getsockname()[1],
        tls=TlsMode.NONE,
        timeouts=Timeouts(response=2.0, article=60.0),
        warm_connections=0,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, take_slowly, [listener])
        providers = ProviderSet([one])
        await nursery.start(providers.run)
        with trio.fail_after(60):
            assert (await providers.post(article(1, 300_000))).server == "news"
        nursery.cancel_scope.cancel()


CONTENT = bytes(range(256)) * 3000


def _yenc_article() -> Any:
    plain = article(1)
    headers = (
        f"From: a <a@b.test>\r\nNewsgroups: alt.binaries.test\r\nSubject: x\r\n"
        f"Message-ID: {plain.message_id}\r\n\r\n"
    )
    return type(plain)(plain.message_id, headers.encode() + encode_body(CONTENT, name="x"))


@pytest.mark.parametrize(
    ("trust", "works"),
    [("ca", True), ("pin", True), ("ca and pin", True), ("nothing", False), ("wrong pin", False)],
)
async def test_a_certificate_is_never_taken_on_trust(
    tmp_path: Path, certificates: Certificates, trust: str, works: bool, expect_log: Any
) -> None:
    expect_log("given up|session ended early")
    server = {"tls_certificate": certificates.certificate, "tls_key": certificates.key}
    client: dict[str, Any] = {}
    if "ca" in trust:
        client["ca_file"] = certificates.ca_file
    if "pin" in trust:
        client["pin_sha256"] = "00" * 32 if "wrong" in trust else certificates.pin
    async with connected(tmp_path / "spool", server, client) as providers:
        with trio.fail_after(20):
            if works:
                assert await providers.stat(message_id(1), lane=Lane.READER) is None
            else:
                with pytest.raises(NoHealthyServersError, match="certificate"):
                    await providers.stat(message_id(1), lane=Lane.READER)


async def test_who_hangs_up_in_the_handshake_is_dialled_again_soon() -> None:
    """A server that restarts does so; with its certificate there is nothing wrong."""
    dials = 0

    async def hang_up(stream: trio.SocketStream) -> None:
        nonlocal dials
        dials += 1
        await stream.receive_some(65_536)
        await stream.aclose()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, hang_up, [listener])
        with pytest.raises(ConnectError, match="hung up") as caught:
            await NetworkDialer().connect(ServerSettings("news", "127.0.0.1", port))
        assert caught.value.recoverable
        assert "a port for TLS" in str(caught.value.hint)
        assert dials == 1
        nursery.cancel_scope.cancel()


async def test_a_host_that_cannot_be_a_name_is_a_server_that_cannot_be_reached(
    expect_log: Any,
) -> None:
    """Looking it up raises UnicodeError, which once ended the daemon."""
    expect_log("given up")
    async with trio.open_nursery() as nursery:
        one = ServerSettings(name="news", host="news..example.net", port=119, tls=TlsMode.NONE)
        providers = ProviderSet([one])
        await nursery.start(providers.run)
        with pytest.raises(NoHealthyServersError, match="no name of a host"):
            await providers.stat(message_id(1), lane=Lane.READER)
        nursery.cancel_scope.cancel()


async def test_a_resolver_that_hangs_takes_no_thread_from_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Threads are what syncing a file takes, and the network must never hold that up."""
    answers, real = threading.Event(), socket.getaddrinfo

    def hanging(host: Any, port: Any, family: int, kind: int, proto: int, flags: int) -> Any:
        if not flags & socket.AI_NUMERICHOST:
            answers.wait(60)
        return real(host, port, family, kind, proto, flags)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    one = ServerSettings(name="news", host="news.test", port=119, tls=TlsMode.NONE, connections=100)
    async with trio.open_nursery() as nursery:
        providers = ProviderSet([one])
        await nursery.start(providers.run)

        async def fetch(number: int) -> None:
            with contextlib.suppress(NoHealthyServersError):
                await providers.fetch(message_id(number), lane=Lane.READER)

        for number in range(100):
            nursery.start_soon(fetch, number)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert "100 dialling" in repr(providers)
        try:
            with trio.fail_after(10):
                await trio.to_thread.run_sync(lambda: None)
        finally:
            answers.set()
        nursery.cancel_scope.cancel()


async def test_a_closed_stream_says_so_however_often_it_is_asked() -> None:
    """Once it ended the whole pool: what trio remembers of descriptor -1 is everybody's."""
    for _ in range(3):
        near, far = socket.socketpair()
        stream = TcpStream(near)
        stream.close()
        far.close()
        for _ in range(2):
            with pytest.raises(ConnectionLostError):
                await stream.receive_into(bytearray(10))
            with pytest.raises(ConnectionLostError):
                await stream.send_all([b"x"])


async def test_starttls_is_not_given_up_when_the_server_lacks_it(
    tmp_path: Path, expect_log: Any
) -> None:
    expect_log("given up")
    async with connected(tmp_path / "spool", {}, {"tls": TlsMode.STARTTLS}) as providers:
        with trio.fail_after(20), pytest.raises(NoHealthyServersError, match="STARTTLS"):
            await providers.stat(message_id(1), lane=Lane.READER)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 0},
        {"connections": 0},
        {"username": "me"},
        {"pin_sha256": "12"},
        {"tls": TlsMode.NONE, "pin_sha256": "00" * 32},
        {"connections": 2, "reserved_connections": 2},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ServerSettings("a", "h", **({"port": 563} | wrong))


def test_the_password_is_not_shown() -> None:
    one = ServerSettings("a", "h", 563, username="me", password="hidden")
    assert "hidden" not in repr(one)
