"""The seal opens for exactly the article it was made for, unaltered."""

from __future__ import annotations

import hmac
import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from tests.article.examples import ARTICLE, FILESYSTEM_ID, KEYS, MASTER, noise, small_container
from usenetfs.article.container import Kind
from usenetfs.article.keys import KeySet
from usenetfs.article.seal import SEAL_OVERHEAD, new_salt, open_seal, seal
from usenetfs.errors import SealError
from usenetfs.types import article_id

SALT = noise("salt", 32)
PLAINTEXT = small_container()


def sealed_example() -> bytes:
    return seal(KEYS.data_key, FILESYSTEM_ID, ARTICLE, Kind.DATA, SALT, PLAINTEXT)


def test_format_written_out_by_hand() -> None:
    pseudorandom = hmac.digest(SALT, KEYS.data_key, "sha256")
    key = hmac.digest(pseudorandom, b"usenetfs/1 article\x01", "sha256")
    place = bytes([1, 1]) + FILESYSTEM_ID + struct.pack(">IQ", 3, 0x0102030405)
    expected = SALT + AESGCM(key).encrypt(bytes(12), PLAINTEXT, place)
    assert sealed_example() == expected
    assert len(expected) == len(PLAINTEXT) + SEAL_OVERHEAD


@given(
    plaintext=st.binary(max_size=2000),
    kind=st.sampled_from(Kind),
    epoch=st.integers(0, 2**23 - 1),
    number=st.integers(0, 2**40 - 1),
)
def test_round_trip(plaintext: bytes, kind: Kind, epoch: int, number: int) -> None:
    article = article_id(epoch, number)
    body = seal(KEYS.data_key, FILESYSTEM_ID, article, kind, new_salt(), plaintext)
    for form in (body, bytearray(body), memoryview(body)):
        assert open_seal(KEYS.data_key, FILESYSTEM_ID, article, kind, form) == plaintext


def test_every_single_bit_flip_is_found() -> None:
    body = sealed_example()
    for position in range(len(body) * 8):
        altered = bytearray(body)
        altered[position // 8] ^= 1 << position % 8
        with pytest.raises(SealError):
            open_seal(KEYS.data_key, FILESYSTEM_ID, ARTICLE, Kind.DATA, altered)


def test_every_truncation_and_any_extension_is_found() -> None:
    body = sealed_example()
    for altered in (*(body[:length] for length in range(len(body))), body + b"\0"):
        with pytest.raises(SealError):
            open_seal(KEYS.data_key, FILESYSTEM_ID, ARTICLE, Kind.DATA, altered)


@pytest.mark.parametrize(
    ("key", "filesystem_id", "article", "kind"),
    [
        (KeySet.from_master(bytes(32), FILESYSTEM_ID).data_key, FILESYSTEM_ID, ARTICLE, Kind.DATA),
        (KeySet.from_master(MASTER, bytes(16)).data_key, FILESYSTEM_ID, ARTICLE, Kind.DATA),
        (KEYS.hash_key, FILESYSTEM_ID, ARTICLE, Kind.DATA),
        (KEYS.data_key, bytes(16), ARTICLE, Kind.DATA),
        (KEYS.data_key, FILESYSTEM_ID, article_id(4, 0x0102030405), Kind.DATA),
        (KEYS.data_key, FILESYSTEM_ID, article_id(3, 0x0102030406), Kind.DATA),
        (KEYS.data_key, FILESYSTEM_ID, ARTICLE, Kind.PARITY),
        (KEYS.data_key, FILESYSTEM_ID, ARTICLE, Kind.CHECKPOINT),
    ],
    ids=["master", "derived", "purpose", "filesystem", "epoch", "number", "parity", "checkpoint"],
)
def test_another_place_does_not_open(
    key: bytes, filesystem_id: bytes, article: int, kind: Kind
) -> None:
    epoch, number = divmod(article, 2**40)
    with pytest.raises(SealError, match="does not open"):
        open_seal(key, filesystem_id, article_id(epoch, number), kind, sealed_example())


def test_the_same_plaintext_seals_differently_each_time() -> None:
    one, two = (
        seal(KEYS.data_key, FILESYSTEM_ID, ARTICLE, Kind.DATA, new_salt(), PLAINTEXT)
        for _ in range(2)
    )
    assert one[:32] != two[:32]
    assert sum(a == b for a, b in zip(one, two, strict=True)) < len(one) // 20


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="salt"):
        seal(KEYS.data_key, FILESYSTEM_ID, ARTICLE, Kind.DATA, b"short", PLAINTEXT)
    with pytest.raises(ValueError, match="filesystem id"):
        seal(KEYS.data_key, b"short", ARTICLE, Kind.DATA, SALT, PLAINTEXT)
