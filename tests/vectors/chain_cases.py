"""The cases behind ``chain.json``: records, changesets, digests, and the articles they lie in.

What the format determines must come out the same for ever (:func:`computed`); compressed documents
are made once, and later versions must only read them (:func:`decode_only`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tests.vectors.cases import FILESYSTEM_ID, MASTER, SALT
from usenetfs.article.container import Kind
from usenetfs.article.keys import KeySet
from usenetfs.article.seal import seal
from usenetfs.checkpoint.changeset import UNCHANGED, Change, Operation, Table, encode_changes
from usenetfs.checkpoint.digest import RowDigest, digest_bytes
from usenetfs.checkpoint.documents import build_piece, compress_whole
from usenetfs.checkpoint.record import Counters, DocumentRef, Record, build_checkpoint
from usenetfs.types import article_id

VECTORS: Final = Path(__file__).with_name("chain.json")

INODES: Final = Table("inodes", (1, 0, 0, 0, 0, 0, 0, 0, 0, 0))
DIRENTS: Final = Table("dirents", (1, 2, 0, 0))
META: Final = Table("meta", (1, 0))
NONSENSE: Final = Table("größe", (0, 2, 1))

ROOT: Final = (1, 0o040755, 1000, 1000, 0, 0, 0, 1, 2, 3)
FILE: Final = (2, 0o100644, 1000, 1000, 1, 300, 0, -1, 2**62, 1_790_000_000_123_456_789)

CHANGES: Final = (
    Change(META, Operation.INSERT, None, ("name", "nämlich")),
    Change(META, Operation.INSERT, None, ("filesystem_id", FILESYSTEM_ID)),
    Change(INODES, Operation.INSERT, None, ROOT),
    Change(INODES, Operation.INSERT, None, FILE),
    Change(
        INODES,
        Operation.UPDATE,
        (3, *[UNCHANGED] * 4, 10, *[UNCHANGED] * 4),
        (*[UNCHANGED] * 5, 20, *[UNCHANGED] * 4),
    ),
    Change(DIRENTS, Operation.DELETE, (1, 2**61 + 5, b"gone\xff", 3), None),
    Change(NONSENSE, Operation.INSERT, None, (1.5, "x" * 200, None), indirect=True),
)


def load() -> dict[str, Any]:
    """The committed vectors."""
    vectors: dict[str, Any] = json.loads(VECTORS.read_text("ascii"))
    return vectors


def changeset() -> bytes:
    return b"".join(encode_changes(CHANGES))


def record(stored: int) -> Record:
    """Checkpoint 5, whose changeset of ``stored`` bytes is inline and whose snapshot is not."""
    raw = changeset()
    return Record(
        number=5,
        writer=bytes(range(8)),
        epoch=2,
        schema=2,
        time=1_790_000_000,
        previous=bytes(range(32)),
        base=3,
        changeset=DocumentRef(len(raw), bytes(range(32, 64)), stored, inline=True),
        snapshot=DocumentRef(
            size=1_000_000,
            sha256=bytes(range(64, 96)),
            stored=800_000,
            inline=False,
            articles=(
                ((article_id(2, 7), 0), (article_id(2, 8), 1)),
                ((article_id(2, 9), 0), (article_id(2, 10), 0)),
            ),
        ),
        digest=bytes(range(96, 128)),
        counters=Counters(files=1, directories=1, bytes=300, articles=4, held=0),
        next_article=11,
    )


def computed() -> dict[str, Any]:
    """Everything whose bytes the format determines, in hexadecimal."""
    keys = KeySet.from_master(MASTER, FILESYSTEM_ID)
    stored = b"a stored document, as far as this container is concerned"
    container = build_checkpoint(
        record(len(stored)), changeset=stored, hash_key=keys.hash_key, randomness=bytes(4)
    )
    digest = RowDigest(keys.digest_key)
    total = digest.row("inodes", ROOT) + digest.row("inodes", FILE)
    return {
        "changeset": changeset().hex(),
        "record": record(len(stored)).to_bytes().decode("ascii"),
        "record_sha256": record(len(stored)).sha256.hex(),
        "checkpoint_container": container.hex(),
        "checkpoint_sealed": seal(
            keys.data_key, FILESYSTEM_ID, article_id(0, 5), Kind.CHECKPOINT, SALT, container
        ).hex(),
        "piece_container": build_piece(
            Kind.SNAPSHOT, 3, stored, hash_key=keys.hash_key, randomness=bytes(4)
        ).hex(),
        "row_digests": {
            "root": digest_bytes(digest.row("inodes", ROOT)).hex(),
            "both": digest_bytes(total).hex(),
        },
    }


def decode_only() -> dict[str, Any]:
    """What a compressor made of the changeset."""
    return {"document": compress_whole(changeset()).hex()}
