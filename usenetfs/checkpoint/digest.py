"""The digest of an index: one number for all its rows, in whatever order they are met.

The sum modulo 2**256, over all rows of the replicated tables, of BLAKE2b-256 keyed with the digest
key of ``table name ‖ 00 ‖ record``, the record being the row in changeset encoding. So it follows
from a change alone (old row out, new row in), and a recovered index proves itself by a scan.

It finds bugs, losses and mixed-up states. It is not what keeps forgers out: the seals do, and who
has the key for them has this key as well.

Must not know: which rows are hashed in which form; that is the publisher's and the reader's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Final

from usenetfs.checkpoint.changeset import Field, encode_record

MODULUS: Final = 1 << 256
_SIZE: Final = 32


class RowDigest:
    """The digest of single rows; combine them by addition modulo :data:`MODULUS`."""

    def __init__(self, digest_key: bytes) -> None:
        self._hash = partial(blake2b, digest_size=_SIZE, key=digest_key)

    def row(self, table: str, values: Sequence[Field]) -> int:
        """Of one row, all columns in the table's order."""
        return self.encoded(table, encode_record(values))

    def encoded(self, table: str, record: bytes) -> int:
        """Of one row in changeset encoding."""
        content = b"".join((table.encode("utf-8"), b"\0", record))
        return int.from_bytes(self._hash(content).digest(), "big")

    def rows(self, table: str, rows: Iterable[Sequence[Field]]) -> int:
        """The sum over rows of one table."""
        return self.encoded_rows(table, map(encode_record, rows))

    def encoded_rows(self, table: str, records: Iterable[bytes]) -> int:
        """The same over rows in changeset encoding."""
        copy, number = self._hash(table.encode("utf-8") + b"\0").copy, int.from_bytes
        total = 0
        for record in records:
            state = copy()
            state.update(record)
            total += number(state.digest(), "big")
        return total % MODULUS


def digest_bytes(total: int) -> bytes:
    """32 bytes of a sum."""
    return (total % MODULUS).to_bytes(_SIZE, "big")
