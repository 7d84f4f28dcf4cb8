"""The documents of a checkpoint on their way: written to spools, cut in pieces, posted, seen.

:class:`DocumentSender` owns the numbers of the pieces: they are stored and synced before anything
is sent under them, so that no two contents ever share one. What a crash leaves of a document is
articles that nobody names; the next attempt takes other numbers.

It must not know what a checkpoint says, or when one is made (``publish``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import trio

from usenetfs.article.container import Kind
from usenetfs.checkpoint.compose import CUMULATIVE_LIMIT, Document, earlier_changes
from usenetfs.checkpoint.documents import build_piece
from usenetfs.checkpoint.draft import Draft, Spool, merged
from usenetfs.checkpoint.record import Copies, DocumentRef
from usenetfs.checkpoint.sending import Sender
from usenetfs.checkpoint.together import together
from usenetfs.index.chain import ChainState, Publication
from usenetfs.index.index import Index
from usenetfs.types import ArticleId

MERGED_LIMIT: Final = 2 * 1024 * 1024
"""Octets of changes above which merging them with earlier ones is not tried: it is done in memory,
and hardly anything shrinks to a twentieth."""

SENDERS: Final = 16
"""Pieces on their way at once. Most of the time each waits for its STAT, so these take two or three
connections; with four, a snapshot of a million files took two minutes at 30 ms."""


class DocumentSender:
    """See the module. ``spool``: a directory for temporary files."""

    def __init__(
        self, index: Index, sender: Sender, *, hash_key: bytes, spool: Path, piece_size: int
    ) -> None:
        self._index = index
        self._sender = sender
        self._hash_key = hash_key
        self._spool = spool
        self._piece_size = piece_size

    def __repr__(self) -> str:
        return f"<DocumentSender {self._spool} piece_size={self._piece_size}>"

    def new_spool(self) -> Spool:
        """An empty one, to be closed by the caller. DiskFullError, LocalStorageError."""
        return Spool(self._spool, self._piece_size)

    def changeset(
        self, state: ChainState, last: Publication | None, draft: Draft
    ) -> tuple[Spool | None, int | None]:
        """The changeset and its base, going on from checkpoint ``last``. Blocks: for a thread."""
        if last is None or last.number != state.number or not draft.published:
            return None, None
        earlier = earlier_changes(state, last) if draft.published.size <= MERGED_LIMIT else None
        if earlier is not None:
            spool = self._compressed([merged([earlier], draft.published.whole())])
            if spool.stored <= CUMULATIVE_LIMIT:
                return spool, state.base
            spool.close()
        return self._compressed(draft.published), state.number

    def _compressed(self, changes: Iterable[bytes]) -> Spool:
        spool = self.new_spool()
        spool.fill(changes)
        return spool

    async def send(self, document: Document | None, kind: Kind, copies: int) -> DocumentRef | None:
        """Post what does not fit beside the record; returns when all of it is seen."""
        if document is None:
            return None
        if document.inline:
            return document.reference(())
        places = await self._numbers(document.spool.count, copies)
        attempts: dict[ArticleId, int] = {}
        waiting = iter(
            [(number, article) for number, articles in enumerate(places) for article in articles]
        )

        async def send() -> None:
            for number, article in waiting:
                piece = await trio.to_thread.run_sync(document.spool.piece, number)
                plaintext = build_piece(
                    kind,
                    number,
                    piece,
                    hash_key=self._hash_key,
                    randomness=os.urandom(4),
                )
                attempts[article] = await self._sender.send_piece(article, kind, plaintext)

        await together([send] * SENDERS)  # a task a piece would all start in one turn of the loop
        located: list[Copies] = [
            tuple((article, attempts[article]) for article in articles) for articles in places
        ]
        return document.reference(located)

    async def _numbers(self, pieces: int, copies: int) -> list[list[ArticleId]]:
        """Article numbers that are ours alone: stored, and synced, before anything is sent."""
        allocate = self._index.articles.allocate
        places = [[allocate() for _ in range(copies)] for _ in range(pieces)]
        with self._index.transaction():
            self._index.articles.persist_numbering(places[-1][-1])
        await trio.to_thread.run_sync(self._index.sync)
        return places


async def give_back(made: Spool | Draft) -> None:
    """Close it: giving a large file back takes the disk tens of milliseconds."""
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(made.close)
