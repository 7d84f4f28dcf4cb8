"""What a shared file of staging says about itself: its first page.

::

    offset  size
    0       8     magic, with the version of the format
    8       4     octets of a slot, u32
    12      4     CRC-32 of the 12 octets before
    16 + 16i      entry of slot i: inode u64, CRC-32 of the file's number and the inode u32, zeros
    4096 + i * octets of a slot: slot i

Numbers are little-endian. An entry of zeros is a slot that was never used or was given back; one
whose CRC is wrong (written in a power cut) is as good as that, because nothing that was synced
depends on it. Pure.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from usenetfs.errors import LocalStorageError

PAGE: Final = 4096
SLOTS: Final = 255
MAGIC: Final = b"unfsshr1"
ENTRY_BYTES: Final = 16
EMPTY: Final = bytes(ENTRY_BYTES)

_HEAD: Final = struct.Struct("<8sII")
_ENTRY: Final = struct.Struct("<QI4x")
_NAMED: Final = struct.Struct("<QQ")


def packed_head(slot_bytes: int) -> bytes:
    """What the file begins with."""
    start = MAGIC + slot_bytes.to_bytes(4, "little")
    return start + zlib.crc32(start).to_bytes(4, "little")


def packed_entry(number: int, inode: int) -> bytes:
    """The entry of a slot that belongs to ``inode``, in the file ``number``."""
    return _ENTRY.pack(inode, zlib.crc32(_NAMED.pack(number, inode)))


def entry_offset(slot: int) -> int:
    """Where the entry of a slot is."""
    return ENTRY_BYTES * (slot + 1)


def slot_offset(slot: int, slot_bytes: int) -> int:
    """Where the slot itself begins."""
    return PAGE + slot * slot_bytes


def unpacked(page: bytes, number: int, path: str) -> tuple[int, Iterator[tuple[int, int]]]:
    """``(octets of a slot, (slot, inode) of those in use)``; 0 and none where no head was written.

    LocalStorageError: another version wrote it.
    """
    page = page.ljust(PAGE, b"\0")
    magic, slot_bytes, _ = _HEAD.unpack_from(page)
    if page[: _HEAD.size] == packed_head(slot_bytes) and slot_bytes:
        return slot_bytes, _entries(page, number)
    if magic[:7] == MAGIC[:7] and magic != MAGIC:
        raise LocalStorageError(
            f"{path} is of a version that is not known here",
            hint="mount with the newer usenetfs that wrote it, and unmount: that empties staging",
        )
    return 0, iter(())


def _entries(page: bytes, number: int) -> Iterator[tuple[int, int]]:
    for slot in range(SLOTS):
        offset = entry_offset(slot)
        inode, _ = _ENTRY.unpack_from(page, offset)
        if inode and page[offset : offset + ENTRY_BYTES] == packed_entry(number, inode):
            yield slot, inode
