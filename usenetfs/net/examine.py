"""Finding out what a server can do, by doing it: for ``usenetfs server test``.

Logs in, measures, posts articles of random content that look like any other of ours, reads them
back, and sends what the RFC does not foresee where only that shows whether the server copes. Each
finding that fails becomes a line in the report, and the next one is tried on a fresh session; only
what makes the rest pointless (no connection, no login) is raised.

Owns its sessions, and one client at a time for the speeds. Keeps to the connections that are
configured and to the effort that was announced. What is tried and what follows from it is decided
in :mod:`usenetfs.net.verdict`. Must not know: configuration files, terminals.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import Final

import trio
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from usenetfs.article.container import Kind
from usenetfs.article.keys import KeySet
from usenetfs.article.seal import new_salt
from usenetfs.article.wire import OutgoingArticle, build_article
from usenetfs.article.yenc import decode_body
from usenetfs.errors import IntegrityError, NetworkError, UsenetfsError
from usenetfs.net.examine_speed import Measured, measure
from usenetfs.net.plain_session import PlainSession, Reply
from usenetfs.net.settings import ServerSettings
from usenetfs.net.stream import TlsStream
from usenetfs.net.verdict import (
    AHEAD_ARTICLES,
    DEPTHS,
    OVERHEAD,
    PAYLOADS,
    Effort,
    Fate,
    Posting,
    Report,
    Speed,
    Tls,
)
from usenetfs.types import MessageId, article_id

ROUND_TRIPS: Final = 5
VISIBLE_WITHIN: Final = 15.0
"""Seconds that an accepted article may take to appear."""
FIRST_LOOK: Final = 0.05
STEP_SECONDS: Final = 4.0
"""A measurement of one direction takes at most so long."""


class ArticleMaker:
    """Articles under keys that nobody else has, and that are forgotten afterwards."""

    def __init__(self, group: str) -> None:
        self._keys = KeySet.from_master(os.urandom(32), os.urandom(16))
        self._group = group
        self._number = 0

    async def make(self, payload: int) -> OutgoingArticle:
        """One of random content; ``payload`` octets before yEnc, seal included."""
        self._number += 1
        return await trio.to_thread.run_sync(self._build, self._number, payload)

    def _build(self, number: int, payload: int) -> OutgoingArticle:
        content = os.urandom(max(1, payload - 48))
        outgoing, _ = build_article(
            self._keys,
            bytes(16),
            article_id(1, number),
            0,
            new_salt(),
            Kind.DATA,
            content,
            (self._group,),
            datetime.now(UTC),
        )
        return outgoing


@dataclass(slots=True)
class _Findings:
    """Filled in as it goes."""

    posting: Posting = field(default_factory=lambda: Posting(allowed=False, reason="not tried"))
    pipelining: int = 1
    pipelining_reason: str | None = None
    connections: int = 1
    speeds: list[Speed] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    bytes_up: int = 0
    bytes_down: int = 0
    whole: list[MessageId] = field(default_factory=list)
    """Small articles that are known to be there."""


class Examiner:
    """One examination of one server. ``tell`` hears what is done now, in a few words."""

    def __init__(
        self,
        settings: ServerSettings,
        *,
        group: str | None,
        effort: Effort,
        patience: float,
        tell: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._maker = None if group is None else ArticleMaker(group)
        self._group = group
        self._effort = effort
        self._patience = patience
        self._tell = tell
        self._found = _Findings()

    async def run(self) -> Report:
        """Everything, in order. Raises what connecting and logging in raises."""
        self._tell("logging in")
        began = trio.current_time()
        async with self._session() as session:
            login = trio.current_time() - began
            tls = tls_of(session)
            traits = session.traits
            self._tell("round trip")
            round_trip = await self._round_trip(session)
        if self._maker is not None and self._settings.posting:
            await self._try("posting", partial(self._posting, self._maker))
        await self._try("pipelining", self._pipelining)
        if self._found.posting.largest_payload:
            await self._try("POST sent ahead", self._post_ahead)
        await self._speeds()
        found = self._found
        return Report(
            name=self._settings.name,
            address=f"{self._settings.host}:{self._settings.port}",
            login_seconds=login,
            round_trip=round_trip,
            capabilities=tuple(sorted(traits.capabilities or ())),
            tls=tls,
            logged_in=self._settings.username is not None,
            posting=found.posting,
            pipelining=found.pipelining,
            pipelining_reason=found.pipelining_reason,
            connections=found.connections,
            speeds=tuple(found.speeds),
            bytes_up=found.bytes_up,
            bytes_down=found.bytes_down,
            problems=tuple(found.problems),
        )

    # --- sessions --------------------------------------------------------------------------------

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[PlainSession]:
        session = await PlainSession.open(self._settings, patience=self._patience)
        try:
            yield session
        finally:
            self._found.bytes_up += session.bytes_up
            self._found.bytes_down += session.bytes_down
            await _leave(session)

    async def _try(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        self._tell(what)
        try:
            await work()
        except (NetworkError, IntegrityError) as error:
            self._found.problems.append(f"{what}: {error}")

    async def _round_trip(self, session: PlainSession) -> float:
        times = []
        for _ in range(ROUND_TRIPS):
            began = trio.current_time()
            await session.ask("DATE")
            times.append(trio.current_time() - began)
        return float(median(times))

    # --- posting ---------------------------------------------------------------------------------

    async def _posting(self, maker: ArticleMaker) -> None:
        """Whether articles are taken, under which id, and how large."""
        async with self._session() as session:
            article = await maker.make(PAYLOADS[0])
            reply = await session.post(article.wire)
        if reply.code != 240:
            allowed = reply.code not in {440, 480, 502}
            self._found.posting = Posting(
                allowed,
                str(reply),
                refused_article=len(article.wire) if allowed else None,
                refused_reason=str(reply) if allowed else None,
            )
            return
        self._found.posting = Posting(allowed=True)
        fate, seen_after = await self._fate(article, reply)
        self._found.posting = replace(self._found.posting, message_id=fate, seen_after=seen_after)
        if fate is Fate.KEPT:
            await self._largest(maker, article)

    async def _fate(self, article: OutgoingArticle, reply: Reply) -> tuple[Fate, float | None]:
        """Look for an article that was taken, on another session than the one that posted it."""
        told = _id_told(reply)
        wanted = told or article.message_id
        began, wait = trio.current_time(), FIRST_LOOK
        async with self._session() as session:
            while (await session.ask(f"STAT {wanted}")).code != 223:
                if trio.current_time() - began > VISIBLE_WITHIN:
                    return Fate.LOST, None
                await trio.sleep(wait)
                wait = min(2 * wait, 2.0)
            seen = trio.current_time() - began
            await self._read_back(session, wanted, article)
        return Fate.KEPT if wanted == article.message_id else Fate.REWRITTEN, seen

    async def _largest(self, maker: ArticleMaker, first: OutgoingArticle) -> None:
        """Larger and larger articles, each read back, until one is refused."""
        taken, payload = first, PAYLOADS[0]
        refused: tuple[int, str] | None = None
        for size in PAYLOADS[1:]:
            article = await maker.make(size)
            self._tell(f"an article of {len(article.wire):,} octets")
            try:
                async with self._session() as session:
                    reply = await session.post(article.wire)
                if reply.code == 240:
                    fate, _ = await self._fate(article, reply)
                    reply = reply if fate is Fate.KEPT else Reply(0, "accepted, and not there")
                if reply.code != 240:
                    refused = len(article.wire), str(reply)
            except (NetworkError, IntegrityError) as error:
                refused = len(article.wire), str(error)
            if refused is not None:
                break
            taken, payload = article, size
        self._found.posting = replace(
            self._found.posting,
            largest_article=len(taken.wire),
            largest_payload=payload,
            refused_article=refused[0] if refused else None,
            refused_reason=refused[1] if refused else None,
        )

    async def _read_back(
        self, session: PlainSession, message_id: MessageId, article: OutgoingArticle
    ) -> None:
        reply = await session.ask(f"BODY {message_id}")
        if reply.code != 222:
            raise IntegrityError(f"an article that STAT had found was not given: {reply}")
        body = await session.block()
        if decode_body(body) != decode_body(_body_of(article)):
            raise IntegrityError("an article did not come back as it was posted")

    # --- what may be sent at once ----------------------------------------------------------------

    async def _pipelining(self) -> None:
        """How many requests at once are all answered, in order."""
        if self._found.posting.largest_payload and self._maker is not None:
            for _ in range(2):
                article = await self._maker.make(1)
                async with self._session() as session:
                    reply = await session.post(article.wire)
                # One that is not visible yet would look like an answer that went astray.
                if reply.code == 240 and (await self._fate(article, reply))[0] is Fate.KEPT:
                    self._found.whole.append(article.message_id)
        for depth in DEPTHS:
            try:
                async with self._session() as session:
                    reason = await self._pipeline(session, depth)
            except NetworkError as error:
                reason = str(error)
            if reason is not None:
                self._found.pipelining_reason = f"{depth} at once: {reason}"
                return
            self._found.pipelining = depth

    async def _pipeline(self, session: PlainSession, depth: int) -> str | None:
        """Bodies and requests for what is not there, in turns; what was wrong, or None."""
        absent = "<nobody.posted.this@test.invalid>"
        ids = [*self._found.whole, absent]
        wanted = [ids[number % len(ids)] for number in range(depth)]
        await session.send("".join(f"BODY {one}\r\n" for one in wanted).encode())
        for one in wanted:
            reply = await session.reply()
            if reply.code == 222:
                await session.block()
            if (reply.code == 222) != (one != absent) or (
                reply.code == 222 and one not in reply.text
            ):
                return f"{reply} was the answer where {'nothing' if one == absent else one} was due"
        return None

    async def _post_ahead(self) -> None:
        """Several articles, each with the next POST behind it before the reply came."""
        assert self._maker is not None
        articles = [await self._maker.make(1) for _ in range(AHEAD_ARTICLES)]
        try:
            reason = await self._post_in_a_row(articles)
            if reason is None:
                for article in articles:
                    fate, _ = await self._fate(article, Reply(240, ""))
                    if fate is not Fate.KEPT:
                        reason = "an article that was accepted is not there"
                        break
        except (NetworkError, IntegrityError) as error:
            reason = str(error)
        self._found.posting = replace(
            self._found.posting, post_ahead=reason is None, post_ahead_reason=reason
        )

    async def _post_in_a_row(self, articles: Sequence[OutgoingArticle]) -> str | None:
        async with self._session() as session:
            await session.send(b"POST\r\n")
            for number, article in enumerate(articles):
                invited = await session.reply()
                if invited.code != 340:
                    return f"POST number {number + 1} was answered with {invited}"
                ahead = b"POST\r\n" if article is not articles[-1] else b""
                await session.send(article.wire, b".\r\n" + ahead)
                taken = await session.reply()
                if taken.code != 240:
                    return f"article number {number + 1} was answered with {taken}"
        return None

    # --- speed -----------------------------------------------------------------------------------

    async def _speeds(self) -> None:
        """Upload and download with more and more connections, until no more are to be had."""
        found, posting = self._found, self._found.posting
        payload = min(self._effort.payload, posting.largest_payload)
        maker = self._maker if posting.largest_payload else None
        settings = replace(self._settings, max_pipeline=max(1, found.pipelining), post_ahead=False)
        known: list[MessageId] = []
        for count, octets in self._effort.steps:
            self._tell(f"speed with {count} connection{'s' if count > 1 else ''}")
            if maker is None and not known:
                known = await self._others()
            measured: Measured = await measure(
                settings,
                count,
                octets=octets,
                typical=int((payload or self._effort.payload) * OVERHEAD),
                seconds=STEP_SECONDS,
                make=None if maker is None else partial(maker.make, payload),
                known=known,
            )
            found.connections = max(found.connections, measured.connections)
            found.bytes_up += measured.bytes_up
            found.bytes_down += measured.bytes_down
            found.problems += [f"speed with {count}: {said}" for said in measured.problems]
            found.speeds.append(Speed(measured.connections, measured.upload, measured.download))
            if measured.connections < count:
                break

    async def _others(self) -> list[MessageId]:
        """Articles of others to read, where we may not post: the newest of the newsgroup."""
        if self._group is None:
            return []
        found: list[MessageId] = []
        async with self._session() as session:
            reply = await session.ask(f"GROUP {self._group}")
            words = reply.text.split()
            if reply.code != 211 or len(words) < 3 or not words[2].isdecimal():
                return []
            last = int(words[2])
            for number in range(last, max(0, last - 40), -1):
                reply = await session.ask(f"STAT {number}")
                parts = reply.text.split()
                if reply.code == 223 and len(parts) > 1:
                    found.append(MessageId(parts[1]))
        return found


# --- little things ------------------------------------------------------------------------------


async def _leave(session: PlainSession) -> None:
    """QUIT, and wait for the server to close, so that it no longer counts us."""
    with trio.move_on_after(2.0, shield=True):
        try:
            await session.send(b"QUIT\r\n")
            while True:
                await session.reply()
        except UsenetfsError:
            pass  # it has closed, or had before
    session.close()


def tls_of(session: PlainSession) -> Tls | None:
    if not isinstance(session.stream, TlsStream):
        return None
    version, cipher, der = session.stream.describe()
    certificate = x509.load_der_x509_certificate(der)
    expires = certificate.not_valid_after_utc
    return Tls(
        version=version,
        cipher=cipher,
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        expires=expires.isoformat(),
        expires_in=(expires - datetime.now(UTC)).total_seconds() / 86400,
        sha256=certificate.fingerprint(SHA256()).hex(),
    )


def _id_told(reply: Reply) -> MessageId | None:
    """The Message-ID in a 240 line, where the server names one."""
    for word in reply.text.split():
        if word.startswith("<") and word.endswith(">") and "@" in word:
            return MessageId(word)
    return None


def _body_of(article: OutgoingArticle) -> bytes:
    return article.wire[article.wire.index(b"\r\n\r\n") + 4 :]
