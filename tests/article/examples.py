"""Fixed inputs and small builders that the tests of the codec share."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from usenetfs.article.container import Kind, Member, pack
from usenetfs.article.hashing import segment_hash
from usenetfs.article.keys import KeySet
from usenetfs.types import BlockNumber, Codec, InodeId, article_id

MASTER = bytes(range(32))
FILESYSTEM_ID = bytes(range(100, 116))
KEYS = KeySet.from_master(MASTER, FILESYSTEM_ID)
ARTICLE = article_id(3, 0x0102030405)
DATE = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def noise(label: str, size: int) -> bytes:
    """``size`` bytes that look random and are the same in every run."""
    return hashlib.shake_128(label.encode()).digest(size)


def member(data: bytes, *, inode: int = 1, block: int = 0) -> tuple[Member, bytes]:
    """A member that is stored as it is."""
    return (
        Member(
            inode=InodeId(inode),
            block=BlockNumber(block),
            hash=segment_hash(KEYS.hash_key, data),
            codec=Codec.NONE,
            raw_length=len(data),
            stored_length=len(data),
        ),
        data,
    )


def small_container(label: str = "small", size: int = 100, padding: int = 0) -> bytes:
    """A data container of one member."""
    return pack(Kind.DATA, [member(noise(label, size))], padding)
