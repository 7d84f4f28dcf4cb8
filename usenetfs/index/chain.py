"""Where the chain of checkpoints stands, as this machine knows it.

Owns ``local_chain``, ``local_held`` and ``local_publication``. A checkpoint has a row in
``local_publication`` from before the first byte of its record is sent; with that row a crash goes
on with the same bytes::

    begin → SENDING ── set_posted → POSTED ── finish → DONE (the last checkpoint)

:meth:`ChainTable.finish` is one transaction: from then on the chain's state is the new one. The row
of the last checkpoint stays, because its record may be posted again later.

Changes held back from a checkpoint may be many, so they are written in pieces beforehand, each in a
transaction of its own; pieces of another checkpoint than the last one are left-overs.

It must not know what is in the pieces, or how a checkpoint is posted.
"""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from usenetfs.index.database import Database

NONE_YET: Final = -1
"""Number of the last checkpoint of a chain that has none."""

SALT_SIZE: Final = 32


class Stage(enum.IntEnum):
    """Of a publication; stored."""

    SENDING = 0
    """Its record may have been sent."""
    POSTED = 1
    """The first copy is on a server, and ours: the number is taken."""
    DONE = 2
    """All copies are seen."""


@dataclass(frozen=True, slots=True)
class ChainState:
    """The last checkpoint known here to be on the servers, and what the next one builds on.

    ``writer``: 8 random bytes, those of whoever writes since the last takeover. ``time``: seconds
    since 1970 UTC. ``cut``: the changelog's ``seq`` up to which its rows are in the checkpoint or
    held back from it. ``held``: how many inodes are. ``base``: the checkpoint from which its
    changeset leads. ``snapshot``: the last checkpoint that has one, ``snapshot_size`` its
    compressed bytes, ``grown`` those of all changesets on the way from there to ``base``, ``tail``
    those of the changeset from ``base``. ``fenced``: why nothing may be published any more, or ''.
    """

    writer: bytes
    number: int = NONE_YET
    record_hash: bytes = b""
    time: int = 0
    digest: bytes = b""
    cut: int = 0
    held: int = 0
    base: int = NONE_YET
    snapshot: int = NONE_YET
    snapshot_size: int = 0
    grown: int = 0
    tail: int = 0
    fenced: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """One row of ``local_publication``; ``after`` is the chain's state once it is done."""

    number: int
    record: bytes
    container: bytes
    salts: tuple[bytes, ...]
    stage: Stage
    after: ChainState


_PUBLICATION: Final = "SELECT number, record, container, salts, stage, after FROM local_publication"


class ChainTable:
    def __init__(self, database: Database) -> None:
        self._database = database

    # --- the last checkpoint

    def state(self) -> ChainState | None:
        """None before the first writer."""
        rows: dict[str, Any] = dict(self._database.rows("SELECT key, value FROM local_chain"))
        known = {field.name for field in fields(ChainState)}
        if "writer" not in rows:
            return None
        return ChainState(**{key: value for key, value in rows.items() if key in known})

    def set_state(self, state: ChainState) -> None:
        """Inside a transaction."""
        self._database.write_many(
            "INSERT INTO local_chain (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            list(asdict(state).items()),
        )

    def start(self, state: ChainState) -> None:
        """A new writer begins with this state; what was under way is forgotten.

        Opens a transaction.
        """
        with self._database.transaction():
            self.set_state(state)
            self._database.write("DELETE FROM local_publication")

    def adopt(self, publication: Publication) -> None:
        """Go on from another writer's checkpoint as from one of our own. Inside a transaction."""
        self.set_state(publication.after)
        self._database.write("DELETE FROM local_publication")
        self._insert(publication)

    def pass_over(self, state: ChainState, number: int) -> ChainState:
        """``number`` can be nobody's any more: the chain goes on behind it, with a snapshot.

        Returns the new state. Opens a transaction.
        """
        passed = replace(state, number=number, snapshot=NONE_YET)
        with self._database.transaction():
            self._database.write("DELETE FROM local_held WHERE number = ?", (number,))
            self._database.write(
                "UPDATE local_held SET number = ? WHERE number = ?", (number, state.number)
            )
            self._database.write("DELETE FROM local_publication WHERE stage < ?", (Stage.DONE,))
            self.set_state(passed)
        return passed

    # --- publications

    def under_way(self) -> Publication | None:
        """The one whose record may have been sent and that is not done."""
        row = self._database.row(f"{_PUBLICATION} WHERE stage < ?", (Stage.DONE,))
        return None if row is None else _publication(row)

    def last(self) -> Publication | None:
        """The last one that is done, if it was done here."""
        row = self._database.row(f"{_PUBLICATION} WHERE stage = ?", (Stage.DONE,))
        return None if row is None else _publication(row)

    def begin(self, publication: Publication) -> None:
        """From now on its record may be on its way. Opens a transaction."""
        with self._database.transaction():
            self._insert(replace(publication, stage=Stage.SENDING))

    def _insert(self, publication: Publication) -> None:
        self._database.write(
            "INSERT INTO local_publication (number, record, container, salts, stage, after)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                publication.number,
                publication.record,
                publication.container,
                b"".join(publication.salts),
                publication.stage,
                _to_json(publication.after),
            ),
        )

    def set_posted(self, number: int) -> None:
        """Its first copy is on a server. Opens a transaction."""
        self._set_stage(number, Stage.POSTED)

    def _set_stage(self, number: int, stage: Stage) -> None:
        with self._database.transaction():
            self._database.write(
                "UPDATE local_publication SET stage = ? WHERE number = ?", (stage, number)
            )

    def finish(self, publication: Publication) -> None:
        """It is the last checkpoint now. Opens a transaction."""
        with self._database.transaction():
            self.set_state(publication.after)
            self._database.write(
                "DELETE FROM local_publication WHERE number <> ?", (publication.number,)
            )
            self._database.write(
                "UPDATE local_publication SET stage = ? WHERE number = ?",
                (Stage.DONE, publication.number),
            )

    # --- what was held back

    def store_held(self, number: int, part: int, data: bytes) -> None:
        """One piece. Opens a transaction."""
        with self._database.transaction():
            self._database.write(
                "INSERT INTO local_held (number, part, data) VALUES (?, ?, ?)"
                " ON CONFLICT (number, part) DO UPDATE SET data = excluded.data",
                (number, part, data),
            )

    def drop_held(self, keep: int, limit: int = 8) -> int:
        """Delete up to ``limit`` pieces of other checkpoints than ``keep``; how many.

        Opens a transaction if there are any.
        """
        found = self._database.rows(
            "SELECT number, part FROM local_held WHERE number <> ? LIMIT ?", (keep, limit)
        )
        if found:
            with self._database.transaction():
                self._database.write_many(
                    "DELETE FROM local_held WHERE number = ? AND part = ?", found
                )
        return len(found)


def _publication(row: tuple[Any, ...]) -> Publication:
    number, record, container, salts, stage, after = row
    return Publication(
        number,
        record,
        container,
        tuple(salts[at : at + SALT_SIZE] for at in range(0, len(salts), SALT_SIZE)),
        Stage(stage),
        _from_json(after),
    )


def _to_json(state: ChainState) -> str:
    values: dict[str, Any] = asdict(state)
    return json.dumps(
        {key: value.hex() if isinstance(value, bytes) else value for key, value in values.items()}
    )


def _from_json(text: str) -> ChainState:
    values: dict[str, Any] = json.loads(text)
    for key in ("writer", "record_hash", "digest"):
        values[key] = bytes.fromhex(values[key])
    return ChainState(**values)
