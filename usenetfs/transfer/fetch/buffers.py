"""Buffers for opened articles, used again and again.

Articles come and go by the hundred a second, nearly all of one size. Allocated one by one they cost
as much in page faults and clearing as in decryption, and leave holes in the heap that nothing fits.
So the plaintext goes into buffers of one size that are kept.

A buffer is free again when nobody has a view of it any more, and nobody has to say so: CPython
refuses to resize a bytearray while a view of it exists, and that refusal is the test. What does not
fit, or comes while all buffers are in use, gets memory of its own.
"""

from __future__ import annotations

from collections import deque
from typing import Final

TRIES: Final = 8
"""Buffers looked at for one that is free; they become free roughly in the order of their use."""

SMALLEST_PART: Final = 2
"""What is smaller than one part in so many of a buffer would waste it."""


class BufferPool:
    """Up to ``count`` buffers of ``size`` bytes, made when they are first needed."""

    def __init__(self, *, size: int, count: int) -> None:
        self._size = size
        self._count = count
        self._buffers: deque[bytearray] = deque()
        """The one that was taken longest ago comes first."""

    def __repr__(self) -> str:
        return (
            f"<BufferPool {len(self._buffers)} of {self._count} buffers, {self._size} bytes each>"
        )

    def take(self, size: int) -> memoryview:
        """Room for ``size`` bytes with anything in it; it is the caller's as long as this view, or
        one made from it, lives."""
        if not self._size // SMALLEST_PART <= size <= self._size:
            return memoryview(bytearray(size))
        for place in range(min(TRIES, len(self._buffers))):
            buffer = self._buffers[place]
            if _is_free(buffer):
                del self._buffers[place]
                self._buffers.append(buffer)
                return memoryview(buffer)[:size]
        if len(self._buffers) >= self._count:
            return memoryview(bytearray(size))
        buffer = bytearray(self._size + 1)
        buffer.pop()  # one octet to spare, so that the test never moves the buffer
        self._buffers.append(buffer)
        return memoryview(buffer)[:size]


def _is_free(buffer: bytearray) -> bool:
    try:
        buffer.append(0)
    except BufferError:
        return False
    buffer.pop()
    return True
