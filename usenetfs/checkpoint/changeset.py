"""SQLite's changeset encoding, read and written as a stream.

::

    changeset  (table change*)*
    table      'T', number of columns varint, one octet a column: 0, or its place in the primary
               key from 1; the table's name in UTF-8; 00
    change     operation u8 (18 insert, 23 update, 9 delete), indirect u8,
               old record (update, delete), new record (insert, update)
    record     one field a column: 00 absent; 01 integer i64; 02 real f64;
               03 text, length varint, UTF-8; 04 blob, length varint, octets; 05 NULL

Big-endian throughout; a varint is SQLite's (seven bits an octet, most significant first, the ninth
octet whole). An update's old record has the key and what changes, its new record only what changes;
the other fields are absent (:data:`UNCHANGED`).

Owns: this encoding, bit for bit as SQLite's session extension makes it, so that whoever has that
extension can apply what is written here, and nobody needs it to read. Memory does not follow the
length of the stream. Must not know: which tables there are, files, compression.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from usenetfs.errors import DocumentError

MAX_COLUMNS: Final = 128
MAX_NAME: Final = 256
MAX_VALUE: Final = 16 << 20
"""Bytes of one text or blob; the longest that an index holds is an extended attribute, 64 KiB."""

CHUNK: Final = 64 * 1024
"""About how much :func:`encode_changes` gathers before it yields."""

_TABLE_MARK: Final = 0x54
_INTEGER: Final = struct.Struct(">q")
_REAL: Final = struct.Struct(">d")
_TAGGED_INTEGER: Final = struct.Struct(">Bq")
_TAGGED_REAL: Final = struct.Struct(">Bd")


class Unchanged(enum.Enum):
    """A field that a record does not say."""

    UNCHANGED = 0

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged.UNCHANGED

Value = int | float | str | bytes | None
Field = Value | Unchanged
Fields = tuple[Field, ...]


class Operation(enum.IntEnum):
    """What happened to a row; SQLite's own numbers."""

    DELETE = 9
    INSERT = 18
    UPDATE = 23


@dataclass(frozen=True, slots=True)
class Table:
    """``key``: for each column 0, or its place in the primary key, from 1."""

    name: str
    key: tuple[int, ...]

    @property
    def columns(self) -> int:
        return len(self.key)


class Change(NamedTuple):
    """One row's change. ``old`` is None for an insert, ``new`` for a delete."""

    table: Table
    operation: Operation
    old: Fields | None
    new: Fields | None
    indirect: bool = False


# --- writing -------------------------------------------------------------------------------------


def encode_record(values: Sequence[Field]) -> bytes:
    """The record of a row. ValueError for what is no value of SQLite's."""
    parts: list[bytes] = []
    for value in values:
        kind = type(value)
        if kind is int:
            parts.append(_TAGGED_INTEGER.pack(1, value))
        elif kind is bytes:
            parts += (b"\x04", _varint(len(value)), value)  # type: ignore[arg-type]
        elif kind is str:
            text = value.encode("utf-8")  # type: ignore[union-attr]
            parts += (b"\x03", _varint(len(text)), text)
        elif value is None:
            parts.append(b"\x05")
        elif value is UNCHANGED:
            parts.append(b"\x00")
        elif kind is float:
            parts.append(_TAGGED_REAL.pack(2, value))
        elif isinstance(value, int):  # enumerations, NewTypes
            parts.append(_TAGGED_INTEGER.pack(1, value))
        else:
            raise ValueError(f"{kind.__name__} is no type of SQLite's")
    return b"".join(parts)


def encode_table(table: Table) -> bytes:
    """The header that stands before a table's changes."""
    name = table.name.encode("utf-8")
    if not name or b"\0" in name:
        raise ValueError("a table has a name")
    return b"".join((b"T", _varint(table.columns), bytes(table.key), name, b"\0"))


def encode_change(change: Change) -> bytes:
    """A change without its table's header."""
    parts = [bytes((change.operation, change.indirect))]
    parts += [encode_record(record) for record in (change.old, change.new) if record is not None]
    return b"".join(parts)


def encode_changes(changes: Iterable[Change]) -> Iterator[bytes]:
    """A changeset in chunks. A table's changes must come one after the other.

    A table that comes again gets another header, which every reader takes, and SQLite too.
    """
    table: Table | None = None
    parts: list[bytes] = []
    size = 0
    for change in changes:
        if change.table is not table and change.table != table:
            table = change.table
            parts.append(encode_table(table))
        encoded = encode_change(change)
        parts.append(encoded)
        size += len(encoded)
        if size >= CHUNK:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    groups = [value & 0x7F]
    value >>= 7
    while value:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    if len(groups) > 8:
        raise ValueError("the length is beyond what SQLite can store")
    return bytes(reversed(groups))


# --- reading -------------------------------------------------------------------------------------


class _MoreNeededError(Exception):
    """The buffer ends within an element."""


class ChangesetDecoder:
    """Changes out of a stream that comes in pieces of any size.

    :meth:`feed` returns the changes complete so far, :meth:`finish` refuses a stream that ends
    within one. DocumentError for what is no changeset.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._table: Table | None = None

    def __repr__(self) -> str:
        return f"<ChangesetDecoder table={self._table} rest={len(self._rest)}>"

    def feed(self, data: bytes | bytearray | memoryview) -> list[Change]:
        """The changes that ``data`` completes, in order."""
        buffer = b"".join((self._rest, data))
        changes: list[Change] = []
        at = 0
        try:
            while at < len(buffer):
                if buffer[at] == _TABLE_MARK:
                    self._table, at = _read_table(buffer, at + 1)
                else:
                    change, at = _read_change(self._table, buffer, at)
                    changes.append(change)
        except _MoreNeededError:
            pass
        self._rest = buffer[at:]
        return changes

    def finish(self) -> None:
        """The stream ends here."""
        if self._rest:
            raise DocumentError("a changeset ends in the middle of a change")


def decode_changes(chunks: Iterable[bytes | bytearray | memoryview]) -> Iterator[Change]:
    """All changes of a stream."""
    decoder = ChangesetDecoder()
    for chunk in chunks:
        yield from decoder.feed(chunk)
    decoder.finish()


def scatter(changeset: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """The changes of a whole changeset, as they are: header of the table, key of the row, change.

    The key is that of the row before; it is the same for all changes of one row. DocumentError.
    """
    at, header = 0, b""
    flags: tuple[int, ...] = ()
    try:
        while at < len(changeset):
            start = at
            if changeset[at] == _TABLE_MARK:
                table, at = _read_table(changeset, at + 1)
                header, flags = changeset[start:at], table.key
                continue
            key, at = _skip_record(changeset, at + 2, flags)
            if changeset[start] == Operation.UPDATE:
                _, at = _skip_record(changeset, at, flags)
            yield header, key, changeset[start:at]
    except (IndexError, _MoreNeededError):
        at = len(changeset) + 1
    if at > len(changeset):
        raise DocumentError("a changeset ends in the middle of a change")


def _skip_record(buffer: bytes, at: int, flags: Sequence[int]) -> tuple[bytes, int]:
    """The fields of the key, and where the record ends."""
    key = b""
    for flag in flags:
        start = at
        tag = buffer[at]
        if tag in {1, 2}:
            at += 9
        elif tag in {3, 4}:
            length, at = _read_varint(buffer, at + 1)
            at += length
        elif tag in {0, 5}:
            at += 1
        else:
            raise DocumentError(f"a changeset has a field of type {tag}")
        if flag:
            key += buffer[start:at]
    return key, at


def _read_table(buffer: bytes, at: int) -> tuple[Table, int]:
    columns, at = _read_varint(buffer, at)
    if not 1 <= columns <= MAX_COLUMNS:
        raise DocumentError(f"a changeset names a table of {columns} columns")
    key = tuple(buffer[at : at + columns])
    end = buffer.find(b"\0", at + columns)
    if end < 0:
        if len(buffer) - at > columns + MAX_NAME:
            raise DocumentError("a changeset names a table without end")
        raise _MoreNeededError
    try:
        name = buffer[at + columns : end].decode("utf-8")
    except UnicodeDecodeError:
        raise DocumentError("a table's name is not UTF-8") from None
    if not name or not any(key):
        raise DocumentError("a changeset names a table without name or key")
    return Table(name, key), end + 1


def _read_change(table: Table | None, buffer: bytes, at: int) -> tuple[Change, int]:
    if table is None:
        raise DocumentError("a changeset begins with no table")
    if at + 2 > len(buffer):
        raise _MoreNeededError
    try:
        operation = Operation(buffer[at])
    except ValueError:
        raise DocumentError(f"a changeset has an operation {buffer[at]}") from None
    indirect = buffer[at + 1]
    if indirect > 1:
        raise DocumentError("a changeset has a mark that is none")
    at += 2
    old: Fields | None = None
    new: Fields | None = None
    if operation is not Operation.INSERT:
        old, at = _read_record(table, buffer, at, partial=operation is Operation.UPDATE)
    if operation is not Operation.DELETE:
        new, at = _read_record(table, buffer, at, partial=operation is Operation.UPDATE)
    return Change(table, operation, old, new, bool(indirect)), at


def _read_record(table: Table, buffer: bytes, at: int, *, partial: bool) -> tuple[Fields, int]:
    """``partial``: fields may be absent."""
    fields: list[Field] = []
    end = len(buffer)
    for _ in range(len(table.key)):
        if at >= end:
            raise _MoreNeededError
        tag = buffer[at]
        at += 1
        if tag == 1:
            if at + 8 > end:
                raise _MoreNeededError
            fields.append(_INTEGER.unpack_from(buffer, at)[0])
            at += 8
        elif tag in {3, 4}:
            length, at = _read_varint(buffer, at)
            if length > MAX_VALUE:
                raise DocumentError(f"a changeset has a value of {length} bytes")
            if at + length > end:
                raise _MoreNeededError
            content = buffer[at : at + length]
            at += length
            fields.append(_text(content) if tag == 3 else content)
        elif tag == 5:
            fields.append(None)
        elif tag == 2:
            if at + 8 > end:
                raise _MoreNeededError
            fields.append(_REAL.unpack_from(buffer, at)[0])
            at += 8
        elif tag == 0 and partial:
            fields.append(UNCHANGED)
        else:
            raise DocumentError(f"a changeset has a field of type {tag}")
    return tuple(fields), at


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise DocumentError("a text of a changeset is not UTF-8") from None


def _read_varint(buffer: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count in range(9):
        if at >= len(buffer):
            raise _MoreNeededError
        octet = buffer[at]
        at += 1
        if count == 8:
            return value << 8 | octet, at
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return value, at
    raise AssertionError("a varint has at most nine octets")
