"""The system calls under staging and cache: whole reads and writes, holes, and errors translated.

Owns: the one place where an OSError of local storage becomes an error of ours, with the path and
what to do about it. Knows nothing of blocks or articles.

``fallocate`` and ``syncfs`` are not in the standard library, so they are called through ctypes,
which lets other threads run meanwhile.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from collections.abc import Callable
from typing import Final

from usenetfs.errors import DiskFullError, LocalStorageError

_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02
_ZEROS: Final = bytes(1 << 16)
_UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_HINTS: Final = {
    errno.EIO: "the disk reports an error: look into the kernel log and check the disk",
    errno.EROFS: "the disk is mounted read-only: look into the kernel log, then mount it writable",
    errno.EACCES: "give the user that runs usenetfs the right to read and write there",
    errno.EPERM: "give the user that runs usenetfs the right to read and write there",
    errno.ENOENT: "the directory was removed or unmounted: put it back and mount again",
    errno.ENOTDIR: "something that is not a directory is in the way: move it and mount again",
    errno.EMFILE: "raise the limit of open files: ulimit -n",
    errno.ENFILE: "raise the limit of open files: sysctl fs.file-max",
    errno.EFBIG: "the limit of file size (ulimit -f) or of the disk's filesystem is reached",
}


def storage_error(error: OSError, doing: str, path: str) -> LocalStorageError:
    """The error of ours for ``error``, met while ``doing`` (an infinitive) ``path``."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    message = f"cannot {doing} {path}: {reason}"
    if error.errno in _FULL:
        return DiskFullError(message, hint=f"free space on the disk that holds {path}")
    return LocalStorageError(message, hint=_HINTS.get(error.errno or 0))


def open_existing(path: str) -> int | None:
    """A descriptor for reading and writing; None when there is no such file."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def create_new(path: str) -> int | None:
    """A descriptor of a new, empty file; None when there is one already."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return None


def write_all(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Writes all of ``data`` at ``offset``, going on after short writes."""
    written = os.pwrite(descriptor, data, offset)
    if written != len(data):
        rest = memoryview(data)[written:]
        while rest:
            offset += written
            written = os.pwrite(descriptor, rest, offset)
            if not written:
                raise OSError(errno.EIO, "nothing was written")
            rest = rest[written:]


def read_padded(descriptor: int, length: int, offset: int) -> bytes:
    """``length`` bytes from ``offset``; what is beyond the end of the file reads as zeros."""
    data = os.pread(descriptor, length, offset)
    if len(data) == length:
        return data
    whole = bytearray(data)
    while len(whole) < length:
        data = os.pread(descriptor, length - len(whole), offset + len(whole))
        if not data:
            return bytes(whole.ljust(length, b"\0"))
        whole += data
    return bytes(whole)


def punch_hole(descriptor: int, offset: int, length: int) -> bool:
    """Frees a range, to the byte, so that it reads as zeros. False: this filesystem cannot."""
    fallocate = _function("fallocate64", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, length):
        code = ctypes.get_errno()
        if code in _UNSUPPORTED:
            return False
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True


def write_zeros(descriptor: int, offset: int, length: int) -> None:
    """Makes a range read as zeros by writing them, as far as the file reaches."""
    end = min(offset + length, os.fstat(descriptor).st_size)
    while offset < end:
        size = min(end - offset, len(_ZEROS))
        write_all(descriptor, memoryview(_ZEROS)[:size], offset)
        offset += size


def holds_data(descriptor: int) -> bool:
    """Whether anything but holes is in the file. True where the filesystem cannot tell."""
    try:
        os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return False
        if error.errno not in _UNSUPPORTED:
            raise
    return True


def sync_filesystem(descriptor: int) -> None:
    """Returns when everything written to the filesystem of ``descriptor`` is on the disk."""
    if _function("syncfs", ctypes.c_int)(descriptor):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def sync_directory(path: str) -> None:
    """Returns when the entries of a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@functools.cache
def _function(name: str, *arguments: type) -> Callable[..., int]:
    library = ctypes.CDLL(None, use_errno=True)
    # musl has 64-bit offsets under the plain names only.
    function = getattr(library, name, None) or getattr(library, name.removesuffix("64"))
    function.argtypes = arguments
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]
