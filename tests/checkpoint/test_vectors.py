"""The committed bytes of the chain are still made, and still read."""

from __future__ import annotations

import hashlib

import pytest

from tests.vectors import chain_cases as cases
from tests.vectors.cases import FILESYSTEM_ID, MASTER
from usenetfs.article.container import Kind, unpack
from usenetfs.article.keys import KeySet
from usenetfs.article.seal import open_seal
from usenetfs.checkpoint.changeset import decode_changes
from usenetfs.checkpoint.documents import piece_of, read_document
from usenetfs.checkpoint.record import open_checkpoint
from usenetfs.types import article_id

VECTORS = cases.load()
COMPUTED = cases.computed()


@pytest.mark.parametrize("name", sorted(COMPUTED))
def test_what_the_format_determines_is_made_as_ever(name: str) -> None:
    assert COMPUTED[name] == VECTORS[name]


def test_no_vector_goes_unread() -> None:
    assert set(VECTORS) == {*COMPUTED, "decode_only"}


def test_a_stored_checkpoint_is_read_from_the_vectors_alone() -> None:
    keys = KeySet.from_master(MASTER, FILESYSTEM_ID)
    sealed = bytes.fromhex(VECTORS["checkpoint_sealed"])
    container = unpack(
        open_seal(keys.data_key, FILESYSTEM_ID, article_id(0, 5), Kind.CHECKPOINT, sealed)
    )
    opened = open_checkpoint(container, number=5)
    assert opened.record.to_bytes().decode("ascii") == VECTORS["record"]
    assert opened.record.sha256.hex() == VECTORS["record_sha256"]
    assert opened.changeset is not None
    assert opened.snapshot is None
    piece = unpack(bytes.fromhex(VECTORS["piece_container"]))
    assert piece_of(piece, Kind.SNAPSHOT, 3) == opened.changeset


def test_a_stored_changeset_is_read() -> None:
    raw = bytes.fromhex(VECTORS["changeset"])
    stored = bytes.fromhex(VECTORS["decode_only"]["document"])
    digest = hashlib.sha256(raw).digest()
    assert b"".join(read_document([stored], size=len(raw), sha256=digest)) == raw
    assert tuple(decode_changes([raw])) == cases.CHANGES
