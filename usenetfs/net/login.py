"""From nothing to a session that takes requests: dial, greeting, STARTTLS, MODE READER, AUTHINFO.

Owns the stream until the session stands, and closes it when that fails. Nothing is pipelined here.
Must not know: requests, pools, what the session will be used for.

The order, and why:

1. greeting: 200 or 201, or a refusal in the server's own words;
2. STARTTLS where configured, before anything of ours is said. What came with the 382 is an
   injection and an error (the protocol sees to that); what the server said before it counts for
   nothing afterwards (RFC 4642 §2.2.2);
3. CAPABILITIES, once for each server. Some want a login first (480), old ones do not know it (500);
4. MODE READER where the server needs it, which also announces anew whether posting is allowed;
5. AUTHINFO, and then CAPABILITIES once more, because a login changes them (RFC 4643 §2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from usenetfs.errors import (
    ConnectionLostError,
    RemoteProtocolError,
    TlsError,
)
from usenetfs.net.replies import not_let_in, quote, refused_session
from usenetfs.net.settings import ServerSettings, TlsMode
from usenetfs.net.stream import Dialer, Stream
from usenetfs.nntp.client import ClientProtocol, Response
from usenetfs.nntp.grammar import Verb


@dataclass(slots=True)
class Traits:
    """What has been learned about a server by logging in; shared by its connections."""

    capabilities: frozenset[str] | None = None
    """First words of the CAPABILITIES lines, as they are once logged in; None: not asked yet;
    empty: it does not know the command."""
    needs_mode_reader: bool = False
    posting_announced: bool = True
    """Whether the last greeting (200 or 201) allowed posting."""
    post_ahead_failed: bool = False
    """A POST sent ahead was refused or lost: no more of them."""


class Login:
    """One attempt. ``protocol`` is the session's own, in its first state."""

    def __init__(
        self, settings: ServerSettings, traits: Traits, protocol: ClientProtocol, dialer: Dialer
    ) -> None:
        self._settings = settings
        self._traits = traits
        self._protocol = protocol
        self._dialer = dialer
        self._stream: Stream | None = None

    def __repr__(self) -> str:
        return f"<Login at {self._settings.name} {self._protocol!r}>"

    async def open(self) -> Stream:
        """The stream of a session that stands.

        ConnectError, TlsError, AuthenticationError, TooManyConnectionsError, and whatever else a
        server may refuse with. The caller sets the timeout.
        """
        try:
            self._stream = await self._dialer.connect(self._settings)
            await self._introduce()
        except BaseException:
            if self._stream is not None:
                self._stream.close()
            raise
        return self._stream

    async def _introduce(self) -> None:
        greeting = await self._reply()
        self._expect(greeting, {200, 201})
        if self._settings.tls is TlsMode.STARTTLS:
            await self._start_tls()
        first = self._traits.capabilities is None
        if first:
            await self._ask_capabilities()
        if self._traits.needs_mode_reader:
            greeting = await self.command(Verb.MODE_READER)
            self._expect(greeting, {200, 201})
        if self._settings.username is not None and self._settings.password is not None:
            await self._authenticate(self._settings.username, self._settings.password)
            if first:
                await self._ask_capabilities()
        self._traits.posting_announced = greeting.code == 200

    async def _start_tls(self) -> None:
        reply = await self.command(Verb.STARTTLS)
        if reply.code != 382:
            raise TlsError(
                f"{self._settings.name} refuses STARTTLS: {quote(reply.code, reply.text)}",
                hint='use implicit TLS (tls = "implicit", port 563) if the server offers it',
                server=self._settings.name,
            )
        assert self._stream is not None
        self._stream = await self._dialer.start_tls(self._stream, self._settings)

    async def _ask_capabilities(self) -> None:
        reply = await self.command(Verb.CAPABILITIES)
        if reply.code == 101 and reply.lines is not None:
            words = (line.split(None, 1) for line in reply.lines)
            found = frozenset(w[0].decode("ascii", "replace").upper() for w in words if w)
            self._traits.needs_mode_reader |= "MODE-READER" in found
        elif reply.code in {205, 400}:
            raise refused_session(reply.code, reply.text, self._settings.name)
        else:
            found = frozenset()  # 500 from servers of RFC 977's time; 480, 483, 502: not yet
        self._traits.capabilities = found

    async def _authenticate(self, username: str, password: str) -> None:
        reply = await self.command(Verb.AUTHINFO_USER, username)
        if reply.code == 381:
            reply = await self.command(Verb.AUTHINFO_PASS, password)
        if reply.code != 281:
            error = refused_session(reply.code, reply.text, self._settings.name)
            if isinstance(error, RemoteProtocolError):
                error = not_let_in(error.message, self._settings.name)
            raise error

    def _expect(self, reply: Response, codes: set[int]) -> None:
        if reply.code not in codes:
            raise refused_session(reply.code, reply.text, self._settings.name)

    async def command(self, verb: Verb, *arguments: str) -> Response:
        """One command and its reply."""
        assert self._stream is not None
        await self._stream.send_all([self._protocol.request(verb, *arguments)])
        return await self._reply()

    async def _reply(self) -> Response:
        assert self._stream is not None
        while True:
            count = await self._stream.receive_into(self._protocol.buffer())
            responses = self._protocol.received(count)
            if len(responses) > 1:
                raise RemoteProtocolError("more replies than commands", server=self._settings.name)
            if responses:
                return responses[0]
            if not count:
                raise ConnectionLostError(
                    "the server ended the session during login", server=self._settings.name
                )
