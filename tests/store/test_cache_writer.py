"""Writing to the cache beside reading: bounded, and nothing of it reaches the readers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from usenetfs.store.article_cache import ArticleCache
from usenetfs.store.cache_writer import MAX_WAITING, CacheWriter
from usenetfs.types import ArticleId


class SlowCache(ArticleCache):
    """Holds up each write until it is told."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, max_bytes=1 << 30, min_free_bytes=0)
        self.go = threading.Event()
        self.entered = threading.Event()

    def put(self, article: ArticleId, body: bytes | bytearray | memoryview) -> None:
        self.entered.set()
        self.go.wait(10)
        super().put(article, body)


def cache_in(path: Path) -> ArticleCache:
    return ArticleCache(path, max_bytes=1 << 30, min_free_bytes=0)


def test_everything_that_was_taken_is_written_before_the_end(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    with CacheWriter(cache) as writer:
        taken = [number for number in range(200) if writer.put(ArticleId(number), os.urandom(900))]
    assert taken
    assert [number for number in range(200) if cache.contains(ArticleId(number))] == taken
    assert writer.skipped == 200 - len(taken)


def test_a_slow_disk_holds_up_nobody_and_fills_no_memory(tmp_path: Path) -> None:
    cache = SlowCache(tmp_path)
    with CacheWriter(cache) as writer:
        assert writer.put(ArticleId(0), b"x")
        assert cache.entered.wait(10)
        taken = sum(writer.put(ArticleId(number), b"x") for number in range(1, 100))
        assert taken == MAX_WAITING
        assert writer.skipped == 99 - MAX_WAITING
        cache.go.set()
    assert len(cache) == 1 + MAX_WAITING


def test_what_the_budget_does_not_admit_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CacheWriter(cache_in(tmp_path)) as writer:
        monkeypatch.setattr(writer._budget, "admits", lambda now: False)
        assert not writer.put(ArticleId(2), b"x")
        assert writer.skipped == 1


def test_a_fault_ends_nothing(tmp_path: Path, expect_log: Callable[[str], None]) -> None:
    expect_log("a fault of usenetfs in the cache's writer")

    class Faulty(ArticleCache):
        def put(self, article: ArticleId, body: bytes | bytearray | memoryview) -> None:
            if article == 1:
                raise RuntimeError("a bug")
            super().put(article, body)

    cache = Faulty(tmp_path, max_bytes=1 << 30, min_free_bytes=0)
    with CacheWriter(cache) as writer:
        writer.put(ArticleId(1), b"x")
        writer.put(ArticleId(2), b"y")
    assert cache.contains(ArticleId(2))
