"""Files that were closed and whose rows are not in the tables yet.

A close promises that the file survives the death of the daemon. A transaction of its own for that
costs 150 us of processor time, nine pages of the log among them; a record in a file beside the
index costs 10, and the tables take the rows of half a second in one transaction.

Owns the file ``INDEX-closed`` and its format: a head (:data:`MAGIC`, the id of the machine's boot),
then records (length, CRC-32, number, payload) one after the other. Invariants:

- Numbers grow by one. A transaction that takes the rows of all records writes the number of the
  last into ``local_meta``; from then on those records mean nothing, wherever they still lie, and
  the next one is written over the first. So it does not matter between which two steps a daemon
  dies.
- Between a record and the transaction that takes its rows there is no other transaction
  (``Index.before_transaction``): on what the tables have, the records can be carried out in order.
- After a power cut the file counts for nothing, as its boot is another: nothing of it was synced,
  and the bytes it speaks of were not either. ``fsync`` therefore never relies on it.

It does not know when a file is closed, nor the bytes of any.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from usenetfs.errors import DatabaseError
from usenetfs.index.database import translate_os_error
from usenetfs.index.inodes import Inode
from usenetfs.index.staging import StagedBlock, pack_extents, unpack_extents
from usenetfs.types import BlockNumber, InodeId

MAGIC: Final = b"unfsclo1"
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
BOOT_BYTES: Final = 16
HEAD: Final = len(MAGIC) + BOOT_BYTES

LARGEST: Final = 1 << 16
"""Octets of a record; a file with more to say is better off with a transaction."""

_FRAME: Final = struct.Struct("<IIQ")
_INODE: Final = struct.Struct("<10qHI")
_NAME: Final = struct.Struct("<qH")
_BLOCK: Final = struct.Struct("<qqqBI")


@dataclass(frozen=True, slots=True)
class ClosedFile:
    """A file as it was when it was closed: its row, the names it was made under that the tables do
    not have, and its staged blocks that they do not have."""

    inode: Inode
    names: tuple[tuple[InodeId, bytes], ...]
    blocks: tuple[StagedBlock, ...]


class Journal:
    """The file beside the index ``index``. ``last``: the number of the last record that the tables
    have. Made anew at the first record; without a boot to name it takes none."""

    def __init__(self, index: Path, last: int, *, boot_id: Path = BOOT_ID) -> None:
        self._path = Path(f"{index}-closed")
        self._boot_id = boot_id
        self._last = last
        self._descriptor = -1
        self._end = HEAD
        self._usable = True

    def __repr__(self) -> str:
        state = "in use" if self._descriptor >= 0 else "not in use"
        return f"<Journal {self._path.name} {state}, {self._end - HEAD} octets>"

    @property
    def last(self) -> int:
        """The number of the newest record."""
        return self._last

    def note(self, closed: ClosedFile) -> bool:
        """Write a record. False: it cannot be told here, and needs a transaction."""
        if not self._usable:
            return False
        payload = _packed(closed)
        if len(payload) > LARGEST:
            return False
        number = self._last + 1
        record = _FRAME.pack(len(payload), _checksum(number, payload), number) + payload
        try:
            if self._descriptor < 0 and not self._open():
                return False
            if os.pwrite(self._descriptor, record, self._end) != len(record):
                return False  # a full disk: the transaction will say so, or find room
        except OSError:
            return False
        self._last = number
        self._end += len(record)
        return True

    def taken(self) -> None:
        """The tables have all records up to :attr:`last`: the next one is written over them."""
        self._end = HEAD

    def records(self) -> Iterator[tuple[int, ClosedFile]]:
        """What an earlier life of this boot left that the tables do not have, in order."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise translate_os_error(error, f"{self._path} cannot be read: {error}") from error
        boot = self._boot()
        if boot is None or content[:HEAD] != MAGIC + boot:
            return
        place, number = HEAD, self._last
        while place + _FRAME.size <= len(content):
            length, checksum, found = _FRAME.unpack_from(content, place)
            place += _FRAME.size
            payload = content[place : place + length]
            if found != number + 1 or len(payload) < length:
                return  # what lies behind the last record is of former ones
            if checksum != _checksum(found, payload):
                return
            yield found, _unpacked(payload)
            place, number = place + length, found

    def skip_to(self, number: int) -> None:
        """Records up to ``number`` were carried out."""
        self._last = number

    def close(self) -> None:
        """The file stays: what is in it counts for the next life."""
        self._usable = False
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> bool:
        boot = self._boot()
        if boot is None:
            self._usable = False
            return False
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        os.pwrite(self._descriptor, MAGIC + boot, 0)
        return True

    def _boot(self) -> bytes | None:
        try:
            return bytes.fromhex(self._boot_id.read_text().strip().replace("-", ""))[:BOOT_BYTES]
        except (OSError, ValueError):
            return None


def _checksum(number: int, payload: bytes) -> int:
    return zlib.crc32(payload, number & 0xFFFFFFFF)


def _packed(closed: ClosedFile) -> bytes:
    parts = [_INODE.pack(*closed.inode.columns, len(closed.names), len(closed.blocks))]
    for parent, name in closed.names:
        parts += _NAME.pack(parent, len(name)), name
    for block in closed.blocks:
        extents = pack_extents(block.extents)
        parts.append(
            _BLOCK.pack(block.block, block.generation, block.dirtied_ns, block.whole, len(extents))
        )
        parts.append(extents)
    return b"".join(parts)


def _unpacked(payload: bytes) -> ClosedFile:
    try:
        *fields, names, blocks = _INODE.unpack_from(payload)
        row = Inode(*fields)
        place = _INODE.size
        found_names = []
        for _ in range(names):
            parent, length = _NAME.unpack_from(payload, place)
            place += _NAME.size
            found_names.append((InodeId(parent), payload[place : place + length]))
            place += length
        found_blocks = []
        for _ in range(blocks):
            number, generation, dirtied_ns, whole, length = _BLOCK.unpack_from(payload, place)
            place += _BLOCK.size
            extents = unpack_extents(payload[place : place + length])
            place += length
            found_blocks.append(
                StagedBlock(
                    row.id, BlockNumber(number), generation, bool(whole), extents, dirtied_ns
                )
            )
    except struct.error as error:
        raise DatabaseError("a record of a closed file is not what it should be") from error
    return ClosedFile(row, tuple(found_names), tuple(found_blocks))
