"""One client's session with the embedded server.

Two tasks: one reads commands and decides the replies, one sends them in order, each ``latency``
after its command came. So pipelined commands are answered a round trip later all together, as a
distant server would, and the delay limits no throughput. Between the two is a bounded channel.

Faults (``faults.py``) are asked for at the greeting, at each command, and when an article has
arrived; what a fault does to a reply is done here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hmac import compare_digest
from typing import Protocol

import trio

from usenetfs.errors import ConnectionLostError, DiskFullError, LocalStorageError
from usenetfs.nntp.grammar import BLOCK_CODES, Verb
from usenetfs.nntp.server import (
    ArticleReceived,
    ArticleTooLarge,
    BadCommand,
    CommandReceived,
    Event,
    ServerProtocol,
)
from usenetfs.nntpd.counters import ServerCounters
from usenetfs.nntpd.faults import CONNECT, POSTED, Action, Fault, FaultDecider
from usenetfs.nntpd.posting import (
    Filing,
    RefusedPostError,
    examine,
    new_message_id,
    renamed,
)
from usenetfs.nntpd.settings import NntpdSettings
from usenetfs.nntpd.spool import Piece, Spool, StoredArticle

RECEIVE = 1 << 20
"""Octets received at a time."""
QUEUED_REPLIES = 32
"""Replies decided and not sent; a client that asks faster than it reads waits."""
PIECE = 64 * 1024
"""Octets of a slow block sent at a time."""

GREETING = "usenetfs nntpd ready"
OPEN_TO_ALL = frozenset(
    {
        Verb.CAPABILITIES,
        Verb.MODE_READER,
        Verb.AUTHINFO_USER,
        Verb.AUTHINFO_PASS,
        Verb.STARTTLS,
        Verb.QUIT,
    }
)


class EndSessionError(Exception):
    """The session is over, without another word."""


class ByteStream(Protocol):
    """What a session needs of a stream; trio's have it."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None: ...
    async def receive_some(self, max_bytes: int | None = None) -> bytes: ...
    async def aclose(self) -> None: ...


@dataclass(slots=True)
class Reply:
    """Octets to be sent at ``due``; ``rate``: octets a second at most; then perhaps the end."""

    data: bytes
    due: float
    rate: float = math.inf
    ends_session: bool = False


@dataclass(slots=True)
class Hidden:
    """Articles that were taken and cannot be seen yet, or are gone: id → (from, until) times."""

    until: dict[str, float] = field(default_factory=dict)
    expires: dict[str, float] = field(default_factory=dict)

    def visible(self, message_id: str, now: float) -> bool:
        if now < self.until.get(message_id, -math.inf):
            return False
        return now < self.expires.get(message_id, math.inf)


@dataclass(slots=True)
class Shared:
    """What the sessions of a server share."""

    settings: NntpdSettings
    spool: Spool
    counters: ServerCounters
    faults: FaultDecider
    commit: Callable[[], trio.Event]
    """Asks for a sync of the spool; the event fires when it is done."""
    start_tls: Callable[[ByteStream], ByteStream] | None = None
    hidden: Hidden = field(default_factory=Hidden)


class Session:
    """See the module. :meth:`run` ends with the session."""

    def __init__(self, stream: ByteStream, shared: Shared) -> None:
        self._stream = stream
        self._shared = shared
        self._protocol = ServerProtocol(max_article=shared.settings.max_article)
        self._user: str | None = None
        self._logged_in = not shared.settings.users
        self._group: str | None = None
        self._awaited: Verb = Verb.POST
        self._awaited_id = ""
        self._articles = 0
        self._end_after_articles = 0
        self._arrived = 0.0
        self._secure = False

    def __repr__(self) -> str:
        return f"<Session {self._protocol!r} logged_in={self._logged_in}>"

    async def run(self) -> None:
        """Serve until the client or a fault ends it."""
        replies_in, replies_out = trio.open_memory_channel[Reply](QUEUED_REPLIES)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, replies_out, nursery.cancel_scope)
                async with replies_in:
                    await self._serve(replies_in, nursery)
        except* (
            EndSessionError,
            ConnectionLostError,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
        ):
            pass  # the client is gone, or must believe that we are
        finally:
            with trio.move_on_after(1, shield=True):
                await self._stream.aclose()

    # --- sending ---------------------------------------------------------------------------------

    async def _send(
        self, replies: trio.MemoryReceiveChannel[Reply], scope: trio.CancelScope
    ) -> None:
        async with replies:
            async for reply in replies:
                await trio.sleep_until(reply.due)
                await self._send_reply(reply)
                if reply.ends_session:
                    scope.cancel()

    async def _send_reply(self, reply: Reply) -> None:
        self._shared.counters.bytes_sent += len(reply.data)
        if math.isinf(reply.rate):
            if reply.data:
                await self._stream.send_all(reply.data)
            return
        view = memoryview(reply.data)
        while view:
            step = max(1, min(PIECE, int(reply.rate / 10)))
            await self._stream.send_all(view[:step])
            view = view[step:]
            await trio.sleep(step / reply.rate)

    # --- receiving -------------------------------------------------------------------------------

    async def _serve(self, replies: trio.MemorySendChannel[Reply], nursery: trio.Nursery) -> None:
        await self._greet(replies, nursery)
        while True:
            data = await self._stream.receive_some(RECEIVE)
            self._arrived = trio.current_time()
            self._shared.counters.bytes_received += len(data)
            events = self._protocol.feed(data)
            while events:
                for event in events:
                    await self._handle(event, replies)
                events = self._protocol.events()
            if not data:
                return

    async def _greet(self, replies: trio.MemorySendChannel[Reply], nursery: trio.Nursery) -> None:
        settings, counters = self._shared.settings, self._shared.counters
        self._arrived = trio.current_time()
        fault = self._fault(CONNECT)
        refusal = None
        if counters.connections > settings.max_connections:
            refusal = (502, "Too many connections")
        elif fault is not None:
            refusal = await self._greeting_fault(fault, nursery)
        if refusal is not None:
            await self._say(replies, *refusal, ends_session=True)
            await trio.sleep_forever()
        code = 200 if settings.posting else 201
        await self._say(replies, code, GREETING)

    async def _greeting_fault(self, fault: Fault, nursery: trio.Nursery) -> tuple[int, str] | None:
        rule = fault.rule
        match fault.action:
            case Action.TOO_MANY:
                return 502, rule.text("text")
            case Action.REPLY:
                return int(rule.text("code")), rule.text("text")
            case Action.DROP:
                raise EndSessionError
            case Action.STALL:
                await trio.sleep(rule.value("seconds"))
            case Action.END:
                self._end_after_articles = int(rule.value("articles"))
                if rule.value("seconds"):
                    nursery.start_soon(self._end_later, fault, nursery.cancel_scope)
        return None

    async def _end_later(self, fault: Fault, scope: trio.CancelScope) -> None:
        await trio.sleep(fault.rule.value("seconds"))
        if not fault.rule.flag("silent"):
            with trio.move_on_after(1):
                await self._stream.send_all(self._protocol.reply(400, "Session time is over"))
        scope.cancel()

    def _fault(self, where: str, message_id: str = "") -> Fault | None:
        fault = self._shared.faults.decide(where, message_id)
        if fault is not None:
            self._shared.counters.faults[fault.action.value] += 1
        return fault

    async def _say(
        self,
        replies: trio.MemorySendChannel[Reply],
        code: int,
        text: str,
        *,
        ends_session: bool = False,
        late: float = 0.0,
    ) -> None:
        await self._reply(
            replies, self._protocol.reply(code, text), ends_session=ends_session, late=late
        )

    async def _reply(
        self,
        replies: trio.MemorySendChannel[Reply],
        data: bytes,
        *,
        ends_session: bool = False,
        late: float = 0.0,
        rate: float = math.inf,
    ) -> None:
        due = self._arrived + self._shared.settings.latency + late
        await replies.send(Reply(data, due, rate, ends_session))

    # --- events ----------------------------------------------------------------------------------

    async def _handle(self, event: Event, replies: trio.MemorySendChannel[Reply]) -> None:
        match event:
            case BadCommand(code, reason):
                await self._say(replies, code, reason)
            case ArticleTooLarge(_, size):
                limit = self._shared.settings.max_article
                await self._refuse(replies, f"Article of {size} bytes exceeds limit of {limit}")
            case ArticleReceived(_, wire):
                await self._take_article(wire, replies)
            case CommandReceived(verb, arguments):
                self._shared.counters.commands[verb.value] += 1
                await self._command(verb, arguments, replies)

    async def _command(
        self, verb: Verb, arguments: tuple[str, ...], replies: trio.MemorySendChannel[Reply]
    ) -> None:
        message_id = arguments[0] if arguments and arguments[0].startswith("<") else ""
        fault = self._fault(verb.value.partition(" ")[0], message_id)
        late = 0.0
        if fault is not None:
            rule = fault.rule
            if fault.action is Action.DROP:
                raise EndSessionError
            if fault.action is Action.REPLY:
                await self._say(replies, int(rule.text("code")), rule.text("text"))
                return
            if fault.action is Action.EXPIRE:
                self._shared.hidden.expires[message_id] = trio.current_time()
            if fault.action is Action.STALL:
                late = rule.value("seconds")
        if not self._logged_in and verb not in OPEN_TO_ALL:
            await self._say(replies, 480, "Authentication required", late=late)
            return
        if verb in {Verb.ARTICLE, Verb.HEAD, Verb.BODY, Verb.STAT}:
            await self._retrieve(verb, arguments, fault, late, replies)
            return
        await self._other(verb, arguments, late, replies)

    async def _other(
        self,
        verb: Verb,
        arguments: tuple[str, ...],
        late: float,
        replies: trio.MemorySendChannel[Reply],
    ) -> None:
        settings = self._shared.settings
        match verb:
            case Verb.CAPABILITIES:
                block = self._protocol.reply_block(101, "Capability list:", self._capabilities())
                await self._reply(replies, block, late=late)
            case Verb.MODE_READER:
                await self._say(replies, 200 if settings.posting else 201, GREETING, late=late)
            case Verb.DATE:
                await self._say(replies, 111, f"{datetime.now(UTC):%Y%m%d%H%M%S}", late=late)
            case Verb.GROUP:
                await self._enter_group(arguments[0], late, replies)
            case Verb.AUTHINFO_USER | Verb.AUTHINFO_PASS:
                await self._say(replies, *self._log_in(verb, arguments[0]), late=late)
            case Verb.POST | Verb.IHAVE:
                await self._say(replies, *self._invite(verb, arguments), late=late)
            case Verb.STARTTLS:
                await self._start_tls(replies)
            case _:
                await self._say(replies, 205, "Bye!", ends_session=True, late=late)
                await trio.sleep_forever()

    def _capabilities(self) -> bytes:
        lines = ["VERSION 2", "IMPLEMENTATION usenetfs nntpd", "READER", "IHAVE"]
        if self._shared.settings.posting:
            lines.append("POST")
        if not self._logged_in:
            lines.append("AUTHINFO USER")
        if self._shared.start_tls is not None and not self._secure:
            lines.append("STARTTLS")
        return "".join(f"{line}\r\n" for line in lines).encode("ascii")

    async def _enter_group(
        self, name: str, late: float, replies: trio.MemorySendChannel[Reply]
    ) -> None:
        if name not in self._shared.settings.groups:
            await self._say(replies, 411, f"No such group {name}", late=late)
            return
        self._group = name
        count = self._shared.spool.count(name)
        await self._say(replies, 211, f"{count} 1 {count} {name}", late=late)

    def _log_in(self, verb: Verb, word: str) -> tuple[int, str]:
        if self._logged_in:
            return 502, "Already authenticated"
        if verb is Verb.AUTHINFO_USER:
            self._user = word
            return 381, "Enter password"
        if self._user is None:
            return 482, "AUTHINFO USER required first"
        expected = self._shared.settings.users.get(self._user, "")
        right = compare_digest(expected.encode(), word.encode("utf-8", "surrogateescape"))
        self._logged_in = right and self._user in self._shared.settings.users
        self._user = None
        if self._logged_in:
            return 281, "Authentication succeeded"
        return 481, "Authentication failed"

    async def _start_tls(self, replies: trio.MemorySendChannel[Reply]) -> None:
        if self._shared.start_tls is None or self._secure:
            await self._say(replies, 580, "TLS is not to be had")
            return
        # Nothing may be pipelined around it, so it can be sent at once and in person.
        await self._stream.send_all(self._protocol.reply(382, "Begin TLS negotiation now"))
        self._stream = self._shared.start_tls(self._stream)
        self._secure = True
        self._protocol = ServerProtocol(max_article=self._shared.settings.max_article)

    # --- reading articles ------------------------------------------------------------------------

    async def _retrieve(
        self,
        verb: Verb,
        arguments: tuple[str, ...],
        fault: Fault | None,
        late: float,
        replies: trio.MemorySendChannel[Reply],
    ) -> None:
        if not arguments:
            code = 412 if self._group is None else 420
            await self._say(replies, code, "No article selected", late=late)
            return
        found = self._find(arguments[0])
        if found is None:
            numbered = not arguments[0].startswith("<")
            code = (412 if self._group is None else 423) if numbered else 430
            await self._say(replies, code, "No such article", late=late)
            return
        number, message_id, article = found
        text = f"{number} {message_id}"
        if verb is Verb.STAT:
            await self._say(replies, 223, text, late=late)
            return
        if fault is not None and fault.action is Action.WRONG_ARTICLE:
            article = self._shared.spool.any_other(message_id) or article
        reply = self._protocol.reply_block(
            BLOCK_CODES[verb], text, _part(article, verb), stuffed=True
        )
        await self._send_block(reply, fault, late, replies)

    def _find(self, wanted: str) -> tuple[int, str, StoredArticle] | None:
        if wanted.startswith("<"):
            if not self._shared.hidden.visible(wanted, trio.current_time()):
                return None
            article = self._shared.spool.find(wanted)
            return None if article is None else (0, wanted, article)
        if self._group is None:
            return None
        numbered = self._shared.spool.by_number(self._group, int(wanted))
        return None if numbered is None else (int(wanted), *numbered)

    async def _send_block(
        self,
        reply: bytes,
        fault: Fault | None,
        late: float,
        replies: trio.MemorySendChannel[Reply],
    ) -> None:
        """Send a status line with its block, as the fault will have it."""
        if fault is None:
            await self._reply(replies, reply, late=late)
            return
        rule = fault.rule
        start = reply.index(b"\r\n") + 2
        match fault.action:
            case Action.DROP_BODY:
                cut = reply[: start + int(rule.value("after"))]
                await self._reply(replies, cut, ends_session=True, late=late)
                await trio.sleep_forever()
            case Action.TRUNCATE:
                kept = reply[:-5][: start + int(rule.value("after"))]
                await self._reply(replies, kept + b"\r\n.\r\n", late=late)
            case Action.CORRUPT:
                await self._reply(replies, _corrupted(reply, start, fault), late=late)
            case Action.DRIP:
                await self._reply(replies, reply, late=late, rate=rule.value("rate"))
            case _:
                await self._reply(replies, reply, late=late)

    # --- taking articles -------------------------------------------------------------------------

    def _invite(self, verb: Verb, arguments: tuple[str, ...]) -> tuple[int, str]:
        settings, spool = self._shared.settings, self._shared.spool
        if verb is Verb.POST:
            if not settings.posting:
                return 440, "Posting not allowed"
            self._awaited, self._awaited_id = verb, ""
            return 340, "Ok, recommended ID " + new_message_id()
        if arguments[0] in spool:
            return 435, "Duplicate"
        self._awaited, self._awaited_id = verb, arguments[0]
        return 335, "Send it"

    async def _refuse(self, replies: trio.MemorySendChannel[Reply], reason: str) -> None:
        code = 441 if self._awaited is Verb.POST else 437
        await self._say(replies, code, reason)

    async def _take_article(self, wire: bytes, replies: trio.MemorySendChannel[Reply]) -> None:
        try:
            filing = examine(wire, self._shared.settings.groups, datetime.now(UTC))
            if self._awaited is Verb.IHAVE and filing.message_id != self._awaited_id:
                raise RefusedPostError("Message-ID is not the one that was offered")
            if filing.message_id in self._shared.spool:
                raise RefusedPostError("435 Duplicate")
        except RefusedPostError as refusal:
            await self._refuse(replies, refusal.reason)
            return
        fault = self._fault(POSTED, filing.message_id)
        if fault is not None and fault.action is Action.DROP:
            raise EndSessionError
        if fault is not None and fault.action is Action.DUPLICATE:
            await self._refuse(replies, "435 Duplicate")
            return
        if fault is not None and fault.action is Action.REPLY:
            await self._say(replies, int(fault.rule.text("code")), fault.rule.text("text"))
            return
        await self._file(filing, fault, replies)

    async def _file(
        self, filing: Filing, fault: Fault | None, replies: trio.MemorySendChannel[Reply]
    ) -> None:
        told, late, discard = filing.message_id, 0.0, False
        if fault is not None:
            rule, now = fault.rule, trio.current_time()
            match fault.action:
                case Action.DISCARD:
                    discard = True
                case Action.HIDE:
                    self._shared.hidden.until[told] = now + rule.value("seconds")
                case Action.EXPIRE:
                    self._shared.hidden.expires[told] = now + rule.value("seconds")
                case Action.STALL:
                    late = rule.value("seconds")
                case Action.REWRITE_ID:
                    filing = renamed(filing, new_message_id())
                    told = filing.message_id if rule.flag("tell") else told
        if not discard and not await self._store(filing, replies):
            return
        if fault is not None and fault.action is Action.LOSE_REPLY:
            raise EndSessionError
        code = 240 if self._awaited is Verb.POST else 235
        self._articles += 1
        last = self._articles == self._end_after_articles
        await self._say(replies, code, f"Article received {told}", late=late, ends_session=last)
        if last:
            await trio.sleep_forever()

    async def _store(self, filing: Filing, replies: trio.MemorySendChannel[Reply]) -> bool:
        try:
            body: list[Piece] = [filing.body, b".\r\n"]
            self._shared.spool.append(filing.message_id, filing.groups, filing.head, body)
            if self._shared.settings.durable:
                await self._shared.commit().wait()
        except (DiskFullError, LocalStorageError) as error:
            code = 441 if self._awaited is Verb.POST else 436
            await self._say(replies, code, f"436 Cannot store the article: {error.message}")
            return False
        self._shared.counters.articles_stored += 1
        return True


def _part(article: StoredArticle, verb: Verb) -> bytes:
    """The stored octets that answer a command, without the terminator."""
    if verb is Verb.BODY:
        return article.read(article.head_length, article.length - 3)
    if verb is Verb.HEAD:
        return article.read(0, article.head_length - 2)
    return article.read(0, article.length - 3)


def _corrupted(reply: bytes, start: int, fault: Fault) -> bytes:
    """Some octets of the block's middle altered; line ends, lengths and escapes left alone."""
    damaged = bytearray(reply)
    low = start + (len(reply) - start) // 4
    high = max(low + 1, len(reply) - 200)
    for _ in range(int(fault.rule.value("octets"))):
        place = fault.random.randrange(low, high)
        if damaged[place] not in b"\r\n.=":
            damaged[place] = 65 + (damaged[place] + 1) % 26
    return bytes(damaged)
