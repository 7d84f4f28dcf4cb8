"""Every key of a filesystem, derived from one master key.

Owns: the names of the purposes. A purpose once given is never given to anything else, and two keys
never share one; so what is done with one key says nothing about another.

Invariant: a derived key depends on the master key, the filesystem id and the purpose, nothing else.

Must not know: how the master key is stored (``key_file``) or what the keys are used on.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MASTER_KEY_SIZE: Final = 32
"""Bytes of a master key."""

FILESYSTEM_ID_SIZE: Final = 16
"""Bytes of a filesystem id: random, chosen by ``init``, not secret."""

KEY_SIZE: Final = 32
DIRECTORY_KEY_SIZE: Final = 16

_PURPOSE_PREFIX: Final = b"usenetfs/1 "


def generate_master_key() -> bytes:
    """A new master key from the operating system's generator, 32 bytes."""
    return secrets.token_bytes(MASTER_KEY_SIZE)


def derive_key(key: bytes, purpose: str, *, salt: bytes, size: int = KEY_SIZE) -> bytes:
    """HKDF-SHA256 (RFC 5869) of ``key`` with ``info`` = ``usenetfs/1 `` + ``purpose``.

    :param salt: the filesystem id, an article's salt, or whatever separates uses of one key.
    :param size: bytes wanted, at most 8160.
    """
    info = _PURPOSE_PREFIX + purpose.encode("ascii")
    return HKDF(algorithm=hashes.SHA256(), length=size, salt=salt, info=info).derive(key)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one filesystem; ``repr`` shows none of them."""

    data_key: bytes = field(repr=False)
    """Seals articles: each article's own key is derived from it and the article's salt."""
    message_id_key: bytes = field(repr=False)
    """Computes the Message-IDs of numbered articles."""
    header_key: bytes = field(repr=False)
    """Computes From, Subject and the yEnc name."""
    hash_key: bytes = field(repr=False)
    """Keys the hash by which equal blocks are found."""
    chain_key: bytes = field(repr=False)
    """Computes the Message-IDs of checkpoints."""
    digest_key: bytes = field(repr=False)
    """Keys the digest of an index that a checkpoint names."""
    directory_key: bytes = field(repr=False)
    """16 bytes; keys the hash of names within a directory."""

    @classmethod
    def from_master(cls, master: bytes, filesystem_id: bytes) -> Self:
        """All keys of the filesystem ``filesystem_id`` (16 bytes) under ``master`` (32 bytes)."""
        check_master_key(master)
        check_filesystem_id(filesystem_id)

        def derived(purpose: str, size: int = KEY_SIZE) -> bytes:
            return derive_key(master, purpose, salt=filesystem_id, size=size)

        return cls(
            data_key=derived("data"),
            message_id_key=derived("message-id"),
            header_key=derived("header"),
            hash_key=derived("hash"),
            chain_key=derived("chain"),
            digest_key=derived("digest"),
            directory_key=derived("directory", DIRECTORY_KEY_SIZE),
        )


def check_master_key(master: bytes) -> None:
    """Raise ValueError unless ``master`` has the size of a master key."""
    if len(master) != MASTER_KEY_SIZE:
        raise ValueError(f"a master key has {MASTER_KEY_SIZE} bytes")


def check_filesystem_id(filesystem_id: bytes) -> None:
    """Raise ValueError unless ``filesystem_id`` has the size of one."""
    if len(filesystem_id) != FILESYSTEM_ID_SIZE:
        raise ValueError(f"a filesystem id has {FILESYSTEM_ID_SIZE} bytes")
