"""When uploads give way to programs that write.

Copying into the mount and uploading what was copied compete for the same processors. A program that
writes as fast as it can should feel a local disk; the upload can catch up afterwards. So while
changes come in quickly, nothing new is taken for upload, unless somebody waits for it (``sync``,
full staging), so much is staged already that it would only be put off, or it has gone on for so
long that it will not end soon.

Pure: told the count of changes and the time, it answers yes or no.
"""

from __future__ import annotations

from typing import Final

BUSY: Final = 100.0
"""Changes a second (a small file, 128 KiB of a large one) above which a writer is in a hurry."""

LOOK: Final = 0.1
"""Seconds over which the speed is measured."""

PATIENCE: Final = 15.0
"""Seconds of haste after which uploads go on beside it, until it has ended once."""

HEAP: Final = 4 << 30
"""Octets staged beyond which uploads no longer give way."""


class GivingWay:
    """``limit``: octets that staging may hold."""

    def __init__(self, limit: int) -> None:
        self.enough = min(HEAP, limit // 4)
        """Octets staged from which on uploads go on beside the writers."""
        self._then = float("-inf")
        self._count = 0
        self._busy = False
        self._busy_since = float("-inf")

    def __repr__(self) -> str:
        return f"<GivingWay {'waiting for writers' if self._busy else 'free'}>"

    def should_wait(self, changes: int, now: float, staged: int) -> bool:
        """``changes``: counted since the start; ``staged``: octets now."""
        passed = now - self._then
        if passed >= LOOK:
            busy = (changes - self._count) / passed >= BUSY
            if busy and not self._busy:
                self._busy_since = now
            self._busy, self._then, self._count = busy, now, changes
        return self._busy and staged < self.enough and now - self._busy_since < PATIENCE
