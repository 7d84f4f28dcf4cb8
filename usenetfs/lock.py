"""One process at a time has a filesystem open.

Owns the lock file of a filesystem: an ``flock`` that the kernel drops with the process, however it
ends, and a note in it of who holds it, for the others' error message. The file itself stays.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from usenetfs.errors import FilesystemBusyError, LocalStorageError


@contextmanager
def exclusive(lock_file: Path, *, name: str, purpose: str) -> Iterator[None]:
    """Hold the lock of filesystem ``name``; FilesystemBusyError says who holds it otherwise.

    ``purpose`` is what the others are told, such as ``mounted on /mnt/news``. Children made by
    fork and exec do not inherit the lock.
    """
    try:
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalStorageError(f"cannot lock {lock_file}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(descriptor, name) from None
        _write_note(descriptor, f"{os.getpid()} {purpose}\n")
        try:
            yield
        finally:
            _write_note(descriptor, "")
    finally:
        os.close(descriptor)


def _write_note(descriptor: int, text: str) -> None:
    """What the others are told. Where a full disk has no room for it, the lock holds as well."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(errors="surrogateescape"), 0)


def _busy(descriptor: int, name: str) -> FilesystemBusyError:
    note = os.pread(descriptor, 4096, 0).decode(errors="replace").strip()
    process, _, purpose = note.partition(" ")
    return FilesystemBusyError(
        f'filesystem "{name}" is in use'
        + (f": {purpose}, by process {process}" if purpose else " by another process"),
        hint="wait for it, or unmount it first: usenetfs umount MOUNTPOINT",
    )
