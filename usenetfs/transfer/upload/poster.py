"""One article's way from packed segments to a server.

**Invariant**: the record (number, attempt, salt, members) is committed before the first byte is
sent, so that a crash leaves nothing on the servers that the index does not know of.

What is sent again under which Message-ID is said by :mod:`usenetfs.net.retry_rules`. Whatever the
error, an article is tried again for as long as the policy of ``post`` says, normally for ever: its
data is staged and can wait.

Articles are sealed and encoded in threads, several in one hop, ahead of being sent; from then on
only the octets of the wire are kept. The rare article that must be sealed anew is opened again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import trio

from usenetfs.article.container import Kind, Member, pack
from usenetfs.article.keys import KeySet
from usenetfs.article.message_ids import message_id as computed_message_id
from usenetfs.article.newsgroups import NewsgroupChoice
from usenetfs.article.seal import SALT_SIZE, new_salt, open_seal
from usenetfs.article.wire import OutgoingArticle, build_article
from usenetfs.article.yenc import decode_body
from usenetfs.errors import (
    ArticleMissingError,
    DuplicateArticleError,
    EncodingError,
    PostRejectedError,
    SealError,
    UsenetfsError,
)
from usenetfs.net.providers import FetchedBody, PostResult
from usenetfs.net.retry import RetryManager
from usenetfs.net.retry_rules import Identity, rule_of
from usenetfs.types import ArticleId, InodeId, Lane, MessageId

log = logging.getLogger("usenetfs.upload")


def _is_ours_to_report(error: BaseException) -> bool:
    """Staged data waits for better times whatever the error; a fault of ours does not."""
    return isinstance(error, UsenetfsError)


def _nobody_knows(inode: InodeId) -> tuple[bytes, int] | None:
    """The description of a file where rules have nothing to go by."""
    return None


def _tell_nobody(error: UsenetfsError) -> None:
    """Where errors go unless somebody wants them."""


class PostTarget(Protocol):
    """What posting needs of ``net.ProviderSet``."""

    async def post(self, article: OutgoingArticle, *, lane: Lane = Lane.UPLOAD) -> PostResult: ...

    async def fetch(
        self, message_id: MessageId, *, lane: Lane, fresh: bool = False
    ) -> FetchedBody: ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """An article whose record is committed, not yet sealed. ``padding``: zero bytes at its end."""

    article: ArticleId
    attempt: int
    salt: bytes
    members: Sequence[tuple[Member, bytes | bytearray | memoryview]]
    padding: int


@dataclass(frozen=True, slots=True, eq=False)
class Sealed:
    """A recorded article as it goes out. ``segments``: how many it carries; ``file``: to which
    they all belong, if it is one."""

    salt: bytes
    outgoing: OutgoingArticle
    segments: int
    file: InodeId | None

    @property
    def article(self) -> ArticleId:
        return self.outgoing.article

    @property
    def octets(self) -> int:
        """What it takes in memory and on the wire."""
        return len(self.outgoing.wire)


@dataclass(frozen=True, slots=True)
class Posted:
    """An article that a server took. ``rewritten``: whether its id is the server's and not ours.
    ``size``: octets sent."""

    server: str
    message_id: MessageId
    attempt: int
    rewritten: bool
    salt: bytes
    size: int


class Poster:
    """Builds and posts articles. ``new_attempt`` commits a new attempt and its salt to the index
    and returns the attempt's number, or None if nobody waits for the article any more.

    ``describe`` gives a file's name and size, for the rules that choose newsgroups by them; they
    are asked only where all members of an article belong to one file.

    ``report`` is told of each attempt that failed: posting goes on, and a user asks why."""

    def __init__(
        self,
        target: PostTarget,
        *,
        keys: KeySet,
        filesystem_id: bytes,
        groups: NewsgroupChoice,
        new_attempt: Callable[[ArticleId, bytes], int | None],
        retries: RetryManager,
        describe: Callable[[InodeId], tuple[bytes, int] | None] = _nobody_knows,
        report: Callable[[UsenetfsError], None] = _tell_nobody,
    ) -> None:
        self._target = target
        self._keys = keys
        self._filesystem_id = filesystem_id
        self._groups = groups
        self._new_attempt = new_attempt
        self._retries = retries
        self._describe = describe
        self._report = report
        self.last_error: UsenetfsError | None = None
        """Why the last post that failed did so; None after a success."""

    async def seal(self, recorded: Sequence[Recorded]) -> list[Sealed]:
        """Make articles ready to be sent; one hop to a thread for all of them."""
        groups = [self._group_for(one_file(r.members)) for r in recorded]
        now = datetime.now(UTC)
        return await trio.to_thread.run_sync(
            _seal_all, self._keys, self._filesystem_id, recorded, groups, now
        )

    async def post(self, sealed: Sealed) -> Posted | None:
        """Post until a server takes it; None if meanwhile nobody waits for it any more."""
        current: Sealed | None = sealed

        async def once() -> Posted | None:
            nonlocal current
            if current is None:
                return None
            outgoing = current.outgoing
            try:
                server, message_id = await self._try(current)
            except UsenetfsError as error:
                if rule_of(error).identity is not Identity.SAME:
                    current = await self._renew(current)
                raise
            self.last_error = None
            rewritten = message_id != outgoing.message_id
            return Posted(
                server, message_id, outgoing.attempt, rewritten, current.salt, current.octets
            )

        return await self._retries.run(
            "post", once, may_retry=_is_ours_to_report, on_failure=self._note
        )

    async def _try(self, sealed: Sealed) -> tuple[str, MessageId]:
        """One attempt: the server that has the article, and the id that it has it under."""
        try:
            result = await self._target.post(sealed.outgoing)
        except DuplicateArticleError as error:
            if await self._is_ours(sealed):
                return error.server or "", sealed.outgoing.message_id
            raise
        return result.server, result.message_id

    def _note(self, error: BaseException) -> None:
        if isinstance(error, UsenetfsError):
            self.last_error = error
            self._report(error)
        if isinstance(error, PostRejectedError):
            log.warning("an article was rejected (%s): it is sent under a new id", error)
        else:
            log.warning("posting failed (%s): it is tried again", error)

    async def _renew(self, sealed: Sealed) -> Sealed | None:
        """The same content as a new attempt: another salt, another Message-ID, today's date."""
        salt = new_salt()
        attempt = self._new_attempt(sealed.article, salt)
        if attempt is None:
            return None
        group = self._group_for(sealed.file)
        outgoing = await trio.to_thread.run_sync(
            _seal_anew, self._keys, self._filesystem_id, sealed, attempt, salt, group
        )
        return Sealed(salt, outgoing, sealed.segments, sealed.file)

    def _group_for(self, file: InodeId | None) -> str:
        """By rule where the article belongs to one file that a rule fits; else the next in turn."""
        known = self._describe(file) if file is not None and self._groups.has_rules else None
        return self._groups.choose(*known) if known is not None else self._groups.choose()

    async def _is_ours(self, sealed: Sealed) -> bool:
        try:
            return await self.carries(sealed.article, sealed.salt, sealed.outgoing.message_id)
        except ArticleMissingError:
            # Known by its id and not readable: dropped, or not there yet. A new attempt is safe
            # either way, because it has another id.
            return False

    async def carries(self, article: ArticleId, salt: bytes, message_id: MessageId) -> bool:
        """Whether the article on the servers opens and has this salt. Raises as ``fetch`` does."""
        try:
            body = await self._target.fetch(message_id, lane=Lane.METADATA, fresh=True)
        except EncodingError as error:
            log.warning("an article under an id of ours is damaged: %s", error)
            return False
        try:
            open_seal(self._keys.data_key, self._filesystem_id, article, Kind.DATA, body.data)
        except SealError as error:
            log.warning("an article under an id of ours is not ours: %s", error)
            return False
        return bytes(body.data[:SALT_SIZE]) == salt

    def message_id(self, article: ArticleId, attempt: int) -> MessageId:
        """The id that the article's attempt is posted under."""
        return computed_message_id(self._keys.message_id_key, article, attempt)


def _seal_all(
    keys: KeySet,
    filesystem_id: bytes,
    articles: Sequence[Recorded],
    groups: Sequence[str],
    now: datetime,
) -> list[Sealed]:
    sealed = []
    for recorded, group in zip(articles, groups, strict=True):
        outgoing, _ = build_article(
            keys,
            filesystem_id,
            recorded.article,
            recorded.attempt,
            recorded.salt,
            Kind.DATA,
            pack(Kind.DATA, recorded.members, recorded.padding),
            (group,),
            now,
        )
        members = recorded.members
        sealed.append(Sealed(recorded.salt, outgoing, len(members), one_file(members)))
    return sealed


def one_file(members: Sequence[tuple[Member, object]]) -> InodeId | None:
    """The file that all members belong to; None if there are several."""
    inodes = {member.inode for member, _ in members}
    return InodeId(inodes.pop()) if len(inodes) == 1 else None


def _seal_anew(
    keys: KeySet, filesystem_id: bytes, sealed: Sealed, attempt: int, salt: bytes, group: str
) -> OutgoingArticle:
    """Open an article of ours as it was to go out, and seal it as another attempt."""
    wire = sealed.outgoing.wire
    body = decode_body(memoryview(wire)[wire.index(b"\r\n\r\n") + 4 :])
    plaintext = open_seal(keys.data_key, filesystem_id, sealed.article, Kind.DATA, body)
    outgoing, _ = build_article(
        keys,
        filesystem_id,
        sealed.article,
        attempt,
        salt,
        Kind.DATA,
        plaintext,
        (group,),
        datetime.now(UTC),
    )
    return outgoing
