"""Key records on the servers: found by who recovers, posted by who makes or changes keys.

A record is the key file under a seal that a passphrase and a name, or a recovery key, can open
(``article/key_record.py``). A Message-ID is taken once, so what replaces a record is its next
generation; the newest generation counts. Each is posted in :data:`COPIES` copies.

It must not know what is done with the keys.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import trio
from tenacity import AsyncRetrying

from usenetfs.article.key_record import KeyRecordLocator, build_key_record, open_key_record
from usenetfs.article.seal import new_salt
from usenetfs.article.wire import OutgoingArticle
from usenetfs.checkpoint.articles import ArticleSource, nobody_else
from usenetfs.checkpoint.search import find_end
from usenetfs.errors import (
    ArticleMissingError,
    DataUnavailableError,
    DuplicateArticleError,
    IntegrityError,
    NetworkError,
    NoHealthyServersError,
    PostInDoubtError,
)
from usenetfs.net.providers import FetchedBody, PostResult
from usenetfs.net.retry import RetryManager, StopAt
from usenetfs.types import Lane, MessageId

log = logging.getLogger("usenetfs.checkpoint")

COPIES: Final = 2
MAX_GENERATIONS: Final = 1 << 20

FIRST_LOOK: Final = 0.2
LONGEST_WAIT: Final = 10.0
"""Seconds between looks for a record that was just posted."""


class RecordTarget(ArticleSource, Protocol):
    """What is needed of ``net.ProviderSet``."""

    async def post(self, article: OutgoingArticle, *, lane: Lane = Lane.UPLOAD) -> PostResult: ...


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A key file from a server, not unlocked yet."""

    generation: int
    key_file: bytes


class KeyRecords:
    """``patience``: seconds to go on while no server can be reached, or an article not seen."""

    def __init__(
        self,
        target: RecordTarget,
        *,
        retries: RetryManager,
        patience: float,
        lane: Lane = Lane.METADATA,
    ) -> None:
        self._target = target
        self._lane = lane
        self._retries = retries
        self._patience = patience

    # --- finding

    async def find(self, locator: KeyRecordLocator) -> FoundRecord | None:
        """The newest key file that a locator leads to; None if there is none.

        DataUnavailableError if there are some and none can be read.
        """
        newest = await self.newest(locator)
        reasons: list[str] = []
        for generation in range(-1 if newest is None else newest, -1, -1):
            for copy in range(COPIES):
                try:
                    return await self._read(locator, generation, copy)
                except (ArticleMissingError, IntegrityError) as error:
                    reasons.append(error.message)
        if newest is None:
            return None
        raise DataUnavailableError(
            f"the key record is there and cannot be read: {reasons[0]}",
            hint="try again later, or with another server",
        )

    async def newest(self, locator: KeyRecordLocator) -> int | None:
        """The newest generation that is there."""

        async def there(generation: int) -> bool:
            if generation >= MAX_GENERATIONS:
                return False
            for copy in range(COPIES):
                if await self._exists(locator.message_id(generation, copy)):
                    return True
            return False

        return await find_end(there)

    async def _read(self, locator: KeyRecordLocator, generation: int, copy: int) -> FoundRecord:
        """From the first server whose article opens; IntegrityError if none does."""
        wrong: dict[str, IntegrityError] = {}
        while True:
            try:
                body = await self._fetch(locator.message_id(generation, copy), wrong)
            except (ArticleMissingError, NoHealthyServersError) as error:
                if wrong and (isinstance(error, ArticleMissingError) or nobody_else(error, wrong)):
                    raise list(wrong.values())[-1] from error
                raise
            try:
                key_file = open_key_record(locator, body.data, generation=generation)
            except IntegrityError as error:
                wrong[body.server] = error
                continue
            return FoundRecord(generation, key_file)

    async def _fetch(self, message_id: MessageId, wrong: Collection[str]) -> FetchedBody:
        async for attempt in self._retrying("fetch", wrong):
            with attempt:
                return await self._target.fetch(
                    message_id, lane=self._lane, exclude=frozenset(wrong), fresh=True
                )
        raise AssertionError("retrying ends with a result or an error")

    async def _exists(self, message_id: MessageId) -> bool:
        async for attempt in self._retrying("stat"):
            with attempt:
                return await self._target.stat(message_id, lane=self._lane) is not None
        raise AssertionError("retrying ends with a result or an error")

    # --- posting

    async def publish(
        self, locator: KeyRecordLocator, key_file: bytes, *, groups: Sequence[str]
    ) -> int:
        """Post ``key_file`` as the next generation; which one, once all copies are seen.

        A generation that is taken (a lost record whose id the servers remember, or another
        machine's just now) is passed over.
        """
        newest = await self.newest(locator)
        generation = 0 if newest is None else newest + 1
        while not await self._post(locator, key_file, generation, 0, groups):
            generation += 1
        for copy in range(1, COPIES):
            await self._post(locator, key_file, generation, copy, groups)
        return generation

    async def _post(
        self,
        locator: KeyRecordLocator,
        key_file: bytes,
        generation: int,
        copy: int,
        groups: Sequence[str],
    ) -> bool:
        """Post one copy until it is seen; False if its id is taken."""
        outgoing = build_key_record(
            locator,
            key_file,
            generation=generation,
            copy=copy,
            salt=new_salt(),
            randomness=secrets.token_bytes(4),
            groups=groups,
            date=datetime.now(UTC),
        )
        in_doubt = False
        async for attempt in self._retrying("post"):
            with attempt:
                try:
                    await self._target.post(outgoing, lane=self._lane)
                except PostInDoubtError:
                    in_doubt = True  # RFC 3977 §6.3.1: again under the same Message-ID
                    raise
                except DuplicateArticleError:
                    if not in_doubt:
                        return False
        await self._see(outgoing.message_id)
        return True

    async def _see(self, message_id: MessageId) -> None:
        wait = FIRST_LOOK
        with trio.move_on_after(self._patience):
            while not await self._exists(message_id):
                await trio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            return
        raise NetworkError(
            "the servers took the key record, and it does not appear",
            hint="try again later: the present keys are as good as before",
        )

    def _retrying(self, kind: str, wrong: Collection[str] = ()) -> AsyncRetrying:
        return self._retries.retrying(
            kind,
            may_retry=lambda error: (
                isinstance(error, NetworkError | PostInDoubtError)
                and error.recoverable
                and not nobody_else(error, wrong)
            ),
            stop=StopAt(trio.current_time() + self._patience),
        )
