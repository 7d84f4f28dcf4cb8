"""Derived keys: one purpose, one key."""

from __future__ import annotations

import dataclasses
import hmac

import pytest

from tests.article.examples import FILESYSTEM_ID, KEYS, MASTER
from usenetfs.article.hashing import segment_hash
from usenetfs.article.keys import KeySet, derive_key, generate_master_key


def test_derivation_is_hkdf_sha256_of_rfc_5869() -> None:
    # The extract and expand steps of RFC 5869 §2, written out.
    pseudorandom = hmac.digest(b"salt", b"key", "sha256")
    first = hmac.digest(pseudorandom, b"usenetfs/1 something" + b"\x01", "sha256")
    second = hmac.digest(pseudorandom, first + b"usenetfs/1 something" + b"\x02", "sha256")
    assert derive_key(b"key", "something", salt=b"salt", size=50) == (first + second)[:50]


def test_every_purpose_has_its_own_key() -> None:
    keys = dataclasses.astuple(KEYS)
    assert len({key[:16] for key in keys}) == len(keys)
    assert [len(key) for key in keys] == [32, 32, 32, 32, 32, 32, 16]


def test_keys_depend_on_master_and_filesystem() -> None:
    other_master = KeySet.from_master(bytes(32), FILESYSTEM_ID)
    other_filesystem = KeySet.from_master(MASTER, bytes(16))
    for ours, *others in zip(
        *map(dataclasses.astuple, (KEYS, other_master, other_filesystem)), strict=True
    ):
        assert ours not in others
    assert KeySet.from_master(MASTER, FILESYSTEM_ID) == KEYS


def test_repr_shows_no_key() -> None:
    assert repr(KEYS) == "KeySet()"


def test_new_master_keys_differ() -> None:
    one, two = generate_master_key(), generate_master_key()
    assert len(one) == len(two) == 32
    assert one != two


@pytest.mark.parametrize(("master", "filesystem_id"), [(bytes(31), bytes(16)), (MASTER, bytes(15))])
def test_wrong_sizes_are_refused(master: bytes, filesystem_id: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        KeySet.from_master(master, filesystem_id)


def test_segment_hash_is_keyed_and_takes_any_buffer() -> None:
    data = b"some block"
    expected = hmac.digest(KEYS.hash_key, data, "sha256")[:16]
    assert segment_hash(KEYS.hash_key, data) == expected
    assert segment_hash(KEYS.hash_key, bytearray(data)) == expected
    assert segment_hash(KEYS.hash_key, memoryview(b"x" + data)[1:]) == expected
    assert segment_hash(KEYS.chain_key, data) != expected
