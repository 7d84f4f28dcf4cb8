"""From a draft to a record: which documents a checkpoint carries, and where they go.

Pure decisions and conversions between what the index keeps (:class:`ChainState`) and what a
checkpoint says (:class:`Record`):

- the changeset leads from the last checkpoint with a snapshot, or from a later *base*, so that the
  records in between need not be readable; when it outgrows :data:`CUMULATIVE_LIMIT`, the
  checkpoint before becomes the base, and others depend on that one from then on;
- there is a snapshot when the changesets since the last one outgrow half of it (and
  :data:`SNAPSHOT_WORTH`), and whenever there is no digest to go on from: in the first checkpoint,
  and in the first one of a new writer that did not find the chain whole.

It must not know SQLite, time, or the network.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from usenetfs.article.container import unpack
from usenetfs.checkpoint.documents import INLINE_LIMIT, read_document
from usenetfs.checkpoint.draft import Draft, Spool
from usenetfs.checkpoint.record import (
    Copies,
    DocumentRef,
    Record,
    build_checkpoint,
    open_checkpoint,
)
from usenetfs.index.chain import NONE_YET, ChainState, Publication

CUMULATIVE_LIMIT: Final = 96 * 1024
"""Compressed bytes up to which a changeset goes on from the same base."""

SNAPSHOT_WORTH: Final = 1 << 20
"""Compressed bytes of changesets below which a new snapshot does not pay."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document that is to be sent: in its pieces, or inline."""

    spool: Spool
    inline: bool

    @classmethod
    def of(cls, spool: Spool) -> Document:
        return cls(spool, spool.stored <= INLINE_LIMIT)

    def reference(self, articles: Sequence[Copies]) -> DocumentRef:
        """What the record says of it."""
        spool = self.spool
        return DocumentRef(spool.size, spool.sha256, spool.stored, self.inline, tuple(articles))

    def inline_bytes(self) -> bytes | None:
        return self.spool.whole() if self.inline else None


def wants_snapshot(state: ChainState) -> bool:
    """Whether the next checkpoint is to have one."""
    if not state.digest or state.snapshot == NONE_YET:
        return True
    grown = state.grown + state.tail
    return grown > max(SNAPSHOT_WORTH, state.snapshot_size // 2)


def earlier_changes(state: ChainState, last: Publication | None) -> bytes | None:
    """The last checkpoint's changeset, if the next one may go on from its base."""
    if last is None or last.number != state.number or state.snapshot == state.number:
        return None
    opened = open_checkpoint(unpack(last.container), number=last.number)
    reference, stored = opened.record.changeset, opened.changeset
    if reference is None or stored is None:
        return None
    return b"".join(read_document([stored], size=reference.size, sha256=reference.sha256))


def next_state(
    state: ChainState,
    draft: Draft,
    record: Record,
    *,
    snapshot: Document | None,
    changeset: Document | None,
) -> ChainState:
    """Where the chain stands once ``record`` is published."""
    after = replace(
        state,
        number=record.number,
        record_hash=record.sha256,
        time=record.time,
        digest=draft.digest,
        cut=draft.through,
        held=draft.held_inodes,
    )
    if snapshot is not None:
        return replace(
            after,
            base=record.number,
            snapshot=record.number,
            snapshot_size=snapshot.spool.stored,
            grown=0,
            tail=0,
        )
    assert changeset is not None
    assert record.base is not None
    moved = record.base != state.base and state.snapshot != state.number
    return replace(
        after,
        base=record.base,
        grown=state.grown + (state.tail if moved else 0),
        tail=changeset.spool.stored,
    )


def container_of(
    record: Record, changeset: Document | None, snapshot: Document | None, hash_key: bytes
) -> bytes:
    """What is sealed; its padding is drawn here, once."""
    return build_checkpoint(
        record,
        changeset=None if changeset is None else changeset.inline_bytes(),
        snapshot=None if snapshot is None else snapshot.inline_bytes(),
        hash_key=hash_key,
        randomness=os.urandom(4),
    )
