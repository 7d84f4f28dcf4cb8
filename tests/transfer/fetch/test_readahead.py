"""What is fetched ahead of which way of reading."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.transfer.fetch.readahead import FIRST_WINDOW, ReadAhead

BLOCK = 1000
PIECE = 250
MOST = 16


def read(reader: ReadAhead, block: int, *, start: int = 0, size: int = PIECE) -> list[int]:
    return list(reader.on_read(block * BLOCK + start, size, 0.0))


def read_block(reader: ReadAhead, block: int) -> list[int]:
    """A block in pieces, as the kernel asks for it."""
    return [n for start in range(0, BLOCK, PIECE) for n in read(reader, block, start=start)]


def test_a_reader_in_order_has_everything_fetched_once_and_ahead() -> None:
    reader = ReadAhead(BLOCK, MOST)
    asked: list[int] = []
    furthest = []
    for place in range(100):
        assert place == 0 or place in asked
        asked += read_block(reader, place)
        furthest.append(asked[-1] - place)
    assert asked == list(range(1, asked[-1] + 1))
    assert furthest[0] == FIRST_WINDOW
    assert max(furthest) == MOST
    assert min(furthest[20:]) >= MOST // 2
    assert reader.window == MOST


def test_reads_larger_than_a_block_go_on_too() -> None:
    reader = ReadAhead(BLOCK, MOST)
    asked: set[int] = set()
    for place in range(0, 40, 2):
        assert place == 0 or {place, place + 1} <= asked
        asked |= set(read(reader, place, size=2 * BLOCK))


def test_pieces_that_come_out_of_order_do_not_matter() -> None:
    reader = ReadAhead(BLOCK, MOST)
    pieces = [(block, start) for block in range(40) for start in range(0, BLOCK, PIECE)]
    dice = random.Random(1)
    for at in range(0, len(pieces) - 2, 3):
        window = pieces[at : at + 3]
        dice.shuffle(window)
        pieces[at : at + 3] = window
    asked = [n for block, start in [(0, 0), *pieces] for n in read(reader, block, start=start)]
    assert len(asked) == len(set(asked))
    assert reader.window == MOST


def test_a_seek_ends_it_at_once() -> None:
    reader = ReadAhead(BLOCK, MOST)
    for place in range(20):
        read_block(reader, place)
    assert reader.window == MOST
    assert read(reader, 500) == []
    assert reader.window == 0
    assert "window=0" in repr(reader)
    # From there in order again: it begins small.
    assert read(reader, 501) == [502, 503]


def test_the_start_in_the_middle_waits_for_a_sign() -> None:
    reader = ReadAhead(BLOCK, MOST)
    assert read_block(reader, 70) == []
    assert read(reader, 71) == [72, 73]


def test_backward_reading_is_followed() -> None:
    reader = ReadAhead(BLOCK, MOST)
    asked: list[int] = []
    for place in range(100, 40, -1):
        asked += read(reader, place)
    assert asked[:2] == [98, 97]
    assert asked == list(range(98, asked[-1] - 1, -1))
    assert reader.window == MOST


@pytest.mark.parametrize("stride", [7, -7, 3])
def test_a_stride_is_followed_once_it_is_sure(stride: int) -> None:
    reader = ReadAhead(BLOCK, MOST)
    asked: list[int] = []
    for number in range(1, 30):
        asked += read(reader, 1000 + number * stride)
    assert asked
    assert all((place - 1000) % stride == 0 for place in asked)
    assert len(asked) == len(set(asked))
    assert reader.window == MOST


def test_random_reading_fetches_nothing_ahead() -> None:
    dice = random.Random(5)
    reader = ReadAhead(BLOCK, MOST)
    asked = [n for _ in range(500) for n in read(reader, dice.randrange(1, 100_000))]
    assert asked == []


@given(
    st.integers(0, 20),
    st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 4000)), max_size=60),
)
def test_never_more_than_the_window_and_never_the_block_itself(
    most: int, reads: list[tuple[int, int]]
) -> None:
    reader = ReadAhead(BLOCK, most)
    for offset, size in reads:
        asked = reader.on_read(offset, size, 0.0)
        last = (offset + max(size, 1) - 1) // BLOCK
        assert len(asked) == len(set(asked)) <= max(1, most)
        assert last not in asked
        assert reader.window <= max(1, most)
