"""Where the chain of checkpoints stands, as this machine knows it.

Owns ``local_chain``, ``local_chain_part`` and ``local_publication``. A checkpoint that is being
published has a row in ``local_publication`` from before the first byte of its record is sent until
everything about it is seen; with that row a crash goes on with the same bytes. When it is done, one
transaction makes it the last one (:meth:`ChainTable.finish`).

What accompanies a checkpoint and may be long (changes held back from it, changes since its base) is
written in pieces beforehand, each in a transaction of its own, so that no transaction is long;
pieces of any other checkpoint than the last one and the one being published are left-overs.

It must not know what is in the pieces, or how a checkpoint is posted.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from usenetfs.errors import DatabaseError
from usenetfs.index.database import Database

PART_SIZE: Final = 512 * 1024
"""Bytes of a piece, about: the write of one takes some 2 ms."""

NONE_YET: Final = -1
"""Number of the last checkpoint of a chain that has none."""


class PartKind(enum.IntEnum):
    """Stored numbers."""

    HELD = 1
    """Changes that are not in the checkpoint yet."""
    MERGED = 2
    """Changes from the checkpoint's base to it."""


@dataclass(frozen=True, slots=True)
class ChainState:
    """The last checkpoint known here to be on the servers, and what the next one builds on.

    ``writer``: 8 random bytes, those of whoever writes since the last takeover. ``cut``: the
    changelog's ``seq`` up to which its rows are in it or held back from it. ``base``: the
    checkpoint from which the stored MERGED changes lead. ``snapshot``: number of the last checkpoint
    with one, ``snapshot_size`` its compressed bytes, ``grown`` those of the changesets since then.
    ``fenced``: why nothing may be published any more, or ''. ``time``: seconds since 1970 UTC.
    """

    writer: bytes
    number: int = NONE_YET
    record_hash: bytes = b""
    time: int = 0
    digest: bytes = b""
    cut: int = 0
    base: int = NONE_YET
    snapshot: int = NONE_YET
    snapshot_size: int = 0
    grown: int = 0
    held: int = 0
    fenced: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """One row of ``local_publication``."""

    number: int
    record: bytes
    container: bytes
    salts: tuple[bytes, ...]
    posted: bool
    after: ChainState


class ChainTable:
    def __init__(self, database: Database) -> None:
        self._database = database

    # --- the last checkpoint

    def state(self) -> ChainState | None:
        """None before the first writer."""
        rows = dict(self._database.rows("SELECT key, value FROM local_chain"))
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

    def set_fenced(self, reason: str) -> None:
        """Nothing may be published from this index any more. Opens a transaction."""
        state = self.state()
        if state is None:
            raise DatabaseError("there is no chain to be fenced off from")
        with self._database.transaction():
            self.set_state(replace(state, fenced=reason))
            self._database.write("DELETE FROM local_publication")

    # --- the one under way

    def publication(self) -> Publication | None:
        row = self._database.row(
            "SELECT number, record, container, salts, posted, after FROM local_publication"
        )
        if row is None:
            return None
        number, record, container, salts, posted, after = row
        return Publication(
            number,
            record,
            container,
            tuple(salts[at : at + 32] for at in range(0, len(salts), 32)),
            bool(posted),
            _from_json(after),
        )

    def begin(self, publication: Publication) -> None:
        """From now on its record may be on its way. Opens a transaction."""
        with self._database.transaction():
            self._database.write(
                "INSERT INTO local_publication (number, record, container, salts, posted, after)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    publication.number,
                    publication.record,
                    publication.container,
                    b"".join(publication.salts),
                    publication.posted,
                    _to_json(publication.after),
                ),
            )

    def set_posted(self, number: int) -> None:
        """Its first copy is on a server. Opens a transaction."""
        with self._database.transaction():
            self._database.write(
                "UPDATE local_publication SET posted = 1 WHERE number = ?", (number,)
            )

    def finish(self, publication: Publication) -> None:
        """It is the last checkpoint now. Opens a transaction."""
        with self._database.transaction():
            self.set_state(publication.after)
            self._database.write("DELETE FROM local_publication")

    # --- pieces

    def store_part(self, kind: PartKind, number: int, part: int, data: bytes) -> None:
        """One piece, in a transaction of its own."""
        with self._database.transaction():
            self._database.write(
                "INSERT INTO local_chain_part (kind, number, part, data) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (kind, number, part) DO UPDATE SET data = excluded.data",
                (kind, number, part, data),
            )

    def drop_parts(self, keep: Iterable[int], limit: int = 8) -> int:
        """Delete up to ``limit`` pieces of other checkpoints than ``keep``; how many there were."""
        wanted = json.dumps(sorted(keep))
        found = self._database.rows(
            "SELECT kind, number, part FROM local_chain_part"
            " WHERE number NOT IN (SELECT value FROM json_each(?)) LIMIT ?",
            (wanted, limit),
        )
        if found:
            with self._database.transaction():
                self._database.write_many(
                    "DELETE FROM local_chain_part WHERE kind = ? AND number = ? AND part = ?",
                    found,
                )
        return len(found)


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
