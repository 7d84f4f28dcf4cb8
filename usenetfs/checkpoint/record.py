"""What a checkpoint says: its record, and how it lies in the checkpoint's article.

The record is canonical JSON (sorted keys, no white space, ASCII), so that the same values are the
same bytes, and the hash by which the next record names this one is of just these bytes. Reading is
strict: every key must be there, no other, each of its type and within its limits; what was read is
encoded again and must give the same bytes. RecordError otherwise.

In the article's container the record is member 0; documents that travel inside follow, the
changeset before the snapshot.

Pure. Must not know: when a checkpoint is made, what its numbers mean to an index.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

from usenetfs.article.container import Container, Kind, choose_padding, container_size, pack
from usenetfs.checkpoint.documents import document_member
from usenetfs.errors import RecordError
from usenetfs.types import ARTICLE_NUMBER_BITS, ArticleId, Codec

VERSION: Final = 1
MAX_SIZE: Final = 900_000
"""Bytes of a record; as many as an article carries."""

MAX_NUMBER: Final = (1 << 63) - 1
_MAX_EPOCH: Final = (1 << 23) - 1
_MAX_ATTEMPT: Final = (1 << 32) - 1

WRITER_SIZE: Final = 8
DIGEST_SIZE: Final = 32

Copies = tuple[tuple[ArticleId, int], ...]
"""Where one piece is: ``(article, attempt)`` of each of its copies."""


@dataclass(frozen=True, slots=True)
class DocumentRef:
    """A document that a checkpoint carries or names.

    ``size`` and ``sha256`` of the raw bytes, ``stored`` bytes compressed. Inline: no ``articles``.
    """

    size: int
    sha256: bytes
    stored: int
    inline: bool
    articles: tuple[Copies, ...] = ()


@dataclass(frozen=True, slots=True)
class Counters:
    """What is in the filesystem at a checkpoint, for lists and for questions before a recovery.

    ``held``: inodes whose newest changes are not in it yet.
    """

    files: int
    directories: int
    bytes: int
    articles: int
    held: int


@dataclass(frozen=True)
class Record:
    """One checkpoint. ``time`` in seconds since 1970 UTC; ``previous``: SHA-256 of the record
    before, None in the first; ``base``: the checkpoint from which ``changeset`` leads here."""

    number: int
    writer: bytes
    epoch: int
    schema: int
    time: int
    previous: bytes | None
    base: int | None
    changeset: DocumentRef | None
    snapshot: DocumentRef | None
    digest: bytes
    counters: Counters
    next_article: int

    def to_bytes(self) -> bytes:
        """The canonical form."""
        return self._encoded

    @cached_property
    def _encoded(self) -> bytes:
        return _canonical(
            {
                "version": VERSION,
                "number": self.number,
                "writer": self.writer.hex(),
                "epoch": self.epoch,
                "schema": self.schema,
                "time": self.time,
                "previous": None if self.previous is None else self.previous.hex(),
                "base": self.base,
                "changeset": _document_json(self.changeset),
                "snapshot": _document_json(self.snapshot),
                "digest": self.digest.hex(),
                "counters": asdict(self.counters),
                "next_article": self.next_article,
            }
        )

    @property
    def sha256(self) -> bytes:
        """What the next record's ``previous`` says."""
        return hashlib.sha256(self._encoded).digest()

    @classmethod
    def from_bytes(cls, content: bytes | memoryview) -> Record:
        """Parse. RecordError for anything but a record in canonical form."""
        content = bytes(content)
        if len(content) > MAX_SIZE:
            raise RecordError(f"a checkpoint's record has {len(content)} bytes")
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            raise RecordError("a checkpoint's record is not JSON") from None
        reader = _Reader(document, "record")
        version = reader.integer("version")
        if version != VERSION:
            raise RecordError(
                f"a checkpoint's record has version {version}, this program knows {VERSION}",
                hint="it was written by a newer version: upgrade usenetfs",
            )
        record = cls(
            number=reader.integer("number"),
            writer=reader.octets("writer", WRITER_SIZE),
            epoch=reader.integer("epoch", most=_MAX_EPOCH),
            schema=reader.integer("schema"),
            time=reader.integer("time"),
            previous=reader.optional_octets("previous", 32),
            base=reader.optional_integer("base"),
            changeset=_document(reader.take("changeset")),
            snapshot=_document(reader.take("snapshot")),
            digest=reader.octets("digest", DIGEST_SIZE),
            counters=_counters(reader.take("counters")),
            next_article=reader.integer("next_article", most=1 << ARTICLE_NUMBER_BITS),
        )
        reader.finish()
        _check_sense(record)
        if record.to_bytes() != content:
            raise RecordError("a checkpoint's record is not in its canonical form")
        return record


def _check_sense(record: Record) -> None:
    """What no checkpoint says, whatever its numbers."""
    if (record.number == 0) != (record.previous is None):
        raise RecordError("only the first checkpoint has none before it")
    if (record.base is None) != (record.changeset is None):
        raise RecordError("a changeset leads from somewhere")
    if record.base is not None and record.base >= record.number:
        raise RecordError("a changeset leads forward")
    if record.changeset is None and record.snapshot is None:
        raise RecordError("a checkpoint has a changeset or a snapshot")


# --- in the article ------------------------------------------------------------------------------


def build_checkpoint(
    record: Record,
    *,
    changeset: bytes | None = None,
    snapshot: bytes | None = None,
    hash_key: bytes,
    randomness: bytes,
) -> bytes:
    """The container of a checkpoint's article.

    ``changeset`` and ``snapshot``: the compressed document, exactly where the record says inline.
    ``randomness``: 4 bytes or more, for the padding.
    """
    parts = [record.to_bytes()]
    for reference, stored in ((record.changeset, changeset), (record.snapshot, snapshot)):
        wanted = reference is not None and reference.inline
        if wanted != (stored is not None):
            raise ValueError("the documents given are not those that the record calls inline")
        if stored is not None:
            parts.append(stored)
    members = [
        (document_member(slot, content, hash_key), content) for slot, content in enumerate(parts)
    ]
    size = container_size(len(parts), sum(map(len, parts)))
    return pack(Kind.CHECKPOINT, members, choose_padding(size, randomness))


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A record with the compressed documents that came with it."""

    record: Record
    changeset: bytes | None
    snapshot: bytes | None


def open_checkpoint(container: Container, *, number: int) -> OpenedCheckpoint:
    """What the article of checkpoint ``number`` holds. RecordError if it is something else."""
    if container.kind is not Kind.CHECKPOINT:
        raise RecordError("an article is no checkpoint")
    for slot, member in enumerate(container.members):
        if member.inode or member.block != slot or member.codec is not Codec.NONE:
            raise RecordError("a checkpoint's article is put together in an unknown way")
    record = Record.from_bytes(container.payload(0))
    if record.number != number:
        raise RecordError(f"checkpoint {number} says that it is {record.number}")
    inline: list[bytes | None] = []
    slot = 1
    for reference in (record.changeset, record.snapshot):
        if reference is None or not reference.inline:
            inline.append(None)
            continue
        if slot >= len(container):
            raise RecordError(f"checkpoint {number} lacks a document that it says it has")
        inline.append(bytes(container.payload(slot)))
        if len(container.payload(slot)) != reference.stored:
            raise RecordError(f"checkpoint {number} has a document of another length")
        slot += 1
    if slot != len(container):
        raise RecordError(f"checkpoint {number} has more documents than it says")
    return OpenedCheckpoint(record, inline[0], inline[1])


# --- JSON ----------------------------------------------------------------------------------------


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


def _document_json(reference: DocumentRef | None) -> dict[str, Any] | None:
    if reference is None:
        return None
    return {
        "size": reference.size,
        "sha256": reference.sha256.hex(),
        "stored": reference.stored,
        "inline": reference.inline,
        "articles": [
            [[article, attempt] for article, attempt in copies] for copies in reference.articles
        ],
    }


class _Reader:
    """One object of the document, whose keys are taken one by one."""

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise RecordError(f"a checkpoint's {what} is no object")
        self._value = dict(value)
        self._what = what

    def take(self, key: str) -> Any:
        try:
            return self._value.pop(key)
        except KeyError:
            raise RecordError(f"a checkpoint's {self._what} has no {key!r}") from None

    def integer(self, key: str, *, most: int = MAX_NUMBER) -> int:
        return _integer(self.take(key), key, most)

    def optional_integer(self, key: str) -> int | None:
        value = self.take(key)
        return None if value is None else _integer(value, key, MAX_NUMBER)

    def octets(self, key: str, size: int) -> bytes:
        value = self.take(key)
        try:
            content = bytes.fromhex(value)
        except (TypeError, ValueError):
            raise RecordError(f"a checkpoint's {key} is not hexadecimal") from None
        if len(content) != size:
            raise RecordError(f"a checkpoint's {key} has {len(content)} bytes instead of {size}")
        return content

    def optional_octets(self, key: str, size: int) -> bytes | None:
        if self._value.get(key, "") is None:
            del self._value[key]
            return None
        return self.octets(key, size)

    def boolean(self, key: str) -> bool:
        value = self.take(key)
        if not isinstance(value, bool):
            raise RecordError(f"a checkpoint's {key} is neither true nor false")
        return value

    def finish(self) -> None:
        if self._value:
            raise RecordError(f"a checkpoint's {self._what} has an unknown key")


def _integer(value: Any, what: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise RecordError(f"a checkpoint's {what} is no number from 0 to {most}")
    return value


def _document(value: Any) -> DocumentRef | None:
    if value is None:
        return None
    reader = _Reader(value, "document")
    reference = DocumentRef(
        size=reader.integer("size"),
        sha256=reader.octets("sha256", 32),
        stored=reader.integer("stored"),
        inline=reader.boolean("inline"),
        articles=_pieces(reader.take("articles")),
    )
    reader.finish()
    if reference.inline == bool(reference.articles):
        raise RecordError("a document is either inline or in articles")
    return reference


def _pieces(value: Any) -> tuple[Copies, ...]:
    pieces = []
    for copies in _list(value, "articles"):
        piece = []
        for place in _list(copies, "copies"):
            if len(_list(place, "place")) != 2:
                raise RecordError("a checkpoint's place is no pair of numbers")
            article = _integer(place[0], "article", MAX_NUMBER)
            piece.append((ArticleId(article), _integer(place[1], "attempt", _MAX_ATTEMPT)))
        if not piece:
            raise RecordError("a piece of a document is nowhere")
        pieces.append(tuple(piece))
    return tuple(pieces)


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise RecordError(f"a checkpoint's {what} is no list")
    return value


def _counters(value: Any) -> Counters:
    reader = _Reader(value, "counters")
    counters = Counters(
        files=reader.integer("files"),
        directories=reader.integer("directories"),
        bytes=reader.integer("bytes"),
        articles=reader.integer("articles"),
        held=reader.integer("held"),
    )
    reader.finish()
    return counters
