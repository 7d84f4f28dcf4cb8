"""What of staging is written and not yet known to be on the disk, and getting it there.

Owns: which group files were written to or made since their last sync, and which failed to sync.
Nothing here touches a file's data.

Invariants:

- A file is noted *after* it was written to, and forgotten *before* it is synced. So a write during
  a sync is noted again, and nothing is forgotten that was not on the disk.
- Two syncs of one inode exclude each other: the second returns only when the first one has.
- A file that failed to sync stays failed until it is gone. The kernel reports such an error once
  and then calls the pages clean, so a later success would prove nothing.
- Above :data:`_MANY` files they are no longer told apart: then every sync of an inode does all of
  its files, and :meth:`Syncing.sync_all` syncs the whole filesystem.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Final

from usenetfs.errors import LocalStorageError
from usenetfs.store.group_files import GroupFiles, Key
from usenetfs.store.syscalls import storage_error, sync_directory, sync_filesystem

_MANY: Final = 32_768
"""About 5 MB of keys."""
_STRIPES: Final = 64


class Syncing:
    """The durability of the files of one :class:`GroupFiles`. Thread-safe."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._written: set[Key] = set()
        self._created: set[Key] = set()
        self._failed: dict[Key, str] = {}
        self._lost_count = False
        """True: any file may be unsynced."""
        self._stripes = tuple(threading.Lock() for _ in range(_STRIPES))

    def note_written(self, key: Key) -> None:
        """After each write. Most find themselves noted already, which needs no lock."""
        if key not in self._written:
            self._note(self._written, key)

    def note_created(self, key: Key) -> None:
        self._note(self._created, key)

    def unsynced(self) -> int:
        """How many files wait for a sync (at least, when they are no longer told apart)."""
        return len(self._written)

    def sync(self, files: GroupFiles, inode: int) -> None:
        """Returns when all that was written to the inode before is on the disk."""
        with self._stripes[inode % _STRIPES]:
            self._sync(files, files.keys_of(inode))

    def sync_all(self, files: GroupFiles) -> None:
        """Returns when all that was written before is on the disk."""
        with self._lock:
            lost_count = self._lost_count
        if lost_count:
            self._sync_filesystem()
        stripes: list[set[int]] = [set() for _ in self._stripes]
        with self._lock:
            for inode, _ in (*self._written, *self._created, *self._failed):
                stripes[inode % _STRIPES].add(inode)
        # Stripes without work are waited for too: somebody may be syncing there.
        for stripe, inodes in zip(self._stripes, stripes, strict=True):
            with stripe:
                for inode in sorted(inodes):
                    self._sync(files, files.keys_of(inode))

    def _note(self, keys: set[Key], key: Key) -> None:
        with self._lock:
            if self._lost_count:
                return
            keys.add(key)
            if len(keys) > _MANY:
                self._lost_count = True
                self._written.clear()
                self._created.clear()

    def _sync(self, files: GroupFiles, keys: list[Key]) -> None:
        with self._lock:
            written = {key for key in keys if self._lost_count or key in self._written}
            created = {key for key in keys if self._lost_count or key in self._created}
            failed = {key: self._failed[key] for key in keys if key in self._failed}
            self._written -= written
            self._created -= created
        try:
            for key in sorted(written | failed.keys()):
                self._sync_file(files, key)
            if created:
                self._sync_bucket(files.bucket(keys[0][0]))
        except BaseException:
            for key in written:
                self._note(self._written, key)
            for key in created:
                self._note(self._created, key)
            raise

    def _sync_file(self, files: GroupFiles, key: Key) -> None:
        file = files.pin(key)
        if file is None:
            with self._lock:
                self._failed.pop(key, None)
            return
        path = files.path(key)
        try:
            if key in self._failed:
                raise LocalStorageError(self._failed[key], hint=LOST_HINT)
            os.fdatasync(file.descriptor)
        except OSError as error:
            translated = storage_error(error, "sync", path)
            with self._lock:
                self._failed[key] = translated.message
            raise translated from error
        finally:
            files.unpin(file)

    def _sync_bucket(self, path: str) -> None:
        try:
            sync_directory(path)
        except OSError as error:
            raise storage_error(error, "sync the directory", path) from error

    def _sync_filesystem(self) -> None:
        with contextlib.ExitStack() as stack:
            for stripe in self._stripes:
                stack.enter_context(stripe)
            with self._lock:
                self._lost_count = False
            descriptor = -1
            try:
                descriptor = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
                sync_filesystem(descriptor)
            except OSError as error:
                with self._lock:
                    self._lost_count = True
                raise storage_error(error, "sync the filesystem of", self._directory) from error
            finally:
                if descriptor >= 0:
                    os.close(descriptor)


LOST_HINT: Final = (
    "what was written there may not be on the disk: check the disk, and write the file again"
)
