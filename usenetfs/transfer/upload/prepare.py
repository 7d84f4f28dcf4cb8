"""From a claimed block to a prepared segment: the work that runs in threads.

Plain functions over bytes; they take what they need as arguments and touch nothing shared but
``store.Staging``, which says of itself that reading is safe from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from usenetfs.article.compression import compress
from usenetfs.article.hashing import segment_hash
from usenetfs.transfer.staged.blocks import StagedBlocks
from usenetfs.transfer.staged.hot_blocks import Claim
from usenetfs.types import Codec, InodeId, SegmentHash

Buffer = bytes | bytearray | memoryview
Raw = tuple[Buffer, SegmentHash]


class Stubborn:
    """Files whose last block did not shrink: their next one probably will not either.

    Only a hint, so threads may share it without a lock: each call is one step of a set.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._capacity = capacity
        self._inodes: set[InodeId] = set()

    def __contains__(self, inode: InodeId) -> bool:
        return inode in self._inodes

    def note(self, inode: InodeId, *, shrunk: bool) -> None:
        """How the newest block of the file fared."""
        if shrunk:
            self._inodes.discard(inode)
        elif inode not in self._inodes:
            if len(self._inodes) >= self._capacity:
                self._inodes.clear()
            self._inodes.add(inode)


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
    stubborn: Stubborn,
) -> list[tuple[int, SegmentHash, Codec, Buffer]]:
    """Both steps in one, block by block: ``(raw length, hash, codec, stored bytes)``.

    For codecs so fast that compressing what turns out to be known costs less than asking first.
    """
    prepared = []
    for claim, base in zip(claims, bases, strict=True):
        content = _content(staged, claim, base)
        digest = segment_hash(hash_key, content)
        used, stored = compress(content, codec, level, doubtful=claim.inode in stubborn)
        stubborn.note(claim.inode, shrunk=used is not Codec.NONE)
        prepared.append((len(content), digest, used, stored))
    return prepared


def compress_all(
    contents: Sequence[Buffer], codec: Codec, level: int | None
) -> list[tuple[Codec, Buffer]]:
    """Each content compressed where that pays."""
    return [compress(content, codec, level) for content in contents]
