"""How a new writer goes on from a checkpoint of another.

Where the chain is whole up to its newest checkpoint, the new writer goes on as the old one would
have: the state and the last publication are put together from what the servers gave, and the first
checkpoint of the new writer carries a short changeset. Where something was lost, it starts anew
behind the newest number, and its first checkpoint has a snapshot: whatever else was lost then no
longer matters.

Pure. It must not know how a state was rebuilt, or who takes over.
"""

from __future__ import annotations

from usenetfs.article.seal import new_salt
from usenetfs.checkpoint.chain import Part, Route
from usenetfs.checkpoint.record import Record
from usenetfs.index.chain import ChainState, Publication, Stage

COPIES = 2
"""Copies that the old writer's last record is taken to have: further ones come after these."""


def start_anew(record: Record, newest: int, *, writer: bytes) -> ChainState:
    """Behind ``newest``, with a snapshot."""
    return ChainState(writer=writer, number=newest, record_hash=record.sha256, time=record.time)


def go_on(route: Route, container: bytes, *, writer: bytes, cut: int) -> Publication:
    """The route's target as the publication to go on from; its state is ``after``.

    ``container``: the record's article, opened. ``cut``: the changelog's newest ``seq``.
    """
    record = route.target
    first, *changes = route.steps
    if first.part is not Part.SNAPSHOT:
        raise ValueError("a route to take over from begins with a snapshot")
    sizes = [step.reference.stored for step in changes]
    base = changes[-1].checkpoint.record.base if changes else record.number
    assert base is not None
    state = ChainState(
        writer=writer,
        number=record.number,
        record_hash=record.sha256,
        time=record.time,
        digest=record.digest,
        cut=cut,
        base=base,
        snapshot=first.number,
        snapshot_size=first.reference.stored,
        grown=sum(sizes[:-1]),
        tail=sizes[-1] if sizes else 0,
    )
    salts = tuple(new_salt() for _ in range(COPIES))
    return Publication(record.number, record.to_bytes(), container, salts, Stage.DONE, state)
