"""The spool: articles on disk, found by Message-ID or by number within a group.

Owns the spool directory: a lock file, and segment files ``00000001.seg``, … to which records are
only ever appended. Invariants: ``append`` returns after the whole record has been handed to the
kernel, so that an article acknowledged after it survives the death of the process; after
``take_unsynced().sync()`` it survives the loss of power too; a record that is
not whole is never served, and the torn end of the last segment is cut off at opening. Blocking,
one thread at a time, except ``Unsynced.sync``. Must not know: NNTP, trio.

An article is kept as it goes over the wire: dot-stuffed, with CRLF line ends and the closing
``.CRLF``, so that serving it is one contiguous write.

Memory: one dictionary entry of about 200 bytes for each article, and 8 bytes for each group it
is in; ``max_articles`` bounds both (a million articles: about 200 MB).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from usenetfs.errors import DiskFullError, LocalStorageError

log = logging.getLogger("usenetfs.nntpd")

Piece = bytes | bytearray | memoryview

MAGIC: Final = b"NART"
FORMAT_VERSION: Final = 1
_HEADER: Final = struct.Struct("<4sBBHHIIII")
"""magic, version, reserved, id length, group names length, head length, article length,
CRC-32 of all that follows the header, CRC-32 of the header before this field."""
DEFAULT_SEGMENT_SIZE: Final = 256 << 20
DEFAULT_MAX_ARTICLES: Final = 1_000_000

_SEGMENT_BITS: Final = 24
_OFFSET_BITS: Final = 40
_LENGTH_BITS: Final = 32


@dataclass(frozen=True, slots=True)
class StoredArticle:
    """Where an article lies: ``length`` octets at ``offset`` of the open file ``descriptor``.

    The first ``head_length`` octets are the header section with the empty line that ends it; the
    last three are the closing ``.CRLF``. The descriptor belongs to the spool.
    """

    descriptor: int
    offset: int
    length: int
    head_length: int

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        """Octets ``start`` to ``end`` of the stored form; :class:`LocalStorageError` if short."""
        stop = self.length if end is None else end
        data = os.pread(self.descriptor, stop - start, self.offset + start)
        if len(data) != stop - start:
            raise LocalStorageError("a segment file of the spool is shorter than it was")
        return data


@dataclass(frozen=True, slots=True)
class Unsynced:
    """Segment files with articles that only the kernel has."""

    descriptors: tuple[int, ...]

    def sync(self) -> None:
        """Bring them to the disk; blocking, for a thread. OSError if the disk fails."""
        for descriptor in self.descriptors:
            os.fdatasync(descriptor)


class Spool:
    """The articles of one directory; a context manager. See the module's docstring."""

    def __init__(
        self,
        directory: Path,
        *,
        segment_size: int = DEFAULT_SEGMENT_SIZE,
        max_articles: int = DEFAULT_MAX_ARTICLES,
    ) -> None:
        self.directory = directory
        self._segment_size = segment_size
        self._max_articles = max_articles
        self._articles: dict[bytes, int] = {}
        self._groups: dict[str, list[bytes]] = {}
        self._descriptors: dict[int, int] = {}
        self._current = 0
        self._end = 0
        self._unsynced: set[int] = set()
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = self._take_lock()
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        segments = len(self._descriptors)
        return f"<Spool {self.directory} articles={len(self)} segments={segments} end={self._end}>"

    def __len__(self) -> int:
        return len(self._articles)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every file. Articles appended are safe from the death of the process before."""
        for descriptor in (*self._descriptors.values(), self._lock):
            os.close(descriptor)
        self._descriptors.clear()
        self._articles.clear()
        self._groups.clear()

    # --- looking up

    def __contains__(self, message_id: str) -> bool:
        return _digest(message_id) in self._articles

    def find(self, message_id: str) -> StoredArticle | None:
        packed = self._articles.get(_digest(message_id))
        return None if packed is None else self._unpack(packed)

    def count(self, group: str) -> int:
        """Articles ever filed in ``group``; their numbers are 1 to this."""
        return len(self._groups.get(group, ()))

    def by_number(self, group: str, number: int) -> tuple[str, StoredArticle] | None:
        """Message-ID and place of the article; None where there is none or it was removed."""
        filed = self._groups.get(group, [])
        if not 1 <= number <= len(filed):
            return None
        packed = self._articles.get(filed[number - 1])
        if packed is None:
            return None
        return self._message_id(packed), self._unpack(packed)

    def any_other(self, message_id: str) -> StoredArticle | None:
        """Some article that is not this one, the newest if possible: for the fault of that name."""
        mine = _digest(message_id)
        for digest in reversed(self._articles):
            if digest != mine:
                return self._unpack(self._articles[digest])
        return None

    # --- changing

    def append(
        self, message_id: str, groups: Sequence[str], head: bytes, body: Sequence[Piece]
    ) -> None:
        """File an article; ``body`` in pieces, dot-stuffed, ending in ``.CRLF``.

        Raises :class:`DiskFullError` (nothing was filed; the spool goes on) and
        :class:`LocalStorageError`. Whether the id is taken is for the caller to ask first.
        """
        if len(self._articles) >= self._max_articles:
            raise DiskFullError(f"the spool holds its {self._max_articles} articles")
        name, filed = message_id.encode("ascii"), " ".join(groups).encode("ascii")
        checksum = zlib.crc32(filed, zlib.crc32(name))
        length = 0
        for piece in (head, *body):
            checksum = zlib.crc32(piece, checksum)
            length += len(piece)
        header = _pack_header(len(name), len(filed), len(head), length, checksum)
        start = len(header) + len(name) + len(filed)
        if self._end and self._end + start + length > self._segment_size:
            self._open_segment(self._current + 1)
        self._write([header, name, filed, head, *body], start + length)
        self._file(name, filed, _pack(self._current, self._end + start, length, len(head)))
        self._end += start + length
        self._unsynced.add(self._current)

    def take_unsynced(self) -> Unsynced:
        """What has to be synced so that all appended so far survives the loss of power."""
        pending, self._unsynced = self._unsynced, set()
        return Unsynced(tuple(self._descriptors[segment] for segment in pending))

    # --- segments

    def _take_lock(self) -> int:
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise LocalStorageError(
                f"another news server uses the spool {self.directory}",
                hint="stop that server, or give this one another directory",
            ) from None
        return descriptor

    def _load(self) -> None:
        numbers = sorted(int(path.stem) for path in self.directory.glob("[0-9]*.seg"))
        for number in numbers:
            self._open_segment(number)
            size = os.fstat(self._descriptors[number]).st_size
            last = number == numbers[-1]
            self._end = self._scan(number, size, check_all=last)
            if self._end < size:
                self._report_rest(number, size - self._end, last=last)
        if not numbers:
            self._open_segment(1)

    def _report_rest(self, number: int, rest: int, *, last: bool) -> None:
        """Octets after the last whole record: cut off where it was being written, else damage."""
        if last:
            os.ftruncate(self._descriptors[number], self._end)
            log.info("spool segment %d: a torn end of %d octets was cut off", number, rest)
        else:
            log.warning("spool segment %d: %d octets are damaged and not served", number, rest)

    def _scan(self, number: int, size: int, *, check_all: bool) -> int:
        """File every record of a segment; return where the last whole one ends.

        Checksums of contents are compared in the last segment only: a crash tears nothing else,
        and reading a whole spool would make starting slow.
        """
        descriptor = self._descriptors[number]
        position = 0
        for fields in self._headers(descriptor, size):
            name_length, filed_length, head_length, length, checksum = fields
            names = os.pread(descriptor, name_length + filed_length, position + _HEADER.size)
            start = position + _HEADER.size + len(names)
            if check_all:
                content = os.pread(descriptor, length, start)
                if zlib.crc32(content, zlib.crc32(names)) != checksum:
                    break
            packed = _pack(number, start, length, head_length)
            self._file(names[:name_length], names[name_length:], packed)
            position = start + length
        return position

    @staticmethod
    def _headers(descriptor: int, size: int) -> Iterator[tuple[int, int, int, int, int]]:
        """The fields of each record header, up to the first that is not whole."""
        position = 0
        while position + _HEADER.size <= size:
            raw = os.pread(descriptor, _HEADER.size, position)
            magic, version, _, *fields, checksum = _HEADER.unpack(raw)
            if magic != MAGIC or version != FORMAT_VERSION or checksum != zlib.crc32(raw[:-4]):
                return
            name_length, filed_length, head_length, length, contents = fields
            position += _HEADER.size + name_length + filed_length + length
            if position > size:
                return
            yield name_length, filed_length, head_length, length, contents

    def _open_segment(self, number: int) -> None:
        path = self.directory / f"{number:08d}.seg"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._descriptors[number] = os.open(path, flags, 0o600)
        self._current, self._end = number, 0
        folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _write(self, pieces: list[Piece], total: int) -> None:
        descriptor = self._descriptors[self._current]
        try:
            written = os.pwritev(descriptor, pieces, self._end)
            if written < total:
                rest = b"".join(pieces)
                while written < total:
                    written += os.pwrite(descriptor, rest[written:], self._end + written)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self._end)
            raise DiskFullError(f"the spool cannot be written: {error.strerror}") from error

    def _file(self, name: bytes, filed: bytes, packed: int) -> None:
        digest = _digest(name.decode("ascii"))
        self._articles[digest] = packed
        for group in filed.decode("ascii").split():
            self._groups.setdefault(group, []).append(digest)

    def _unpack(self, packed: int) -> StoredArticle:
        segment, offset, length, head_length = _unpack(packed)
        return StoredArticle(self._descriptors[segment], offset, length, head_length)

    def _message_id(self, packed: int) -> str:
        """Read back from the article itself: keeping ids in memory would double what it takes."""
        article = self._unpack(packed)
        for line in article.read(0, article.head_length).split(b"\r\n"):
            if line[:11].lower() == b"message-id:":
                return line[11:].strip().decode("ascii")
        raise LocalStorageError(f"an article at offset {article.offset} has no Message-ID")


def _digest(message_id: str) -> bytes:
    return hashlib.blake2b(message_id.encode("ascii", "replace"), digest_size=16).digest()


def _pack_header(name: int, filed: int, head: int, length: int, checksum: int) -> bytes:
    header = _HEADER.pack(MAGIC, FORMAT_VERSION, 0, name, filed, head, length, checksum, 0)
    return header[:-4] + zlib.crc32(header[:-4]).to_bytes(4, "little")


def _pack(segment: int, offset: int, length: int, head_length: int) -> int:
    """One integer for a place: a tenth of the memory of an object."""
    packed = segment << _OFFSET_BITS | offset
    return (packed << _LENGTH_BITS | length) << _LENGTH_BITS | head_length


def _unpack(packed: int) -> tuple[int, int, int, int]:
    mask = (1 << _LENGTH_BITS) - 1
    head_length, length, place = packed & mask, packed >> _LENGTH_BITS & mask, packed >> 64
    return place >> _OFFSET_BITS, place & ((1 << _OFFSET_BITS) - 1), length, head_length
