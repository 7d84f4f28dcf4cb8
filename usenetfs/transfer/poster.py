"""One article's way from packed segments to a server.

**Invariant**: the record (number, attempt, salt, members) is committed before the first byte is
sent, so that a crash leaves nothing on the servers that the index does not know of.

What is sent again under which Message-ID is said by :mod:`usenetfs.net.retry_rules`. Whatever the
error, an article is tried again for as long as the policy of ``post`` says, normally for ever: its
data is staged and can wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import trio

from usenetfs.article.container import Kind, Member, choose_padding, container_size, pack
from usenetfs.article.keys import KeySet
from usenetfs.article.message_ids import message_id as computed_message_id
from usenetfs.article.newsgroups import NewsgroupChoice
from usenetfs.article.seal import SALT_SIZE, new_salt, open_seal
from usenetfs.article.wire import OutgoingArticle, build_article
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
from usenetfs.transfer.packer import PreparedSegment
from usenetfs.types import ArticleId, Lane, MessageId

log = logging.getLogger("usenetfs.upload")


def _is_ours_to_report(error: BaseException) -> bool:
    """Staged data waits for better times whatever the error; a fault of ours does not."""
    return isinstance(error, UsenetfsError)


class PostTarget(Protocol):
    """What posting needs of ``net.ProviderSet``."""

    async def post(self, article: OutgoingArticle, *, lane: Lane = Lane.UPLOAD) -> PostResult: ...

    async def fetch(
        self, message_id: MessageId, *, lane: Lane, fresh: bool = False
    ) -> FetchedBody: ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """An article whose record is committed."""

    article: ArticleId
    attempt: int
    salt: bytes
    plaintext: bytes


@dataclass(frozen=True, slots=True)
class Posted:
    """An article that a server took. ``size``: octets sent."""

    server: str
    message_id: MessageId
    attempt: int
    salt: bytes
    size: int


class Poster:
    """Builds and posts articles. ``new_attempt`` commits a new attempt and its salt to the index
    and returns the attempt's number, or None if nobody waits for the article any more."""

    def __init__(
        self,
        target: PostTarget,
        *,
        keys: KeySet,
        filesystem_id: bytes,
        groups: NewsgroupChoice,
        new_attempt: Callable[[ArticleId, bytes], int | None],
        retries: RetryManager,
    ) -> None:
        self._target = target
        self._keys = keys
        self._filesystem_id = filesystem_id
        self._groups = groups
        self._new_attempt = new_attempt
        self._retries = retries
        self.last_error: UsenetfsError | None = None
        """Why the last post that failed did so; None after a success."""

    async def post(self, recorded: Recorded) -> Posted | None:
        """Post until a server takes it; None if meanwhile nobody waits for it any more."""
        current: Recorded | None = recorded
        async for attempt in self._retries.retrying(
            "post", may_retry=_is_ours_to_report, on_failure=self._note
        ):
            with attempt:
                if current is None:
                    return None
                outgoing = await self._build(current)
                try:
                    server, message_id = await self._try(current, outgoing)
                except UsenetfsError as error:
                    if rule_of(error).identity is not Identity.SAME:
                        current = self._renew(current)
                    raise
                self.last_error = None
                return Posted(server, message_id, current.attempt, current.salt, len(outgoing.wire))
        return None

    async def _try(self, recorded: Recorded, outgoing: OutgoingArticle) -> tuple[str, MessageId]:
        """One attempt: the server that has the article, and the id that it has it under."""
        try:
            result = await self._target.post(outgoing)
        except DuplicateArticleError as error:
            if await self._is_ours(recorded, outgoing.message_id):
                return error.server or "", outgoing.message_id
            raise
        return result.server, result.message_id

    def _note(self, error: BaseException) -> None:
        if isinstance(error, UsenetfsError):
            self.last_error = error
        if isinstance(error, PostRejectedError):
            log.warning("an article was rejected (%s): it is sent under a new id", error)
        else:
            log.warning("posting failed (%s): it is tried again", error)

    def _renew(self, recorded: Recorded) -> Recorded | None:
        salt = new_salt()
        attempt = self._new_attempt(recorded.article, salt)
        if attempt is None:
            return None
        return Recorded(recorded.article, attempt, salt, recorded.plaintext)

    async def _build(self, recorded: Recorded) -> OutgoingArticle:
        group = self._groups.choose(None, None)
        outgoing, _ = await trio.to_thread.run_sync(
            build_article,
            self._keys,
            self._filesystem_id,
            recorded.article,
            recorded.attempt,
            recorded.salt,
            Kind.DATA,
            recorded.plaintext,
            (group,),
            datetime.now(UTC),
        )
        return outgoing

    async def _is_ours(self, recorded: Recorded, message_id: MessageId) -> bool:
        try:
            return await self.carries(recorded.article, recorded.salt, message_id)
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


def pack_segments(segments: Sequence[PreparedSegment], randomness: bytes) -> bytes:
    """The container of an article; its slots are the segments' order."""
    members = [
        (
            Member(
                inode=segment.claims[0].inode,
                block=segment.claims[0].number,
                hash=segment.hash,
                codec=segment.codec,
                raw_length=segment.raw_length,
                stored_length=len(segment.payload),
            ),
            segment.payload,
        )
        for segment in segments
    ]
    size = container_size(len(members), sum(len(payload) for _, payload in members))
    return pack(Kind.DATA, members, choose_padding(size, randomness))
