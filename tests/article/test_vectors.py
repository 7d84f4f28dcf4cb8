"""The committed bytes are still made, and still read."""

from __future__ import annotations

import pytest

from tests.vectors import cases
from usenetfs.article.compression import decompress
from usenetfs.article.container import Kind, unpack
from usenetfs.article.key_file import unlock, unlock_with_recovery_key
from usenetfs.article.keys import KeySet
from usenetfs.article.recovery_key import parse_recovery_key
from usenetfs.article.seal import open_seal
from usenetfs.article.yenc import decode_body
from usenetfs.types import Codec, article_id

VECTORS = cases.load()
COMPUTED = cases.computed()


@pytest.mark.parametrize("name", sorted(COMPUTED))
def test_what_the_format_determines_is_made_as_ever(name: str) -> None:
    assert COMPUTED[name] == VECTORS[name]


def test_no_vector_goes_unread() -> None:
    assert set(VECTORS) == {*COMPUTED, "decode_only", "key_file"}


def test_a_stored_article_is_read_from_the_vectors_alone() -> None:
    inputs = VECTORS["inputs"]
    filesystem_id = bytes.fromhex(inputs["filesystem_id"])
    keys = KeySet.from_master(bytes.fromhex(inputs["master"]), filesystem_id)
    body = decode_body(bytes.fromhex(VECTORS["wire"]).partition(b"\r\n\r\n")[2])
    article = article_id(inputs["epoch"], inputs["number"])
    plaintext = open_seal(keys.data_key, filesystem_id, article, Kind.DATA, body)
    assert plaintext.hex() == VECTORS["container"]
    assert [member.inode for member in unpack(plaintext).members] == [1000, 1001, 1002]


@pytest.mark.parametrize("codec", [Codec.ZSTD, Codec.LZMA, Codec.ZLIB])
def test_stored_segments_are_read(codec: Codec) -> None:
    stored = bytes.fromhex(VECTORS["decode_only"][codec.name])
    raw = bytes.fromhex(VECTORS["inputs"]["raw"])
    assert decompress(codec, stored, len(raw)) == raw


def test_a_stored_key_file_is_read() -> None:
    file = VECTORS["key_file"].encode("ascii")
    master = bytes.fromhex(VECTORS["inputs"]["master"])
    assert unlock(file, "pässword") == master
    assert unlock_with_recovery_key(file, VECTORS["recovery_key"]) == master
    assert parse_recovery_key(VECTORS["recovery_key"]) == master
