"""What changed since the last checkpoint, net, however much it is.

Changes of one row follow each other in the changelog and have to be joined; those of different rows
have nothing to do with each other. So where there are many, they are scattered over parts by their
key, each part as large as may be merged in memory. A part has all changes of its rows, in their
order.

Owns the temporary files of the parts. Must not know what is published of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from zlib import crc32

from usenetfs.checkpoint.changeset import Change, decode_changes, scatter
from usenetfs.checkpoint.scratch import CHUNK, Scratch
from usenetfs.index.cut import merge

PART: Final = 1024 * 1024
"""Octets of changes that are merged at once: some fifteen thousand rows. It takes SQLite 10 ms, of
which it holds the interpreter for half."""

MOST_PARTS: Final = 256
"""Each may have a file open. Beyond 256 MB of changes the parts grow."""


class NetChanges:
    """A context manager. ``changesets``: in their order, ``size`` octets in all."""

    def __init__(self, changesets: Iterable[bytes], size: int, directory: Path) -> None:
        count = min(max(-(-size // PART), 1), MOST_PARTS)
        self._parts = [Scratch(directory) for _ in range(count)]
        try:
            self._scatter(changesets)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<NetChanges {self._parts}>"

    def _scatter(self, changesets: Iterable[bytes]) -> None:
        parts = self._parts
        if len(parts) == 1:
            for changeset in changesets:
                parts[0].append(changeset)
            return
        tables = [b""] * len(parts)
        for changeset in changesets:
            for table, key, change in scatter(changeset):
                number = crc32(key) % len(parts)
                if tables[number] != table:
                    parts[number].append(table)
                    tables[number] = table
                parts[number].append(change)

    def __iter__(self) -> Iterator[Change]:
        """Each changed row once. Any number of times, always in the same order."""
        for part in self._parts:
            if part:
                merged = memoryview(merge([part.whole()]))
                yield from decode_changes(
                    merged[at : at + CHUNK] for at in range(0, len(merged), CHUNK)
                )

    def close(self) -> None:
        """May be called twice."""
        for part in self._parts:
            part.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
