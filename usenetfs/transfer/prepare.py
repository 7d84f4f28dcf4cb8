"""From a claimed block to a prepared segment: the work that runs in threads.

Plain functions over bytes; they take what they need as arguments and touch nothing shared but
``store.Staging``, which says of itself that reading is safe from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from usenetfs.article.compression import compress
from usenetfs.article.hashing import segment_hash
from usenetfs.transfer.hot_blocks import Claim
from usenetfs.transfer.staged import StagedBlocks
from usenetfs.types import Codec, SegmentHash

Buffer = bytes | bytearray | memoryview
Raw = tuple[Buffer, SegmentHash]


def read_and_hash(
    staged: StagedBlocks, hash_key: bytes, claims: Sequence[Claim], bases: Sequence[Buffer]
) -> list[Raw]:
    """The content of each claimed block and its hash.

    ``bases``: for an overlay the valid part of the segment underneath, ``b""`` for a whole block.
    What is hashed is what is returned: a block that changes meanwhile gives a content that never
    was, and the caller drops it (``StagedBlocks.torn``).
    """
    contents = [_content(staged, claim, base) for claim, base in zip(claims, bases, strict=True)]
    return [(content, segment_hash(hash_key, content)) for content in contents]


def _content(staged: StagedBlocks, claim: Claim, base: Buffer) -> Buffer:
    if claim.whole:
        return staged.read(claim, 0, claim.staged_end)
    content = bytearray(max(len(base), claim.staged_end))
    content[: len(base)] = base
    for start, end in claim.extents:
        content[start:end] = staged.read(claim, start, end - start)
    return content


def read_hash_compress(
    staged: StagedBlocks,
    hash_key: bytes,
    claims: Sequence[Claim],
    bases: Sequence[Buffer],
    codec: Codec,
    level: int | None,
) -> list[tuple[int, SegmentHash, Codec, Buffer]]:
    """Both steps in one, block by block: ``(raw length, hash, codec, stored bytes)``.

    For codecs so fast that compressing what turns out to be known costs less than asking first.
    """
    prepared = []
    for claim, base in zip(claims, bases, strict=True):
        content = _content(staged, claim, base)
        digest = segment_hash(hash_key, content)
        used, stored = compress(content, codec, level)
        prepared.append((len(content), digest, used, stored))
    return prepared


def compress_all(
    contents: Sequence[Buffer], codec: Codec, level: int | None
) -> list[tuple[Codec, Buffer]]:
    """Each content compressed where that pays."""
    return [compress(content, codec, level) for content in contents]
