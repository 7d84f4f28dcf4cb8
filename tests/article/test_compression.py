"""Compression pays or is left out; decompression makes what was stated or nothing."""

from __future__ import annotations

import lzma
import resource
import threading
import zlib
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.article.examples import noise
from usenetfs.article.compression import DEFAULT_LEVELS, SAMPLE_SIZE, compress, decompress
from usenetfs.errors import DecompressionError
from usenetfs.types import Codec

CODECS = [Codec.ZSTD, Codec.LZMA, Codec.ZLIB]
WORDS = [noise(f"word {n}", n % 9 + 2).hex().encode() for n in range(400)]
TEXT = b" ".join(WORDS[a * b % 400] for a, b in pairwise(noise("text", 30_000)))
LZMA_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 20}]


def encoded_zeros(codec: Codec, size: int) -> bytes:
    """``size`` zero bytes, compressed outside the module under test."""
    match codec:
        case Codec.ZSTD:
            return zstandard.ZstdCompressor().compress(bytes(size))
        case Codec.ZLIB:
            return zlib.compress(bytes(size))
        case _:
            return lzma.compress(bytes(size), format=lzma.FORMAT_RAW, filters=LZMA_FILTERS)


@pytest.mark.parametrize("codec", CODECS)
def test_text_shrinks_and_comes_back(codec: Codec) -> None:
    for form in (TEXT, bytearray(TEXT), memoryview(TEXT)):
        used, stored = compress(form, codec)
        assert used is codec
        assert len(stored) < len(TEXT) // 2
        assert decompress(codec, memoryview(stored), len(TEXT)) == TEXT


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.binary(max_size=3000) | st.binary(max_size=30).map(lambda piece: piece * 50))
def test_round_trip(codec: Codec, data: bytes) -> None:
    used, stored = compress(data, codec)
    assert used in {codec, Codec.NONE}
    if used is Codec.NONE:
        assert stored is data
    else:
        assert len(stored) * 100 <= len(data) * 97
    assert decompress(used, stored, len(data)) == data


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [1, 100, SAMPLE_SIZE, 700 * 1024])
def test_noise_is_stored_as_it_is_and_not_copied(codec: Codec, size: int) -> None:
    data = noise("incompressible", size)
    used, stored = compress(data, codec)
    assert used is Codec.NONE
    assert stored is data


@pytest.mark.parametrize("codec", CODECS)
def test_a_gain_below_three_percent_does_not_pay(codec: Codec) -> None:
    data = noise("slightly", 98_000) + bytes(2000)
    assert compress(data, codec)[0] is Codec.NONE
    data = noise("slightly", 95_000) + bytes(5000)
    assert compress(data, codec)[0] is codec


@pytest.mark.parametrize("codec", [Codec.LZMA, Codec.ZLIB])
def test_samples_see_the_whole_block(codec: Codec) -> None:
    # Only the second half shrinks; a probe of the beginning alone would miss it.
    data = noise("first half", 300_000) + bytes(300_000)
    assert compress(data, codec)[0] is codec


def test_none_passes_through() -> None:
    assert compress(TEXT, Codec.NONE) == (Codec.NONE, TEXT)
    assert compress(b"", Codec.ZSTD) == (Codec.NONE, b"")
    assert decompress(Codec.NONE, memoryview(b"abc"), 3) == b"abc"


@pytest.mark.parametrize(
    ("codec", "level"),
    [
        (Codec.NONE, 1),
        (Codec.ZSTD, -8),
        (Codec.ZSTD, 20),
        (Codec.LZMA, 10),
        (Codec.ZLIB, 0),
        (Codec.ZLIB, 10),
    ],
)
def test_levels_are_checked(codec: Codec, level: int) -> None:
    with pytest.raises(ValueError, match="levels are"):
        compress(TEXT, codec, level)


@pytest.mark.parametrize("codec", CODECS)
def test_levels_matter(codec: Codec) -> None:
    high = {Codec.ZSTD: 19, Codec.LZMA: 6, Codec.ZLIB: 9}[codec]
    low = {Codec.ZSTD: -5, Codec.LZMA: 0, Codec.ZLIB: 1}[codec]
    assert len(compress(TEXT, codec, high)[1]) < len(compress(TEXT, codec, low)[1])
    assert compress(TEXT, codec) == compress(TEXT, codec, DEFAULT_LEVELS[codec])


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("difference", [-len(TEXT), -1, 1, 10**6])
def test_the_length_must_be_exact(codec: Codec, difference: int) -> None:
    stored = compress(TEXT, codec)[1]
    with pytest.raises(DecompressionError):
        decompress(codec, stored, len(TEXT) + difference)


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_cut_or_goes_on_is_refused(codec: Codec) -> None:
    stored = bytes(compress(TEXT, codec)[1])
    for wrong in (b"", stored[:1], stored[:-1], stored[: len(stored) // 2], stored + b"\0"):
        with pytest.raises(DecompressionError):
            decompress(codec, wrong, len(TEXT))


@pytest.mark.parametrize("codec", CODECS)
@given(garbage=st.binary(max_size=200))
def test_garbage_raises_nothing_else(codec: Codec, garbage: bytes) -> None:
    with pytest.raises(DecompressionError):
        decompress(codec, garbage, 1000)


@pytest.mark.parametrize("codec", CODECS)
def test_bombs_do_not_go_off(codec: Codec) -> None:
    size = 512 << 20 if codec is Codec.ZSTD else 64 << 20
    bomb = encoded_zeros(codec, size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DecompressionError):
        decompress(codec, bomb, 700 * 1024)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 16 << 10  # KiB


def test_a_zstd_frame_that_hides_its_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
    with pytest.raises(DecompressionError):
        decompress(Codec.ZSTD, frame, len(TEXT))


def test_a_zstd_frame_that_lies_about_its_size_is_refused() -> None:
    frame = bytearray(zstandard.ZstdCompressor().compress(bytes(1000)))
    position = bytes(frame).index((1000 - 256).to_bytes(2, "little"))
    frame[position : position + 2] = (100 - 256 + 65536).to_bytes(3, "little")[:2]
    with pytest.raises(DecompressionError):
        decompress(Codec.ZSTD, frame, 100)


@pytest.mark.parametrize("codec", CODECS)
def test_threads_do_not_share_state(codec: Codec) -> None:
    failures: list[int] = []
    barrier = threading.Barrier(4)

    def work(worker: int) -> None:
        data = b"".join(b"worker %d line %d\n" % (worker, n) for n in range(3000))
        barrier.wait(10)
        for _ in range(5):
            used, stored = compress(data, codec, 1)
            if used is not codec or decompress(used, stored, len(data)) != data:
                failures.append(worker)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_what_is_doubtful_is_sampled_before_zstd() -> None:
    random, text = noise("doubtful", 700_000), b"the quick brown fox " * 35_000
    assert compress(random, Codec.ZSTD, doubtful=True) == (Codec.NONE, random)
    assert compress(text, Codec.ZSTD, doubtful=True) == compress(text, Codec.ZSTD)
    small = b"abc" * 100
    assert compress(small, Codec.ZSTD, doubtful=True)[0] is Codec.ZSTD
