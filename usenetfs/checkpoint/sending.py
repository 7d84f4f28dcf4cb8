"""Articles of the chain on their way: posted, and seen.

:class:`Sender` posts pieces of documents (numbered articles, each attempt under an id of its own)
and copies of records (at the chain's ids, which can be taken once). Both return only when a STAT
found the article. It keeps nothing: what was sent is in the index or was never needed.

It must not know what is in an article.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Protocol

import trio

from usenetfs.article.container import Kind
from usenetfs.article.keys import KeySet
from usenetfs.article.message_ids import chain_message_id
from usenetfs.article.message_ids import message_id as numbered_message_id
from usenetfs.article.newsgroups import NewsgroupChoice
from usenetfs.article.seal import new_salt, open_seal
from usenetfs.article.wire import OutgoingArticle, build_article
from usenetfs.checkpoint.articles import nobody_else
from usenetfs.errors import (
    ArticleMissingError,
    DuplicateArticleError,
    EncodingError,
    NoHealthyServersError,
    PostInDoubtError,
    PostNotSeenError,
    SealError,
    UsenetfsError,
)
from usenetfs.net.providers import FetchedBody, PostResult
from usenetfs.net.retry import RetryManager
from usenetfs.types import ArticleId, Lane, MessageId, article_id

log = logging.getLogger("usenetfs.upload")

MIN_WAIT = 0.2
MAX_WAIT = 30.0
"""Seconds between two looks for one article."""


class Target(Protocol):
    """What is needed of ``net.ProviderSet``."""

    async def post(self, article: OutgoingArticle, *, lane: Lane = Lane.UPLOAD) -> PostResult: ...

    async def stat(self, message_id: MessageId, *, lane: Lane) -> str | None: ...

    async def fetch(
        self,
        message_id: MessageId,
        *,
        lane: Lane,
        exclude: AbstractSet[str] = frozenset(),
        fresh: bool = False,
    ) -> FetchedBody: ...


class RewrittenIdError(UsenetfsError):
    """A server gave an article of the chain another Message-ID than the one it must have."""

    error_code = "rewritten_id"
    default_hint = "set posting = false for that server: checkpoints need ids that stay as they are"


class Taken(enum.Enum):
    """Whose the article at a record's id is."""

    OURS = "ours"
    OTHER = "another writer's"
    UNREADABLE = "nobody can say"


class Sender:
    """``first``: seconds from a 240 to the first STAT, of few articles that people wait for;
    ``deadline``: seconds until an article that does not appear is given up; ``doubt``: how long is
    looked for an article whose id the servers know and that cannot be read."""

    def __init__(
        self,
        target: Target,
        *,
        keys: KeySet,
        filesystem_id: bytes,
        groups: NewsgroupChoice,
        retries: RetryManager,
        first: float = 0.5,
        deadline: float = 600.0,
        doubt: float = 20.0,
    ) -> None:
        self._target = target
        self._keys = keys
        self._filesystem_id = filesystem_id
        self._groups = groups
        self._retries = retries
        self._first = first
        self._deadline = deadline
        self._doubt = doubt

    # --- pieces of documents

    async def send_piece(self, article: ArticleId, kind: Kind, plaintext: bytes) -> int:
        """Post a numbered article until it is seen; the attempt under which it is.

        It goes on for as long as the policy of ``post`` says.
        """
        number = 0
        async for attempt in self._retries.retrying("post", may_retry=_is_typed):
            with attempt:
                number += 1
                outgoing = await self._build(
                    article,
                    number - 1,
                    new_salt(),
                    kind,
                    plaintext,
                    numbered_message_id(self._keys.message_id_key, article, number - 1),
                )
                await self._post(outgoing)
                await self._wait_until_seen(outgoing.message_id)
        return number - 1

    # --- records

    def record_id(self, number: int, copy: int) -> MessageId:
        """Where a copy of a checkpoint's record is."""
        return chain_message_id(self._keys.chain_key, number, copy)

    async def take(self, number: int, copy: int, salt: bytes, container: bytes) -> Taken:
        """Post a copy of a record; whose the article under its id is afterwards.

        Always the same bytes for one number and copy. Raises what a post raises.
        """
        message_id = self.record_id(number, copy)
        outgoing = await self._build(
            article_id(0, number), copy, salt, Kind.CHECKPOINT, container, message_id
        )
        try:
            await self._post(outgoing)
        except DuplicateArticleError:
            return await self.whose(number, copy, container)
        return Taken.OURS

    async def whose(self, number: int, copy: int, container: bytes) -> Taken:
        """Look at what is there, for as long as an article may take to appear."""
        message_id = self.record_id(number, copy)
        wait = MIN_WAIT
        with trio.move_on_after(self._doubt):
            while True:
                found = await self.read_record(number, message_id)
                if found is not None:
                    return Taken.OURS if found == container else Taken.OTHER
                await trio.sleep(wait)
                wait = min(wait * 2, MAX_WAIT)
        return Taken.UNREADABLE

    async def read_record(self, number: int, message_id: MessageId) -> bytes | None:
        """The container at a record's id, from the first server whose article opens.

        None if nothing can be read there.
        """
        tried: set[str] = set()
        while True:
            try:
                body = await self._target.fetch(
                    message_id, lane=Lane.METADATA, exclude=frozenset(tried), fresh=True
                )
            except (ArticleMissingError, EncodingError) as error:
                log.info("what is under a checkpoint's id cannot be read: %s", error)
                return None
            except NoHealthyServersError as error:
                if nobody_else(error, tried):  # all gave something else
                    return None
                raise
            try:
                return open_seal(
                    self._keys.data_key,
                    self._filesystem_id,
                    article_id(0, number),
                    Kind.CHECKPOINT,
                    body.data,
                )
            except SealError as error:
                log.info("%s has something else under a checkpoint's id: %s", body.server, error)
                tried.add(body.server)

    async def exists(self, number: int) -> bool:
        """Whether somebody took this number."""
        message_id = self.record_id(number, 0)
        return await self._target.stat(message_id, lane=Lane.METADATA) is not None

    async def wait_for_record(self, number: int, copy: int) -> None:
        """Until a STAT finds it; PostNotSeenError if it does not appear."""
        await self._wait_until_seen(self.record_id(number, copy))

    # --- both

    async def _build(
        self,
        article: ArticleId,
        attempt: int,
        salt: bytes,
        kind: Kind,
        plaintext: bytes,
        message_id: MessageId,
    ) -> OutgoingArticle:
        group = self._groups.choose(None, None)

        def build() -> OutgoingArticle:
            outgoing, _ = build_article(
                self._keys,
                self._filesystem_id,
                article,
                attempt,
                salt,
                kind,
                plaintext,
                (group,),
                datetime.now(UTC),
                message_id=message_id,
            )
            return outgoing

        return await trio.to_thread.run_sync(build)

    async def _post(self, outgoing: OutgoingArticle) -> None:
        """Once, and once more under the same id when the reply was lost (RFC 3977 §6.3.1)."""
        try:
            result = await self._target.post(outgoing, lane=Lane.METADATA)
        except PostInDoubtError:
            result = await self._target.post(outgoing, lane=Lane.METADATA)
        if result.message_id != outgoing.message_id:
            raise RewrittenIdError(
                f"{result.server} gave an article of the chain another Message-ID",
                server=result.server,
            )

    async def _wait_until_seen(self, message_id: MessageId) -> None:
        wait = self._first
        with trio.move_on_after(self._deadline):
            while True:
                await trio.sleep(wait)
                if await self._target.stat(message_id, lane=Lane.METADATA) is not None:
                    return
                wait = min(max(wait * 2, MIN_WAIT), MAX_WAIT)
        raise PostNotSeenError("an article of the chain did not appear on any server in time")


def _is_typed(error: BaseException) -> bool:
    """A checkpoint waits for better times whatever the error; a fault of ours does not."""
    return isinstance(error, UsenetfsError)
