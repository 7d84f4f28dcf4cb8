"""Fetched articles on the local disk: sealed bodies, which can be fetched again.

Owns the cache directory: ``<directory>/<2 hex>/<article id, 16 hex>``, one file an article. The
user may delete any of it at any time, also while mounted: a file that is gone is a miss, a
directory that is gone is made again. A body is written under a temporary name and renamed, so a
half-written one is never seen; what it holds is not checked here, because its seal checks it on
every use (the caller then calls :meth:`ArticleCache.discard`).

Nothing here fails for the caller: an error on the disk is counted, logged once, and means a miss.

Bounded by ``max_bytes`` of disk, and by ``min_free_bytes`` that it leaves to others: when they fill
the disk the cache gives way, to the last article. What goes first is for :mod:`eviction` to say.

Thread-safe: one lock around the table and the counters; files are read, written and removed outside
of it. So a file may be gone that the table has (a miss, which corrects it), while a file that the
table does not have comes only from two threads that put, evict or discard one article at once; the
next start, or ``drop_all``, takes it in.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from usenetfs.store.eviction import Eviction
from usenetfs.types import ArticleId

log = logging.getLogger("usenetfs.store")

Buffer = bytes | bytearray | memoryview

_DISK_BLOCK: Final = 4096
_UNFINISHED: Final = ".new"

TRIES: Final = 4
"""To write an article whose folder vanishes each time, before that is an error of the disk."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """``bytes`` of disk and the number of articles now, and what happened since the start."""

    bytes: int
    articles: int
    hits: int
    misses: int
    evictions: int
    errors: int
    """Failures of the disk: an article that could not be written, read or removed."""
    refused: int
    """Articles not kept: others had filled the disk, or what is pinned the cache."""


class ArticleCache:
    """See the module. ``max_bytes`` 0 turns it off."""

    def __init__(self, directory: Path, *, max_bytes: int, min_free_bytes: int) -> None:
        """Takes in what an earlier run left: some seconds for a million articles."""
        self._directory = os.fspath(directory)
        self._max_bytes = max_bytes
        self._min_free = min_free_bytes
        self._lock = threading.Lock()
        self._table = Eviction(max_bytes)
        self._reserved = 0
        """Bytes that are being written."""
        self._hits = self._misses = self._evictions = self._errors = self._refused = 0
        self._temporaries = 0
        self._load()

    def __repr__(self) -> str:
        return f"<ArticleCache {self._directory} max_bytes={self._max_bytes} {self._table!r}>"

    def __len__(self) -> int:
        return len(self._table)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is open; what is on the disk stays."""

    # --- using ------------------------------------------------------------------------------------

    def contains(self, article: ArticleId) -> bool:
        """Whether the article is believed to be here. Touches no disk, counts nothing."""
        return article in self._table

    def has_room(self, size: int) -> bool:
        """Whether ``size`` bytes more would be kept, if need be in the place of everything that is
        not pinned. Blocks."""
        size = on_disk(size)
        shortage = self._shortage(size)
        with self._lock:
            pinned = self._table.pinned_bytes
            fits = pinned + self._reserved + size <= self._max_bytes
            return fits and shortage <= self._table.bytes - pinned

    def get(self, article: ArticleId) -> bytes | None:
        """The body, or None. Blocks: call it in a thread."""
        with self._lock:
            if not self._table.ask(article):
                self._misses += 1
                return None
        path = self._path(article)
        try:
            with open(path, "rb", buffering=0) as file:
                body = file.readall()
        except OSError as error:
            self._lost(article, error)
            return None
        with self._lock:
            self._hits += 1
        return body

    def put(self, article: ArticleId, body: Buffer) -> None:
        """Keeps a body. Blocks: call it in a thread. Failure is not an error for the caller."""
        size = on_disk(len(body))
        if size > self._max_bytes or self.contains(article):
            return
        shortage = self._shortage(size)
        with self._lock:
            over = self._table.bytes + self._reserved + size - self._max_bytes
            victims = self._table.evict(max(over, shortage))
            self._evictions += len(victims)
            # What is pinned is not evicted: it may leave no room.
            full = self._table.bytes + self._reserved + size > self._max_bytes
            self._reserved += size
        try:
            self._unlink(victims)
            if full or (shortage > 0 and self._shortage(size) > 0):
                with self._lock:
                    self._refused += 1
            elif self._write(article, body):
                with self._lock:
                    self._table.insert(article, size)
        finally:
            with self._lock:
                self._reserved -= size

    def discard(self, article: ArticleId) -> None:
        """Drops a body, because it turned out to be damaged. Blocks."""
        with self._lock:
            self._table.remove(article)
        self._unlink([article])

    def drop_all(self) -> None:
        """Drops everything, pinned or not. Blocks."""
        with self._lock:
            self._table.clear()
        self._unlink(article for article, _, _ in self._scan())

    def pin(self, article: ArticleId) -> None:
        """Never evict this article, here already or not, until it is unpinned as often."""
        with self._lock:
            self._table.pin(article)

    def unpin(self, article: ArticleId) -> None:
        """Takes one pin away. KeyError: there is none."""
        with self._lock:
            self._table.unpin(article)

    def stats(self) -> CacheStats:
        """A snapshot."""
        with self._lock:
            return CacheStats(
                bytes=self._table.bytes,
                articles=len(self._table),
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                errors=self._errors,
                refused=self._refused,
            )

    # --- files ------------------------------------------------------------------------------------

    def _path(self, article: ArticleId) -> str:
        return f"{self._directory}/{article & 0xFF:02x}/{article:016x}"

    def _shortage(self, size: int) -> int:
        """Bytes by which the disk would fall short of its free space with ``size`` more."""
        try:
            disk = os.statvfs(self._directory)
        except FileNotFoundError:
            # The whole directory was removed, and everything with it.
            with self._lock:
                self._table.clear()
            return 0
        except OSError:
            return 0
        return self._min_free + size - disk.f_bavail * disk.f_frsize

    def _write(self, article: ArticleId, body: Buffer) -> bool:
        path = self._path(article)
        with self._lock:
            self._temporaries += 1
            temporary = f"{path}.{self._temporaries}{_UNFINISHED}"
        try:
            for _ in range(TRIES - 1):
                try:
                    _write_and_rename(temporary, path, body)
                except FileNotFoundError:
                    # The bucket is not there yet, or no longer. Whoever deletes the cache at this
                    # moment may make it vanish again.
                    with contextlib.suppress(FileExistsError):
                        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                else:
                    return True
            _write_and_rename(temporary, path, body)
        except OSError as error:
            self._failed("write", path, error)
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            return False
        return True

    def _lost(self, article: ArticleId, error: OSError) -> None:
        """An article of the table cannot be read."""
        path = self._path(article)
        gone = isinstance(error, FileNotFoundError)
        if not gone:
            self._failed("read", path, error)
        with self._lock:
            self._misses += 1
            # Looked at under the lock: a put that came between has its file in place before its
            # entry is in the table.
            if not gone or not os.path.lexists(path):
                self._table.remove(article)
        if not gone:
            self._unlink([article])

    def _unlink(self, articles: Iterable[ArticleId]) -> None:
        for article in articles:
            path = self._path(article)
            try:
                os.unlink(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self._failed("remove", path, error)

    def _failed(self, doing: str, path: str, error: OSError) -> None:
        with self._lock:
            self._errors += 1
            first = self._errors == 1
        if first:
            log.warning(
                "the cache cannot %s %s: %s. What it lacks is fetched from the servers again; "
                "further errors of the cache are only counted",
                doing,
                path,
                error.strerror,
            )

    def _load(self) -> None:
        if not self._max_bytes:
            return
        # The oldest first; all are past their probation, or a first scan would wipe them out.
        for article, size, _ in sorted(self._scan(), key=lambda found: found[2]):
            self._table.insert(article, size, proven=True)
        victims = self._table.evict(self._table.bytes - self._max_bytes)
        self._unlink(victims)
        with contextlib.suppress(OSError):
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
        self._remove_unfinished()

    def _scan(self) -> Iterator[tuple[ArticleId, int, int]]:
        """Each article on the disk: id, bytes of disk, time written (ns)."""
        for entry in self._entries():
            article = _article_of(entry)
            if article is not None:
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    yield article, on_disk(status.st_size), status.st_mtime_ns

    def _remove_unfinished(self) -> None:
        """What a run that was killed was about to write."""
        for entry in self._entries():
            if entry.name.endswith(_UNFINISHED):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        for bucket in range(256):
            # A bucket at a time, so that memory stays flat; one that is not there is empty.
            with contextlib.suppress(OSError), os.scandir(f"{self._directory}/{bucket:02x}") as it:
                yield from list(it)


def on_disk(size: int) -> int:
    """What a body of ``size`` bytes takes of the disk."""
    return -(-size // _DISK_BLOCK) * _DISK_BLOCK


def _article_of(entry: os.DirEntry[str]) -> ArticleId | None:
    """The article whose file this is, or None: something else that lies there."""
    try:
        article = int(entry.name, 16)
    except ValueError:
        return None
    expected = f"{article & 0xFF:02x}/{article:016x}"
    return ArticleId(article) if entry.path.endswith(f"/{expected}") else None


def _write_and_rename(temporary: str, path: str, body: Buffer) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        view = memoryview(body)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
