"""How a session comes about, with servers of every temper."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock

from tests.net.fakes import FakeServer, Session, open_server, settings
from usenetfs.errors import (
    AuthenticationError,
    ConnectError,
    RemoteProtocolError,
    ServerBusyError,
    TlsError,
    UsenetfsError,
)
from usenetfs.net.login import Login, Traits
from usenetfs.net.settings import ServerSettings, TlsMode
from usenetfs.net.stream import NetworkDialer, _tls_context
from usenetfs.nntp.client import ClientProtocol


class Script:
    """Answers by verb (``AUTHINFO USER`` and ``AUTHINFO PASS`` are two); the rest as usual."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.heard: list[str] = []

    async def __call__(self, session: Session, verb: str, argument: str) -> bool:
        name = f"{verb}_{argument.split(maxsplit=1)[0]}" if verb in {"AUTHINFO", "MODE"} else verb
        self.heard.append(name)
        if name not in self.answers:
            return False
        session.say(self.answers[name])
        return True


async def logged_in(server: FakeServer, traits: Traits, **changes: Any) -> None:
    login = Login(settings(**changes), traits, ClientProtocol(), server)
    (await login.open()).close()


ACCOUNT = {"username": "me", "password": "secret"}
WELCOME = {"AUTHINFO_USER": "381 more", "AUTHINFO_PASS": "281 welcome"}


async def test_capabilities_are_asked_once_and_again_after_the_login() -> None:
    async with open_server() as server:
        script = Script(**WELCOME, MODE_READER="200 posting allowed")
        server.hook = script
        asked = 0

        async def grow(session: Session, verb: str, argument: str) -> bool:
            nonlocal asked
            if verb == "CAPABILITIES":
                asked += 1
                more = "READER\r\nPOST" if asked > 1 else "MODE-READER"
                session.say(f"101 these\r\nVERSION 2\r\n{more}\r\n.")
                return True
            return await script(session, verb, argument)

        server.hook = grow
        traits = Traits()
        await logged_in(server, traits, **ACCOUNT)
        assert traits.capabilities == {"VERSION", "READER", "POST"}
        assert script.heard == ["MODE_READER", "AUTHINFO_USER", "AUTHINFO_PASS"]
        await logged_in(server, traits, **ACCOUNT)
        assert asked == 2
        assert script.heard[3:] == ["MODE_READER", "AUTHINFO_USER", "AUTHINFO_PASS"]


@pytest.mark.parametrize("refusal", ["480 login first", "500 what?", "502 no", "483 TLS first"])
async def test_a_server_that_lists_no_capabilities_lets_us_in_all_the_same(refusal: str) -> None:
    async with open_server() as server:
        server.hook = Script(**WELCOME, CAPABILITIES=refusal)
        traits = Traits()
        await logged_in(server, traits, **ACCOUNT)
        assert traits.capabilities == frozenset()


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({"CAPABILITIES": "400 closing"}, ServerBusyError),
        ({"AUTHINFO_USER": "481 no"}, AuthenticationError),
        ({"AUTHINFO_USER": "381 more", "AUTHINFO_PASS": "482 no"}, AuthenticationError),
        ({"AUTHINFO_USER": "381 more", "AUTHINFO_PASS": "299 hm"}, UsenetfsError),
    ],
)
async def test_a_refused_login_leaves_nothing_open(
    answers: dict[str, str], kind: type[UsenetfsError]
) -> None:
    async with open_server() as server:
        server.hook = Script(**answers)
        with pytest.raises(kind) as caught:
            await logged_in(server, Traits(), **ACCOUNT)
        assert "secret" not in str(caught.value)
        assert all(session.stream.closed for session in server.sessions)


async def test_a_login_without_a_password_prompt(autojump_clock: MockClock) -> None:
    async with open_server() as server:
        server.hook = Script(AUTHINFO_USER="281 welcome")
        await logged_in(server, Traits(), **ACCOUNT)


async def test_a_read_only_greeting_is_remembered() -> None:
    async with open_server() as server:
        server.greeting = "201 read only"
        traits = Traits()
        await logged_in(server, traits)
        assert not traits.posting_announced


# --- real sockets --------------------------------------------------------------------------------


@asynccontextmanager
async def listening(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that greets, answers the first command with ``answer``, and tells what it heard."""
    heard: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"200 hello\r\n")
        try:
            while data := await stream.receive_some(4096):
                heard.append(data)
                if len(heard) == 1:
                    await stream.send_all(answer)
        except trio.BrokenResourceError:
            pass  # the client has hung up on us, as it should

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        yield listeners[0].socket.getsockname()[1], heard
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("injected", [b"200 injected\r\n", b"101 x\r\nPOST\r\n.\r\n", b"\x16"])
async def test_what_comes_before_the_handshake_is_an_attack(injected: bytes) -> None:
    async with listening(b"382 go on\r\n" + injected) as (port, heard):
        one = ServerSettings(
            "a", "localhost", port, TlsMode.STARTTLS, username="me", password="secret"
        )
        with trio.fail_after(10), pytest.raises(RemoteProtocolError):
            await Login(one, Traits(), ClientProtocol(), NetworkDialer()).open()
        assert heard == [b"STARTTLS\r\n"], "nothing of ours follows, no password above all"


@pytest.mark.parametrize("answer", [b"580 no TLS here\r\n", b"500 what?\r\n", b"400 later\r\n"])
async def test_without_tls_nothing_is_said(answer: bytes) -> None:
    async with listening(answer) as (port, heard):
        one = ServerSettings(
            "a", "localhost", port, TlsMode.STARTTLS, username="me", password="secret"
        )
        with trio.fail_after(10), pytest.raises(TlsError, match="STARTTLS"):
            await Login(one, Traits(), ClientProtocol(), NetworkDialer()).open()
        assert heard == [b"STARTTLS\r\n"]


class Names(trio.abc.HostnameResolver):
    """``news.test`` has these addresses."""

    def __init__(self, *addresses: tuple[str, int]) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
        await trio.lowlevel.checkpoint()
        kinds = {True: socket.AF_INET6, False: socket.AF_INET}
        return [
            (kinds[":" in address], socket.SOCK_STREAM, 6, "", (address, number))
            for address, number in self.addresses
        ]

    async def getnameinfo(self, *_: Any) -> Any:
        raise AssertionError("nobody asks which name an address has")


@asynccontextmanager
async def silent_port() -> AsyncIterator[int]:
    """A port whose queue is full: connecting gets no answer, as with a broken IPv6 route."""
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    number = full.getsockname()[1]
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", number))
        fillers.append(filler)
    try:
        yield number
    finally:
        for one in (*fillers, full):
            one.close()


async def test_an_address_that_does_not_answer_is_overtaken_by_the_next() -> None:
    async with listening(b"500 what?\r\n") as (port, _), silent_port() as silent:
        trio.socket.set_custom_hostname_resolver(Names(("127.0.0.1", silent), ("127.0.0.1", port)))
        one = ServerSettings("a", "news.test", port, TlsMode.NONE)
        started = trio.current_time()
        with trio.fail_after(10):
            (await Login(one, Traits(), ClientProtocol(), NetworkDialer()).open()).close()
        assert trio.current_time() - started < 5


async def test_ipv6_and_ipv4_are_both_tried_and_every_failure_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        free = used.getsockname()[1]
    trio.socket.set_custom_hostname_resolver(Names(("::1", free), ("127.0.0.1", free)))
    one = ServerSettings("a", "news.test", free, TlsMode.NONE)
    with trio.fail_after(10), pytest.raises(ConnectError, match="refused"):
        await NetworkDialer().connect(one)


async def test_without_a_file_of_its_own_the_systems_store_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)

    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # refused by the client
            await trio.SSLStream(stream, context, server_side=True).send_all(b"200 hello\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        one = ServerSettings("a", "localhost", listeners[0].socket.getsockname()[1])
        for known, store in ((True, authority), (False, other)):
            store.cert_pem.write_to_path(str(tmp_path / f"{known}.pem"))
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / f"{known}.pem"))
            _tls_context.cache_clear()
            with trio.fail_after(10):
                if known:
                    (await NetworkDialer().connect(one)).close()
                else:
                    with pytest.raises(TlsError, match="certificate"):
                        await NetworkDialer().connect(one)
        _tls_context.cache_clear()
        nursery.cancel_scope.cancel()
