"""The last errors, for ``status``: bounded, and the same one again only counted."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import replace

from usenetfs.control.model import RecentError
from usenetfs.errors import UsenetfsError

CAPACITY = 20


class RecentErrors:
    """Newest last."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._errors: deque[RecentError] = deque(maxlen=capacity)
        self.counts: Counter[str] = Counter()
        """Since the mount, by code: a class of errors each, so they are few."""

    def __len__(self) -> int:
        return len(self._errors)

    def report(self, error: UsenetfsError) -> None:
        """Remember an error."""
        self.counts[error.error_code] += 1
        entry = RecentError(time.time(), error.error_code, error.message, error.hint)
        last = self._errors[-1] if self._errors else None
        if last is not None and (last.code, last.message) == (entry.code, entry.message):
            self._errors[-1] = replace(entry, count=last.count + 1)
        else:
            self._errors.append(entry)

    def list(self) -> tuple[RecentError, ...]:
        return tuple(self._errors)
