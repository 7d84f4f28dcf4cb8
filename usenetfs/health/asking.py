"""One article, asked of every spool: is it there, or (fetched whole) is it what it should be?

Servers of one storage group read one spool, so one of them speaks for all. A spool that cannot be
asked is tried again for as long as :class:`Asker` has patience, once for each outage and not for
each article; after that its answer is that it was not asked. An answer is never guessed: what was
remembered of an article that was missing does not count here.

Everything goes in one lane, the last one unless said otherwise, so nobody is held up by it.

It does not know what the answers mean for the article (``verdict``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from collections.abc import Set as AbstractSet
from typing import Final, Protocol, TypeVar

import trio

from usenetfs.errors import ArticleMissingError, IntegrityError, NetworkError, UsenetfsError
from usenetfs.health.verdict import Answer, Answers, Said
from usenetfs.net.providers import FetchedBody
from usenetfs.types import Lane, MessageId

T = TypeVar("T")

PAUSE: Final = 0.5
"""Seconds between two tries while a spool cannot be asked."""

_SHARE: Final = "verify"


class Source(Protocol):
    """What is needed of ``net.ProviderSet``."""

    def storage_groups(self) -> dict[str, frozenset[str]]: ...

    async def stat(
        self, message_id: MessageId, *, lane: Lane, exclude: AbstractSet[str] = frozenset()
    ) -> str | None: ...

    async def fetch(
        self,
        message_id: MessageId,
        *,
        lane: Lane,
        exclude: AbstractSet[str] = frozenset(),
        fresh: bool = False,
        share: Hashable = None,
    ) -> FetchedBody: ...


class Asker:
    """``patience``: seconds that a spool may be out of reach before it counts as not asked."""

    def __init__(self, source: Source, *, patience: float = 10.0, lane: Lane = Lane.VERIFY) -> None:
        self._source = source
        self._patience = patience
        self._lane = lane
        self._heard: dict[str, float] = {}
        """Spool → when it last answered, or was first asked."""

    def __repr__(self) -> str:
        return f"<Asker of {len(self._heard)} spools>"

    async def stat(self, message_id: MessageId) -> Answers:
        """Whether each spool says that it has the article."""
        groups = self._source.storage_groups()
        return {spool: await self._stat(message_id, spool, groups) for spool in groups}

    async def read(
        self, message_id: MessageId, open_body: Callable[[bytearray], Awaitable[T]]
    ) -> tuple[Answers, T | None]:
        """The article fetched whole from the first spool that has it so, and what ``open_body``
        made of it; the spools after that one are asked by STAT.

        ``open_body`` raises IntegrityError for what is not the article.
        """
        groups = self._source.storage_groups()
        answers: dict[str, Answer] = {}
        opened: T | None = None

        async def fetch(exclude: AbstractSet[str]) -> Answer:
            nonlocal opened
            try:
                body = await self._source.fetch(
                    message_id, lane=self._lane, exclude=exclude, fresh=True, share=_SHARE
                )
                opened = await open_body(body.data)
            except IntegrityError as error:
                return Answer(Said.DAMAGED, _bare(error))
            return _HAS

        for spool in groups:
            if opened is not None:
                answers[spool] = await self._stat(message_id, spool, groups)
            else:
                answers[spool] = await self._ask(spool, groups, fetch)
        return answers, opened

    async def _stat(
        self, message_id: MessageId, spool: str, groups: dict[str, frozenset[str]]
    ) -> Answer:
        async def stat(exclude: AbstractSet[str]) -> Answer:
            server = await self._source.stat(message_id, lane=self._lane, exclude=exclude)
            return _missing(spool) if server is None else _HAS

        return await self._ask(spool, groups, stat)

    async def _ask(
        self,
        spool: str,
        groups: dict[str, frozenset[str]],
        ask: Callable[[AbstractSet[str]], Awaitable[Answer]],
    ) -> Answer:
        """What one spool says; the servers of all others are left out."""
        others = frozenset().union(*(names for other, names in groups.items() if other != spool))
        self._heard.setdefault(spool, trio.current_time())
        while True:
            try:
                answer = await ask(others)
            except ArticleMissingError:
                answer = _missing(spool)
            except NetworkError as error:
                if trio.current_time() - self._heard[spool] >= self._patience:
                    return Answer(Said.UNASKED, _why(error, groups[spool]))
                await trio.sleep(PAUSE)
                continue
            self._heard[spool] = trio.current_time()
            return answer


_HAS: Final = Answer(Said.HAS)


def _missing(spool: str) -> Answer:
    return Answer(Said.MISSING, f"{spool} has it not")


def _bare(error: UsenetfsError) -> str:
    """What it says, without the article: that is known, and parts of a file lost for one reason
    are told of as one."""
    return error.message.removeprefix(f"article {error.message_id}: ")


def _why(error: UsenetfsError, names: frozenset[str]) -> str:
    """What those servers said that were to be asked; not that the others were left out."""
    said = getattr(error, "reasons", {})
    return "; ".join(said[name] for name in sorted(names) if name in said) or _bare(error)
