"""Articles of the chain, fetched and opened, whichever server has them whole.

Owns the rule of who is asked again: a server whose article does not open is passed over; while no
server can be reached it is tried again until ``patience`` ends. What comes out has passed its seal
as the very article that was wanted.

It must not know what is in the articles. Data articles are read by ``transfer.fetcher``, which has
memory and a cache; what is read here is read once.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from typing import Protocol

import trio
from tenacity import AsyncRetrying

from usenetfs.article.container import Container, Kind, unpack
from usenetfs.article.keys import KeySet
from usenetfs.article.seal import open_seal
from usenetfs.errors import (
    ArticleMissingError,
    DataUnavailableError,
    EncodingError,
    IntegrityError,
    NetworkError,
    NoHealthyServersError,
)
from usenetfs.net.providers import FetchedBody
from usenetfs.net.retry import RetryManager, StopAt
from usenetfs.types import ArticleId, Lane, MessageId

log = logging.getLogger("usenetfs.download")


def nobody_else(error: BaseException, wrong: Collection[str]) -> bool:
    """Whether a fetch failed for no other reason than that all servers are among ``wrong``, those
    that gave something else before: there is nobody left who may have the article.

    A server that cannot be reached now may have it, so then it is not so.
    """
    if not isinstance(error, NoHealthyServersError) or not error.reasons:
        return False
    return error.reasons.keys() <= set(wrong)


class ArticleSource(Protocol):
    """What is needed of ``net.ProviderSet``."""

    async def fetch(
        self,
        message_id: MessageId,
        *,
        lane: Lane,
        exclude: AbstractSet[str] = frozenset(),
        fresh: bool = False,
    ) -> FetchedBody: ...

    async def stat(self, message_id: MessageId, *, lane: Lane) -> str | None: ...


class ArticleReader:
    """``patience``: seconds to go on asking while no server can be reached."""

    def __init__(
        self,
        source: ArticleSource,
        *,
        keys: KeySet,
        filesystem_id: bytes,
        retries: RetryManager,
        patience: float,
        lane: Lane = Lane.METADATA,
    ) -> None:
        self.keys = keys
        self._lane = lane
        self._source = source
        self._filesystem_id = filesystem_id
        self._retries = retries
        self._patience = patience
        self.asked = 0
        """Questions whether an article is there."""
        self.bytes_fetched = 0

    def __repr__(self) -> str:
        return f"<ArticleReader asked={self.asked} bytes={self.bytes_fetched}>"

    async def exists(self, message_id: MessageId) -> bool:
        """Whether any server has it. NoHealthyServersError when that cannot be known."""
        self.asked += 1
        async for attempt in self._retrying("stat"):
            with attempt:
                return await self._source.stat(message_id, lane=self._lane) is not None
        raise AssertionError("retrying ends with a result or an error")

    async def open(self, message_id: MessageId, article: ArticleId, kind: Kind) -> Container:
        """The opened container. DataUnavailableError, with the reason of each server."""
        return unpack(await self.read(message_id, article, kind))

    async def read(self, message_id: MessageId, article: ArticleId, kind: Kind) -> bytes:
        """What is sealed in an article: a container of that kind. DataUnavailableError."""
        wrong: dict[str, str] = {}
        while True:
            try:
                body = await self._fetch(message_id, wrong)
            except (ArticleMissingError, EncodingError, NoHealthyServersError) as error:
                if isinstance(error, NoHealthyServersError) and not nobody_else(error, wrong):
                    raise
                reasons = "; ".join((*wrong.values(), str(error)))
                raise DataUnavailableError(f"no server has the article whole ({reasons})") from (
                    error
                )
            try:
                plaintext = await self._opened(article, kind, body.data)
            except IntegrityError as error:
                log.warning(
                    "%s gave a wrong article (%s): the next server is asked", body.server, error
                )
                wrong[body.server] = f"{body.server}: {error}"
                continue
            self.bytes_fetched += len(body.data)
            return plaintext

    async def _fetch(self, message_id: MessageId, wrong: dict[str, str]) -> FetchedBody:
        async for attempt in self._retrying("fetch", wrong):
            with attempt:
                return await self._source.fetch(
                    message_id, lane=self._lane, exclude=frozenset(wrong), fresh=True
                )
        raise AssertionError("retrying ends with a result or an error")

    def _retrying(self, kind: str, wrong: Collection[str] = ()) -> AsyncRetrying:
        return self._retries.retrying(
            kind,
            may_retry=lambda error: (
                isinstance(error, NetworkError)
                and error.recoverable
                and not nobody_else(error, wrong)
            ),
            stop=StopAt(trio.current_time() + self._patience),
        )

    async def _opened(self, article: ArticleId, kind: Kind, body: bytearray) -> bytes:
        plaintext = await trio.to_thread.run_sync(
            open_seal, self.keys.data_key, self._filesystem_id, article, kind, body
        )
        if unpack(plaintext).kind is not kind:
            raise IntegrityError("an article holds another kind of thing than was wanted")
        return plaintext
