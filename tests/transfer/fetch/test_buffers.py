"""Buffers are used again as soon as nobody looks at them, and not a moment sooner."""

from __future__ import annotations

from usenetfs.transfer.fetch.buffers import TRIES, BufferPool

SIZE = 4096


def test_a_buffer_is_used_again_once_its_views_are_gone() -> None:
    pool = BufferPool(size=SIZE, count=1)
    first = pool.take(SIZE)
    where = first.obj
    del first
    second = pool.take(SIZE - 1)
    assert second.obj is where
    assert len(second) == SIZE - 1


def test_a_view_of_a_view_keeps_the_buffer() -> None:
    pool = BufferPool(size=SIZE, count=1)
    first = pool.take(SIZE)
    first[:5] = b"mine!"
    part = first.toreadonly()[:5]
    where = first.obj
    del first
    for _ in range(3):
        other = pool.take(SIZE)
        assert other.obj is not where
        other[:5] = b"other"
    assert part == b"mine!"


def test_what_is_too_large_or_too_small_gets_its_own() -> None:
    pool = BufferPool(size=SIZE, count=4)
    for size in (SIZE + 1, SIZE // 2 - 1, 0):
        room = pool.take(size)
        assert isinstance(room.obj, bytearray)
        assert len(room.obj) == len(room) == size
    assert "0 of 4" in repr(pool)


def test_no_more_than_its_count_are_kept_and_nobody_waits() -> None:
    pool = BufferPool(size=SIZE, count=TRIES)
    held = [pool.take(SIZE) for _ in range(3 * TRIES)]
    assert len({id(view.obj) for view in held}) == len(held)
    assert f"{TRIES} of {TRIES}" in repr(pool)
