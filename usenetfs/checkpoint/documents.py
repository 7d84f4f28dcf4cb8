"""Documents: changesets and snapshots as they travel.

::

    raw bytes ─ frames of at most 4 MiB ─▶ zstd frames, joined ─ cut every piece_size ─▶ pieces

Each piece is the one member (inode 0, block = its number, codec none) of an article of kind
changeset or snapshot. A short document is *inline*: a member of its checkpoint's own container.

Owns: frames, pieces, and the check of size and SHA-256 over the raw bytes. Both ways are streams:
memory holds a frame and a piece, whatever the document's length. A reader may use what it gets only
once the iterator has ended without error: what comes before the end is not yet known to be whole.

Must not know: what is in a document (``changeset``), where pieces are posted (``document_sender``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

import zstandard

from usenetfs.article.container import Container, Kind, Member, choose_padding, container_size, pack
from usenetfs.article.hashing import segment_hash
from usenetfs.errors import DocumentError
from usenetfs.types import BlockNumber, Codec, InodeId

FRAME_SIZE: Final = 4 << 20
"""Raw bytes of a frame, all but the last."""

LEVEL: Final = 3

INLINE_LIMIT: Final = 160 * 1024
"""Compressed bytes up to which a document travels inside its checkpoint."""

_FRAME_OVERHEAD: Final = 1024
_MAX_STORED_FRAME: Final = FRAME_SIZE + FRAME_SIZE // 64 + _FRAME_OVERHEAD
"""More than zstd makes of a frame that does not shrink."""


class DocumentBuilder:
    """Takes raw bytes, gives pieces of ``piece_size`` bytes, the last of them shorter.

    After :meth:`finish`: ``size`` and ``sha256`` of what was put in, ``stored`` bytes came out.
    """

    def __init__(self, piece_size: int) -> None:
        if piece_size < 1:
            raise ValueError("a piece has at least one byte")
        self._piece_size = piece_size
        self._compressor = zstandard.ZstdCompressor(
            level=LEVEL, write_content_size=True, write_checksum=False, write_dict_id=False
        )
        self._hash = hashlib.sha256()
        self._raw = bytearray()
        self._out = bytearray()
        self.size = 0
        self.stored = 0

    def __repr__(self) -> str:
        return f"<DocumentBuilder size={self.size} stored={self.stored}>"

    @property
    def sha256(self) -> bytes:
        return self._hash.digest()

    def add(self, raw: bytes | bytearray | memoryview) -> list[bytes]:
        """The pieces that ``raw`` fills."""
        self._hash.update(raw)
        self.size += len(raw)
        self._raw += raw
        while len(self._raw) >= FRAME_SIZE:
            self._frame(FRAME_SIZE)
        return self._full_pieces()

    def finish(self) -> list[bytes]:
        """The pieces that were left; none for an empty document. Nothing may be added after it."""
        if self._raw:
            self._frame(len(self._raw))
        pieces = self._full_pieces()
        if self._out:
            pieces.append(bytes(self._out))
            self._out.clear()
        return pieces

    def _frame(self, length: int) -> None:
        with memoryview(self._raw) as view:
            frame = self._compressor.compress(view[:length])
        del self._raw[:length]
        self.stored += len(frame)
        self._out += frame

    def _full_pieces(self) -> list[bytes]:
        pieces = []
        while len(self._out) >= self._piece_size:
            pieces.append(bytes(self._out[: self._piece_size]))
            del self._out[: self._piece_size]
        return pieces


def compress_whole(raw: bytes) -> bytes:
    """A short document's stored form, in one go."""
    builder = DocumentBuilder(1 << 62)
    return b"".join((*builder.add(raw), *builder.finish()))


def read_document(
    pieces: Iterable[bytes | bytearray | memoryview], *, size: int, sha256: bytes
) -> Iterator[bytes]:
    """The raw bytes of a document, a frame at a time.

    DocumentError as soon as it is clear that they are not the ``size`` bytes of ``sha256``; at the
    latest after the last.
    """
    seen = 0
    digest = hashlib.sha256()
    decompressor = zstandard.ZstdDecompressor()
    for frame in _frames(pieces):
        raw = _open_frame(decompressor, frame)
        seen += len(raw)
        if seen > size:
            raise DocumentError("a document is longer than its checkpoint says")
        digest.update(raw)
        yield raw
    if seen != size or digest.digest() != sha256:
        raise DocumentError("a document is not the one that its checkpoint names")


def _frames(pieces: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    """Whole zstd frames, wherever the pieces were cut."""
    pending = bytearray()
    for piece in pieces:
        pending += piece
        while True:
            length = _frame_length(pending)
            if length is None:
                if len(pending) > _MAX_STORED_FRAME:
                    raise DocumentError("a document has a frame that is too long")
                break
            yield bytes(pending[:length])
            del pending[:length]
    if pending:
        raise DocumentError("a document ends in the middle of a frame")


def _frame_length(data: bytearray) -> int | None:
    """Bytes of the zstd frame that ``data`` begins with (RFC 8878 §3.1.1); None: not all there."""
    if len(data) < 5:
        return None
    if data[:4] != b"\x28\xb5\x2f\xfd":
        raise DocumentError("a document is not made of zstd frames")
    descriptor = data[4]
    single = descriptor >> 5 & 1
    content = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    at = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3] + content
    while True:
        if at + 3 > len(data):
            return None
        block = int.from_bytes(data[at : at + 3], "little")
        at += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)
        if block & 1:
            at += 4 * (descriptor >> 2 & 1)
            return at if at <= len(data) else None


def _open_frame(decompressor: zstandard.ZstdDecompressor, frame: bytes) -> bytes:
    """The frame says its size itself, and is believed up to ``FRAME_SIZE``."""
    try:
        size = zstandard.frame_content_size(frame)
        if not 0 < size <= FRAME_SIZE:
            raise DocumentError(f"a document has a frame of {size} bytes")
        raw = decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DocumentError(f"zstd: {error}") from None
    if len(raw) != size:
        raise DocumentError("a frame has another size than it says")
    return raw


# --- pieces --------------------------------------------------------------------------------------


def document_member(number: int, content: bytes, hash_key: bytes) -> Member:
    """The table row of part ``number`` of something: inode 0, not compressed any further."""
    return Member(
        inode=InodeId(0),
        block=BlockNumber(number),
        hash=segment_hash(hash_key, content),
        codec=Codec.NONE,
        raw_length=len(content),
        stored_length=len(content),
    )


def build_piece(
    kind: Kind, number: int, content: bytes, *, hash_key: bytes, randomness: bytes
) -> bytes:
    """The container of piece ``number``. ``randomness``: 4 bytes or more, for the padding."""
    member = document_member(number, content, hash_key)
    padding = choose_padding(container_size(1, len(content)), randomness)
    return pack(kind, [(member, content)], padding)


def piece_of(container: Container, kind: Kind, number: int) -> memoryview:
    """The content of piece ``number``. DocumentError if the container holds something else."""
    if container.kind is not kind or len(container) != 1:
        raise DocumentError("an article holds something else than a piece of a document")
    member = container.member(0)
    if member.block != number or member.inode or member.codec is not Codec.NONE:
        raise DocumentError("an article holds another piece of a document than was wanted")
    return container.payload(0)
