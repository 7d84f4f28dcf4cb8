"""One client's session with the embedded server.

Two tasks: this one reads commands and decides the replies, the other (``replies.py``) sends them
in order, each ``latency`` after its command came. Faults (``faults.py``) are asked for at the
greeting, at each command and when an article has arrived. What is done to stored articles is in
``retrieval.py``, what is done with posted ones in ``taking.py``.

Invariants: every event gets its replies in order; the session ends when the protocol is closing,
a fault says so, the client is gone or idle, and then what was decided before is still sent.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from hmac import compare_digest

import trio

from usenetfs.errors import ConnectionLostError
from usenetfs.nntp.grammar import BLOCK_CODES, Verb
from usenetfs.nntp.server import (
    ArticleReceived,
    ArticleTooLarge,
    BadCommand,
    CommandReceived,
    Event,
    ServerProtocol,
    ServerState,
)
from usenetfs.nntpd.faults import CONNECT, Action, Fault
from usenetfs.nntpd.replies import Reply, ReplyQueue
from usenetfs.nntpd.retrieval import Answer, Reader
from usenetfs.nntpd.shared import Shared
from usenetfs.nntpd.taking import Taker
from usenetfs.nntpd.wire import Wire

GREETING = "usenetfs nntpd ready"
OPEN_TO_ALL = frozenset(
    {
        Verb.CAPABILITIES,
        Verb.MODE_READER,
        Verb.AUTHINFO_USER,
        Verb.AUTHINFO_PASS,
        Verb.STARTTLS,
        Verb.DATE,
        Verb.QUIT,
    }
)
"""Commands that need no login: INN's."""
_OVER = frozenset({ServerState.CLOSING, ServerState.CLOSED})


class Session:
    """See the module. :meth:`run` ends with the session; the caller closes the wire."""

    def __init__(self, wire: Wire, shared: Shared) -> None:
        settings = shared.settings
        self._wire = wire
        self._shared = shared
        self._protocol = ServerProtocol(max_article=settings.max_article)
        self._replies = ReplyQueue(wire, shared.counters, patience=settings.idle_timeout)
        self._reader = Reader(shared)
        self._taker = Taker(shared)
        self._user: str | None = None
        self._logged_in = not settings.users
        self._arrived = 0.0
        self._over = False
        self._ends_at = math.inf
        self._ends_after = 0
        self._ends_silently = False

    def __repr__(self) -> str:
        return f"<Session {self._protocol!r} logged_in={self._logged_in}>"

    async def run(self) -> None:
        """Serve until it is over. BrokenResourceError if the client went away, or was too slow."""
        lost: BaseExceptionGroup[Exception] | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_all, nursery.cancel_scope)
                with self._replies:
                    await self._greet()
                    await self._serve()
                await self._await_end()
        except* (trio.BrokenResourceError, trio.TooSlowError, ConnectionLostError) as group:
            lost = group
        if lost is not None:
            raise trio.BrokenResourceError(str(lost.exceptions[0])) from lost

    async def _send_all(self, scope: trio.CancelScope) -> None:
        await self._replies.send_all()
        scope.cancel()

    async def _await_end(self) -> None:
        """The session is over but for replies that are held back: not for one who has gone."""
        rest = memoryview(bytearray(4096))
        while await self._wire.receive_into(rest):
            pass
        self._replies.hurry()

    async def _serve(self) -> None:
        while not self._over and self._protocol.state not in _OVER:
            idle_at = trio.current_time() + self._shared.settings.idle_timeout
            with trio.move_on_at(min(idle_at, self._ends_at)) as patience:
                with self._protocol.buffer() as buffer:
                    count = await self._wire.receive_into(buffer)
                if not count:
                    self._replies.hurry()
                self._arrived = trio.current_time()
                self._shared.counters.bytes_received += count
                events = self._protocol.received(count)
            if patience.cancelled_caught:
                await self._time_is_over()
                return
            while events:
                await self._handle_all(events)
                events = self._protocol.events()  # what waited for the reply to POST or IHAVE

    async def _time_is_over(self) -> None:
        self._arrived = trio.current_time()
        if not self._ends_silently and self._protocol.state not in _OVER:
            await self._say(400, "Session time is over")

    # --- replying --------------------------------------------------------------------------------

    async def _say(self, code: int, text: str, *, late: float = 0.0) -> None:
        await self._put(Answer(self._protocol.reply(code, text), late=late))

    async def _put(self, answer: Answer) -> None:
        due = self._arrived + self._shared.settings.latency + answer.late
        await self._replies.put(Reply(answer.head, due, answer.part, answer.rate))
        self._over = self._over or answer.ends_session

    async def _say_fault(self, fault: Fault, verb: Verb | None = None) -> None:
        """The code of a fault, whatever the command; where a block belongs to it, an empty one."""
        code, text = int(fault.rule.value("code")), fault.rule.text("text")
        if verb is not None and BLOCK_CODES.get(verb) == code:
            await self._put(Answer(self._protocol.reply_block(code, text, b"")))
        else:
            await self._say(code, text)

    async def _greet(self) -> None:
        self._arrived = trio.current_time()
        fault = self._shared.fault(CONNECT)
        settings, late = self._shared.settings, 0.0
        if fault is not None:
            rule = fault.rule
            match fault.action:
                case Action.TOO_MANY:
                    await self._say(502, rule.text("text"))
                    return
                case Action.REPLY:
                    await self._say_fault(fault)
                    return
                case Action.DROP:
                    self._over = True
                    return
                case Action.STALL:
                    late = rule.value("seconds")
                case Action.END:
                    self._ends_after = int(rule.value("articles"))
                    self._ends_silently = rule.flag("silent")
                    if rule.value("seconds"):
                        self._ends_at = self._arrived + rule.value("seconds")
        await self._say(200 if settings.posting else 201, GREETING, late=late)

    # --- events ----------------------------------------------------------------------------------

    async def _handle_all(self, events: list[Event]) -> None:
        for event in events:
            if self._over:
                return
            await self._handle(event)

    async def _handle(self, event: Event) -> None:
        match event:
            case BadCommand(code, reason):
                self._shared.counters.commands["BAD"] += 1
                await self._say(code, reason)
            case ArticleTooLarge(verb, size):
                await self._say(*self._taker.too_large(verb, size))
            case ArticleReceived(verb, wire):
                await self._take(verb, wire)
            case CommandReceived(verb, arguments):
                self._shared.counters.commands[verb.value] += 1
                await self._command(verb, arguments)

    async def _command(self, verb: Verb, arguments: tuple[str, ...]) -> None:
        message_id = arguments[0] if arguments and arguments[0].startswith("<") else ""
        fault = self._shared.fault(verb.value.partition(" ")[0], message_id)
        if fault is not None and fault.action is Action.DROP:
            self._over = True
            return
        if verb in {Verb.POST, Verb.IHAVE}:
            self._taker.offered = message_id
        if fault is not None and fault.action is Action.REPLY:
            await self._say_fault(fault, verb)
            return
        late = 0.0
        if fault is not None and fault.action is Action.STALL:
            late = fault.rule.value("seconds")
        if not self._logged_in and verb not in OPEN_TO_ALL:
            await self._say(480, "Authentication required for command", late=late)
        elif verb in {Verb.ARTICLE, Verb.HEAD, Verb.BODY, Verb.STAT}:
            answer = self._reader.answer(self._protocol, verb, arguments, fault)
            answer.late += late
            await self._put(answer)
            if verb is not Verb.STAT:
                await self._count_article()
        else:
            await self._other(verb, arguments, late)

    async def _other(self, verb: Verb, arguments: tuple[str, ...], late: float) -> None:
        settings = self._shared.settings
        match verb:
            case Verb.CAPABILITIES:
                block = self._protocol.reply_block(101, "Capability list:", self._capabilities())
                await self._put(Answer(block, late=late))
            case Verb.MODE_READER:
                await self._say(200 if settings.posting else 201, GREETING, late=late)
            case Verb.DATE:
                await self._say(111, f"{datetime.now(UTC):%Y%m%d%H%M%S}", late=late)
            case Verb.GROUP:
                await self._say(*self._reader.enter_group(arguments[0]), late=late)
            case Verb.AUTHINFO_USER | Verb.AUTHINFO_PASS:
                await self._say(*self._log_in(verb, arguments[0]), late=late)
            case Verb.POST | Verb.IHAVE:
                await self._say(*self._taker.invite(verb), late=late)
            case Verb.STARTTLS:
                await self._start_tls(late)
            case _:
                await self._say(205, "Bye!", late=late)

    async def _take(self, verb: Verb, wire: bytes) -> None:
        taken = await self._taker.take(verb, wire)
        if taken.fault is not None and taken.fault.action is Action.REPLY:
            await self._say_fault(taken.fault)
        elif taken.lost:
            self._over = True
        else:
            await self._say(taken.code, taken.text, late=taken.late)
        await self._count_article()

    async def _count_article(self) -> None:
        """Count towards the end that a fault has set for this session."""
        if self._ends_after and not self._over:
            self._ends_after -= 1
            if not self._ends_after:
                self._over = True
                await self._time_is_over()

    def _capabilities(self) -> bytes:
        settings = self._shared.settings
        lines = ["VERSION 2", "IMPLEMENTATION usenetfs nntpd", "READER"]
        if settings.posting:
            lines += ["POST", "IHAVE"]
        if not self._logged_in:
            lines.append("AUTHINFO USER")
        if self._shared.tls is not None and not self._wire.secure:
            lines.append("STARTTLS")
        return "".join(f"{line}\r\n" for line in lines).encode("ascii")

    def _log_in(self, verb: Verb, word: str) -> tuple[int, str]:
        if self._logged_in:
            return 502, "Already authenticated"
        if verb is Verb.AUTHINFO_USER:
            self._user = word
            return 381, "Enter password"
        if self._user is None:
            return 482, "Authentication commands issued out of sequence"
        users = self._shared.settings.users
        expected = users.get(self._user, "").encode("utf-8", "surrogateescape")
        right = compare_digest(expected, word.encode("utf-8", "surrogateescape"))
        self._logged_in = right and self._user in users
        self._user = None
        if self._logged_in:
            return 281, "Authentication succeeded"
        return 481, "Authentication failed"

    async def _start_tls(self, late: float) -> None:
        if self._shared.tls is None or self._wire.secure:
            code = 502 if self._wire.secure else 580
            await self._say(code, "TLS cannot be negotiated", late=late)
            return
        await self._say(382, "Begin TLS negotiation now", late=late)
        await self._replies.drained()
        self._user = None  # RFC 4642 §2.2.2: what was learnt in plain text is forgotten
        with trio.fail_after(self._shared.settings.idle_timeout):
            await self._wire.start_tls(self._shared.tls)
