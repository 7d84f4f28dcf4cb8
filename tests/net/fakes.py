"""A news server in memory, for tests of the client: no sockets, no real time.

It speaks through the project's own server role, keeps articles in a dictionary, counts its
connections, and lets a test step in before any command is answered. A stream is a pair of trio's
in-memory buffers, so a send never blocks and the autojump clock runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from usenetfs.article.yenc import encode_body
from usenetfs.errors import ConnectError, ConnectionLostError
from usenetfs.net.settings import ServerSettings, Timeouts, TlsMode
from usenetfs.net.stream import Stream
from usenetfs.types import MessageId

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


def settings(name: str = "news", **changes: Any) -> ServerSettings:
    """A server that needs no login and no TLS."""
    values: dict[str, Any] = {
        "host": f"{name}.test",
        "port": 119,
        "tls": TlsMode.NONE,
        "connections": 4,
        "warm_connections": 0,
        "timeouts": Timeouts(connect=10, response=20, article=60),
    }
    return ServerSettings(name=name, **(values | changes))


def message_id(number: int) -> MessageId:
    return MessageId(f"<{number}@article.test>")


class MemoryStream:
    """The client's end."""

    def __init__(
        self, incoming: trio.testing.MemoryReceiveStream, outgoing: trio.testing.MemoryReceiveStream
    ) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self.closed = False
        self.sends = 0
        """Calls that put octets on the way."""

    async def receive_into(self, buffer: WriteableBuffer) -> int:
        with memoryview(buffer) as view:
            room = len(view)
        try:
            data = await self._incoming.receive_some(room)
        except trio.ClosedResourceError as error:
            raise ConnectionLostError("closed here") from error
        with memoryview(buffer) as view:
            view[: len(data)] = data
        return len(data)

    def receive_nowait(self, buffer: WriteableBuffer) -> int | None:
        return None

    async def send_all(self, parts: Iterable[ReadableBuffer]) -> None:
        await trio.lowlevel.checkpoint()
        for part in parts:
            self._put(bytes(part))

    def send_nowait(self, data: bytes) -> int:
        try:
            self._put(data)
        except ConnectionLostError:
            return 0
        return len(data)

    def _put(self, data: bytes) -> None:
        self.sends += 1
        try:
            self._outgoing.put_data(data)
        except trio.ClosedResourceError as error:
            raise ConnectionLostError("gone") from error

    def taken(self) -> int:
        return 0  # it has none on the way

    def end_sending(self) -> None:
        self._outgoing.put_eof()

    def close(self) -> None:
        self.closed = True
        self._incoming.close()
        self._outgoing.put_eof()


@dataclass(eq=False)
class Session:
    """The server's end of one connection."""

    number: int
    incoming: trio.testing.MemoryReceiveStream
    outgoing: trio.testing.MemoryReceiveStream
    stream: MemoryStream
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    pending: bytearray = field(default_factory=bytearray)
    commands: list[str] = field(default_factory=list)

    def say(self, data: bytes | str) -> None:
        raw = data.encode() + b"\r\n" if isinstance(data, str) else data
        if not self.stream.closed:
            self.outgoing.put_data(raw)

    def drop(self) -> None:
        """End the connection without a word."""
        self.scope.cancel()

    async def until(self, end: bytes) -> bytes | None:
        while end not in self.pending:
            data = await self.incoming.receive_some(1 << 20)
            if not data:
                return None
            self.pending += data
        found = self.pending.index(end)
        line = bytes(self.pending[:found])
        del self.pending[: found + len(end)]
        return line


Hook = Callable[[Session, str, str], Awaitable[bool]]


class FakeServer:
    """See the module. ``hook``: called with (session, verb, argument); True: it has answered."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.articles: dict[str, bytes] = {}
        self.posted: list[str] = []
        self.sessions: list[Session] = []
        self.dials = 0
        self.peak = 0
        self.limit = 1000
        self.greeting = "200 hello"
        self.reachable = True
        self.dial_time = 0.0
        self.round_trip = 0.0
        self.hook: Hook | None = None
        self.counts: Counter[str] = Counter()

    def add(self, number: int, data: bytes = b"data") -> MessageId:
        wanted = message_id(number)
        self.articles[wanted] = encode_body(data, name="x")
        return wanted

    def drop_all(self) -> None:
        for session in list(self.sessions):
            session.drop()

    # --- as a Dialer --------------------------------------------------------------------------

    async def connect(self, settings: ServerSettings) -> Stream:
        self.dials += 1
        number = self.dials
        await trio.sleep(self.dial_time)
        if not self.reachable:
            raise ConnectError("refused")
        to_server, to_client = (
            trio.testing.MemoryReceiveStream(),
            trio.testing.MemoryReceiveStream(),
        )
        stream = MemoryStream(to_client, to_server)
        session = Session(number, to_server, to_client, stream)
        self.sessions.append(session)
        self.peak = max(self.peak, len(self.sessions))
        self._nursery.start_soon(self._serve, session)
        return stream

    async def start_tls(self, stream: Stream, settings: ServerSettings) -> Stream:
        await trio.lowlevel.checkpoint()
        return stream

    # --- answering ----------------------------------------------------------------------------

    async def _serve(self, session: Session) -> None:
        try:
            with session.scope:
                if len(self.sessions) > self.limit:
                    session.say("502 too many connections")
                    return
                session.say(self.greeting)
                while (line := await session.until(b"\r\n")) is not None:
                    verb, _, argument = line.decode().partition(" ")
                    session.commands.append(verb)
                    self.counts[verb] += 1
                    if self.hook is not None and await self.hook(session, verb, argument):
                        continue
                    await trio.sleep(self.round_trip)
                    if not await self._answer(session, verb, argument):
                        return
        finally:
            self.sessions.remove(session)
            if not session.stream.closed:
                session.outgoing.put_eof()

    async def _answer(self, session: Session, verb: str, argument: str) -> bool:
        match verb:
            case "CAPABILITIES":
                session.say(b"101 these\r\nVERSION 2\r\nREADER\r\nPOST\r\n.\r\n")
            case "DATE":
                session.say("111 20260101000000")
            case "QUIT":
                session.say("205 bye")
                return False
            case "STAT" if argument in self.articles:
                session.say(f"223 0 {argument}")
            case "BODY" if argument in self.articles:
                session.say(f"222 0 {argument}")
                session.say(self.articles[argument] + b".\r\n")
            case "STAT" | "BODY":
                session.say("430 no such article")
            case "POST":
                await self._take_article(session)
            case _:
                session.say("500 what?")
        return True

    async def _take_article(self, session: Session) -> None:
        session.say("340 send it")
        wire = await session.until(b"\r\n.\r\n")
        if wire is None:
            return
        if self.hook is not None and await self.hook(session, "POSTED", ""):
            return
        await trio.sleep(self.round_trip)
        headers = dict(line.split(": ", 1) for line in wire.decode("latin-1").split("\r\n")[:1])
        self.posted.append(headers["Message-ID"])
        session.say(f"240 {headers['Message-ID']} received")


@dataclass(frozen=True)
class Article:
    """What the provider set posts."""

    message_id: MessageId
    wire: bytes


def article(number: int, size: int = 100) -> Article:
    wanted = message_id(number)
    return Article(wanted, f"Message-ID: {wanted}\r\n\r\n{'x' * size}\r\n".encode())


@asynccontextmanager
async def open_server() -> AsyncIterator[FakeServer]:
    async with trio.open_nursery() as nursery:
        yield FakeServer(nursery)
        nursery.cancel_scope.cancel()
