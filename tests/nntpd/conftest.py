"""An embedded server in the test's own event loop, and a plain client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import trio

from usenetfs.nntpd import NntpdSettings, serve
from usenetfs.nntpd.faults import parse_plan
from usenetfs.nntpd.server import RunningServer

Start = Callable[..., AbstractAsyncContextManager[RunningServer]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """``async with start(faults="BODY always drop", latency=…) as server``."""

    @asynccontextmanager
    async def run(faults: str = "", **settings: Any) -> AsyncIterator[RunningServer]:
        chosen = NntpdSettings(tmp_path / "spool", faults=parse_plan(faults), **settings)
        async with trio.open_nursery() as nursery:
            yield await nursery.start(serve, chosen)
            nursery.cancel_scope.cancel()

    return run


async def until_all_are_gone(server: RunningServer) -> None:
    """Return when no connection is open; TooSlowError after ten seconds."""
    for _ in range(1000):
        if not server.counters.connections:
            return
        await trio.sleep(0.01)
    raise trio.TooSlowError


class Client:
    """Lines out, lines in, over any of trio's streams. ``lines`` are without CRLF."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._held = b""

    @classmethod
    async def open(cls, server: RunningServer) -> Self:
        """A session whose greeting has not been read."""
        return cls(await trio.open_tcp_stream(server.host, server.port))

    @classmethod
    async def connect(cls, server: RunningServer) -> Self:
        """A session that has been greeted with 200."""
        client = await cls.open(server)
        assert (await client.line()).startswith("200")
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.aclose_forcefully(self.stream)

    async def send(self, octets: bytes) -> None:
        await self.stream.send_all(octets)

    async def line(self) -> str:
        """The next line; "" when the server has closed the connection."""
        while b"\r\n" not in self._held:
            data = await self._receive()
            if not data:
                return ""
            self._held += data
        line, _, self._held = self._held.partition(b"\r\n")
        return line.decode()

    async def rest(self) -> bytes:
        """Everything until the server closes the connection."""
        parts, self._held = [self._held], b""
        while data := await self._receive():
            parts.append(data)
        return b"".join(parts)

    async def block(self) -> list[str]:
        lines = []
        while (line := await self.line()) != ".":
            lines.append(line)
        return lines

    async def ask(self, command: str) -> str:
        await self.send(f"{command}\r\n".encode())
        return await self.line()

    async def submit(self, wire: bytes, command: str = "POST") -> str:
        first = await self.ask(command)
        if first[:3] not in {"340", "335"}:
            return first
        await self.send(wire)
        return await self.line()

    async def _receive(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some())
        except trio.BrokenResourceError:
            return b""
