"""Where a new machine finds the key file, and the seal that hides it there.

``recover`` has a passphrase and a filesystem's name, or a recovery key, and a news server. From
either it computes a :class:`KeyRecordLocator`: the Message-IDs at which the key file was posted and
the key under which. A key file is posted once for each of the two.

The passphrase locator is Argon2id with the name as its salt, at a cost fixed by the format: nothing
can be stored beside it, since finding what is stored is its purpose. So two filesystems with the
same name *and* passphrase share a locator; and whoever guesses both finds the record. The record
itself holds the key file, whose Argon2 salt is random.

A server takes a Message-ID once, so a changed passphrase or a renewed record goes under the next
generation; the newest generation found is the one that counts.

Must not know: servers, or when records are posted.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Self

from usenetfs.article.container import Kind, Member, choose_padding, container_size, pack, unpack
from usenetfs.article.hashing import segment_hash
from usenetfs.article.keys import KEY_SIZE, check_master_key, derive_key
from usenetfs.article.message_ids import key_record_message_id
from usenetfs.article.passphrase import DEFAULT_COST, Argon2Cost, stretch
from usenetfs.article.seal import open_seal, seal
from usenetfs.article.wire import OutgoingArticle, dress_article
from usenetfs.errors import ContainerError
from usenetfs.types import BlockNumber, Codec, InodeId, MessageId, article_id

LOCATOR_COST: Final = DEFAULT_COST
"""Part of the format: changing it loses every record posted before."""

_NO_FILESYSTEM: Final = bytes(16)
"""The id is inside the record, so the seal cannot be bound to it."""


@dataclass(frozen=True, slots=True)
class KeyRecordLocator:
    """Where key records are and what opens them; ``repr`` shows neither."""

    seal_key: bytes = field(repr=False)
    message_id_key: bytes = field(repr=False)
    header_key: bytes = field(repr=False)
    hash_key: bytes = field(repr=False)

    @classmethod
    def from_passphrase(
        cls, passphrase: str, *, name: str, cost: Argon2Cost = LOCATOR_COST
    ) -> Self:
        """For who knows the passphrase and the filesystem's name (compared in NFC)."""
        label = unicodedata.normalize("NFC", name).encode("utf-8")
        salt = hashlib.sha256(b"usenetfs/1 key record" + label).digest()
        return cls._from_key(stretch(passphrase, salt, cost))

    @classmethod
    def from_master(cls, master: bytes) -> Self:
        """For who has the recovery key (``parse_recovery_key`` gives the master key)."""
        check_master_key(master)
        return cls._from_key(derive_key(master, "key record", salt=b""))

    @classmethod
    def _from_key(cls, key: bytes) -> Self:
        derived = derive_key(key, "key record locator", salt=b"", size=4 * KEY_SIZE)
        return cls(*(derived[at : at + KEY_SIZE] for at in range(0, len(derived), KEY_SIZE)))

    def message_id(self, generation: int, copy: int = 0) -> MessageId:
        """Where generation 0, 1, … is; ``copy`` 0 is the first of its copies."""
        return key_record_message_id(self.message_id_key, generation, copy)


def build_key_record(
    locator: KeyRecordLocator,
    key_file: bytes,
    *,
    generation: int,
    copy: int = 0,
    salt: bytes,
    randomness: bytes,
    groups: Sequence[str],
    date: datetime,
) -> OutgoingArticle:
    """The article that carries ``key_file``.

    :param salt: 32 bytes, new for each record and each copy.
    :param randomness: 4 bytes or more, for the padding.
    """
    member = Member(
        inode=InodeId(0),
        block=BlockNumber(0),
        hash=segment_hash(locator.hash_key, key_file),
        codec=Codec.NONE,
        raw_length=len(key_file),
        stored_length=len(key_file),
    )
    padding = choose_padding(container_size(1, len(key_file)), randomness)
    article = article_id(0, generation)
    sealed = seal(
        locator.seal_key,
        _NO_FILESYSTEM,
        article,
        Kind.KEY,
        salt,
        pack(Kind.KEY, [(member, key_file)], padding),
    )
    return dress_article(
        locator.header_key,
        sealed,
        article=article,
        attempt=copy,
        message_id=locator.message_id(generation, copy),
        groups=groups,
        date=date,
    )


def open_key_record(
    locator: KeyRecordLocator, body: bytes | bytearray | memoryview, *, generation: int
) -> bytes:
    """The key file in a fetched body. SealError; ContainerError where it holds something else."""
    article = article_id(0, generation)
    plaintext = open_seal(locator.seal_key, _NO_FILESYSTEM, article, Kind.KEY, body)
    container = unpack(plaintext)
    if container.kind is not Kind.KEY or len(container) != 1:
        raise ContainerError("a key record holds something else than a key file")
    if container.member(0).codec is not Codec.NONE:
        raise ContainerError("a key record is compressed")
    return bytes(container.payload(0))
