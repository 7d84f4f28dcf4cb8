"""How many articles a reader should have on their way.

Enough fill the line; what is beyond that waits at the server or on the line, where nobody can take
it back: a seek, or another reader, waits behind it, and near servers it costs processor time (with
four articles under way instead of forty, one reader beside an INN is an eighth faster).

Enough is what the reader reads while a fetch takes its time *that waits for no other*, and some
more, so that the number grows by itself until the line limits it: :data:`FEW`, or as much again.
How long such a fetch takes cannot be seen while the line is full. So every :data:`VALID` seconds
there is a *look*: each reader has few under way until some fetches that began in it have come (as
BBR probes for the round trip, draft-ietf-ccwg-bbr §5.3.4). Pure decisions; times in seconds.
"""

from __future__ import annotations

from typing import Final

FEW: Final = 4
"""Articles of a reader that may be under way however slow it is, and that a look needs."""

VALID: Final = 10.0
"""Seconds for which a look holds, unless a fetch is quicker than it said."""

WEIGHT: Final = 0.2
"""Of one fetch that was quicker: it may have been a short article."""


class InFlight:
    """See the module."""

    def __init__(self) -> None:
        self.delay = 0.0
        """Seconds of a fetch that waits for no other; 0 before the first look has ended."""
        self._measured_at = float("-inf")
        self._look_began: float | None = float("-inf")
        """None: there is no look now."""
        self._seen: list[float] = []

    def __repr__(self) -> str:
        return f"<InFlight delay={self.delay:.4f}{'' if self._look_began is None else ' looking'}>"

    def took(self, seconds: float, now: float) -> None:
        """A fetch that ends now took so long."""
        if self._look_began is None:
            if seconds < self.delay:
                self.delay += (seconds - self.delay) * WEIGHT
                self._measured_at = now
        elif now - seconds >= self._look_began:
            self._seen.append(seconds)
            if len(self._seen) >= FEW:
                self.delay = min(self._seen)
                self._measured_at, self._look_began = now, None
                self._seen.clear()

    def enough(self, speed: float, now: float) -> int:
        """Articles that a reader of ``speed`` blocks a second should have under way."""
        if self._look_began is None and now - self._measured_at >= VALID:
            self._look_began = now
        if self._look_began is not None:
            return FEW
        flow = int(speed * self.delay)
        return flow + max(FEW, flow)
