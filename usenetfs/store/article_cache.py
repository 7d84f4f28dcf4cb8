"""Fetched articles on the local disk: sealed bodies, which can be fetched again.

Owns the cache directory: ``<directory>/<2 hex>/<article id, 16 hex>``, one file an article. The
user may delete any of it at any time, also while mounted: a file that is gone is a miss. A body is
written under a temporary name and renamed, so a half-written one is never seen; what it holds is
not checked here, because its seal checks it on every use.

Nothing here fails for the caller: an error on the disk is counted, logged once, and means a miss.

Eviction is S3-FIFO (Yang et al., SOSP 2023): new articles enter a small queue of a tenth of the
space and leave it unless they are asked for again there; those move to the main queue, where being
asked for buys further rounds. So one pass over much data (a scan) goes through the small queue and
leaves what is hot alone. A ghost list of ids lets what comes back soon enter the main queue at
once.

Memory: about 150 bytes an article, so 20 GiB of full articles take 5 MB.

Thread-safe: one lock around the table; reading and writing of files happens outside it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from usenetfs.types import ArticleId

log = logging.getLogger("usenetfs.store")

SMALL_SHARE = 10
"""The small queue gets one part in so many."""

MAX_ASKED = 3
"""Rounds in the main queue that being asked for can buy."""

FREE_CHECK_BYTES = 64 << 20
"""Bytes written between two looks at the free space of the disk."""

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class CacheStats:
    """``bytes`` of bodies and their number, and what happened since the start."""

    bytes: int
    articles: int
    hits: int
    misses: int
    evictions: int
    errors: int


@dataclass(slots=True)
class _Entry:
    size: int
    asked: int = 0


class ArticleCache:
    """See the module. ``max_bytes`` 0 turns it off."""

    def __init__(self, directory: Path, *, max_bytes: int, min_free_bytes: int) -> None:
        """Looks at what is there: some seconds for a million articles."""
        self._directory = os.fspath(directory)
        self._max_bytes = max_bytes
        self._min_free = min_free_bytes
        self._lock = threading.Lock()
        self._small: OrderedDict[ArticleId, _Entry] = OrderedDict()
        self._main: OrderedDict[ArticleId, _Entry] = OrderedDict()
        self._ghosts: OrderedDict[ArticleId, None] = OrderedDict()
        self._pinned: set[ArticleId] = set()
        self._small_bytes = self._main_bytes = 0
        self._hits = self._misses = self._evictions = self._errors = 0
        self._unchecked = FREE_CHECK_BYTES
        self._temporary = 0
        self._load()

    def __repr__(self) -> str:
        return (
            f"<ArticleCache {len(self)} articles, small={self._small_bytes} "
            f"main={self._main_bytes} of {self._max_bytes} bytes>"
        )

    def __len__(self) -> int:
        return len(self._small) + len(self._main)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open; what is on the disk stays."""

    # --- using -----------------------------------------------------------------------------------

    def contains(self, article: ArticleId) -> bool:
        """Whether the article is believed to be here. Microseconds."""
        return article in self._small or article in self._main

    def get(self, article: ArticleId) -> bytes | None:
        """The body, or None. Blocks: call it in a thread."""
        with self._lock:
            entry = self._small.get(article) or self._main.get(article)
            if entry is None:
                self._misses += 1
                return None
            entry.asked = min(entry.asked + 1, MAX_ASKED)
        try:
            with open(self._path(article), "rb", buffering=0) as file:
                body = file.readall()
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._failed("read", error)
            self._forget(article)
            self._misses += 1
            return None
        self._hits += 1
        return body

    def put(self, article: ArticleId, body: Buffer) -> None:
        """Keep a body. Blocks: call it in a thread. Failure is not an error for the caller."""
        size = len(body)
        if size > self._max_bytes or self.contains(article):
            return
        path = self._path(article)
        with self._lock:
            self._temporary += 1
            temporary = f"{path}.{self._temporary}.new"
        try:
            self._write(temporary, body)
            os.replace(temporary, path)
        except OSError as error:
            self._failed("written", error)
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            return
        with self._lock:
            self._insert(article, size)
            victims = self._evict(self._room_needed(size))
        self._unlink(victims)

    def _write(self, temporary: str, body: Buffer) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            descriptor = os.open(temporary, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(temporary), mode=0o700, exist_ok=True)
            descriptor = os.open(temporary, flags, 0o600)
        try:
            view = memoryview(body)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)

    def discard(self, article: ArticleId) -> None:
        """Drop a body, because it turned out to be damaged."""
        self._forget(article)
        self._unlink([article])

    def drop_all(self) -> None:
        """Drop everything."""
        with self._lock:
            articles = [*self._small, *self._main]
            self._small.clear()
            self._main.clear()
            self._ghosts.clear()
            self._small_bytes = self._main_bytes = 0
        self._unlink(articles)

    def pin(self, article: ArticleId) -> None:
        """Never evict this article, once it is here."""
        with self._lock:
            self._pinned.add(article)

    def unpin(self, article: ArticleId) -> None:
        with self._lock:
            self._pinned.discard(article)

    def stats(self) -> CacheStats:
        """A snapshot."""
        with self._lock:
            return CacheStats(
                bytes=self._small_bytes + self._main_bytes,
                articles=len(self),
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                errors=self._errors,
            )

    # --- the queues (under the lock) -------------------------------------------------------------

    def _insert(self, article: ArticleId, size: int) -> None:
        if self.contains(article):
            return
        entry = _Entry(size)
        if article in self._ghosts:
            del self._ghosts[article]
            self._to_main(article, entry)
        else:
            self._small[article] = entry
            self._small_bytes += size

    def _to_main(self, article: ArticleId, entry: _Entry) -> None:
        entry.asked = 0
        self._main[article] = entry
        self._main_bytes += entry.size

    def _room_needed(self, written: int) -> int:
        """Bytes over the limit, or short of the disk's free space; 0 or less: none."""
        over = self._small_bytes + self._main_bytes - self._max_bytes
        self._unchecked += written
        if self._unchecked >= FREE_CHECK_BYTES:
            self._unchecked = 0
            with contextlib.suppress(OSError):
                over = max(over, self._min_free - shutil.disk_usage(self._directory).free)
        return over

    def _evict(self, needed: int) -> list[ArticleId]:
        victims: list[ArticleId] = []
        # Each step evicts, moves to main, or takes a round from an entry: so it ends.
        steps = (MAX_ASKED + 2) * (len(self) + 1)
        while needed > 0 and steps and (self._small or self._main):
            steps -= 1
            small = self._small_bytes * SMALL_SHARE >= self._max_bytes or not self._main
            evicted = self._step_small() if small and self._small else self._step_main()
            if evicted is not None:
                article, size = evicted
                victims.append(article)
                needed -= size
        self._evictions += len(victims)
        return victims

    def _step_small(self) -> tuple[ArticleId, int] | None:
        article, entry = self._small.popitem(last=False)
        self._small_bytes -= entry.size
        if entry.asked or article in self._pinned:
            self._to_main(article, entry)
            return None
        self._ghosts[article] = None
        while len(self._ghosts) > max(1024, len(self._main)):
            self._ghosts.popitem(last=False)
        return article, entry.size

    def _step_main(self) -> tuple[ArticleId, int] | None:
        article, entry = self._main.popitem(last=False)
        if entry.asked or article in self._pinned:
            entry.asked = max(0, entry.asked - 1)
            self._main[article] = entry
            return None
        self._main_bytes -= entry.size
        return article, entry.size

    def _forget(self, article: ArticleId) -> None:
        with self._lock:
            entry = self._small.pop(article, None)
            if entry is not None:
                self._small_bytes -= entry.size
            entry = self._main.pop(article, None)
            if entry is not None:
                self._main_bytes -= entry.size

    # --- files -----------------------------------------------------------------------------------

    def _path(self, article: ArticleId) -> str:
        return f"{self._directory}/{article & 0xFF:02x}/{article:016x}"

    def _unlink(self, articles: list[ArticleId]) -> None:
        for article in articles:
            try:
                os.unlink(self._path(article))
            except FileNotFoundError:
                continue
            except OSError as error:
                self._failed("removed", error)

    def _failed(self, what: str, error: OSError) -> None:
        self._errors += 1
        if self._errors == 1:
            log.warning(
                "an article of the cache could not be %s (%s): it will be fetched anew; "
                "further errors of the cache are only counted",
                what,
                error.strerror,
            )

    def _load(self) -> None:
        """Take in what an earlier run left, oldest first; remove what was half written."""
        found = sorted(self._scan(), key=lambda item: item[2])
        for article, size, _ in found:
            self._small[article] = _Entry(size)
            self._small_bytes += size
        if self._max_bytes:
            with contextlib.suppress(OSError):
                os.makedirs(self._directory, mode=0o700, exist_ok=True)
        with self._lock:
            victims = self._evict(self._small_bytes - self._max_bytes)
        self._unlink(victims)

    def _scan(self) -> Iterator[tuple[ArticleId, int, int]]:
        try:
            buckets = [entry.path for entry in os.scandir(self._directory) if entry.is_dir()]
        except OSError:
            return
        for bucket in buckets:
            with os.scandir(bucket) as entries:
                for entry in entries:
                    try:
                        status = entry.stat()
                        article = ArticleId(int(entry.name, 16))
                    except (OSError, ValueError):
                        if entry.name.endswith(".new"):
                            with contextlib.suppress(OSError):
                                os.unlink(entry.path)
                        continue
                    yield article, status.st_size, status.st_mtime_ns
