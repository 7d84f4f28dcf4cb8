"""The client's side of an NNTP session: requests to octets, octets to responses.

Owns the state of one session and the queue of what the server still owes. Must not know sockets,
time, or what the caller wants with a response; TLS and article octets pass by it.

The rules
---------

1. Nothing is sent before the greeting (RFC 3977 §3.5: it must not be part of a pipeline).
2. Requests may follow one another without waiting, up to ``MAX_OUTSTANDING``. Replies come in the
   order of the requests, so the oldest outstanding request owns the next reply.
3. After MODE READER, STARTTLS, AUTHINFO, POST and IHAVE nothing may follow before their reply
   (RFC 3977, 4642, 4643). Such a request may itself follow others: it *ends* a pipeline. With
   ``post_ahead`` one POST may follow an article that was sent whole, before the reply to it; that
   is against RFC 3977 §3.5 and only for servers that are known to cope.
4. POST and IHAVE get two replies. 340 or 335 asks for the article; the caller writes it and
   ``.\\r\\n`` and says :meth:`ClientProtocol.article_sent`; the second reply tells what became of
   it. Both responses carry the same verb and tag. A server that has heard enough may refuse
   (400 and up) while the article is still being written; the connection is usable again once the
   article was written all the same.
5. QUIT ends the requests; so does 400 at any time. Servers end idle sessions with 400, 500, 502 or
   503 though nobody asked: that is a response whose verb is None.
6. After 382 the next octet is TLS. An octet that came with the 382 is an injection (RFC 4642 §5)
   and an error.
7. An end of file with replies owed is ConnectionLostError. Everything that NNTP does not allow the
   server is RemoteProtocolError, and what it does not allow us is LocalProtocolError, which changes
   nothing. Responses that were complete before a violation are delivered first; the error comes
   with the next call.

The states
----------

===============  ========================================================================
GREETING         waiting for the first line
READY            requests may be sent, others may be outstanding
EXCLUSIVE        a command is outstanding after which nothing may be sent
SENDING_ARTICLE  340 or 335 came; the article is being written
CLOSING          no further requests; replies still owed may come
CLOSED           the server closed the connection
ERROR            the server broke the protocol; what follows means nothing
===============  ========================================================================

``TRANSITIONS`` below is the whole machine. What is not in it is an error: of ours for the steps
that we take, of the server's for the others.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
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

MAX_OUTSTANDING: Final = 1024
"""Requests without a reply. Far more than a round trip can hide; it bounds the queue."""

UNASKED_CODES: Final = frozenset({400, 500, 502, 503})
"""How servers end a session by themselves."""


class ClientState(enum.Enum):
    """See the module's docstring."""

    GREETING = enum.auto()
    READY = enum.auto()
    EXCLUSIVE = enum.auto()
    SENDING_ARTICLE = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()
    ERROR = enum.auto()


class Step(enum.Enum):
    """What can happen to a session."""

    # ours
    REQUEST = "a request"
    EXCLUSIVE_REQUEST = "a request that may not be followed by another"
    POST_AHEAD = "a POST behind an article whose reply is owed"
    QUIT = "QUIT"
    ARTICLE_SENT = "the end of an article"
    ARTICLE_WASTED = "the end of an article that was refused meanwhile"
    # theirs
    WELCOME = "a greeting"
    ANSWER = "a reply"
    EXCLUSIVE_ANSWER = "a reply to an exclusive request"
    ANSWER_BEFORE_POST = "a reply to an article behind which a POST was sent"
    GO_AHEAD = "the permission to send an article"
    GOODBYE = "a farewell"
    END = "the end of the stream"
    VIOLATION = "a violation"


_S = ClientState
TRANSITIONS: Final[Mapping[ClientState, Mapping[Step, ClientState]]] = {
    _S.GREETING: {
        Step.WELCOME: _S.READY,
        Step.GOODBYE: _S.CLOSING,
        Step.END: _S.CLOSED,
        Step.VIOLATION: _S.ERROR,
    },
    _S.READY: {
        Step.REQUEST: _S.READY,
        Step.EXCLUSIVE_REQUEST: _S.EXCLUSIVE,
        Step.QUIT: _S.CLOSING,
        Step.ANSWER: _S.READY,
        Step.GOODBYE: _S.CLOSING,
        Step.END: _S.CLOSED,
        Step.VIOLATION: _S.ERROR,
    },
    _S.EXCLUSIVE: {
        Step.ANSWER: _S.EXCLUSIVE,  # to what was sent before it
        Step.POST_AHEAD: _S.EXCLUSIVE,
        Step.ANSWER_BEFORE_POST: _S.EXCLUSIVE,
        Step.EXCLUSIVE_ANSWER: _S.READY,
        Step.GO_AHEAD: _S.SENDING_ARTICLE,
        Step.GOODBYE: _S.CLOSING,
        Step.END: _S.CLOSED,
        Step.VIOLATION: _S.ERROR,
    },
    _S.SENDING_ARTICLE: {
        Step.ARTICLE_SENT: _S.EXCLUSIVE,
        Step.ARTICLE_WASTED: _S.READY,
        Step.EXCLUSIVE_ANSWER: _S.SENDING_ARTICLE,  # refused early
        Step.GOODBYE: _S.CLOSING,
        Step.END: _S.CLOSED,
        Step.VIOLATION: _S.ERROR,
    },
    _S.CLOSING: {
        Step.ARTICLE_SENT: _S.CLOSING,
        Step.ARTICLE_WASTED: _S.CLOSING,
        Step.ANSWER: _S.CLOSING,
        Step.EXCLUSIVE_ANSWER: _S.CLOSING,
        Step.ANSWER_BEFORE_POST: _S.CLOSING,
        Step.GOODBYE: _S.CLOSING,
        Step.END: _S.CLOSED,
        Step.VIOLATION: _S.ERROR,
    },
    # The writer may finish an article after the reader saw the end.
    _S.CLOSED: {Step.ARTICLE_WASTED: _S.CLOSED, Step.END: _S.CLOSED},
    _S.ERROR: {Step.ARTICLE_WASTED: _S.ERROR, Step.VIOLATION: _S.ERROR},
}


@dataclass(frozen=True, slots=True, repr=False)
class Response:
    """One reply. ``repr`` shows no data, and no text where it might hold a credential."""

    verb: Verb | None
    """None: the greeting, or words that nobody asked for."""
    tag: object
    """What was given to ``request``."""
    code: int
    text: str
    """The status line after the code; control characters are replaced."""
    lines: tuple[bytes, ...] | None
    """Lines of a block, without CRLF and stuffed dots. Of a yEnc body only those before
    ``=ybegin`` (the header of an ARTICLE), None if there are none. None without a block."""
    data: bytearray | None
    """Decoded yEnc of BODY or ARTICLE; None if it was not yEnc."""
    crc: int | None
    """CRC-32 of ``data``, if it is the one in the trailer."""
    crc_ok: bool
    """``data`` is there and whole: trailer seen, sizes agree, CRC matches."""
    wire_size: int
    """Octets that this reply took, status line and terminator included."""

    def __repr__(self) -> str:
        verb = self.verb.value if self.verb else None
        text = "…" if self.verb in SECRET_VERBS else self.text
        lines = None if self.lines is None else len(self.lines)
        data = None if self.data is None else len(self.data)
        return (
            f"<Response to {verb}: {self.code} {text!r}, {lines} lines, {data} octets,"
            f" crc_ok={self.crc_ok}, wire_size={self.wire_size}>"
        )


@dataclass(slots=True)
class _Outstanding:
    """A request whose reply is owed; ``sent``: its article was asked for."""

    verb: Verb
    tag: object
    asked_for_article: bool = False


class ClientProtocol:
    """One session. Give it octets with ``buffer``/``received`` or ``feed``; it never blocks.

    ``buffer_size`` octets are allocated once; what stays in the processor's cache until it is
    looked at costs half as much as what does not. A reply of more than ``max_response`` octets is a
    RemoteProtocolError.
    """

    def __init__(
        self,
        *,
        buffer_size: int = 128 * 1024,
        max_response: int = 4 << 20,
        post_ahead: bool = False,
    ) -> None:
        self._post_ahead = post_ahead
        self._framer = ResponseFramer(buffer_size=buffer_size, max_response=max_response)
        self._state = ClientState.GREETING
        self._requests: deque[_Outstanding] = deque()
        self._failure: str | None = None

    def __repr__(self) -> str:
        verbs = " ".join(request.verb.value for request in list(self._requests)[:8])
        return (
            f"<ClientProtocol {self._state.name}, {len(self._requests)} outstanding"
            f"{': ' + verbs if verbs else ''}>"
        )

    @property
    def state(self) -> ClientState:
        """Where the session is; see the module's docstring."""
        return self._state

    @property
    def outstanding(self) -> int:
        """Requests whose (last) reply has not come."""
        return len(self._requests)

    @property
    def can_pipeline(self) -> bool:
        """Whether a request may be sent now."""
        return self._state is ClientState.READY and len(self._requests) < MAX_OUTSTANDING

    @property
    def can_post_ahead(self) -> bool:
        """Whether a POST may be sent although the reply to an article is owed."""
        return (
            self._post_ahead
            and self._state is ClientState.EXCLUSIVE
            and len(self._requests) == 1
            and self._requests[0].verb is Verb.POST
            and self._requests[0].asked_for_article
        )

    # --- sending ------------------------------------------------------------------------------

    def request(self, verb: Verb, *arguments: str, tag: object = None) -> bytes:
        """The octets to send for a request; ``tag`` comes back with its response.

        LocalProtocolError, and nothing has changed, if it may not be sent now or NNTP has no such
        line. RemoteProtocolError if the server broke the protocol before.
        """
        self._raise_failure()
        command = encode_command(verb, arguments)
        if len(self._requests) >= MAX_OUTSTANDING:
            raise LocalProtocolError(f"{MAX_OUTSTANDING} requests are outstanding already")
        if verb is Verb.QUIT:
            step = Step.QUIT
        elif verb is Verb.POST and self.can_post_ahead:
            step = Step.POST_AHEAD
        elif verb in EXCLUSIVE_VERBS:
            step = Step.EXCLUSIVE_REQUEST
        else:
            step = Step.REQUEST
        self._ours(step, verb.value)
        self._requests.append(_Outstanding(verb, tag))
        self._framer.discreet |= verb in SECRET_VERBS
        return command

    def article_sent(self) -> None:
        """The article and ``.\\r\\n`` after 340 or 335 were written.

        Harmless when the session ended meanwhile; LocalProtocolError when nothing was asked for.
        """
        over = self._state in {ClientState.CLOSED, ClientState.ERROR}
        wasted = over or not self._requests
        self._ours(Step.ARTICLE_WASTED if wasted else Step.ARTICLE_SENT, "article_sent")

    def _ours(self, step: Step, what: str) -> None:
        state = TRANSITIONS[self._state].get(step)
        if state is None:
            raise LocalProtocolError(f"{what} is not allowed in state {self._state.name}")
        self._state = state

    # --- receiving ----------------------------------------------------------------------------

    def buffer(self) -> memoryview:
        """Where to receive the next octets to. Never empty; take it anew for every receive."""
        self._raise_failure()
        return self._framer.buffer()

    def received(self, count: int) -> list[Response]:
        """``count`` octets were put into the buffer; 0 is the end of the stream.

        RemoteProtocolError (once those complete before it have been returned) or, for an end with
        something outstanding, ConnectionLostError.
        """
        self._raise_failure()
        if count == 0:
            self._end()
            return []
        responses = self._take(count)
        if not responses:
            self._raise_failure()
        return responses

    def feed(self, data: bytes) -> list[Response]:
        """Like ``buffer`` and ``received``, for octets that are elsewhere. b"" is the end."""
        self._raise_failure()
        if not data:
            return self.received(0)
        responses: list[Response] = []
        start = 0
        while start < len(data) and self._failure is None:
            with self._framer.buffer() as room:
                count = min(len(room), len(data) - start)
                room[:count] = data[start : start + count]
            responses += self._take(count)
            start += count
        if not responses:
            self._raise_failure()
        return responses

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise RemoteProtocolError(self._failure)

    def _end(self) -> None:
        whole = self._framer.idle and self._state is not ClientState.GREETING
        lost = len(self._requests)
        if self._state is not ClientState.CLOSED and (lost or not whole):
            self._state = TRANSITIONS[self._state][Step.END]
            raise ConnectionLostError(f"the server ended the session with {lost} replies owed")
        self._state = TRANSITIONS[self._state][Step.END]

    def _take(self, count: int) -> list[Response]:
        responses: list[Response] = []
        if self._state is ClientState.CLOSED:
            raise LocalProtocolError("octets after the end of the stream")
        try:
            if self._framer.commit(count):
                return responses  # nothing can have ended
            while (frame := self._framer.next_frame(self._awaited())) is not None:
                responses.append(self._respond(frame))
        except RemoteProtocolError as error:
            self._failure = error.message
            self._state = TRANSITIONS[self._state][Step.VIOLATION]
        return responses

    def _awaited(self) -> Verb | None:
        return self._requests[0].verb if self._requests else None

    def _respond(self, frame: Frame) -> Response:
        """Pair a reply with its request, and step."""
        if self._state is ClientState.GREETING:
            step, request = _judge_greeting(frame.code), None
        elif not self._requests:
            step, request = _judge_unasked(frame.code), None
        else:
            request = self._requests[0]
            step = self._judge_reply(request, frame.code)
        state = TRANSITIONS[self._state].get(step)
        if state is None:
            raise RemoteProtocolError(f"{step.value} ({frame.code}) in state {self._state.name}")
        self._state = state
        if request is not None and step is not Step.GO_AHEAD:
            self._requests.popleft()
        body = frame.body
        return Response(
            verb=request.verb if request else None,
            tag=request.tag if request else None,
            code=frame.code,
            text=frame.text,
            lines=frame.lines,
            data=body.data if body else None,
            crc=body.crc if body else None,
            crc_ok=body is not None and body.ok,
            wire_size=frame.wire_size,
        )

    def _judge_reply(self, request: _Outstanding, code: int) -> Step:
        verb = request.verb
        welcome = {ARTICLE_CODES[verb]} if request.asked_for_article else REPLY_CODES[verb]
        early = self._state is ClientState.SENDING_ARTICLE
        if code < 400 and (early or code not in welcome):
            raise RemoteProtocolError(f"{verb.value} was answered with {code}")
        if code in {205, 400} or (verb is Verb.MODE_READER and code == 502):
            return Step.GOODBYE  # RFC 3977 §3.2.1, §5.4, §5.3.2
        if code == GO_AHEAD_CODES.get(verb) and not request.asked_for_article:
            request.asked_for_article = True
            return Step.GO_AHEAD
        if verb is Verb.STARTTLS and code == 382 and self._framer.pending:
            raise RemoteProtocolError("octets between 382 and the TLS handshake")
        if verb not in EXCLUSIVE_VERBS:
            return Step.ANSWER
        return Step.ANSWER_BEFORE_POST if len(self._requests) > 1 else Step.EXCLUSIVE_ANSWER


def _judge_greeting(code: int) -> Step:
    if code in WELCOME_CODES:
        return Step.WELCOME
    if code >= 400:
        return Step.GOODBYE
    raise RemoteProtocolError(f"the server greeted with {code}")


def _judge_unasked(code: int) -> Step:
    if code in UNASKED_CODES:
        return Step.GOODBYE
    raise RemoteProtocolError(f"a reply ({code}) that nobody asked for")
