"""All servers together: who is asked, in which order, and what their answers add up to.

Order: lower ``priority`` first; among equals the one from which the answer is expected soonest.
Servers of one storage group read one spool, so when one of them misses an article the others are
not asked. A miss is remembered for a while (``misses.py``), except for articles that were posted
just now.

What comes out of a call is about the article, not about a server: the article; *missing*, when
every server that may have it said so; *damaged*, when those that have it gave a body that is cut
short or whose CRC does not match; *no healthy servers*, when some could not be asked, with the
reason of each. Whatever the reason, the next server is asked first.

It does not know seals, retries over time, or which Message-ID belongs to what.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio
from cachetools import TTLCache

from usenetfs.errors import (
    ArticleMissingError,
    EncodingError,
    NoHealthyServersError,
    PostingNotAllowedError,
    UsenetfsError,
)
from usenetfs.net.connection import Request
from usenetfs.net.misses import Misses
from usenetfs.net.pool import Pool, ServerStatus
from usenetfs.net.replies import refused_article, refused_post
from usenetfs.net.retry import RetryPolicy
from usenetfs.net.retry_rules import AtOnce, rule_of
from usenetfs.net.settings import ServerSettings
from usenetfs.net.stream import Dialer, Lookups
from usenetfs.net.urgency import Urgency
from usenetfs.nntp.grammar import Verb
from usenetfs.types import Lane, MessageId

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

log = logging.getLogger("usenetfs.net")

MAX_POSTED = 65_536
POSTED_LIFETIME = 900.0
"""Seconds that is remembered which connection posted an article, so that another checks it."""


@dataclass(frozen=True, slots=True)
class FetchedBody:
    """A body whose yEnc is whole and whose CRC matches."""

    data: bytearray
    server: str
    message_id: MessageId
    wire_size: int


@dataclass(frozen=True, slots=True)
class PostResult:
    """A server took the article, under this id."""

    server: str
    message_id: MessageId


class Postable(Protocol):
    """What is posted: headers and body with CRLF line ends, dot-stuffed, no terminator."""

    @property
    def message_id(self) -> MessageId: ...
    @property
    def wire(self) -> ReadableBuffer: ...


class ProviderSet:
    """See the module."""

    def __init__(
        self,
        servers: Sequence[ServerSettings],
        *,
        dialer: Dialer | None = None,
        redial: RetryPolicy | None = None,
    ) -> None:
        self._pools = [Pool(settings, dialer=dialer, redial=redial) for settings in servers]
        self._misses = Misses(trio.current_time)
        self._posted: TTLCache[MessageId, tuple[str, int]] = TTLCache(
            MAX_POSTED, POSTED_LIFETIME, timer=trio.current_time
        )

    def __repr__(self) -> str:
        return f"<ProviderSet {self._pools!r}>"

    @property
    def upload_connections(self) -> int:
        """How many posts can usefully run at once: one on each connection that background may
        use, and where a POST is sent ahead the next one, too."""
        posting = [pool for pool in self._pools if pool.settings.posting]
        return max(
            1,
            sum(
                (pool.limit - pool.settings.reserved) * (1 + pool.settings.post_ahead)
                for pool in posting
            ),
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep all pools until cancelled. Names are looked up by ``Lookups`` from now on, whoever
        asks."""
        trio.socket.set_custom_hostname_resolver(Lookups())
        async with trio.open_nursery() as nursery:
            for pool in self._pools:
                await nursery.start(pool.run)
            task_status.started()

    def statuses(self) -> tuple[ServerStatus, ...]:
        """How each server stands, in the order of configuration."""
        return tuple(pool.status() for pool in self._pools)

    def storage_groups(self) -> dict[str, frozenset[str]]:
        """The servers that read from each spool, the spool that is asked first before the others;
        a server that shares its spool with none stands under its own name."""
        groups: dict[str, set[str]] = {}
        for pool in self._in_order(self._pools):
            settings = pool.settings
            groups.setdefault(settings.storage_group or pool.name, set()).add(pool.name)
        return {label: frozenset(names) for label, names in groups.items()}

    # --- asking ----------------------------------------------------------------------------------

    async def fetch(
        self,
        message_id: MessageId,
        *,
        lane: Lane,
        exclude: AbstractSet[str] = frozenset(),
        fresh: bool = False,
        share: Hashable = None,
        urgency: Urgency | None = None,
    ) -> FetchedBody:
        """The decoded body of an article.

        ``exclude``: servers not to ask. ``fresh``: the article is new, so a miss means little:
        those remembered do not count, and none is remembered; what was posted from here lately is
        fresh by itself. ``share``: within a lane, requests of different shares (say, open files)
        take turns. ``urgency``: for a caller who may become more urgent meanwhile; its lane
        counts. Raises ArticleMissingError, EncodingError, NoHealthyServersError.
        """
        outcome = _Outcome(self._pools, exclude)
        fresh = fresh or message_id in self._posted
        for pool in self._candidates(message_id, exclude, outcome, fresh=fresh):
            request = Request(Verb.BODY, message_id, lane, share)
            if urgency is not None:
                self._follow(urgency, pool, request, exclude)
            try:
                response = await pool.perform(request)
                if response.code != 222:
                    raise refused_article(response.code, response.text, pool.name)
                if response.crc_ok and response.data is not None:
                    self._misses.forget(message_id, pool.settings.group)
                    return FetchedBody(response.data, pool.name, message_id, response.wire_size)
                raise EncodingError(f"{pool.name} sent a damaged article", server=pool.name)
            except UsenetfsError as error:
                self._note(pool, message_id, error, outcome, remember=not fresh)
        raise outcome.error().concerning(message_id)

    def _follow(
        self, urgency: Urgency, pool: Pool, request: Request, exclude: AbstractSet[str]
    ) -> None:
        request.lane = urgency.lane
        others = {
            other.settings.group
            for other in self._pools
            if other is not pool and other.name not in exclude and other.standing < 2
        }
        urgency.asking(
            pool.name,
            len(others - {pool.settings.group}),
            lambda: request.connection != 0,
            partial(pool.move, request),
        )

    async def stat(
        self, message_id: MessageId, *, lane: Lane, exclude: AbstractSet[str] = frozenset()
    ) -> str | None:
        """Name of a server that has the article; None when all say that they have not.

        ``exclude``: servers not to ask. Not asked on the connection that posted it. Raises
        NoHealthyServersError when a server that may have it could not be asked.
        """
        outcome = _Outcome(self._pools, exclude)
        posted_at, avoid = self._posted.get(message_id, ("", 0))
        pools = list(self._candidates(message_id, exclude, outcome, fresh=True))
        for pool in sorted(pools, key=lambda pool: pool.name != posted_at):
            if pool.settings.group in outcome.missing:
                continue
            request = Request(
                Verb.STAT, message_id, lane, avoid=avoid if pool.name == posted_at else 0
            )
            try:
                response = await pool.perform(request)
                if response.code == 223:
                    return pool.name
                raise refused_article(response.code, response.text, pool.name)
            except UsenetfsError as error:
                self._note(pool, message_id, error, outcome, remember=False)
        verdict = outcome.error()
        if isinstance(verdict, ArticleMissingError):
            return None
        raise verdict.concerning(message_id)

    def _candidates(
        self,
        message_id: MessageId,
        exclude: AbstractSet[str],
        outcome: _Outcome,
        *,
        fresh: bool,
    ) -> Iterator[Pool]:
        """Servers to ask, best first, leaving out groups that turn out to miss the article."""
        for pool in self._in_order(self._pools):
            if pool.name in exclude:
                continue
            group = pool.settings.group
            known = None if fresh else self._misses.believed(message_id, group)
            if known is not None:
                outcome.missing.setdefault(group, known)
            if group not in outcome.missing:
                yield pool

    def _in_order(self, pools: Sequence[Pool], *, posting: bool = False) -> list[Pool]:
        if len(pools) == 1:
            return list(pools)
        return sorted(
            pools,
            key=lambda pool: (
                pool.standing,
                pool.settings.priority,
                pool.expected_time(posting=posting),
            ),
        )

    def _note(
        self,
        pool: Pool,
        message_id: MessageId,
        error: UsenetfsError,
        outcome: _Outcome,
        *,
        remember: bool = True,
    ) -> None:
        outcome.asked = True
        if isinstance(error, ArticleMissingError):
            outcome.missing[pool.settings.group] = error.message
            if remember:
                self._misses.note(message_id, pool.settings.group, error.message)
        elif isinstance(error, EncodingError):
            outcome.damaged[pool.name] = error.message
        elif rule_of(error).at_once is not AtOnce.NOTHING:
            outcome.failed[pool.name] = error.message
        else:
            raise error.concerning(message_id)

    # --- posting ---------------------------------------------------------------------------------

    async def post(self, article: Postable, *, lane: Lane = Lane.UPLOAD) -> PostResult:
        """Post to the best server that takes it.

        The next server is tried when one fails before any of the article left. Raises
        PostInDoubtError, DuplicateArticleError, PostRejectedError, PostingNotAllowedError,
        NoHealthyServersError.
        """
        outcome = _Outcome(self._pools)
        refusals: list[PostingNotAllowedError] = []
        for pool in self._in_order(self._pools, posting=True):
            if not pool.settings.posting:
                outcome.left_out[pool.name] = "posting is off for it"
                continue
            request = Request(Verb.POST, article.message_id, lane, article=article.wire)
            try:
                response = await pool.perform(request)
                if response.code == 240:
                    self._remember_posted(article.message_id, pool, request)
                    return PostResult(pool.name, _id_in(response.text) or article.message_id)
                raise refused_post(response.code, response.text, pool.name)
            except UsenetfsError as error:
                if rule_of(error).at_once is AtOnce.NOTHING:
                    raise error.concerning(article.message_id) from None
                if isinstance(error, PostingNotAllowedError):
                    refusals.append(error)
                outcome.failed[pool.name] = error.message
        if refusals and len(refusals) == len(outcome.failed):
            raise refusals[0].concerning(article.message_id)
        raise outcome.error(doing="post to").concerning(article.message_id)

    def _remember_posted(self, message_id: MessageId, pool: Pool, request: Request) -> None:
        self._posted[message_id] = (pool.name, request.connection)
        for other in self._pools:  # it was missing; now it is on its way everywhere
            self._misses.forget(message_id, other.settings.group)


class _Outcome:
    """What the servers said so far."""

    def __init__(self, pools: Sequence[Pool], exclude: AbstractSet[str] = frozenset()) -> None:
        self._groups = {pool.name: pool.settings.group for pool in pools}
        self.left_out = dict.fromkeys(
            (name for name in self._groups if name in exclude), "left out: it gave a wrong article"
        )
        """Server → why it was not to be asked."""
        self.missing: dict[str, str] = {}
        """Storage group → what one of its servers said."""
        self.failed: dict[str, str] = {}
        """Server → why it could not be asked."""
        self.damaged: dict[str, str] = {}
        """Server → what was wrong with its answer."""
        self.asked = False
        """Whether somebody was asked, and not only remembered to have said something."""

    def error(self, *, doing: str = "ask") -> UsenetfsError:
        """What to raise when nobody gave what was wanted."""
        if self.damaged and not self.failed:
            return EncodingError("; ".join((*self.damaged.values(), *self.missing.values())))
        if self.missing and not self.failed:
            said = "; ".join(self.missing.values())
            error = ArticleMissingError(f"no server has the article ({said})")
            error.remembered = not self.asked
            return error
        reasons = self._reasons()
        said = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return NoHealthyServersError(
            f"there is no server to {doing}" + (f" ({said})" if said else ""),
            reasons=reasons,
            missing=[name for name, group in self._groups.items() if group in self.missing],
            hint="see how the servers are: usenetfs status",
        )

    def _reasons(self) -> dict[str, str]:
        """What every server had to say, or why it was not asked."""
        reasons = {}
        for name, group in self._groups.items():
            known = (self.failed, self.damaged, self.left_out)
            said = next((words[name] for words in known if name in words), None)
            said = said or self.missing.get(group)
            if said is not None:
                reasons[name] = said
        return reasons


def _id_in(text: str) -> MessageId | None:
    """The Message-ID in a 240 line, where the server names one."""
    for word in text.split():
        if word.startswith("<") and word.endswith(">") and "@" in word:
            return MessageId(word)
    return None
