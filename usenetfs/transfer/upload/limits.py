"""How fast articles may leave: a token bucket and quiet hours.

Pure: the time is an argument. What keeps to it is ``rate_limit.py``.
"""

from __future__ import annotations

import datetime
import math
import re
from dataclasses import dataclass
from typing import Final, Self

_HOURS: Final = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")


class TokenBucket:
    """Octets that may leave now. ``rate``: octets a second, None without limit, 0 for none.

    What leaves may put it into debt, so that something larger than a second's worth leaves at all;
    nothing leaves while it is in debt. What is not used within a second is lost.
    """

    def __init__(self, rate: float | None, now: float) -> None:
        self._rate = rate
        self._then = now
        self._tokens = 0.0

    def __repr__(self) -> str:
        return f"<TokenBucket {self._tokens:.0f} at {self._rate}/s>"

    def set_rate(self, rate: float | None, now: float) -> None:
        """From ``now`` on; a debt stays, counted in octets."""
        self._fill(now)
        self._rate = rate

    def ready_in(self, now: float) -> float:
        """Seconds until something may leave; 0 when it may, infinite when nothing ever may."""
        self._fill(now)
        if self._rate is None:
            return 0.0
        if self._rate <= 0:
            return math.inf
        return max(0.0, -self._tokens / self._rate)

    def take(self, octets: int, now: float) -> None:
        """So much leaves."""
        self._fill(now)
        if self._rate is not None:
            self._tokens -= octets

    def _fill(self, now: float) -> None:
        passed, self._then = max(0.0, now - self._then), max(now, self._then)
        if self._rate is None:
            self._tokens = 0.0
        else:
            self._tokens = min(self._tokens + passed * self._rate, self._rate)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From ``start`` to ``end``, in minutes after midnight, local time; may go over midnight."""

    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of ``08:00-18:00``; ValueError otherwise."""
        match = _HOURS.fullmatch(text.strip())
        numbers = [int(part) for part in match.groups()] if match else []
        if not match or max(numbers[0], numbers[2]) > 24 or max(numbers[1], numbers[3]) > 59:
            raise ValueError(f'"{text}" is not of the form 08:00-18:00')
        start, end = (60 * hour + minute for hour, minute in (numbers[:2], numbers[2:]))
        if max(start, end) > 24 * 60:
            raise ValueError(f'"{text}" is not of the form 08:00-18:00')
        if start == end:
            raise ValueError(f'"{text}" begins when it ends')
        return cls(start, end)

    def __contains__(self, minute: int) -> bool:
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def __str__(self) -> str:
        return "-".join(f"{at // 60:02}:{at % 60:02}" for at in (self.start, self.end))


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """``rate``: octets a second, None without limit. ``quiet_rate``: the same for quiet hours; 0
    stops uploads."""

    rate: int | None = None
    quiet_hours: QuietHours | None = None
    quiet_rate: int = 0

    def rate_at(self, moment: datetime.time) -> int | None:
        """What holds at a time of day; in quiet hours the lower of the two."""
        if self.quiet_hours is None or 60 * moment.hour + moment.minute not in self.quiet_hours:
            return self.rate
        return self.quiet_rate if self.rate is None else min(self.rate, self.quiet_rate)
