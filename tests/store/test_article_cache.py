"""The cache on a real disk: restarts, deletions under it, full disks, threads, kill -9."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from usenetfs.store import article_cache
from usenetfs.store.article_cache import TRIES, ArticleCache
from usenetfs.types import ArticleId, article_id

SIZE = 8192
A, B, C = (article_id(1, number) for number in (1, 2, 257))


def cache_at(directory: Path, *, articles: int = 20, min_free_bytes: int = 0) -> ArticleCache:
    return ArticleCache(directory, max_bytes=articles * SIZE, min_free_bytes=min_free_bytes)


def body(number: int, size: int = SIZE) -> bytes:
    return random.Random(number).randbytes(size)


def files_below(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ArticleCache]:
    before = len(os.listdir("/proc/self/fd"))
    with cache_at(tmp_path) as opened:
        yield opened
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_was_put_is_had_again(cache: ArticleCache, tmp_path: Path) -> None:
    assert cache.get(A) is None
    cache.put(A, bytearray(body(1)))
    cache.put(C, memoryview(body(3, 100)))
    cache.put(A, b"articles never change, so this is not looked at")
    assert cache.get(A) == body(1)
    assert cache.get(C) == body(3, 100)
    assert cache.contains(A)
    assert not cache.contains(B)
    assert [path.name for path in files_below(tmp_path)] == [f"{A:016x}", f"{C:016x}"]
    assert {path.parent.name for path in files_below(tmp_path)} == {"01"}
    assert files_below(tmp_path)[0].stat().st_mode & 0o777 == 0o600
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.articles) == (2, 1, 2)
    assert stats.bytes == SIZE + 4096
    cache.discard(A)
    assert cache.get(A) is None
    assert "main=0" in repr(cache)


def test_it_is_all_there_after_a_restart(cache: ArticleCache, tmp_path: Path) -> None:
    for number in range(10):
        cache.put(ArticleId(number), body(number))
    (tmp_path / "05" / "notes.txt").write_text("somebody else's")
    (tmp_path / "05" / f"{6:016x}").write_text("in the wrong place")
    (tmp_path / "05" / f"{5:016x}.7.new").write_text("half wri")
    again = cache_at(tmp_path)
    assert len(again) == 10
    assert all(again.get(ArticleId(number)) == body(number) for number in range(10))
    assert not list(tmp_path.rglob("*.new"))
    # With less room than before, the oldest go.
    for number in range(10):
        os.utime(tmp_path / f"{number:02x}" / f"{number:016x}", (number, number))
    smaller = cache_at(tmp_path, articles=4)
    assert [n for n in range(10) if smaller.contains(ArticleId(n))] == [6, 7, 8, 9]
    assert smaller.stats().bytes == 4 * SIZE


def test_it_stays_within_its_bytes(cache: ArticleCache, tmp_path: Path) -> None:
    for number in range(100):
        cache.put(ArticleId(number), body(number))
        assert cache.stats().bytes <= 20 * SIZE
    assert len(files_below(tmp_path)) == len(cache) == 20
    assert cache.stats().evictions == 80
    cache.put(A, bytes(21 * SIZE))
    assert not cache.contains(A)


def test_what_is_pinned_stays(cache: ArticleCache) -> None:
    cache.pin(A)
    cache.put(A, body(1))
    for number in range(100):
        cache.put(ArticleId(number), body(number))
    assert cache.get(A) == body(1)
    cache.unpin(A)
    for number in range(200, 300):
        cache.put(ArticleId(number), body(number))
        cache.get(ArticleId(number))
    assert not cache.contains(A)


def test_a_cache_of_no_size_is_off(tmp_path: Path) -> None:
    with cache_at(tmp_path / "off", articles=0) as cache:
        cache.put(A, b"x")
        assert cache.get(A) is None
    assert not (tmp_path / "off").exists()


def test_dropping_leaves_nothing(cache: ArticleCache, tmp_path: Path) -> None:
    for number in range(10):
        cache.put(ArticleId(number), body(number))
    (tmp_path / "63").mkdir()
    (tmp_path / "63" / f"{0x63:016x}").write_text("not in the table")
    cache.pin(ArticleId(1))
    cache.drop_all()
    assert files_below(tmp_path) == []
    assert cache.stats().bytes == 0
    cache.put(ArticleId(1), body(1))
    assert cache.get(ArticleId(1)) == body(1)


# --- somebody else touches it --------------------------------------------------------------------


def test_a_deleted_file_is_a_miss(cache: ArticleCache, tmp_path: Path) -> None:
    cache.put(A, body(1))
    files_below(tmp_path)[0].unlink()
    assert cache.get(A) is None
    assert not cache.contains(A)
    cache.put(A, body(1))
    assert cache.get(A) == body(1)
    assert cache.stats().errors == 0


def test_a_deleted_directory_is_made_again(cache: ArticleCache, tmp_path: Path) -> None:
    cache.put(A, body(1))
    cache.put(B, body(2))
    shutil.rmtree(tmp_path)
    assert cache.get(A) is None
    cache.put(C, body(3))
    assert cache.get(C) == body(3)
    assert cache.stats().articles == 1
    shutil.rmtree(tmp_path / "01")
    cache.put(A, body(1))
    assert cache.get(A) == body(1)
    assert cache.stats().errors == 0


def test_a_directory_may_be_deleted_while_an_article_is_written(
    cache: ArticleCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, times = article_cache._write_and_rename, 0

    def write_late(temporary: str, path: str, content: bytes) -> None:
        nonlocal times
        times += 1
        if times < TRIES:
            shutil.rmtree(tmp_path, ignore_errors=True)
        write(temporary, path, content)

    monkeypatch.setattr(article_cache, "_write_and_rename", write_late)
    cache.put(A, body(1))
    assert times == TRIES
    assert cache.get(A) == body(1)
    assert cache.stats().errors == 0


def test_errors_of_the_disk_are_counted_and_told_once(
    cache: ArticleCache,
    tmp_path: Path,
    expect_log: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    expect_log("the cache cannot write .*: Not a directory. What it lacks is fetched")
    cache.put(C, body(3))
    shutil.rmtree(tmp_path / "01")
    (tmp_path / "01").write_text("in the way")
    (tmp_path / "02").write_text("in the way")
    cache.put(A, body(1))
    cache.put(B, body(2))
    assert cache.get(C) is None
    cache.discard(C)
    assert cache.stats().errors == 3
    assert len(caplog.records) == 1
    assert cache.stats().bytes == 0


def test_what_cannot_be_read_is_dropped(
    cache: ArticleCache, tmp_path: Path, expect_log: Callable[[str], None]
) -> None:
    expect_log("the cache cannot read .*: Is a directory")
    cache.put(A, body(1))
    path = files_below(tmp_path)[0]
    path.unlink()
    path.mkdir()
    assert cache.get(A) is None
    assert not cache.contains(A)
    # Neither read nor removed.
    assert cache.stats().errors == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of its own, of 1 MiB and 150 names."""
    point = tmp_path / "small disk"
    point.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=150", "tmpfs", point], check=True
    )
    yield point
    subprocess.run(["umount", point], check=True)


def test_a_full_disk_is_no_error_for_the_caller(
    small_disk: Path, expect_log: Callable[[str], None]
) -> None:
    expect_log("the cache cannot write .*: No space left on device")
    cache = cache_at(small_disk / "cache", articles=1000)
    # Names run out before bytes, which is not seen coming.
    for number in range(200):
        cache.put(ArticleId(number), body(number, 100))
    stats = cache.stats()
    assert stats.errors > 0
    assert 0 < stats.articles < 150
    assert len(files_below(small_disk)) == stats.articles
    kept = [n for n in range(200) if cache.contains(ArticleId(n))]
    assert all(cache.get(ArticleId(n)) == body(n, 100) for n in kept)


def test_it_gives_way_when_others_fill_the_disk(small_disk: Path) -> None:
    cache = cache_at(small_disk / "cache", articles=1000, min_free_bytes=256 << 10)
    for number in range(200):
        cache.put(ArticleId(number << 8), body(number))
    assert cache.stats().evictions > 0
    assert free(small_disk) >= 256 << 10
    (small_disk / "other").write_bytes(bytes(free(small_disk) - (64 << 10)))
    cache.put(A, body(1))
    assert free(small_disk) >= 256 << 10
    assert cache.contains(A)
    for number in range(5):
        (small_disk / f"more{number}").write_bytes(bytes(free(small_disk) - (16 << 10)))
        cache.put(B, body(2))
        cache.discard(B)
    stats = cache.stats()
    assert stats.refused > 0
    assert stats.articles == 0
    assert stats.errors == 0


def free(path: Path) -> int:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


# --- threads and kills ---------------------------------------------------------------------------


def test_threads_get_whole_bodies_or_none(cache: ArticleCache, tmp_path: Path) -> None:
    wrong: list[object] = []

    def work(seed: int) -> None:
        dice = random.Random(seed)
        try:
            for _ in range(600):
                number = dice.randrange(40)
                action = dice.random()
                if action < 0.05:
                    cache.discard(ArticleId(number))
                elif action < 0.06:
                    shutil.rmtree(tmp_path / f"{number:02x}", ignore_errors=True)
                elif (found := cache.get(ArticleId(number))) is None:
                    cache.put(ArticleId(number), body(number))
                elif found != body(number):
                    wrong.append(number)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []
    assert cache.stats().bytes <= 20 * SIZE
    cache.drop_all()
    assert files_below(tmp_path) == []


CHILD = """
import sys
from pathlib import Path
from usenetfs.store import article_cache
from usenetfs.store.article_cache import TRIES, ArticleCache
cache = ArticleCache(Path(sys.argv[1]), max_bytes=1 << 24, min_free_bytes=0)
for number in range(1, 1 << 30):
    cache.put(number, number.to_bytes(8, "big") * 40_000)
    print(number, flush=True)
"""


def test_a_kill_leaves_whole_bodies_only(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, tmp_path], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for _ in range(80):
            child.stdout.readline()
        child.kill()
    with ArticleCache(tmp_path, max_bytes=1 << 24, min_free_bytes=0) as cache:
        assert 40 < len(cache) <= 52
        assert len(files_below(tmp_path)) == len(cache)
        for path in files_below(tmp_path):
            article = ArticleId(int(path.name, 16))
            assert cache.get(article) == article.to_bytes(8, "big") * 40_000
