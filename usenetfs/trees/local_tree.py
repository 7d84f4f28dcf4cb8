"""The local side of a download: part files, their blocks, and everything that has no content.

Blocking calls, for threads. Names are ``bytes``. Nothing below the destination is reached through a
symbolic link: what is in the way is a conflict, not a detour. An OSError leaves as it is; whoever
calls knows whether it is one file's or everybody's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from hashlib import blake2b
from typing import Final

from usenetfs.store.syscalls import punch_hole, write_zeros
from usenetfs.trees.import_target import Attributes

PAGE: Final = 4096
PART_SUFFIX: Final = b".usenetfs-part"
NAME_MAX: Final = 255
_ZERO_PAGE: Final = bytes(PAGE)


def part_path(path: bytes) -> bytes:
    """Where a file grows until it is whole: beside it, hidden, the same each time."""
    folder, slash, name = path.rpartition(b"/")
    whole = b"." + name + PART_SUFFIX
    if len(whole) > NAME_MAX:
        digest = blake2b(name, digest_size=8).hexdigest().encode()
        kept = name[: NAME_MAX - len(PART_SUFFIX) - len(digest) - 2]
        whole = b"." + kept + b"." + digest + PART_SUFFIX
    return folder + slash + whole


def status_of(path: bytes) -> os.stat_result | None:
    """What lstat says; None when there is nothing."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def open_part(path: bytes, size: int, *, fresh: bool) -> int:
    """A descriptor of the part file, of ``size`` octets; ``fresh``: of zeros."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        if fresh:
            os.ftruncate(descriptor, 0)
        os.ftruncate(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_block(
    descriptor: int, offset: int, data: bytes | bytearray | memoryview, *, sparse: bool
) -> None:
    """Write a block; with ``sparse`` pages of zeros are left out: the file is one hole so far."""
    view = memoryview(data)
    for low, high in _filled(view) if sparse else [(0, len(view))]:
        at = low
        while at < high:
            at += os.pwrite(descriptor, view[at:high], offset + at)


def _filled(view: memoryview) -> list[tuple[int, int]]:
    """The stretches of ``view`` between pages of zeros."""
    stretches: list[tuple[int, int]] = []
    start: int | None = None
    for at in range(0, len(view), PAGE):
        page = bytes(view[at : at + PAGE])
        if page == _ZERO_PAGE[: len(page)]:
            if start is not None:
                stretches.append((start, at))
                start = None
        elif start is None:
            start = at
    if start is not None:
        stretches.append((start, len(view)))
    return stretches


def clear(descriptor: int, offset: int, length: int) -> None:
    """Make a stretch of the part file read as zeros."""
    if not punch_hole(descriptor, offset, length):
        write_zeros(descriptor, offset, length)


def read_block(descriptor: int, offset: int, length: int) -> bytes:
    """What the part file has there; shorter at its end."""
    data = os.pread(descriptor, length, offset)
    while len(data) < length and (
        more := os.pread(descriptor, length - len(data), offset + len(data))
    ):
        data += more
    return data


def make_node(path: bytes, mode: int, rdev: int, target: bytes | None) -> None:
    """A symbolic link, FIFO, socket or device in place of whatever is there, but a directory."""
    part = part_path(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    if target is not None:
        os.symlink(target, part)
    elif stat.S_ISFIFO(mode):
        os.mkfifo(part, 0o600)
    else:
        os.mknod(part, stat.S_IFMT(mode) | 0o600, rdev)
    os.replace(part, path)


def make_link(existing: bytes, path: bytes) -> None:
    """A further name for ``existing``, in place of whatever is there."""
    part = part_path(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    os.link(existing, part, follow_symlinks=False)
    try:
        os.replace(part, path)
    finally:
        # It is still there where a directory has the name, and where that is one of the same file.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


def make_directory(path: bytes) -> os.stat_result:
    """Make sure of a directory; what it is. FileExistsError: something else is there."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise
    return os.lstat(path)


def same_attributes(path: bytes, attributes: Attributes) -> bool:
    """Whether a local file has the mode, times and (where we may set them) owners it should."""
    status = os.lstat(path)
    owner = (status.st_uid, status.st_gid)
    return (
        (stat.S_ISLNK(status.st_mode) or status.st_mode == attributes.mode)
        and status.st_mtime_ns == attributes.mtime_ns
        and (os.geteuid() != 0 or owner == (attributes.uid, attributes.gid))
        and _xattrs_of(path) == attributes.xattrs
    )


def _xattrs_of(path: bytes) -> dict[bytes, bytes]:
    found = {}
    try:
        for name in os.listxattr(path, follow_symlinks=False):
            if name.startswith("user."):
                found[os.fsencode(name)] = os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return found
    return found


def apply_attributes(path: bytes, attributes: Attributes) -> list[str]:
    """Owner, mode, extended attributes, times, in the order in which they survive one another.

    Returns what could not be kept, in words. An owner is given only by root, as with rsync.
    """
    lost: list[str] = []
    link = stat.S_ISLNK(attributes.mode)
    try:
        if os.geteuid() == 0:
            os.chown(path, attributes.uid, attributes.gid, follow_symlinks=False)
        else:
            os.chown(path, -1, attributes.gid, follow_symlinks=False)
    except OSError as error:
        if os.geteuid() == 0:
            lost.append(f"its owner: {error.strerror}")
    lost += _apply_xattrs(path, attributes)
    try:
        if not link:
            os.chmod(path, stat.S_IMODE(attributes.mode))
        os.utime(path, ns=(attributes.atime_ns, attributes.mtime_ns), follow_symlinks=False)
    except OSError as error:
        lost.append(f"its mode or times: {error.strerror}")
    return lost


def _apply_xattrs(path: bytes, attributes: Attributes) -> list[str]:
    lost = []
    for name in _xattrs_of(path).keys() - attributes.xattrs.keys():
        with contextlib.suppress(OSError):
            os.removexattr(path, name, follow_symlinks=False)
    for name, value in attributes.xattrs.items():
        if os.geteuid() != 0 and not name.startswith(b"user."):
            continue
        try:
            os.setxattr(path, name, value, follow_symlinks=False)
        except OSError as error:
            lost.append(f"its attribute {name.decode(errors='replace')}: {error.strerror}")
    return lost


def is_fatal(error: OSError) -> bool:
    """Whether an error of the disk will meet every other file, too."""
    return error.errno in {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
    }
