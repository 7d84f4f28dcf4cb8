"""Documents: frames, pieces, and that nothing else than what was put in comes out."""

from __future__ import annotations

import hashlib
import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from usenetfs.article.container import Kind, unpack
from usenetfs.checkpoint.documents import (
    FRAME_SIZE,
    DocumentBuilder,
    build_piece,
    compress_whole,
    piece_of,
    read_document,
)
from usenetfs.errors import DocumentError

HASH_KEY = bytes(32)


def built(chunks: list[bytes], piece_size: int) -> tuple[DocumentBuilder, list[bytes]]:
    builder = DocumentBuilder(piece_size)
    pieces = [piece for chunk in chunks for piece in builder.add(chunk)]
    pieces += builder.finish()
    return builder, pieces


@given(
    chunks=st.lists(st.binary(max_size=3000), max_size=20),
    piece_size=st.integers(1, 2000),
    cut=st.integers(1, 2000),
)
def test_what_goes_in_comes_out(chunks: list[bytes], piece_size: int, cut: int) -> None:
    builder, pieces = built(chunks, piece_size)
    raw, stored = b"".join(chunks), b"".join(pieces)
    assert (builder.size, builder.stored) == (len(raw), len(stored))
    assert builder.sha256 == hashlib.sha256(raw).digest()
    assert all(len(piece) == piece_size for piece in pieces[:-1])
    again = [stored[at : at + cut] for at in range(0, len(stored), cut)]
    assert b"".join(read_document(again, size=len(raw), sha256=builder.sha256)) == raw


def test_a_long_document_is_read_a_frame_at_a_time() -> None:
    numbers = random.Random(1)
    chunk = numbers.randbytes(300_000) + bytes(400_000)
    builder, pieces = built([chunk] * 20, 716_800)
    frames = list(read_document(pieces, size=builder.size, sha256=builder.sha256))
    assert [len(frame) for frame in frames[:-1]] == [FRAME_SIZE] * 3
    assert b"".join(frames) == chunk * 20


def test_any_zstd_reader_can_read_it() -> None:
    raw = b"".join(b"%d bottles, " % count for count in range(1_000_000))
    builder, pieces = built([raw], 50_000)
    with zstandard.ZstdDecompressor().stream_reader(
        b"".join(pieces), read_across_frames=True
    ) as reader:
        assert reader.read() == raw
    assert builder.size > 2 * FRAME_SIZE


@given(data=st.binary(max_size=300), at=st.integers(0, 100), octet=st.integers(1, 255))
def test_a_changed_octet_is_found(data: bytes, at: int, octet: int) -> None:
    stored = bytearray(compress_whole(data))
    if at >= len(stored):
        return
    stored[at] ^= octet
    read: list[bytes] = []
    try:
        read.extend(read_document([stored], size=len(data), sha256=hashlib.sha256(data).digest()))
    except DocumentError:
        return
    assert b"".join(read) == data  # a bit that zstd does not look at


@pytest.mark.parametrize("change", ["longer", "shorter", "cut", "other", "plain", "huge", "more"])
def test_what_is_not_the_document_is_refused(change: str) -> None:
    raw = b"0123456789" * 1000
    stored = compress_whole(raw)
    size, digest = len(raw), hashlib.sha256(raw).digest()
    match change:
        case "longer":
            size -= 1
        case "shorter":
            size += 1
        case "cut":
            stored = stored[:-1]
        case "other":
            digest = bytes(32)
        case "plain":
            stored = raw
        case "huge":
            stored = zstandard.ZstdCompressor().compress(bytes(FRAME_SIZE + 1))
        case _:
            stored += compress_whole(b"more")
    with pytest.raises(DocumentError):
        list(read_document([stored], size=size, sha256=digest))


def test_a_bomb_makes_no_more_than_a_frame() -> None:
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 28))
    with pytest.raises(DocumentError, match="bytes"):
        list(read_document([unsized], size=1 << 28, sha256=bytes(32)))


def test_a_frame_without_end_is_given_up() -> None:
    endless = b"\x28\xb5\x2f\xfd\x00\x58" + b"\x00\x00\x10" * 3_000_000
    with pytest.raises(DocumentError):
        list(read_document([endless], size=1, sha256=bytes(32)))


def test_a_piece_is_found_by_its_number_only() -> None:
    plaintext = build_piece(
        Kind.SNAPSHOT, 7, b"content", hash_key=HASH_KEY, randomness=b"\x80\0\0\0"
    )
    container = unpack(plaintext)
    assert piece_of(container, Kind.SNAPSHOT, 7) == b"content"
    for kind, number in ((Kind.SNAPSHOT, 6), (Kind.CHANGESET, 7)):
        with pytest.raises(DocumentError):
            piece_of(container, kind, number)
