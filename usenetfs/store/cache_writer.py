"""Fetched bodies on their way to the disk cache, in a thread of their own.

Owns that thread and the short queue before it. Reading never waits for the cache: what comes faster
than the disk takes it, or than readers would not feel (``write_budget.py``), is not cached: it can
be fetched again. So the memory that waits here is bounded. One thread, because several only take
processor time away from those who read.
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
from usenetfs.store.write_budget import WriteBudget
from usenetfs.types import ArticleId

log = logging.getLogger("usenetfs.store")

MAX_WAITING: Final = 8
"""Bodies that wait; one more may be being written."""

Buffer = bytes | bytearray | memoryview


class CacheWriter:
    """A context manager; leaving it writes what waits and ends the thread."""

    def __init__(self, cache: ArticleCache) -> None:
        self._cache = cache
        self._waiting: deque[tuple[ArticleId, Buffer]] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="cache-writer", daemon=True)
        self._budget = WriteBudget(os.cpu_count() or 1, time.monotonic())
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
        if not self._budget.admits(time.monotonic()) or len(self._waiting) >= MAX_WAITING:
            self.skipped += 1
            return False
        with self._changed:
            self._waiting.append((article, body))
            self._changed.notify()
        return True

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
            self._budget.spent(time.thread_time() - before, time.monotonic())
