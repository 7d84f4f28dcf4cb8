"""A small staging area, and what of it is on the disk."""

from __future__ import annotations

import os
from pathlib import Path

from usenetfs.store.staging import Staging
from usenetfs.types import BlockNumber, InodeId

BLOCK = 8192
PER_FILE = 3
BLOCKS = 8
SIZE = BLOCK * BLOCKS
ONE = InodeId(1)
TWO = InodeId(258)
"""In the bucket after the one of inode 1; 257 shares it."""


def block(number: int) -> BlockNumber:
    return BlockNumber(number)


def small(directory: Path, *, max_open: int = 4, new_from: int | None = None) -> Staging:
    return Staging(
        directory,
        block_size=BLOCK,
        blocks_per_file=PER_FILE,
        max_open=max_open,
        new_from=new_from,
    )


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def files_below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*.*"))


def allocated(directory: Path) -> int:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return sum(path.stat().st_blocks * 512 for path in files)
