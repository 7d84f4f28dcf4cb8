"""The plaintext of an article: a small table of members, their stored bytes, and padding.

::

    header   version u8, kind u8, count u16, payload length u32             8 bytes
    table    count × (inode u64, block u64, hash 16 bytes,
                      raw length u32, stored length u32, codec u8)         41 bytes each
    payload  the members' stored bytes, in the table's order, nothing between
    padding  zeros to the end

All numbers are big-endian. Where a member begins follows from the lengths before it, so offsets
cannot overlap or point outside. The table alone says what the article holds: data can be salvaged
without any index.

Owns: this layout and the padding policy. Invariants: :func:`unpack` accepts exactly what
:func:`pack` makes (one plaintext, one meaning), and touches each table row once without copying the
payload. It is called only on what a seal has opened, and still checks everything: what was sealed
may have been made by a program with a bug, or by a later version.

Must not know: compression, keys, or what is in a payload.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from usenetfs.errors import ContainerError
from usenetfs.types import BlockNumber, Codec, InodeId, SegmentHash

CONTAINER_VERSION: Final = 1

_HEADER: Final = struct.Struct(">BBHI")
_MEMBER: Final = struct.Struct(">QQ16sIIB")
HEADER_SIZE: Final = _HEADER.size
MEMBER_SIZE: Final = _MEMBER.size

MAX_MEMBERS: Final = 4096
MAX_RAW_LENGTH: Final = 16 << 20
"""Bytes that one member may have once decompressed."""
MAX_CONTAINER_SIZE: Final = 4 << 20
"""Bytes; several times what any server takes as one article."""

PADDING_STEP: Final = 8192
SMALLEST_PADDED: Final = 16_384

_ROW = tuple[int, int, bytes, int, int, int]


class Kind(enum.IntEnum):
    """What an article is for; authenticated with it. A value once given is never given again."""

    DATA = 1
    """Segments of files."""
    PARITY = 2
    """Reed–Solomon parity over sealed bodies."""
    CHECKPOINT = 3
    """A link of the chain. In this kind and the next ones a member is a piece of a document:
    inode 0, block = number of the piece."""
    SNAPSHOT = 4
    """A piece of a whole index."""
    KEY = 5
    """The key file, for recovery."""
    CHANGESET = 6
    """A piece of a changeset."""


_KINDS: Final = frozenset(int(kind) for kind in Kind)
_CODECS: Final = frozenset(int(codec) for codec in Codec)


@dataclass(frozen=True, slots=True)
class Member:
    """One row of the table."""

    inode: InodeId
    block: BlockNumber
    hash: SegmentHash
    codec: Codec
    raw_length: int
    """Bytes once decompressed, ≥ 1."""
    stored_length: int
    """Bytes in the payload, ≥ 1: equal to ``raw_length`` for Codec.NONE, else less."""


class Container:
    """An opened container: a view of the plaintext it was unpacked from. Immutable."""

    __slots__ = ("_offsets", "_plaintext", "_rows", "kind")

    def __init__(
        self, kind: Kind, rows: tuple[_ROW, ...], offsets: tuple[int, ...], plaintext: memoryview
    ) -> None:
        self.kind = kind
        self._rows = rows
        self._offsets = offsets
        self._plaintext = plaintext

    def __repr__(self) -> str:
        return f"<Container {self.kind.name} with {len(self._rows)} members>"

    def __len__(self) -> int:
        """Number of members."""
        return len(self._rows)

    def member(self, slot: int) -> Member:
        """The member in ``slot`` (0 ≤ slot < len). IndexError outside."""
        inode, block, digest, raw_length, stored_length, codec = self._rows[_checked(slot)]
        return Member(
            InodeId(inode),
            BlockNumber(block),
            SegmentHash(digest),
            Codec(codec),
            raw_length,
            stored_length,
        )

    @property
    def size(self) -> int:
        """Bytes of the plaintext that the container keeps alive."""
        return len(self._plaintext)

    @property
    def members(self) -> tuple[Member, ...]:
        """All members in slot order, made anew at each call: a reader mostly wants one."""
        return tuple(self.member(slot) for slot in range(len(self._rows)))

    def payload(self, slot: int) -> memoryview:
        """The stored bytes of the member in ``slot``, read-only, not copied."""
        start = self._offsets[_checked(slot)]
        return self._plaintext[start : start + self._rows[slot][4]]


def container_size(count: int, payload_bytes: int) -> int:
    """Bytes of a container of ``count`` members without padding."""
    return HEADER_SIZE + count * MEMBER_SIZE + payload_bytes


def choose_padding(size: int, randomness: bytes) -> int:
    """How many zero bytes to add to a container of ``size`` bytes.

    An article's size is seen by everybody. Without padding all full articles of this program would
    have one size (716,905 bytes before yEnc), and the size of a small one would tell a checkpoint
    from a file. So: what is smaller than 16 KiB is filled up to that, and 0 to 8192 bytes, uniform,
    are added to everything. For a full article that is 0.57 % on average.

    :param randomness: 4 bytes or more from the system's generator. Not the article's salt, which is
        on the wire: the padding could be computed from it and subtracted.
    """
    if len(randomness) < 4:
        raise ValueError("padding needs 4 random bytes")
    spread = int.from_bytes(randomness[:4], "big") * (PADDING_STEP + 1) >> 32
    return max(0, SMALLEST_PADDED - size) + spread


def pack(
    kind: Kind,
    members: Sequence[tuple[Member, bytes | bytearray | memoryview]],
    padding: int = 0,
) -> bytes:
    """The plaintext of an article.

    :param members: each with its stored bytes (``len`` = ``stored_length``).
    :param padding: zero bytes at the end, see :func:`choose_padding`.
    :raises ValueError: what is given is no container (:func:`unpack` would not take it).
    """
    if not 1 <= len(members) <= MAX_MEMBERS:
        raise ValueError(f"a container has 1 to {MAX_MEMBERS} members, not {len(members)}")
    if padding < 0:
        raise ValueError("padding is negative")
    payload_length = sum(member.stored_length for member, _ in members)
    if container_size(len(members), payload_length) + padding > MAX_CONTAINER_SIZE:
        raise ValueError(f"a container has at most {MAX_CONTAINER_SIZE} bytes")
    parts: list[bytes | bytearray | memoryview] = [
        _HEADER.pack(CONTAINER_VERSION, kind, len(members), payload_length)
    ]
    for member, stored in members:
        row = (
            member.inode,
            member.block,
            member.hash,
            member.raw_length,
            member.stored_length,
            member.codec,
        )
        reason = _objection(kind, row)
        if reason is None and len(member.hash) != 16:
            reason = "a hash has 16 bytes"
        if reason is None and len(stored) != member.stored_length:
            reason = "the stored bytes are not as long as stored_length says"
        if reason is not None:
            raise ValueError(reason)
        parts.append(_MEMBER.pack(*row))
    parts.extend(stored for _, stored in members)
    parts.append(bytes(padding))
    return b"".join(parts)


def unpack(plaintext: bytes | bytearray | memoryview) -> Container:
    """The container in an opened plaintext; ContainerError for anything off."""
    view = memoryview(plaintext).toreadonly()
    size = len(view)
    if not HEADER_SIZE <= size <= MAX_CONTAINER_SIZE:
        raise ContainerError(f"no container has {size} bytes")
    version, kind_value, count, payload_length = _HEADER.unpack_from(view)
    if version != CONTAINER_VERSION:
        raise ContainerError(
            f"container version {version} is not known",
            hint="this filesystem was written by a newer version: upgrade usenetfs",
        )
    if kind_value not in _KINDS:
        raise ContainerError(f"container kind {kind_value} is not known")
    if not 1 <= count <= MAX_MEMBERS:
        raise ContainerError(f"no container has {count} members")
    payload_start = container_size(count, 0)
    payload_end = payload_start + payload_length
    if payload_end > size:
        raise ContainerError("the container ends before its payload does")
    kind = Kind(kind_value)
    rows: tuple[_ROW, ...] = tuple(_MEMBER.iter_unpack(view[HEADER_SIZE:payload_start]))
    for row in rows:
        reason = _objection(kind, row)
        if reason is not None:
            raise ContainerError(reason)
    ends = tuple(accumulate((row[4] for row in rows), initial=payload_start))
    if ends[-1] != payload_end:
        raise ContainerError("the members' lengths do not add up to the payload's")
    if bytes(view[payload_end:]) != bytes(size - payload_end):  # views compare octet by octet
        raise ContainerError("the padding is not zero")
    return Container(kind, rows, ends[:-1], view)


def _objection(kind: Kind, row: _ROW) -> str | None:
    """What is wrong with a row of the table, or None."""
    inode, _, _, raw_length, stored_length, codec = row
    if codec not in _CODECS:
        return f"codec {codec} is not known"
    if not 1 <= raw_length <= MAX_RAW_LENGTH:
        return f"no member has {raw_length} bytes"
    if codec == Codec.NONE:
        if stored_length != raw_length:
            return "a member that is not compressed has two lengths"
    elif not 1 <= stored_length < raw_length:
        return "a compressed member is not smaller than its content"
    if kind == Kind.DATA and inode == 0:
        return "a member of a data article belongs to no inode"
    return None


def _checked(slot: int) -> int:
    """Negative slots are mistakes, not positions from the end."""
    if slot < 0:
        raise IndexError(f"no slot {slot}")
    return slot
