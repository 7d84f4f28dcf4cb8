"""Checkpoints made without a publisher: the state of an index, written into fake servers.

Deliberately simple and slow: a changeset is the difference of two states held in memory. So what
reads a chain is tested against something that shares only the formats with what writes one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.index.world import rows_of_table
from tests.transfer.world import FILESYSTEM_ID, KEYS, FakeServers
from usenetfs.article.container import Kind
from usenetfs.article.message_ids import chain_message_id, message_id
from usenetfs.article.seal import new_salt, seal
from usenetfs.checkpoint.changeset import (
    UNCHANGED,
    Change,
    Operation,
    Table,
    encode_changes,
)
from usenetfs.checkpoint.digest import RowDigest, digest_bytes
from usenetfs.checkpoint.documents import DocumentBuilder, build_piece
from usenetfs.checkpoint.record import Copies, Counters, DocumentRef, Record, build_checkpoint
from usenetfs.index.index import Index
from usenetfs.index.normal_form import FORMS, normalise
from usenetfs.types import ArticleId, MessageId, article_id

State = dict[str, dict[tuple[Any, ...], tuple[Any, ...]]]
"""By table and primary key, rows in normal form."""

RANDOMNESS = bytes(4)
TABLES = {form.name: Table(form.name, tuple(form.key_flags)) for form in FORMS.values()}


def state_of(index: Index) -> State:
    state: State = {}
    for name, form in FORMS.items():
        columns = ", ".join(column.name for column in form.columns)
        rows = [normalise(name, tuple(row)) for row in rows_of_table(index, name, columns)]
        state[name] = {tuple(row[place] for place in form.key_places): row for row in rows}
    return state


def differences(old: State, new: State) -> Iterator[Change]:
    """The changes that lead from one state to the other."""
    for name, table in TABLES.items():
        before, after = old.get(name, {}), new[name]
        for key in before.keys() - after.keys():
            yield Change(table, Operation.DELETE, before[key], None)
        for key, row in after.items():
            former = before.get(key)
            if former is None:
                yield Change(table, Operation.INSERT, None, row)
            elif former != row:
                yield Change(table, Operation.UPDATE, *_update(table, former, row))


def _update(table: Table, former: Sequence[Any], row: Sequence[Any]) -> tuple[Any, Any]:
    changed = [a != b for a, b in zip(former, row, strict=True)]
    old = tuple(
        value if key or differs else UNCHANGED
        for value, key, differs in zip(former, table.key, changed, strict=True)
    )
    new = tuple(
        value if differs else UNCHANGED for value, differs in zip(row, changed, strict=True)
    )
    return old, new


def digest_of(state: State) -> bytes:
    digest = RowDigest(KEYS.digest_key)
    return digest_bytes(sum(digest.rows(name, rows.values()) for name, rows in state.items()))


@dataclass
class ChainBuilder:
    """Publishes states of one index."""

    servers: FakeServers
    piece_size: int = 20_000
    copies: int = 2
    snapshot_copies: int = 4
    epoch: int = 1
    writer: bytes = b"writer 1"
    states: list[State] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    next_article: int = 1_000_000

    def publish(
        self,
        index: Index,
        *,
        base: int | None = None,
        snapshot: bool = False,
        inline: bool = False,
        **changes: Any,
    ) -> Record:
        """The index as it is, as the next checkpoint. ``base``: the one before unless given."""
        number = len(self.records)
        state = state_of(index)
        parts: dict[str, bytes] = {}
        changeset = None
        if number:
            base = number - 1 if base is None else base
            content = encode_changes(differences(self.states[base], state))
            changeset = self._document(Kind.CHANGESET, content, inline, parts)
        whole = None
        if snapshot or not number:
            whole = self._document(
                Kind.SNAPSHOT, encode_changes(differences({}, state)), inline, parts
            )
        totals = index.inodes.totals()
        values: dict[str, Any] = {
            "number": number,
            "writer": self.writer,
            "epoch": self.epoch,
            "schema": index.identity.schema_version,
            "time": 1_790_000_000 + 60 * number,
            "previous": self.records[-1].sha256 if number else None,
            "base": base,
            "changeset": changeset,
            "snapshot": whole,
            "digest": digest_of(state),
            "counters": Counters(totals.files, totals.directories, totals.bytes, 0, 0),
            "next_article": self.next_article,
        }
        record = Record(**{**values, **changes})
        self.states.append(state)
        self.records.append(record)
        plaintext = build_checkpoint(record, **parts, hash_key=KEYS.hash_key, randomness=RANDOMNESS)
        for copy in range(self.copies):
            wanted = chain_message_id(KEYS.chain_key, number, copy)
            self._post(wanted, article_id(0, number), Kind.CHECKPOINT, plaintext)
        return record

    def _document(
        self, kind: Kind, content: Iterator[bytes], inline: bool, parts: dict[str, bytes]
    ) -> DocumentRef:
        builder = DocumentBuilder(1 << 30 if inline else self.piece_size)
        pieces = [piece for chunk in content for piece in builder.add(chunk)] + builder.finish()
        articles = []
        if inline:
            parts[kind.name.lower()] = b"".join(pieces)
        else:
            articles = [self._piece(kind, number, piece) for number, piece in enumerate(pieces)]
        return DocumentRef(builder.size, builder.sha256, builder.stored, inline, tuple(articles))

    def _piece(self, kind: Kind, number: int, content: bytes) -> Copies:
        plaintext = build_piece(
            kind, number, content, hash_key=KEYS.hash_key, randomness=RANDOMNESS
        )
        copies: list[tuple[ArticleId, int]] = []
        for _ in range(self.snapshot_copies if kind is Kind.SNAPSHOT else self.copies):
            article = article_id(self.epoch, self.next_article)
            self.next_article += 1
            self._post(message_id(KEYS.message_id_key, article, 0), article, kind, plaintext)
            copies.append((article, 0))
        return tuple(copies)

    def _post(self, wanted: MessageId, article: ArticleId, kind: Kind, plaintext: bytes) -> None:
        self.servers.articles[wanted] = seal(
            KEYS.data_key, FILESYSTEM_ID, article, kind, new_salt(), plaintext
        )

    # --- losing what was published

    def ids_of_record(self, number: int) -> list[MessageId]:
        return [chain_message_id(KEYS.chain_key, number, copy) for copy in range(self.copies)]

    def ids_of_document(self, reference: DocumentRef | None) -> list[list[MessageId]]:
        """By piece, of each copy."""
        assert reference is not None
        return [
            [message_id(KEYS.message_id_key, article, attempt) for article, attempt in copies]
            for copies in reference.articles
        ]

    def lose(self, ids: Sequence[MessageId]) -> None:
        for wanted in ids:
            del self.servers.articles[wanted]

    def lose_record(self, number: int) -> None:
        self.lose(self.ids_of_record(number))

    def lose_document(self, reference: DocumentRef | None) -> None:
        """All copies of one piece in the middle."""
        pieces = self.ids_of_document(reference)
        self.lose(pieces[len(pieces) // 2])
