"""The open files of staging: who uses which, and which of their ranges are doomed or claimed.

Owns: descriptors, the bytes they take on disk, and what was discarded and is still to be freed;
all under one lock that is never held across reading, writing, syncing, punching or unlinking. It
does not know what a block is worth, nor who wants it gone.

A *group file* holds a fixed number of consecutive blocks of one inode; its key is
``(inode, group)``. Invariants:

- A file that is absent and a file without data are the same to a reader: zeros. So a file may be
  unlinked whenever it holds no data and nobody is writing to it, and nothing is lost.
- A descriptor is closed only when nobody has it pinned. More than ``max_open`` are open only while
  more than that are pinned.
- *Doomed* blocks were discarded and are still on disk. They read as zeros, and are made zeros
  before anybody writes to them.
- A *claim* is a range that its claimant changes as a whole (punches or unlinks). There is one at
  most per file. Writers to it wait; readers don't; none lasts longer than one system call.
- While a file is in ``_open``, whoever opens its path ends with that very descriptor, and a file is
  unlinked only while it is there. A descriptor that was opened before an unlink and is entered
  after it would take writes to nowhere; its link count, looked at under the lock, gives it away.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from usenetfs.store.extents import Extents
from usenetfs.store.syscalls import (
    create_new,
    holds_data,
    open_existing,
    punch_hole,
    storage_error,
    write_zeros,
)

Key = tuple[int, int]
"""``(inode, group)``."""

BUCKETS: Final = 256
_BLOCKS_AT_ONCE: Final = 4
"""Punched in one claim: 2.9 MB, under a millisecond for a writer to wait (200 µs a block, measured
on ext4)."""
_END: Final = (1 << 63) - 1


class GroupFile:
    """An open group file. Its fields belong to :class:`GroupFiles`, whose lock guards them."""

    __slots__ = ("allocated", "claim", "descriptor", "key", "listed", "pins", "writers")

    def __init__(self, key: Key, descriptor: int, allocated: int) -> None:
        self.key = key
        self.descriptor = descriptor
        self.allocated = allocated
        """Bytes on disk, as last measured."""
        self.pins = 0
        self.writers = 0
        self.claim: tuple[int, int] | None = None
        """Byte range ``[start, end)``."""
        self.listed = True
        """False: no longer in the table, so closed with its last pin."""

    def __repr__(self) -> str:
        inode, group = self.key
        return f"<GroupFile {inode}.{group} pins={self.pins} claim={self.claim}>"


class GroupFiles:
    """The table of open group files below ``directory``. Thread-safe."""

    def __init__(
        self,
        directory: str,
        *,
        max_open: int,
        block_size: int,
        on_created: Callable[[Key], None],
    ) -> None:
        self._buckets = tuple(f"{directory}/{bucket:02x}" for bucket in range(BUCKETS))
        self._max_open = max_open
        self._block_size = block_size
        self._on_created = on_created
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._open: OrderedDict[Key, GroupFile] = OrderedDict()
        self._written: set[GroupFile] = set()
        """Open files whose ``allocated`` is out of date."""
        self._allocated = 0
        self._doomed: dict[Key, Extents] = {}
        self._further: dict[int, set[int]] = {}
        """Groups above 0 by inode. Few files are that long; group 0 is never noted."""
        self._can_punch = True
        self._closed = False

    # --- names ------------------------------------------------------------------------------------

    def bucket(self, inode: int) -> str:
        return self._buckets[inode % BUCKETS]

    def path(self, key: Key) -> str:
        return f"{self._buckets[key[0] % BUCKETS]}/{key[0]}.{key[1]}"

    def keys_of(self, inode: int) -> list[Key]:
        """Every key of an inode that may have a file; group 0 always, whether it has one or not."""
        with self._lock:
            return [(inode, group) for group in (0, *sorted(self._further.get(inode, ())))]

    def note_group(self, key: Key) -> None:
        """There is, or is about to be, such a file. Under the lock, or before anybody else."""
        if key[1]:
            self._further.setdefault(key[0], set()).add(key[1])

    # --- use --------------------------------------------------------------------------------------

    def pin(self, key: Key) -> GroupFile | None:
        """The file, open until :meth:`unpin`; None when there is none."""
        while True:
            with self._lock:
                file = self._open.get(key)
                if file is not None:
                    return self._pin(file)
            if not self._enter(key, create=False):
                return None

    def unpin(self, file: GroupFile) -> None:
        with self._lock:
            file.pins -= 1
            idle = not file.pins and not file.listed
        if idle:
            os.close(file.descriptor)

    def pin_writer(self, key: Key, start: int, end: int, *, create: bool) -> GroupFile | None:
        """The file, for changing the bytes ``[start, end)`` of it, until :meth:`unpin_writer`.

        Waits while somebody has a claim there, and cleans doomed blocks in that range first.
        None when there is no such file and ``create`` is false.
        """
        while True:
            with self._lock:
                file = self._open.get(key)
                if file is not None:
                    unclean = self._doomed_blocks(key, start, end) if key in self._doomed else None
                    claim = file.claim
                    if claim and (unclean or (claim[0] < end and start < claim[1])):
                        self._changed.wait()
                        continue
                    if not unclean:
                        file.writers += 1
                        return self._pin(file)
                    self._claim(file, *unclean[0])
            if file is not None:
                self._clean_claim(file)
            elif not self._enter(key, create=create):
                return None

    def unpin_writer(self, file: GroupFile) -> None:
        with self._lock:
            file.writers -= 1
            file.pins -= 1
            idle = not file.pins and not file.listed
            if file.listed:
                self._written.add(file)
        if idle:
            os.close(file.descriptor)

    def zero(self, file: GroupFile, start: int, end: int) -> None:
        """Makes bytes of a file pinned for writing read as zeros, and frees what it can of them."""
        if self._can_punch:
            self._can_punch = punch_hole(file.descriptor, start, end - start)
        if not self._can_punch:
            write_zeros(file.descriptor, start, end - start)

    # --- discarding -------------------------------------------------------------------------------

    def doom(self, key: Key, first: int, last: int) -> None:
        """The blocks ``[first, last)`` of the group read as zeros from now on."""
        with self._lock:
            doomed = self._doomed.get(key)
            if doomed is None:
                doomed = self._doomed[key] = Extents()
            doomed.add(first, last)

    def doomed(self, key: Key, start: int, end: int) -> list[tuple[int, int]]:
        """The byte ranges within ``[start, end)`` that are doomed."""
        if key not in self._doomed:
            return []
        size = self._block_size
        with self._lock:
            found = self._doomed_blocks(key, start, end)
        return [(max(first * size, start), min(last * size, end)) for first, last in found]

    def doomed_files(self) -> list[Key]:
        """The files that have doomed blocks."""
        with self._lock:
            return list(self._doomed)

    def reclaim(self, key: Key) -> None:
        """Frees the doomed blocks of a file, and unlinks the file when nothing is left in it."""
        file = self.pin(key)
        if file is None:
            with self._lock:
                # Where somebody made it anew meanwhile it is clean; being doomed does no harm.
                self._doomed.pop(key, None)
            return
        try:
            while self._claim_next(file):
                self._clean_claim(file)
            if self._claim_idle(file):
                self._unlink_claimed(file)
        finally:
            self.unpin(file)

    # --- accounting and the end -------------------------------------------------------------------

    def allocated(self) -> int:
        """Bytes on disk. Measures what was written to since the last call: 1 µs a file."""
        with self._lock:
            for file in self._written:
                self._measure(file)
            self._written.clear()
            return max(0, self._allocated)

    def recount(self, entries: Iterable[tuple[Key, os.DirEntry[str]]]) -> None:
        """Takes the bytes on disk from the files themselves; files that come and go meanwhile may
        be missed or counted in vain.
        """
        closed = 0
        for key, entry in entries:
            if key not in self._open:
                with contextlib.suppress(FileNotFoundError):
                    closed += entry.stat().st_blocks * 512
        with self._lock:
            self._allocated = closed + sum(file.allocated for file in self._open.values())
            self._written.update(self._open.values())

    def counts(self) -> tuple[int, int, int]:
        """``(open, pinned, with doomed blocks)``."""
        with self._lock:
            pinned = sum(1 for file in self._open.values() if file.pins)
            return len(self._open), pinned, len(self._doomed)

    def close(self) -> None:
        """Closes every descriptor; one in use is closed when it is unpinned."""
        with self._lock:
            self._closed = True
            idle = [file for file in self._open.values() if not file.pins]
            for file in self._open.values():
                file.listed = False
            self._open.clear()
            self._written.clear()
            self._changed.notify_all()
        for file in idle:
            os.close(file.descriptor)

    # --- within -----------------------------------------------------------------------------------

    def _pin(self, file: GroupFile) -> GroupFile:
        file.pins += 1
        self._open.move_to_end(file.key)
        return file

    def _enter(self, key: Key, *, create: bool) -> bool:
        """Opens the path and enters it in the table; False when there is no such file.

        The caller looks in the table again whatever happened, since others may have been faster.
        """
        path = self.path(key)
        try:
            # Most files that are written to and not open are new.
            descriptor = create_new(path) if create else None
            created = descriptor is not None
            while descriptor is None:
                descriptor, created = open_existing(path), False
                if descriptor is None:
                    if not create:
                        return False
                    descriptor, created = create_new(path), True
        except OSError as error:
            raise storage_error(error, "open", path) from error
        if created:
            self._on_created(key)
        unwanted = [descriptor]
        try:
            with self._lock:
                if self._closed:
                    raise ValueError("staging is closed")
                status = os.fstat(descriptor)
                if key not in self._open and status.st_nlink:
                    self._open[key] = GroupFile(key, descriptor, status.st_blocks * 512)
                    self.note_group(key)
                    unwanted = self._evict(key)
        finally:
            for descriptor in unwanted:
                os.close(descriptor)
        return True

    def _evict(self, newest: Key) -> list[int]:
        """Takes the files longest unused out of the table; returns the descriptors to close."""
        surplus = len(self._open) - self._max_open
        victims: list[GroupFile] = []
        if surplus > 0:
            idle = (f for f in self._open.values() if not f.pins and f.key != newest)
            victims += itertools.islice(idle, surplus)
        for file in victims:
            if file in self._written:
                self._measure(file)
            self._delist(file)
        return [file.descriptor for file in victims]

    def _delist(self, file: GroupFile) -> None:
        file.listed = False
        self._open.pop(file.key, None)
        self._written.discard(file)

    def _measure(self, file: GroupFile) -> None:
        allocated = os.fstat(file.descriptor).st_blocks * 512
        self._allocated += allocated - file.allocated
        file.allocated = allocated

    def _doomed_blocks(self, key: Key, start: int, end: int) -> list[tuple[int, int]]:
        """The ranges of doomed blocks that the bytes ``[start, end)`` touch."""
        doomed = self._doomed.get(key)
        size = self._block_size
        return doomed.within(start // size, -(-end // size)) if doomed else []

    def _all_doomed(self, file: GroupFile) -> bool:
        doomed = self._doomed.get(file.key)
        blocks = -(-os.fstat(file.descriptor).st_size // self._block_size)
        return doomed is not None and doomed.covers(0, blocks)

    def _claim(self, file: GroupFile, first: int, last: int) -> None:
        file.claim = (first * self._block_size, last * self._block_size)
        file.pins += 1

    def _claim_next(self, file: GroupFile) -> bool:
        """Claims some doomed blocks; False: none are left, or all that is left is to unlink."""
        with self._lock:
            while file.claim is not None:
                self._changed.wait()
            doomed = self._doomed.get(file.key)
            if not doomed or not file.listed or not self._can_punch or self._all_doomed(file):
                return False
            first, last = next(iter(doomed))
            self._claim(file, first, min(last, first + _BLOCKS_AT_ONCE))
            return True

    def _clean_claim(self, file: GroupFile) -> None:
        """Makes the doomed blocks that the caller claimed zeros, and gives the claim up."""
        claim = file.claim
        assert claim is not None
        try:
            self.zero(file, *claim)
            self._spare(file.key, claim[0] // self._block_size, claim[1] // self._block_size)
        except OSError as error:
            raise storage_error(error, "free space in", self.path(file.key)) from error
        finally:
            self._unclaim(file)

    def _spare(self, key: Key, first: int, last: int) -> None:
        """The blocks ``[first, last)`` are no longer doomed."""
        with self._lock:
            doomed = self._doomed.get(key)
            if doomed is not None:
                doomed.subtract(first, last)
                if not doomed:
                    del self._doomed[key]

    def _unclaim(self, file: GroupFile) -> None:
        with self._lock:
            file.claim = None
            if file.listed:
                self._written.add(file)
            self._changed.notify_all()
        self.unpin(file)

    def _claim_idle(self, file: GroupFile) -> bool:
        """Claims the whole file if nobody is changing it and it is not known to be needed."""
        with self._lock:
            if file.writers or file.claim is not None or not file.listed:
                return False
            if file.key in self._doomed and not self._all_doomed(file):
                return False
            file.claim = (0, _END)
            file.pins += 1
            return True

    def _unlink_claimed(self, file: GroupFile) -> None:
        """Unlinks a file claimed as a whole if no data is in it, and gives the claim up."""
        path = self.path(file.key)
        try:
            with self._lock:
                worthless = self._all_doomed(file)
            if worthless or not holds_data(file.descriptor):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                self._forget(file)
        except OSError as error:
            raise storage_error(error, "remove", path) from error
        finally:
            self._unclaim(file)

    def _forget(self, file: GroupFile) -> None:
        inode, group = file.key
        with self._lock:
            self._delist(file)
            self._doomed.pop(file.key, None)
            self._allocated -= file.allocated
            further = self._further.get(inode)
            if further is not None:
                further.discard(group)
                if not further:
                    del self._further[inode]
