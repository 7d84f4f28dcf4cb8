"""How much there is to import: counted beside the import, so that it can say how much is left."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

import trio

from usenetfs.trees.exclude import Exclude
from usenetfs.trees.tally import Tally


async def count(roots: Sequence[tuple[bytes, bytes]], exclude: Exclude, tally: Tally) -> None:
    """Add what is below each (path, relative path) to ``tally.found``."""
    try:
        await trio.to_thread.run_sync(_count_all, roots, exclude, tally)
    finally:
        tally.counting = False


def _count_all(roots: Sequence[tuple[bytes, bytes]], exclude: Exclude, tally: Tally) -> None:
    """In a thread, the only one that changes these two numbers."""
    for path, relative in roots:
        try:
            status = os.stat(path, follow_symlinks=not relative)
        except OSError:
            continue  # the import says so
        if stat.S_ISDIR(status.st_mode):
            _count_below(path, relative, exclude, tally)
        else:
            tally.found += 1
            tally.found_bytes += status.st_size if stat.S_ISREG(status.st_mode) else 0


def _count_below(top: bytes, relative: bytes, exclude: Exclude, tally: Tally) -> None:
    pending = [(top, relative)]
    while pending:
        trio.from_thread.check_cancelled()
        path, relative = pending.pop()
        prefix = relative + b"/" if relative else b""
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    below = prefix + entry.name
                    is_directory = entry.is_dir(follow_symlinks=False)
                    if exclude(below, directory=is_directory):
                        continue
                    if is_directory:
                        pending.append((entry.path, below))
                        continue
                    tally.found += 1
                    if entry.is_file(follow_symlinks=False):
                        tally.found_bytes += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # the import says so
