"""The client's side of a session: what may be said now, and what an answer belongs to.

Octets in, responses out; no socket, no clock, no task. The caller sends what :meth:`request`
returns, receives into :meth:`ClientProtocol.buffer`, and tells how much came.

States::

    state            may request             leaves by
    ===============  ======================  =============================================
    GREETING         nothing                 the greeting: READY, or CLOSED at 4xx/5xx
    READY            everything              an exclusive verb: EXCLUSIVE; QUIT: CLOSING
    EXCLUSIVE        nothing                 its reply: READY, or SENDING_ARTICLE at 340/335
    SENDING_ARTICLE  nothing                 article_sent(): EXCLUSIVE, waiting for 240/441
    CLOSING          nothing                 205 or the end: CLOSED
    ===============  ======================  =============================================

Exclusive verbs (``grammar.EXCLUSIVE_VERBS``) may end a pipeline but nothing may follow them. In any
state a violation by the server leads to ERROR, from which nothing leads away; its octets cannot be
trusted to be in step any more.

Whose fault: :class:`LocalProtocolError` is ours (asked for at the wrong time, malformed argument),
:class:`RemoteProtocolError` is the server's, :class:`ConnectionLostError` is an end in the middle.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from usenetfs.errors import ConnectionLostError, LocalProtocolError, RemoteProtocolError
from usenetfs.nntp.framing import Frame, ResponseFramer
from usenetfs.nntp.grammar import (
    ARTICLE_CODES,
    EXCLUSIVE_VERBS,
    GO_AHEAD_CODES,
    REPLY_CODES,
    SECRET_VERBS,
    WELCOME_CODES,
    Verb,
    encode_command,
)

MAX_OUTSTANDING: Final = 256
"""Requests that may wait for replies; a bound on memory, far above any useful pipeline."""

SERVICE_DISCONTINUED: Final = 400


class ClientState(enum.Enum):
    """See the module's table."""

    GREETING = "greeting"
    READY = "ready"
    EXCLUSIVE = "exclusive"
    SENDING_ARTICLE = "sending article"
    CLOSING = "closing"
    CLOSED = "closed"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Response:
    """One reply of the server."""

    verb: Verb | None
    """What it answers; None for the greeting and for an unsolicited 400."""
    tag: object
    """What was given to :meth:`ClientProtocol.request`."""
    code: int
    text: str = field(repr=False)
    """The status line after the code."""
    lines: tuple[bytes, ...] | None = field(default=None, repr=False)
    """A block without its yEnc part: lines without CRLF, dots unstuffed."""
    data: bytearray | None = field(default=None, repr=False)
    """Decoded yEnc of BODY and ARTICLE."""
    crc: int | None = None
    """CRC32 of ``data`` where it matches the trailer's."""
    crc_ok: bool = False
    """``data`` is there, as long as declared, and its CRC matches."""
    wire_size: int = 0
    """Octets that the reply took."""


class ClientProtocol:
    """See the module. ``max_response``: octets of the longest reply that is not a violation."""

    def __init__(self, *, buffer_size: int = 1 << 20, max_response: int = 4 << 20) -> None:
        self._framer = ResponseFramer(buffer_size=buffer_size, max_response=max_response)
        self._waiting: deque[tuple[Verb, object]] = deque()
        self._article_sent = False
        self.state = ClientState.GREETING

    def __repr__(self) -> str:
        return f"<ClientProtocol {self.state.value} outstanding={self.outstanding}>"

    @property
    def outstanding(self) -> int:
        """Replies owed by the server, the greeting not counted."""
        return len(self._waiting)

    @property
    def can_request(self) -> bool:
        """Whether some verb may be requested now."""
        return self.state is ClientState.READY and len(self._waiting) < MAX_OUTSTANDING

    @property
    def idle(self) -> bool:
        """Nothing is owed, and no part of a reply has come."""
        return self.state is ClientState.READY and not self._waiting and self._framer.idle

    # --- out -------------------------------------------------------------------------------------

    def request(self, verb: Verb, *arguments: str, tag: object = None) -> bytes:
        """The octets of a command; its response will carry ``tag``."""
        if self.state is not ClientState.READY:
            raise LocalProtocolError(f"{verb.value} cannot be said while {self.state.value}")
        if len(self._waiting) >= MAX_OUTSTANDING:
            raise LocalProtocolError(f"{MAX_OUTSTANDING} requests wait already")
        line = encode_command(verb, arguments)
        self._waiting.append((verb, tag))
        if verb in EXCLUSIVE_VERBS:
            self.state = ClientState.EXCLUSIVE
        elif verb is Verb.QUIT:
            self.state = ClientState.CLOSING
        return line

    def article_sent(self) -> None:
        """The caller sent an article and its terminator, after 340 or 335."""
        if self.state is not ClientState.SENDING_ARTICLE:
            raise LocalProtocolError("no article was asked for")
        self._article_sent = True
        self.state = ClientState.EXCLUSIVE

    # --- in --------------------------------------------------------------------------------------

    def buffer(self) -> memoryview:
        """Where to receive to; take it anew for every receive."""
        return self._framer.buffer()

    def received(self, count: int) -> list[Response]:
        """``count`` octets came; 0 is the end of the stream. The replies that are whole now."""
        if self.state is ClientState.ERROR:
            raise RemoteProtocolError("the session is out of step")
        if not count:
            return self._end()
        self._framer.commit(count)
        responses: list[Response] = []
        try:
            while (response := self._next()) is not None:
                responses.append(response)
        except RemoteProtocolError:
            self.state = ClientState.ERROR
            if not responses:
                raise
        return responses

    def feed(self, data: bytes) -> list[Response]:
        """:meth:`received`, for octets that are somewhere else."""
        if not data:
            return self.received(0)
        responses: list[Response] = []
        view = memoryview(data)
        while view:
            room = self.buffer()
            count = min(len(room), len(view))
            room[:count] = view[:count]
            view = view[count:]
            responses += self.received(count)
        return responses

    def _end(self) -> list[Response]:
        clean = not self._waiting and self._framer.idle and self.state is not ClientState.GREETING
        farewell = self.state is ClientState.CLOSING
        self.state = ClientState.CLOSED
        if not clean and not farewell:
            raise ConnectionLostError("the server ended the session in the middle of something")
        return []

    def _next(self) -> Response | None:
        verb = self._waiting[0][0] if self._waiting else None
        frame = self._framer.next_frame(verb)
        if frame is None:
            return None
        if self.state is ClientState.GREETING:
            return self._greeted(frame)
        if verb is None:
            return self._unsolicited(frame)
        return self._answered(verb, frame)

    def _greeted(self, frame: Frame) -> Response:
        if frame.code in WELCOME_CODES:
            self.state = ClientState.READY
        elif frame.code >= SERVICE_DISCONTINUED:
            self.state = ClientState.CLOSED
        else:
            raise RemoteProtocolError(f"{frame.code} is no greeting")
        return _response(None, None, frame)

    def _unsolicited(self, frame: Frame) -> Response:
        """RFC 3977 §3.2.1: 400 may be sent at any time, and ends the session. Nothing else may."""
        if frame.code != SERVICE_DISCONTINUED:
            raise RemoteProtocolError(f"{frame.code} answers nothing that was asked")
        self.state = ClientState.CLOSED
        return _response(None, None, frame)

    def _answered(self, verb: Verb, frame: Frame) -> Response:
        _, tag = self._waiting[0]
        self._check_code(verb, frame)
        if frame.code == GO_AHEAD_CODES.get(verb) and not self._article_sent:
            self.state = ClientState.SENDING_ARTICLE
            return _response(verb, tag, frame)
        self._waiting.popleft()
        self._article_sent = False
        if self.state is ClientState.EXCLUSIVE and not self._waiting:
            self.state = ClientState.READY
        if verb is Verb.QUIT:
            self.state = ClientState.CLOSED
        return _response(verb, tag, frame)

    def _check_code(self, verb: Verb, frame: Frame) -> None:
        if frame.code >= SERVICE_DISCONTINUED:
            return
        if self._article_sent and len(self._waiting) == 1:
            welcome = frame.code == ARTICLE_CODES.get(verb)
        else:
            welcome = frame.code in REPLY_CODES[verb]
        if not welcome:
            detail = "" if verb in SECRET_VERBS else f" ({frame.text[:60]})"
            raise RemoteProtocolError(f"{frame.code} is no answer to {verb.value}{detail}")


def _response(verb: Verb | None, tag: object, frame: Frame) -> Response:
    body = frame.body
    return Response(
        verb=verb,
        tag=tag,
        code=frame.code,
        text=frame.text,
        lines=frame.lines,
        data=None if body is None else body.data,
        crc=None if body is None else body.crc,
        crc_ok=body is not None and body.ok,
        wire_size=frame.wire_size,
    )
