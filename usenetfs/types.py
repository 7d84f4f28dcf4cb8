"""Identifiers and enumerations that every layer shares.

A leaf: imports nothing of the project. Ids are NewTypes so that mypy tells an inode number from an
article number; enumerations are IntEnums because their values are stored in the index and in
articles, so **a value once given is never given again**.
"""

from __future__ import annotations

import enum
from typing import Final, NewType

InodeId = NewType("InodeId", int)
"""Number of an inode, ≥ 1. The root directory is 1, as FUSE wants it."""

BlockNumber = NewType("BlockNumber", int)
"""Index of a block within its file, from 0."""

SegmentId = NewType("SegmentId", int)
"""Row id of a segment in the index, ≥ 1. Local to one index; never on the wire."""

SegmentHash = NewType("SegmentHash", bytes)
"""Keyed hash of a block's raw content, 16 bytes."""

ArticleId = NewType("ArticleId", int)
"""An article's epoch and number in one integer: ``epoch << ARTICLE_NUMBER_BITS | number``."""

MessageId = NewType("MessageId", str)
"""A Message-ID with its angle brackets: ``<local@domain>``."""

ROOT_INODE: Final = InodeId(1)

DEFAULT_BLOCK_SIZE: Final = 716_800
"""Bytes: 700 KiB, 175 pages, so that a block is a whole number of pages."""

ARTICLE_NUMBER_BITS: Final = 40


def article_id(epoch: int, number: int) -> ArticleId:
    """The id of article ``number`` (0 ≤ number < 2**40) of ``epoch`` (0 ≤ epoch < 2**23)."""
    if not 0 <= number < 1 << ARTICLE_NUMBER_BITS:
        raise ValueError(f"article number {number} is out of range")
    if not 0 <= epoch < 1 << 23:
        raise ValueError(f"epoch {epoch} is out of range")
    return ArticleId(epoch << ARTICLE_NUMBER_BITS | number)


def split_article_id(article: ArticleId) -> tuple[int, int]:
    """``(epoch, number)`` of an article id."""
    return article >> ARTICLE_NUMBER_BITS, article & ((1 << ARTICLE_NUMBER_BITS) - 1)


class Durability(enum.IntEnum):
    """How safe stored data is; a file's is the least of its blocks'."""

    STAGED = 0
    """On the local disk only."""
    POSTED = 1
    """A server answered 240."""
    SEEN = 2
    """A STAT on another connection, after a delay, found it."""
    VERIFIED = 3
    """Fetched whole, and it opened."""


class Codec(enum.IntEnum):
    """Compression of a segment, as stored in articles."""

    NONE = 0
    ZSTD = 1
    LZMA = 2
    ZLIB = 3


class Lane(enum.IntEnum):
    """Who waits for a connection; a lower value goes first."""

    READER = 0
    READAHEAD = 1
    METADATA = 2
    UPLOAD = 3
    VERIFY = 4
