"""Fetched bodies on their way to the disk cache, in a thread of their own.

Owns that thread and the short queue before it. Reading never waits for the cache: what comes faster
than the disk takes it is not cached (it can be fetched again), so the memory that waits here is
bounded. One thread, because several only take processor time away from those who read.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from types import TracebackType
from typing import Final, Self

from usenetfs.store.article_cache import ArticleCache
from usenetfs.types import ArticleId

log = logging.getLogger("usenetfs.store")

MAX_WAITING: Final = 8
"""Bodies that wait; one more may be being written."""

PROCESSOR_SHARE: Final = 0.05
"""Of each processor there is, that writing may take: on two as much as caches a hundred and thirty
megabytes a second, more than a gigabit line carries. A server so near that it is faster can be
asked again. Three times as much cost a tenth of the speed at which two processors read from one."""

BURST: Final = 0.1
"""Seconds of processor time that may be used at once after a rest: some hundred articles."""

Buffer = bytes | bytearray | memoryview


class CacheWriter:
    """A context manager; leaving it writes what waits and ends the thread."""

    def __init__(self, cache: ArticleCache) -> None:
        self._cache = cache
        self._waiting: deque[tuple[ArticleId, Buffer]] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="cache-writer", daemon=True)
        self._share = PROCESSOR_SHARE * (os.cpu_count() or 1)
        self._started = time.monotonic()
        self._used = 0.0
        """Seconds of processor time, see :meth:`_spent`."""
        self.skipped = 0
        """Bodies not cached because they came too fast."""

    def __repr__(self) -> str:
        return f"<CacheWriter {len(self._waiting)} waiting, {self.skipped} skipped>"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def put(self, article: ArticleId, body: Buffer) -> bool:
        """Have a body cached, unless too many wait already. The body must not change any more."""
        if len(self._waiting) >= MAX_WAITING or self._used > self._allowed():
            self.skipped += 1
            return False
        with self._changed:
            self._waiting.append((article, body))
            self._changed.notify()
        return True

    def _allowed(self) -> float:
        """Seconds of processor time that writing may have taken by now."""
        return BURST + self._share * (time.monotonic() - self._started)

    def _spent(self, seconds: float) -> None:
        """Time that was not used does not save up beyond the burst."""
        self._used = max(self._used, self._allowed() - BURST) + seconds

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._stopped:
                        return
                    self._changed.wait()
                article, body = self._waiting.popleft()
            before = time.thread_time()
            try:
                self._cache.put(article, body)
            except Exception:
                log.exception("a fault of usenetfs in the cache's writer; the cache goes on")
            del body
            self._spent(time.thread_time() - before)
