"""The gate that posts pass, so that they keep to the limits of ``limits.py``.

:class:`LimitedPosts` stands between the poster and the servers and looks like them; nothing else is
held up by it, neither reading nor the checks of what was posted. Limits may change at any time and
hold from that moment, also for what is waiting.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Final

import trio

from usenetfs.article.wire import OutgoingArticle
from usenetfs.net.providers import FetchedBody, PostResult
from usenetfs.transfer.pulse import Pulse
from usenetfs.transfer.upload.limits import TokenBucket, UploadLimits
from usenetfs.transfer.upload.poster import PostTarget
from usenetfs.types import Lane, MessageId

LOOK: Final = 20.0
"""Seconds between two looks at the clock while waiting: quiet hours begin and end."""


def local_time() -> datetime.time:
    """The time of day here."""
    return datetime.datetime.now().astimezone().time()


class LimitedPosts:
    """A post target that keeps to limits; first come, first served."""

    def __init__(
        self,
        target: PostTarget,
        limits: UploadLimits,
        *,
        time_of_day: Callable[[], datetime.time] = local_time,
    ) -> None:
        self._target = target
        self._time_of_day = time_of_day
        self._bucket: TokenBucket | None = None
        self._turn = trio.Lock()
        self._changed = Pulse()
        self.limits = limits

    def __repr__(self) -> str:
        return f"<LimitedPosts {self.limits} {self._bucket!r}>"

    @property
    def rate(self) -> int | None:
        """Octets a second that may leave at this time of day."""
        return self.limits.rate_at(self._time_of_day())

    def set_limits(self, limits: UploadLimits) -> None:
        """From now on."""
        self.limits = limits
        self._changed.fire()

    async def post(self, article: OutgoingArticle, *, lane: Lane = Lane.UPLOAD) -> PostResult:
        await self._wait_for_turn(len(article.wire))
        return await self._target.post(article, lane=lane)

    async def fetch(self, message_id: MessageId, *, lane: Lane, fresh: bool = False) -> FetchedBody:
        return await self._target.fetch(message_id, lane=lane, fresh=fresh)

    async def _wait_for_turn(self, octets: int) -> None:
        async with self._turn:
            while True:
                now, rate = trio.current_time(), self.rate
                if self._bucket is None:
                    self._bucket = TokenBucket(rate, now)
                self._bucket.set_rate(rate, now)
                wait = self._bucket.ready_in(now)
                if wait <= 0:
                    self._bucket.take(octets, now)
                    return
                await self._changed.wait_at_most(min(wait, LOOK))
