"""A session without cleverness: one line out, one line in. For examining servers, not for traffic.

The client's own sessions (``connection.py``) keep to the protocol in all they do; what a server
does with what RFC 3977 does not foresee can only be found out beside them. Logging in is theirs.

Owns one stream. Every wait ends: what takes longer than ``patience`` seconds is
ConnectionLostError. After any error the session is of no more use. Must not know: what its words
are for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Self

import trio

from usenetfs.errors import ConnectionLostError, RemoteProtocolError
from usenetfs.net.connection import Traits
from usenetfs.net.lone import log_in_alone
from usenetfs.net.replies import quote
from usenetfs.net.settings import ServerSettings
from usenetfs.net.stream import Stream

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MAX_LINE: Final = 4096
MAX_BLOCK: Final = 16 << 20
RECEIVE: Final = 256 * 1024
END: Final = b".\r\n"


class Reply(NamedTuple):
    """A status line."""

    code: int
    text: str

    def __str__(self) -> str:
        return quote(self.code, self.text)


class PlainSession:
    """See the module. ``traits``: what logging in told."""

    def __init__(self, stream: Stream, traits: Traits, *, server: str, patience: float) -> None:
        self.stream = stream
        self.traits = traits
        self.bytes_up = self.bytes_down = 0
        self._server = server
        self._patience = patience
        self._held = bytearray()

    def __repr__(self) -> str:
        return f"<PlainSession {self._server} up={self.bytes_up} down={self.bytes_down}>"

    @classmethod
    async def open(cls, settings: ServerSettings, *, patience: float) -> Self:
        """Log in as the client does; raises what that raises, ConnectError if it is slow."""
        connection, traits = await log_in_alone(settings)
        try:
            stream = connection.surrender()
        finally:
            connection.close_now()
        return cls(stream, traits, server=settings.name, patience=patience)

    def close(self) -> None:
        self.stream.close()

    # --- words -----------------------------------------------------------------------------------

    async def send(self, *parts: ReadableBuffer) -> None:
        with self._in_time() as scope:
            await self.stream.send_all(parts)
        self._check(scope)
        self.bytes_up += sum(len(memoryview(part)) for part in parts)

    async def reply(self) -> Reply:
        """The next status line. RemoteProtocolError if it is none."""
        line = await self._line()
        code, text = line[:3], line[3:].strip()
        if not code.isascii() or not code.isdigit():
            raise RemoteProtocolError("a reply has no code", server=self._server)
        return Reply(int(code), text)

    async def ask(self, command: str) -> Reply:
        await self.send(command.encode("ascii") + b"\r\n")
        return await self.reply()

    async def block(self) -> bytes:
        """The lines after a status line, dots still stuffed, without the terminator."""
        end = 0 if self._held.startswith(END) else self._held.find(b"\r\n" + END)
        while end < 0:
            searched = max(0, len(self._held) - len(END) - 2)
            await self._receive(MAX_BLOCK)
            end = self._held.find(b"\r\n" + END, searched)
            if self._held.startswith(END):
                end = 0
        kept = end + 2 if end else 0
        lines = bytes(self._held[:kept])
        del self._held[: kept + len(END)]
        return lines

    async def post(self, wire: ReadableBuffer) -> Reply:
        """POST an article (without its terminator): the last reply."""
        first = await self.ask("POST")
        if first.code != 340:
            return first
        await self.send(wire, END)
        return await self.reply()

    async def _line(self) -> str:
        while (end := self._held.find(b"\r\n")) < 0:
            await self._receive(MAX_LINE)
        line = self._held[:end].decode("utf-8", "replace")
        del self._held[: end + 2]
        return line

    async def _receive(self, most: int) -> None:
        if len(self._held) > most:
            raise RemoteProtocolError("a reply does not end", server=self._server)
        buffer = bytearray(RECEIVE)
        count = 0
        with self._in_time() as scope:
            count = await self.stream.receive_into(buffer)
        self._check(scope)
        if not count:
            raise ConnectionLostError(f"{self._server} ended the session", server=self._server)
        self.bytes_down += count
        self._held += buffer[:count]

    def _in_time(self) -> trio.CancelScope:
        return trio.move_on_after(self._patience)

    def _check(self, scope: trio.CancelScope) -> None:
        if scope.cancelled_caught:
            raise ConnectionLostError(
                f"{self._server} did not answer within {self._patience:g} s", server=self._server
            )
