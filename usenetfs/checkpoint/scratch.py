"""Octets that are too many for memory, in temporary files without a name: gone whatever happens.

Must not know what the octets mean.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from usenetfs.errors import DiskFullError, LocalStorageError

IN_MEMORY: Final = 256 * 1024
"""Octets up to which there is no file."""

CHUNK: Final = 64 * 1024
"""Octets that are written, and read, at a time."""


class Scratch:
    """Written by one thread; once that is done, read any number of times. To be closed.

    Raises DiskFullError and LocalStorageError.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: tempfile.SpooledTemporaryFile[bytes]
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(directory))  # noqa: SIM115
        self._gathered: list[bytes] = []
        self._unwritten = 0
        self.size = 0

    def __repr__(self) -> str:
        return f"<Scratch size={self.size}>"

    def __bool__(self) -> bool:
        return self.size > 0

    def append(self, data: bytes) -> None:
        self._gathered.append(data)
        self.size += len(data)
        self._unwritten += len(data)
        if self._unwritten >= CHUNK:
            self._write()

    def _write(self) -> None:
        with translating(self._directory):
            self._file.write(b"".join(self._gathered))
        self._gathered.clear()
        self._unwritten = 0

    def read(self, offset: int, length: int) -> bytes:
        """A part of it."""
        if self._gathered:
            self._write()
        with translating(self._directory):
            self._file.seek(offset)
            return self._file.read(length)

    def whole(self) -> bytes:
        """All of it; where that is known to be little."""
        return self.read(0, self.size)

    def __iter__(self) -> Iterator[bytes]:
        """All of it, in chunks."""
        for offset in range(0, self.size, CHUNK):
            yield self.read(offset, CHUNK)

    def close(self) -> None:
        self._file.close()


@contextmanager
def translating(directory: Path) -> Iterator[None]:
    """Errors of a temporary file as the project's."""
    try:
        yield
    except OSError as error:
        kind = DiskFullError if error.errno in {errno.ENOSPC, errno.EDQUOT} else LocalStorageError
        raise kind(f"a temporary file in {directory} failed: {error.strerror}") from error
