"""One session with a server: a stream, a protocol, and the two tasks that drive them.

Owns: sending commands, receiving replies and pairing them with their requests, the serial exchange
of a POST, and taking leave. How a session comes about is in :mod:`usenetfs.net.login`.
Must not know: which request should go where, other connections, retries.

How it works. A *reader* task receives into the protocol's buffer all the time, also while nothing
is asked, so that a session ended by the server is noticed at once. Commands go out synchronously
in :meth:`Connection.submit` as far as the kernel takes them; what it does not take, and articles,
go through the *writer* task. Nobody else touches the stream, and callers wait on their
:class:`Request`, never on the connection. So a caller that goes away cannot desynchronise
anything: its reply is read and thrown away, and only a POST that has not been sent whole ends the
session.

Invariants:

- ``inflight`` holds the requests the server owes a reply, in the order they were sent;
- while a POST is in flight nothing else is, but for one more POST whose article waits, sent behind
  an article where the server is known to cope (``post_ahead``);
- ``committed`` is set before the first octet of an article is handed to the stream;
- once ``state`` is CLOSING nothing more is submitted, and what is in ``inflight`` when
  :meth:`Connection.serve` returns belongs to the pool again.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from usenetfs.errors import ConnectionLostError, RemoteProtocolError, UsenetfsError
from usenetfs.net.health import Ewma
from usenetfs.net.login import Login, Traits
from usenetfs.net.replies import ends_session, is_about, quote, refused_session
from usenetfs.net.request import Request
from usenetfs.net.settings import ServerSettings
from usenetfs.net.stream import Dialer, Stream
from usenetfs.nntp.client import ClientProtocol, Response
from usenetfs.nntp.grammar import Verb

if TYPE_CHECKING:
    pass

__all__ = ["Connection", "ConnectionState", "Request", "Traits"]

ARTICLE_PIECE: Final = 256 * 1024
"""Octets of an article handed to the stream at a time; after each, progress is noted."""
READ_AT_ONCE: Final = 512 * 1024
"""Octets received and decoded before others have their turn: about a quarter of a millisecond. Each
turn of the loop costs as much as receiving a hundred kilobytes."""
MIN_BODY_DEPTH: Final = 2
"""Bodies asked for ahead on one connection, so that the server never waits for our request."""


class ConnectionState(enum.Enum):
    DIALLING = "dialling"
    READY = "ready"
    CLOSING = "closing"


class Connection:
    """See the module. Made by the pool for each dial; never used again after it closed."""

    def __init__(
        self,
        number: int,
        settings: ServerSettings,
        traits: Traits,
        *,
        dialer: Dialer,
        on_reply: Callable[[Connection, Request, Response], None],
        on_replies: Callable[[], None],
    ) -> None:
        self.number = number
        self.state = ConnectionState.DIALLING
        self.inflight: deque[Request] = deque()
        self.draining = False
        """The pool wants it idle, for a POST."""
        self.failures = 0
        """In a row; the pool replaces the connection when there are too many."""
        self.answered = 0
        """Replies, those to checks included."""
        self.checking = False
        """A ``DATE`` of ours is in flight."""
        self.last_used = self.last_heard = self.head_since = 0.0
        self.bytes_down = self.bytes_up = 0
        self.round_trip = Ewma(weight=0.25)
        self.interval = Ewma(weight=0.2)
        """Seconds from one body to the next while the pipeline is not empty."""
        self._settings = settings
        self._on_reply = on_reply
        self._on_replies = on_replies
        self._stream: Stream | None = None
        self._traits = traits
        self._protocol = ClientProtocol(post_ahead=settings.post_ahead)
        self._login = Login(settings, traits, self._protocol, dialer)
        self._scope = trio.CancelScope()
        self._ending: UsenetfsError | None = None
        self._peer_ended = False
        self._probe_sent: float | None = None
        self._backlog = bytearray()
        self._article: Request | None = None
        self._taken = 0
        """Octets that had arrived at the server when that was last looked at."""
        self._writing = False
        self._wake = trio.Event()

    def __repr__(self) -> str:
        extra = " draining" if self.draining else ""
        return f"<Connection {self.number} {self.state.value} {len(self.inflight)} owed{extra}>"

    # --- what the pool looks at ---------------------------------------------------------------

    @property
    def idle(self) -> bool:
        return self.state is ConnectionState.READY and not self.inflight and not self.checking

    @property
    def posting(self) -> bool:
        return bool(self.inflight) and self.inflight[0].verb is Verb.POST

    @property
    def takes_post_ahead(self) -> bool:
        """Whether a POST may follow the article whose reply it owes."""
        return (
            len(self.inflight) == 1
            and self._protocol.can_post_ahead
            and self.state is ConnectionState.READY
            and not self._traits.post_ahead_failed
            and not self._writing
        )

    @property
    def background(self) -> bool:
        """Whether any caller other than a waiting reader uses it."""
        return any(request.background for request in self.inflight)

    def joins(self, request: Request, most: int) -> bool:
        """Whether it is best sent behind the like of it here, of which there are less than
        ``most``: the replies are lines, and nobody waits for them but the background."""
        if request.verb is not Verb.STAT or not request.background or not self.inflight:
            return False
        return self.inflight[-1].verb is Verb.STAT and len(self.inflight) < most

    def depth(self, verb: Verb) -> int:
        """How many requests may be outstanding here.

        For bodies: what arrives during one round trip, and one more. The interval shrinks as the
        depth grows until the link or the server is what limits, so this finds the product of
        bandwidth and delay by itself. Replies of one line are always worth the full depth.
        """
        bound = self._settings.max_pipeline
        if verb is not Verb.BODY or bound == 1:
            return bound
        if not self.interval.value:
            return min(bound, MIN_BODY_DEPTH)
        ahead = (self.round_trip.value or 0.0) / self.interval.value
        return min(bound, MIN_BODY_DEPTH + int(ahead))

    def overdue(self, now: float) -> str | None:
        """Why this connection has to be given up, if it has to."""
        if not self.inflight and not self.checking:
            return None
        timeouts = self._settings.timeouts
        if self._stream is not None and self.inflight and self.inflight[0].committed:
            # An article is with the kernel in an instant, which may take minutes to bring it away.
            taken = self._stream.taken()
            if taken > self._taken:
                self._taken, self.last_heard = taken, now
        silent = now - max(self.last_heard, self.head_since)
        if self.checking and not self.inflight and silent >= timeouts.check_reply:
            return f"no answer to an idle check within {timeouts.check_reply:g} s"
        if silent >= timeouts.response:
            return f"no answer within {timeouts.response:g} s"
        if now - self.head_since >= timeouts.article:
            return f"no complete answer within {timeouts.article:g} s"
        return None

    # --- opening ------------------------------------------------------------------------------

    async def open(self) -> None:
        """Dial and log in. ConnectError, TlsError, AuthenticationError, TooManyConnectionsError…

        The caller sets the timeout, and calls :meth:`close_now` if this fails.
        """
        self._stream = await self._login.open()
        self.last_used = self.last_heard = trio.current_time()
        self.state = ConnectionState.READY

    async def ask(self, verb: Verb, *arguments: str) -> Response:
        """One command and its reply on an opened connection that does not serve: for probes."""
        return await self._login.command(verb, *arguments)

    # --- serving ------------------------------------------------------------------------------

    def take(self, request: Request, now: float) -> None:
        """Own a request from now on. The pool decides with this; :meth:`command` follows."""
        if not self.inflight and not self.checking:
            self.head_since = self._probe_sent = now
        request.connection = self.number
        request.ahead = bool(self.inflight) and request.verb is Verb.POST
        request.sent_at = now
        self.inflight.append(request)
        self.last_used = now
        self.draining = False

    def command(self, request: Request) -> bytes:
        """What to send for a request just taken. LocalProtocolError: it is not owned then."""
        arguments = () if request.verb is Verb.POST else (request.message_id,)
        try:
            return self._protocol.request(request.verb, *arguments, tag=request)
        except UsenetfsError:
            self.inflight.remove(request)
            raise

    def send(self, commands: bytes) -> None:
        """Send commands that :meth:`command` gave, in its order; does not wait."""
        assert self._stream is not None
        self.bytes_up += len(commands)
        if not self._writing:
            commands = commands[self._stream.send_nowait(commands) :]
        if commands:
            self._backlog += commands
            self._writing = True
            self._wake.set()

    def check(self) -> None:
        """Ask an idle session whether it is still there."""
        command = self._protocol.request(Verb.DATE)
        self.checking = True
        self.head_since = trio.current_time()
        self._probe_sent = self.head_since
        self.send(command)

    def abandon(self, request: Request) -> None:
        """The caller of a request in flight has gone."""
        request.abandoned = True
        if request.ahead and not request.committed:
            return  # 340 decides: nothing of the article has been touched
        if request.verb is Verb.POST and not request.sent:
            # The article belongs to the caller, who may reuse its memory at once.
            self.end(ConnectionLostError("the upload was cancelled"))
            self.close_now()

    def end(self, error: UsenetfsError | None) -> None:
        """Stop serving; the first reason given is the one that counts (None: not needed)."""
        if self.state is not ConnectionState.CLOSING:
            self.state = ConnectionState.CLOSING
            self._ending = error
        self._scope.cancel()

    def close_now(self) -> None:
        """Close the stream at once. Idempotent."""
        if self._stream is not None:
            self._stream.close()

    def surrender(self) -> Stream:
        """Give away the stream of an opened connection that serves nothing, to examine the server.

        Nothing is pipelined while logging in, so no octet of it is left here.
        """
        assert self.state is ConnectionState.READY
        assert self._stream is not None
        stream, self._stream = self._stream, None
        self.state = ConnectionState.CLOSING
        return stream

    async def serve(self) -> UsenetfsError | None:
        """Drive the session until it ends; why it did. The stream is closed afterwards.

        Raises nothing but Cancelled.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._until_end, self._write)
                    await self._until_end(self._read)
            await self._take_leave()
        finally:
            self.state = ConnectionState.CLOSING
            self.close_now()
        return self._ending

    async def _until_end(self, work: Callable[[], object]) -> None:
        try:
            await work()  # type: ignore[misc]
        except UsenetfsError as error:
            error.server = self._settings.name
            self.end(error)

    async def _take_leave(self) -> None:
        """Let the server close first, so that it no longer counts us when we stop counting."""
        if self._stream is None or self._peer_ended:
            return
        with trio.move_on_after(self._settings.timeouts.close):
            try:
                if not self.inflight and not self.checking and self._ending is None:
                    await self._stream.send_all([b"QUIT\r\n"])
                self._stream.end_sending()
                rest = bytearray(64 * 1024)
                while await self._stream.receive_into(rest):
                    pass
            except UsenetfsError:
                return  # as good as a good-bye

    # --- the writer ---------------------------------------------------------------------------

    async def _write(self) -> None:
        assert self._stream is not None
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._backlog:
                commands, self._backlog = self._backlog, bytearray()
                await self._stream.send_all([commands])
            if self._article is not None:
                await self._send_article(self._article)
                self._article = None
            self._writing = bool(self._backlog)
            if self._backlog:
                self._wake.set()
            elif self._protocol.can_post_ahead:
                self._on_replies()

    async def _send_article(self, request: Request) -> None:
        assert self._stream is not None
        assert request.article is not None
        with memoryview(request.article).cast("B") as wire:
            # The last piece and the terminator leave together (one packet less).
            last = max(0, (len(wire) - 1) // ARTICLE_PIECE * ARTICLE_PIECE)
            for start in range(0, last, ARTICLE_PIECE):
                await self._stream.send_all([wire[start : start + ARTICLE_PIECE]])
                self.last_heard = trio.current_time()
            tail = b".\r\n" if bytes(wire[-2:]) == b"\r\n" else b"\r\n.\r\n"
            await self._stream.send_all([wire[last:], tail])
            self.bytes_up += len(wire) + len(tail)
        request.sent = True
        self._protocol.article_sent()
        self.last_heard = self.last_used = trio.current_time()

    # --- the reader ---------------------------------------------------------------------------

    async def _read(self) -> None:
        assert self._stream is not None
        while True:
            room = self._protocol.buffer()
            count: int | None = await self._stream.receive_into(room)
            now = trio.current_time()
            self.last_heard = now
            if self._probe_sent is not None:
                self.round_trip.add(now - self._probe_sent)
                self._probe_sent = None
            replied, taken = False, 0
            while count is not None:
                replied |= self._take_octets(count, now)
                taken += count
                if count < len(room) or taken >= READ_AT_ONCE:
                    break
                room = self._protocol.buffer()
                count = self._stream.receive_nowait(room)
            if replied:
                self._on_replies()

    def _take_octets(self, count: int, now: float) -> bool:
        """What was put into the protocol's buffer; whether replies ended in it."""
        self.bytes_down += count
        self._peer_ended = not count
        responses = self._protocol.received(count)
        for response in responses:
            self._take_reply(response, now)
        if not count:
            raise ConnectionLostError("the server ended the session")
        return bool(responses)

    def _take_reply(self, response: Response, now: float) -> None:
        if response.verb is None:
            raise refused_session(response.code, response.text, self._settings.name)
        if response.verb is Verb.DATE:
            self._take_check(response, now)
            return
        request = self.inflight[0]
        if response.verb is Verb.POST and response.code == 340 and not request.committed:
            self._start_article(request, now)
            return
        if ends_session(response.code):
            # The request stays in flight: the pool decides what becomes of it.
            raise refused_session(response.code, response.text, self._settings.name)
        if response.code in {222, 223} and not is_about(response.text, request.message_id):
            # A reply was lost or said twice, and each after it belongs to a neighbour: taken at
            # its word, a STAT would vouch for an article that nobody has.
            said = quote(response.code, response.text)
            raise RemoteProtocolError(
                f"{self._settings.name} answered about another article than was asked for: {said}"
            )
        self.inflight.popleft()
        self.answered += 1
        if response.verb is Verb.BODY and response.code == 222:
            self.interval.add(now - self.head_since)
        self._on_reply(self, request, response)
        self.head_since = self.last_used = now
        if request.committed and not request.sent:
            # Refused while we were still sending. The caller has the refusal and may reuse the
            # article's memory, so what is left of it must not be sent.
            self.end(ConnectionLostError("the article was refused while it was being sent"))
            self.close_now()

    def _take_check(self, response: Response, now: float) -> None:
        self.checking = False
        self.head_since = now
        if ends_session(response.code):
            raise refused_session(response.code, response.text, self._settings.name)
        # 111 or not (some servers lack DATE and say 500): it is there and it answers.
        self.answered += 1
        self.failures = 0

    def _start_article(self, request: Request, now: float) -> None:
        self.head_since = now
        if request.abandoned:
            self.end(ConnectionLostError("the upload was cancelled"))
            self.close_now()
            return
        request.committed = True
        self._article = request
        self._writing = True
        self._wake.set()
