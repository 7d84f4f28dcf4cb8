"""When one server takes so long that another is asked, too.

Pure decisions. How long a fetch usually takes is known from the last ones; one is *late* when it
takes half as long again as all but one in twenty of them did. What asking twice may cost is
bounded: one fetch in so many, with a small allowance for bad moments. So a server that became slow
as a whole does not double the traffic, it only shifts what is usual.
"""

from __future__ import annotations

from collections import deque
from typing import Final

SAMPLES: Final = 128
FEWEST_SAMPLES: Final = 16
REFRESH: Final = 16
"""Samples after which the percentile is worked out anew."""
PERCENTILE: Final = 0.95
MARGIN: Final = 1.5
LEAST: Final = 0.1
"""Seconds; nothing is late before."""
SHARE: Final = 0.05
"""Second requests for each first one, in the long run."""
ALLOWANCE: Final = 4.0
"""Second requests that may be saved up."""


class Lateness:
    """What is usual, and what may still be asked twice."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=SAMPLES)
        self._since_refresh = 0
        self._limit: float | None = None
        self._allowance = 1.0
        self.hedged = 0
        """Second requests so far."""

    def __repr__(self) -> str:
        return f"<Lateness limit={self._limit} allowance={self._allowance:.2f}>"

    @property
    def limit(self) -> float | None:
        """Seconds after which a fetch is late; None while too little is known."""
        return self._limit

    def took(self, seconds: float) -> None:
        """A fetch came after ``seconds``."""
        self._durations.append(seconds)
        self._allowance = min(ALLOWANCE, self._allowance + SHARE)
        self._since_refresh += 1
        if self._since_refresh >= REFRESH and len(self._durations) >= FEWEST_SAMPLES:
            self._since_refresh = 0
            ordered = sorted(self._durations)
            usual = ordered[min(len(ordered) - 1, int(PERCENTILE * len(ordered)))]
            self._limit = max(LEAST, MARGIN * usual)

    def may_hedge(self, waited: float) -> bool:
        """Whether to ask a second server for what has taken ``waited`` seconds so far."""
        if self._limit is None or waited < self._limit or self._allowance < 1.0:
            return False
        self._allowance -= 1.0
        self.hedged += 1
        return True
