"""The local side of an import: directories listed, attributes read, contents read or mapped.

Everything here blocks and runs in threads, except where it says otherwise. Names are ``bytes``.

**A mapped file may shrink under us**, and a process that touches a page behind the end is killed
by SIGBUS. So nobody here or elsewhere in the process reads a mapping: it is handed to the kernel
as the source of a ``pwrite``, which answers EFAULT instead. Pages are brought into memory before,
by ``preadv`` in a thread (Python's madvise holds its lock while it waits for the disk).

**What changed while it was read is not what was read.** Readers compare the file's size, mtime and
ctime before and after; :class:`SourceChangedError` says that they differ.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from usenetfs.errors import UsenetfsError

_OPEN: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NO_XATTRS: Final = frozenset({errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENODATA})
_SCRATCH: Final = 1 << 20


class SourceError(UsenetfsError):
    """A local file or directory cannot be read. The message is the reason alone."""

    error_code = "source"


class SourceChangedError(SourceError):
    """The file changed while it was read."""

    error_code = "source_changed"


def source_error(error: OSError) -> SourceError:
    """What ``error`` means for a source."""
    if error.errno in {errno.ENOENT, errno.ESTALE}:
        return SourceError("it is not there, or vanished before it could be read")
    if error.errno == errno.ELOOP:
        return SourceChangedError("it became a symbolic link")
    return SourceError(error.strerror or str(error))


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a local directory. ``path``: for open(2); ``relative``: below the top."""

    path: bytes
    relative: bytes
    status: os.stat_result

    @property
    def name(self) -> bytes:
        return self.relative.rpartition(b"/")[2]

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    @property
    def size(self) -> int:
        """Octets of content."""
        return self.status.st_size if self.is_file else 0


@dataclass(frozen=True, slots=True)
class Content:
    """A small file, whole. ``status`` is of the moment of reading."""

    status: os.stat_result
    xattrs: dict[bytes, bytes]
    data: bytes


class Listing:
    """An open directory, read in batches; a context manager."""

    def __init__(self, path: bytes, relative: bytes) -> None:
        self._prefix = relative + b"/" if relative else b""
        try:
            self._entries = os.scandir(path)
        except OSError as error:
            raise source_error(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entries.close()

    def batch(self, limit: int) -> list[Entry]:
        """The next entries, by name; none at the end. What vanishes meanwhile is passed over."""
        found: list[Entry] = []
        try:
            for entry in self._entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    found.append(Entry(entry.path, self._prefix + entry.name, status))
                if len(found) >= limit:
                    break
        except OSError as error:
            raise source_error(error) from error
        return sorted(found, key=lambda entry: entry.relative)


def read_status(path: bytes, follow: bool) -> os.stat_result:
    """What lstat says, or with ``follow`` stat."""
    try:
        return os.stat(path, follow_symlinks=follow)
    except OSError as error:
        raise source_error(error) from error


def read_link(path: bytes) -> bytes:
    """What a symbolic link says."""
    try:
        return os.readlink(path)
    except OSError as error:
        raise source_error(error) from error


def read_xattrs(path: bytes) -> dict[bytes, bytes]:
    """The extended attributes that are kept: users', trusted ones, and capabilities.

    Access control lists (``system.*``) are not: the mount has none. Links are not followed.
    """
    kept: dict[bytes, bytes] = {}
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return kept
        raise source_error(error) from error
    for name in names:
        if is_kept_xattr(name):
            with contextlib.suppress(OSError):  # gone meanwhile, or not ours to read
                kept[os.fsencode(name)] = os.getxattr(path, name, follow_symlinks=False)
    return kept


def is_kept_xattr(name: str) -> bool:
    """Whether an extended attribute belongs to the file rather than to where it is."""
    if name.startswith("user."):
        return not name.startswith("user.usenetfs.")
    return name.startswith("trusted.") or name == "security.capability"


def same_state(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether nothing was written between two looks at a file."""
    return (one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino, one.st_dev) == (
        other.st_size,
        other.st_mtime_ns,
        other.st_ctime_ns,
        other.st_ino,
        other.st_dev,
    )


def read_small(path: bytes, limit: int) -> Content:
    """A file of at most ``limit`` octets; SourceChangedError when it changes or is longer."""
    try:
        with _opened(path) as descriptor:
            before = os.fstat(descriptor)
            _check_regular(before)
            if before.st_size > limit:
                raise SourceChangedError("it grew before it was read")
            data = _read(descriptor, before.st_size)
            xattrs = read_xattrs(path)
            if len(data) != before.st_size or not same_state(before, os.fstat(descriptor)):
                raise SourceChangedError("it changed while it was read")
            return Content(before, xattrs, data)
    except OSError as error:
        raise source_error(error) from error


def _read(descriptor: int, size: int) -> bytes:
    """``size`` octets, and one more where the file has grown; fewer where it ends."""
    data = os.read(descriptor, size + 1)
    while len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
        data += more
    return data


@contextlib.contextmanager
def _opened(path: bytes) -> Iterator[int]:
    descriptor = os.open(path, _OPEN)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SourceChangedError("it is no regular file any more")


@dataclass(slots=True)
class MappedFile:
    """A large file, seen through windows of a mapping. A context manager; one user at a time."""

    path: bytes
    descriptor: int = -1
    status: os.stat_result = field(init=False)
    """As of opening."""
    _window: mmap.mmap | None = None

    def __enter__(self) -> Self:
        try:
            self.descriptor = os.open(self.path, _OPEN)
            self.status = os.fstat(self.descriptor)
            _check_regular(self.status)
        except OSError as error:
            raise source_error(error) from error
        except SourceError:
            os.close(self.descriptor)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drop_window()
        os.close(self.descriptor)

    @property
    def size(self) -> int:
        return self.status.st_size

    def window(self, start: int, length: int) -> memoryview:
        """``length`` octets from ``start``, in memory as far as they could be brought in.

        Never look into it (see the module). Release it before the next call.
        """
        self._drop_window()
        before = start % mmap.ALLOCATIONGRANULARITY
        try:
            window = mmap.mmap(
                self.descriptor,
                length + before,
                flags=mmap.MAP_SHARED,
                prot=mmap.PROT_READ,
                offset=start - before,
            )
        except ValueError as error:  # "mmap offset is greater than file size", and its like
            raise SourceChangedError("it shrank while it was read") from error
        except OSError as error:
            raise source_error(error) from error
        self._window = window
        self._read_through(start, length)
        return memoryview(window)[before : before + length]

    def _read_through(self, start: int, length: int) -> None:
        scratch = bytearray(min(length, _SCRATCH))
        try:
            for at in range(start, start + length, len(scratch)):
                if os.preadv(self.descriptor, [scratch], at) <= 0:
                    raise SourceChangedError("it shrank while it was read")
        except OSError as error:
            raise source_error(error) from error

    def _drop_window(self) -> None:
        window, self._window = self._window, None
        if window is not None:
            window.close()

    def read(self, start: int, length: int) -> bytes:
        """A copy of ``length`` octets; SourceChangedError when there are fewer."""
        try:
            data = os.pread(self.descriptor, length, start)
            while len(data) < length:
                more = os.pread(self.descriptor, length - len(data), start + len(data))
                if not more:
                    raise SourceChangedError("it shrank while it was read")
                data += more
        except OSError as error:
            raise source_error(error) from error
        return data

    def data_ranges(self, start: int, end: int) -> list[tuple[int, int]]:
        """Where, between ``start`` and ``end``, the file holds data; the rest is holes."""
        ranges: list[tuple[int, int]] = []
        at = start
        try:
            while at < end:
                low = os.lseek(self.descriptor, at, os.SEEK_DATA)
                if low >= end:
                    break
                high = min(os.lseek(self.descriptor, low, os.SEEK_HOLE), end)
                ranges.append((max(low, start), high))
                at = high
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data behind this place
                return ranges
            if error.errno in {errno.EINVAL, errno.EOPNOTSUPP}:
                return [(start, end)]
            raise source_error(error) from error
        return ranges

    def next_data(self, start: int) -> int | None:
        """Where the next data begin at or after ``start``; None when only a hole is left."""
        try:
            return os.lseek(self.descriptor, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            if error.errno in {errno.EINVAL, errno.EOPNOTSUPP}:
                return start
            raise source_error(error) from error

    def check_unchanged(self) -> None:
        """SourceChangedError when the file is not as it was when it was opened."""
        try:
            now = os.fstat(self.descriptor)
        except OSError as error:
            raise source_error(error) from error
        if not same_state(self.status, now):
            raise SourceChangedError("it changed while it was read")
