"""The seal: what makes an article unreadable to others, and wrong or altered articles visible.

``body = salt (32) ‖ AES-256-GCM(key, nonce 0, plaintext) ‖ tag (16)`` where ``key`` is
HKDF-SHA256(data key, salt) and the associated data is the article's place: format version, kind,
filesystem id, epoch and number in a fixed layout. Opening needs the place as the *reader* believes
it to be, so another article (of this filesystem or any other) does not open in its stead; nothing
of the place is taken from the body itself.

**Invariant, the caller's part:** one salt, one plaintext. A key is used once and its nonce is
constant, so sealing two different plaintexts (another padding is another plaintext) under one salt
would give both away. Salts are 32 random bytes from :func:`new_salt`; whoever cannot send the very
bytes sealed before takes a new salt (and a new article number).

A body begins with random bytes and goes on with what looks like random bytes: nothing marks it.
"""

from __future__ import annotations

import secrets
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from usenetfs.article.container import Kind
from usenetfs.article.keys import check_filesystem_id, derive_key
from usenetfs.errors import SealError
from usenetfs.types import ArticleId, split_article_id

SEAL_VERSION: Final = 1
SALT_SIZE: Final = 32
TAG_SIZE: Final = 16
SEAL_OVERHEAD: Final = SALT_SIZE + TAG_SIZE
"""Bytes a sealed body is longer than its plaintext."""

_NONCE: Final = bytes(12)
_PLACE: Final = struct.Struct(">BB16sIQ")
"""Associated data: version, kind, filesystem id, epoch, number; 30 bytes."""


def new_salt() -> bytes:
    """32 random bytes, for one article."""
    return secrets.token_bytes(SALT_SIZE)


def seal(
    data_key: bytes,
    filesystem_id: bytes,
    article: ArticleId,
    kind: Kind,
    salt: bytes,
    plaintext: bytes | bytearray | memoryview,
) -> bytes:
    """The sealed body of an article: ``len(plaintext) + SEAL_OVERHEAD`` bytes. Releases the GIL.

    :param salt: 32 bytes, never used before with another plaintext (see the module's invariant).
    """
    if len(salt) != SALT_SIZE:
        raise ValueError(f"a salt has {SALT_SIZE} bytes")
    place = _place(filesystem_id, article, kind)
    return salt + _cipher(data_key, salt).encrypt(_NONCE, plaintext, place)


def open_seal(
    data_key: bytes,
    filesystem_id: bytes,
    article: ArticleId,
    kind: Kind,
    body: bytes | bytearray | memoryview,
) -> bytes:
    """The plaintext of a sealed body. SealError unless it is exactly this article, unaltered."""
    place = _place(filesystem_id, article, kind)
    view = memoryview(body)
    if len(view) < SEAL_OVERHEAD:
        raise SealError(f"a body of {len(view)} bytes is shorter than its seal")
    salt = bytes(view[:SALT_SIZE])
    try:
        return _cipher(data_key, salt).decrypt(_NONCE, view[SALT_SIZE:], place)
    except InvalidTag:
        raise SealError("the article does not open: altered, another article or another key") from (
            None
        )


def open_seal_into(
    data_key: bytes,
    filesystem_id: bytes,
    article: ArticleId,
    kind: Kind,
    body: bytes | bytearray | memoryview,
    room: memoryview,
) -> None:
    """As :func:`open_seal`, into ``room`` of exactly ``len(body) - SEAL_OVERHEAD`` bytes.

    What is in ``room`` after a SealError means nothing and must not be used.
    """
    place = _place(filesystem_id, article, kind)
    view = memoryview(body)
    if len(view) < SEAL_OVERHEAD:
        raise SealError(f"a body of {len(view)} bytes is shorter than its seal")
    salt = bytes(view[:SALT_SIZE])
    try:
        _cipher(data_key, salt).decrypt_into(_NONCE, view[SALT_SIZE:], place, room)
    except InvalidTag:
        raise SealError("the article does not open: altered, another article or another key") from (
            None
        )


def _cipher(data_key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(derive_key(data_key, "article", salt=salt))


def _place(filesystem_id: bytes, article: ArticleId, kind: Kind) -> bytes:
    check_filesystem_id(filesystem_id)
    epoch, number = split_article_id(article)
    return _PLACE.pack(SEAL_VERSION, kind, filesystem_id, epoch, number)
