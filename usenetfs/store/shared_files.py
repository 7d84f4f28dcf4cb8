"""Small files together: the beginnings of many inodes in a few files of the local disk.

A staging file of its own costs a small file 60 to 300 us: making it, closing it, unlinking it (ext4
looks for an inode number that was not freed in the last seconds, one by one). So the first
``slot_bytes`` of a new inode lie in a *slot* of a shared file, if its first write ends within them.
What lies beyond is in the inode's own file as ever (``group_files.py``); nothing is ever moved.

Owns: ``<directory>/<number>``, each with a page that says whose its slots are (``shared_table.py``)
and :data:`SLOTS` slots, used one after the other; and everything about them, under one lock, which
is held for system calls of microseconds only. Invariants:

- A slot is never given to another inode. So no byte of one file is ever read as another's, not even
  when a power cut brings back an older state of the disk.
- Of several slots of an inode the last one counts: the highest file, the highest slot.
- A *doomed* slot was discarded. It reads as zeros, and is made zeros before its inode writes there.
- A *leaving* slot is being given back. Its inode, if it writes meanwhile, gets another one.
- An inode is forgotten here only when the disk has forgotten its slot: the entry is cleared and
  synced, or the file removed and the directory synced. So whoever is found here at the next start,
  after whatever crash, has its beginning here and nowhere else.
- A file that failed to sync stays failed, as in ``syncing.py``, and gets no further slots.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Final

from usenetfs.errors import LocalStorageError
from usenetfs.store.shared_slots import SharedFile, Slot, State
from usenetfs.store.shared_table import (
    EMPTY,
    PAGE,
    SLOTS,
    entry_offset,
    packed_entry,
    packed_head,
    unpacked,
)
from usenetfs.store.syncing import LOST_HINT
from usenetfs.store.syscalls import (
    create_new,
    open_existing,
    punch_hole,
    read_padded,
    storage_error,
    sync_directory,
    write_all,
    write_zeros,
)

MAX_FILES: Final = 128
"""Shared files, each with a descriptor: 32,640 small files, some 8 MB of memory."""


class SharedFiles:
    """The shared files below ``directory``. Thread-safe."""

    def __init__(self, directory: str, *, slot_bytes: int, max_files: int = MAX_FILES) -> None:
        self.slot_bytes = slot_bytes
        self._directory = directory
        self._max_files = max_files
        self._lock = threading.Lock()
        self._reclaiming = threading.Lock()
        self._files: dict[int, SharedFile] = {}
        self._slots: dict[int, Slot] = {}
        self._current: SharedFile | None = None
        self._next = 1
        self._can_punch = True
        self._closed = False
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<SharedFiles files={len(self._files)} inodes={len(self._slots)}>"

    # --- who is here ------------------------------------------------------------------------------

    def reach(self, inode: int) -> int:
        """How many octets of the inode, from its beginning, are here; 0: none."""
        slot = self._slots.get(inode)
        return slot.file.slot_bytes if slot is not None else 0

    def has_tail(self, inode: int) -> bool:
        """Whether an inode that is here may have a file of its own as well."""
        slot = self._slots.get(inode)
        return slot is not None and slot.tail

    def note_tail(self, inode: int) -> None:
        """It has, or is about to have."""
        slot = self._slots.get(inode)
        if slot is not None:
            slot.tail = True

    def has_room(self) -> bool:
        """Whether another inode may be taken in."""
        current = self._current
        return len(self._files) < self._max_files or (
            current is not None and current.used < SLOTS and not current.failed
        )

    def inodes(self) -> list[int]:
        """Whose beginnings are here and not discarded."""
        with self._lock:
            return [slot.inode for slot in self._slots.values() if slot.state is State.LIVE]

    # --- data -------------------------------------------------------------------------------------

    def write(self, inode: int, start: int, data: bytes | bytearray | memoryview) -> None:
        """Write at ``start`` of the inode, within a slot; takes the inode in if it is new."""
        with self._lock:
            slot = self._writable(inode)
            slot.file.pins += 1
        try:
            write_all(slot.file.descriptor, data, slot.base + start)
        except OSError as error:
            raise storage_error(error, "write", slot.file.path) from error
        finally:
            self._written(slot)

    def read(self, inode: int, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``, within a slot."""
        with self._lock:
            slot = self._slots.get(inode)
            if slot is None or slot.state is not State.LIVE:
                return bytes(length)
            slot.file.pins += 1
        try:
            return read_padded(slot.file.descriptor, length, slot.base + start)
        except OSError as error:
            raise storage_error(error, "read", slot.file.path) from error
        finally:
            self._unpin(slot.file)

    def zero(self, inode: int, start: int, end: int) -> None:
        """The bytes ``[start, end)``, within a slot, read as zeros from now on."""
        with self._lock:
            slot = self._slots.get(inode)
            if slot is None or slot.state is not State.LIVE:
                return
            slot.file.pins += 1
        try:
            self._zero(slot.file, slot.base + start, end - start)
        except OSError as error:
            raise storage_error(error, "free space in", slot.file.path) from error
        finally:
            self._written(slot)

    def discard(self, inode: int) -> bool:
        """What is here of the inode reads as zeros from now on. False: nothing is."""
        with self._lock:
            slot = self._slots.get(inode)
            if slot is None:
                return False
            if slot.state is State.LIVE:
                slot.state = State.DOOMED
                slot.file.doomed += 1
            return True

    # --- giving back ------------------------------------------------------------------------------

    def reclaimable(self) -> int:
        """How many files :meth:`reclaim` would look at."""
        with self._lock:
            return sum(1 for file in self._files.values() if self._worthwhile(file))

    def reclaim(self) -> None:
        """Give the space of discarded slots back. Blocks: for a thread.

        Of the file that is being filled, once half of it was discarded. A file that cannot be
        changed keeps its slots for the next call; the error is raised once the others are done.
        """
        with self._reclaiming:
            with self._lock:
                leaving = [self._leave(f) for f in self._files.values() if self._worthwhile(f)]
            failed: OSError | None = None
            removed = [each for each in leaving if each[0].removed]
            for together in (*([each] for each in leaving if not each[0].removed), removed):
                try:
                    self._take_away(together)
                except OSError as error:
                    failed = failed or error
                    with self._lock:
                        for _, slots in together:
                            for slot in slots:
                                slot.state = State.DOOMED
                else:
                    for file, slots in together:
                        self._forget(file, slots)
            if failed is not None:
                raise storage_error(failed, "free space in", self._directory) from failed

    def _take_away(self, leaving: list[tuple[SharedFile, list[Slot]]]) -> None:
        """On the disk, durably."""
        for file, slots in leaving:
            if file.removed:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file.path)
            else:
                self._clear(file, slots)
        if any(file.removed for file, _ in leaving):
            sync_directory(self._directory)

    def _worthwhile(self, file: SharedFile) -> bool:
        if file is self._current:
            return file.doomed * 2 >= len(file.slots)
        return file.doomed > 0 or not file.slots

    def _leave(self, file: SharedFile) -> tuple[SharedFile, list[Slot]]:
        """Under the lock: nobody writes to these slots any more, nor to new ones of the file."""
        if file is self._current:
            self._current = None
        slots = [slot for slot in file.slots.values() if slot.state is not State.LIVE]
        for slot in slots:
            slot.state = State.LEAVING
        file.removed = len(slots) == len(file.slots)
        return file, slots

    def _clear(self, file: SharedFile, slots: list[Slot]) -> None:
        for slot in slots:
            write_all(file.descriptor, EMPTY, entry_offset(slot.index))
        os.fdatasync(file.descriptor)
        for slot in slots:
            if self._can_punch:
                self._can_punch = punch_hole(file.descriptor, slot.base, file.slot_bytes)

    def _forget(self, file: SharedFile, slots: list[Slot]) -> None:
        with self._lock:
            for slot in slots:
                del file.slots[slot.index]
                if self._slots.get(slot.inode) is slot:
                    del self._slots[slot.inode]
            file.doomed -= len(slots)
            file.measured = False
            gone = not file.slots
            if gone:
                self._files.pop(file.number, None)
        if gone:
            self._unpin(file)

    # --- durability, accounting -------------------------------------------------------------------

    def sync(self, inode: int) -> None:
        """Returns when all that was written to the inode here before survives a power cut.

        LocalStorageError as of :meth:`Staging.sync`.
        """
        with self._lock:
            slot = self._slots.get(inode)
            if slot is None or slot.state is not State.LIVE:
                return
            file, version = slot.file, slot.version
            file.pins += 1
        try:
            self._sync(file, version)
        finally:
            self._unpin(file)

    def sync_all(self) -> None:
        """:meth:`sync` for everything written before."""
        with self._lock:
            files = [file for file in self._files.values() if file.doomed < len(file.slots)]
            for file in files:
                file.pins += 1
        try:
            for file in files:
                self._sync(file, file.version)
        finally:
            for file in files:
                self._unpin(file)

    def _sync(self, file: SharedFile, version: int) -> None:
        with file.syncing:
            if file.failed:
                raise LocalStorageError(file.failed, hint=LOST_HINT)
            if file.synced < version:
                reached = file.version
                try:
                    os.fdatasync(file.descriptor)
                except OSError as error:
                    translated = storage_error(error, "sync", file.path)
                    file.failed = translated.message
                    raise translated from error
                file.synced = reached
            if not file.named:
                try:
                    sync_directory(self._directory)
                except OSError as error:
                    raise storage_error(error, "sync the directory", self._directory) from error
                file.named = True

    def unsynced(self) -> int:
        """How many files wait for a sync."""
        with self._lock:
            return sum(1 for file in self._files.values() if file.synced < file.version)

    def allocated(self) -> int:
        """Bytes on disk. A microsecond for each file that changed since it was asked last."""
        with self._lock:
            for file in self._files.values():
                if not file.measured:
                    file.allocated = os.fstat(file.descriptor).st_blocks * 512
                    file.measured = True
            return sum(file.allocated for file in self._files.values())

    def recount(self) -> None:
        """Look at every file again."""
        with self._lock:
            for file in self._files.values():
                file.measured = False

    def close(self) -> None:
        """Close all descriptors; one in use is closed when it is no longer. Syncs nothing."""
        with self._lock:
            self._closed = True
            files = list(self._files.values())
            self._files.clear()
            self._slots.clear()
            self._current = None
        for file in files:
            self._unpin(file)

    # --- within -----------------------------------------------------------------------------------

    def _load(self) -> None:
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            numbers = sorted(int(name) for name in os.listdir(self._directory) if name.isdecimal())
        except OSError as error:
            raise storage_error(error, "prepare", self._directory) from error
        for number in numbers:
            self._load_file(number)
        self._next = numbers[-1] + 1 if numbers else 1

    def _load_file(self, number: int) -> None:
        path = f"{self._directory}/{number}"
        try:
            descriptor = open_existing(path)
            if descriptor is None:
                return
            file = self._files[number] = SharedFile(number, path, descriptor, 0)
            file.slot_bytes, entries = unpacked(os.pread(descriptor, PAGE, 0), number, path)
        except OSError as error:
            raise storage_error(error, "read", path) from error
        for index, inode in entries:
            older = self._slots.get(inode)
            if older is not None:
                older.state = State.DOOMED
                older.file.doomed += 1
            self._slots[inode] = file.slots[index] = Slot(file, index, inode)

    def _writable(self, inode: int) -> Slot:
        """The inode's slot, ready to be written to. Under the lock."""
        slot = self._slots.get(inode)
        if slot is not None and slot.state is State.LIVE:
            return slot
        if (
            slot is None
            or slot.state is State.LEAVING
            or slot.file.failed
            or slot.file.removed  # and the rest of reclaiming failed
        ):
            new = self._new_slot(inode)
            new.tail = slot is not None and slot.tail
            return new
        try:
            self._zero(slot.file, slot.base, slot.file.slot_bytes)
            self._enter(slot.file, slot.index, inode)  # giving it back may have failed half way
        except OSError as error:
            raise storage_error(error, "free space in", slot.file.path) from error
        slot.state = State.LIVE
        slot.file.doomed -= 1
        return slot

    def _new_slot(self, inode: int) -> Slot:
        if self._closed:
            raise ValueError("staging is closed")
        file = self._current
        if file is None or file.used >= SLOTS or file.failed:
            file = self._current = self._new_file()
        index = file.used
        try:
            self._enter(file, index, inode)
        except OSError as error:
            raise storage_error(error, "write", file.path) from error
        file.used += 1
        slot = self._slots[inode] = file.slots[index] = Slot(file, index, inode)
        return slot

    def _enter(self, file: SharedFile, index: int, inode: int) -> None:
        write_all(file.descriptor, packed_entry(file.number, inode), entry_offset(index))

    def _new_file(self) -> SharedFile:
        number = self._next
        self._next += 1
        path = f"{self._directory}/{number}"
        try:
            descriptor = create_new(path)
            if descriptor is None:
                raise FileExistsError(path)
            file = self._files[number] = SharedFile(number, path, descriptor, self.slot_bytes)
            write_all(descriptor, packed_head(self.slot_bytes), 0)
        except OSError as error:
            raise storage_error(error, "open", path) from error
        return file

    def _zero(self, file: SharedFile, offset: int, length: int) -> None:
        if self._can_punch:
            self._can_punch = punch_hole(file.descriptor, offset, length)
        if not self._can_punch:
            write_zeros(file.descriptor, offset, length)

    def _written(self, slot: Slot) -> None:
        file = slot.file
        with self._lock:
            file.version += 1
            slot.version = file.version
            file.measured = False
            file.pins -= 1
            idle = not file.pins
        if idle:
            os.close(file.descriptor)

    def _unpin(self, file: SharedFile) -> None:
        with self._lock:
            file.pins -= 1
            idle = not file.pins
        if idle:
            os.close(file.descriptor)
