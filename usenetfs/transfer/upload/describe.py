"""What a file is called and how large it is, for rules that go by that (R15).

Asks the index, so on the event-loop thread only.
"""

from __future__ import annotations

from collections.abc import Callable

from usenetfs.index.index import Index
from usenetfs.types import InodeId


def describer(index: Index) -> Callable[[InodeId], tuple[bytes, int] | None]:
    """A function from an inode to a name of it (without directory) and its size in bytes; None
    once it has no name any more. Of several names the index's first one counts."""

    def describe(inode: InodeId) -> tuple[bytes, int] | None:
        row = index.inodes.get(inode)
        names = index.dirents.parents_of(inode, limit=1)
        return (names[0][1], row.size) if row is not None and names else None

    return describe
