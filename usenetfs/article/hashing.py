"""The keyed hash that makes equal blocks one segment.

HMAC-SHA256 cut to 16 bytes: keyed, so that the hash of a known file says nothing to who sees it;
128 bits, so that two different blocks of one filesystem never meet by chance (2**64 blocks before
that is likely). SHA-256 rather than BLAKE2b because processors have instructions for it (measured:
2.0 against 1.3 GB/s).
"""

from __future__ import annotations

import hmac
from typing import Final

from usenetfs.types import SegmentHash

SEGMENT_HASH_SIZE: Final = 16


def segment_hash(hash_key: bytes, data: bytes | bytearray | memoryview) -> SegmentHash:
    """The hash of a block's raw content; ``data`` is any contiguous buffer. Releases the GIL."""
    return SegmentHash(hmac.digest(hash_key, data, "sha256")[:SEGMENT_HASH_SIZE])
