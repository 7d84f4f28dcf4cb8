"""Compression of one block at a time, only where it pays.

Much of what people store does not shrink (video, archives, photographs), and what costs nothing for
zstd (it gives up on random data at gigabytes a second) costs lzma 75 ms a block. So zstd is its own
probe; before lzma and zlib, zstd at its fastest level looks at a few samples, and they see only
blocks whose samples shrink; zstd itself is asked that way for data whose neighbours did not
shrink. What does not shrink by 3 % is stored as it is: decompressing costs
more than it saves.

Decompression states the exact length it expects and never makes more, whatever the data says (a
megabyte of zeros compresses to fifty bytes, so fifty bytes may ask for terabytes).

Compressor objects are costly to make and hold state, so each thread has its own.

Must not know: blocks, files, articles.
"""

from __future__ import annotations

import lzma
import threading
import zlib
from typing import Final

import zstandard

from usenetfs.errors import DecompressionError
from usenetfs.types import Codec

DEFAULT_LEVELS: Final = {Codec.NONE: 0, Codec.ZSTD: 1, Codec.LZMA: 1, Codec.ZLIB: 6}
_LEVEL_RANGES: Final = {
    Codec.NONE: range(1),
    Codec.ZSTD: range(-7, 20),
    Codec.LZMA: range(10),
    Codec.ZLIB: range(1, 10),
}

SAMPLE_SIZE: Final = 16_384
SAMPLES: Final = 6

LZMA_DICTIONARY_SIZE: Final = 1 << 20
"""Bytes; part of the format. More than a block has, and it bounds the memory of decompression."""


class _ThreadTools(threading.local):
    """zstd objects of one thread."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        compressor = self.compressors.get(level)
        if compressor is None:
            compressor = zstandard.ZstdCompressor(
                level=level, write_content_size=True, write_checksum=False, write_dict_id=False
            )
            self.compressors[level] = compressor
        return compressor


_tools: Final = _ThreadTools()


def compress(
    data: bytes | bytearray | memoryview,
    codec: Codec,
    level: int | None = None,
    *,
    doubtful: bool = False,
) -> tuple[Codec, bytes | bytearray | memoryview]:
    """``(codec used, stored bytes)``; ``(NONE, data)`` itself where compressing does not pay.

    :param level: of the codec; None for the default. ValueError outside the codec's range:
        zstd −7…19, lzma presets 0…9, zlib 1…9.
    :param doubtful: that it shrinks is not to be expected (its neighbours did not): samples decide
        before zstd, too.

    Releases the GIL for most of its time.
    """
    if level is None:
        level = DEFAULT_LEVELS[codec]
    check_level(codec, level)
    if codec is Codec.NONE or not data:
        return Codec.NONE, data
    if codec is Codec.ZSTD:
        if doubtful and not _samples_shrink(data):
            return Codec.NONE, data
        stored = _tools.compressor(level).compress(data)
    elif not _samples_shrink(data):
        return Codec.NONE, data
    elif codec is Codec.ZLIB:
        stored = zlib.compress(data, level)
    else:
        stored = lzma.compress(data, format=lzma.FORMAT_RAW, filters=_lzma_filters(level))
    if _pays(len(data), len(stored)):
        return codec, stored
    return Codec.NONE, data


def decompress(codec: Codec, data: bytes | bytearray | memoryview, raw_length: int) -> bytes:
    """The content of a segment: exactly ``raw_length`` bytes, else DecompressionError.

    At most ``raw_length`` + 1 bytes are ever made, and the input must be used up exactly.
    """
    match codec:
        case Codec.NONE:
            content = bytes(data)
        case Codec.ZSTD:
            content = _zstd_content(data, raw_length)
        case Codec.ZLIB:
            content = _zlib_content(data, raw_length)
        case _:
            content = _lzma_content(data, raw_length)
    if len(content) != raw_length:
        raise DecompressionError(f"{len(content)} bytes came out where {raw_length} were stored")
    return content


def check_level(codec: Codec, level: int) -> None:
    """Raise ValueError unless ``codec`` knows ``level``."""
    levels = _LEVEL_RANGES[codec]
    if level not in levels:
        raise ValueError(f"{codec.name.lower()} levels are {levels[0]} to {levels[-1]}")


def _pays(raw: int, stored: int) -> bool:
    """At least 3 % smaller."""
    return stored * 100 <= raw * 97


def _samples_shrink(data: bytes | bytearray | memoryview) -> bool:
    """Whether a few samples, evenly spread, shrink at zstd's fastest useful level."""
    view = memoryview(data)
    compressor = _tools.compressor(1)
    if len(view) <= SAMPLES * SAMPLE_SIZE:
        return _pays(len(view), len(compressor.compress(view)))
    step = (len(view) - SAMPLE_SIZE) // (SAMPLES - 1)
    stored = sum(
        len(compressor.compress(view[start : start + SAMPLE_SIZE]))
        for start in range(0, SAMPLES * step, step)
    )
    return _pays(SAMPLES * SAMPLE_SIZE, stored)


def _lzma_filters(preset: int) -> list[dict[str, int]]:
    return [
        {"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": LZMA_DICTIONARY_SIZE},
    ]


def _zstd_content(data: bytes | bytearray | memoryview, raw_length: int) -> bytes:
    """The frame says its size itself; it is believed only where it says what is expected."""
    try:
        if zstandard.frame_content_size(data) != raw_length:
            raise DecompressionError("the zstd frame has another size than was stored")
        return _tools.decompressor.decompress(
            data, max_output_size=raw_length, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise DecompressionError(f"zstd: {error}") from None


def _zlib_content(data: bytes | bytearray | memoryview, raw_length: int) -> bytes:
    decoder = zlib.decompressobj()
    try:
        content = decoder.decompress(data, raw_length + 1)
    except zlib.error as error:
        raise DecompressionError(f"zlib: {error}") from None
    if not decoder.eof or decoder.unused_data:
        raise DecompressionError("zlib: the data ends too early or too late")
    return content


def _lzma_content(data: bytes | bytearray | memoryview, raw_length: int) -> bytes:
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_lzma_filters(0))
    try:
        content = decoder.decompress(data, raw_length + 1)
    except lzma.LZMAError as error:
        raise DecompressionError(f"lzma: {error}") from None
    if not decoder.eof or decoder.unused_data:
        raise DecompressionError("lzma: the data ends too early or too late")
    return content
