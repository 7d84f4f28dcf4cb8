"""How much there is to download: counted beside the download, so that it can say what is left."""

from __future__ import annotations

import stat

import trio

from usenetfs.errors import PosixError
from usenetfs.index.inodes import Inode
from usenetfs.trees.exclude import Exclude
from usenetfs.trees.export_source import ExportSource
from usenetfs.trees.tally import Tally
from usenetfs.types import InodeId

BATCH = 256


async def count(
    source: ExportSource, row: Inode, relative: bytes, exclude: Exclude, tally: Tally
) -> None:
    """Add ``row`` and what is below it to ``tally.found``."""
    try:
        if not stat.S_ISDIR(row.mode):
            _add(tally, row)
        else:
            await _count_below(source, row.id, relative, exclude, tally)
    finally:
        tally.counting = False


def _add(tally: Tally, row: Inode) -> None:
    tally.found += 1
    tally.found_bytes += row.size if stat.S_ISREG(row.mode) else 0


async def _count_below(
    source: ExportSource, top: InodeId, relative: bytes, exclude: Exclude, tally: Tally
) -> None:
    pending = [(top, relative)]
    while pending:
        directory, relative = pending.pop()
        prefix = relative + b"/" if relative else b""
        after = 2
        while True:
            await trio.lowlevel.checkpoint()
            try:
                entries = source.entries(directory, after, BATCH)
            except PosixError:
                break  # the download says so
            if not entries:
                break
            after = entries[-1][0]
            for _, name, row in entries:
                is_directory = stat.S_ISDIR(row.mode)
                if exclude(prefix + name, directory=is_directory):
                    continue
                if is_directory:
                    pending.append((row.id, prefix + name))
                else:
                    _add(tally, row)
