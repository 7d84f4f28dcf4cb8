"""A synthetic filesystem for the index benchmark: names, depths and sizes like real ones.

Pure and reproducible. Directories form a random recursive tree (a directory's parent is any of
those before it), so depth grows with the logarithm of their number, as in real trees; the files of
a directory are of one kind (pictures, music, letters, source, mail) and are named like it. One
directory in some thousands is flat and huge. Small files have one block each.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

BLOCK: Final = 716_800
LARGE_BLOCKS: Final = 5_000
"""Blocks of a large file: 3.6 GB."""

FLAT_FILES: Final = 10_000
_USUAL: Final = (2, 4, 7, 10, 14, 19, 24, 30, 40, 80)
"""Files in a directory: 23 on average."""

_WORDS: Final = (
    b"report summer north budget meeting draft final garden winter travel notes river letter "
    b"kitchen invoice project archive sketch lecture morning harbour window concert station"
).split()


@dataclass(frozen=True, slots=True)
class Directory:
    """``number``: its inode; its files have the inodes after it."""

    number: int
    parent: int
    name: bytes
    path: tuple[bytes, ...]
    files: tuple[bytes, ...]


def directories(files: int, seed: int = 1) -> Iterator[Directory]:
    """Directories with ``files`` files in all, parents before their children. 1 is the root."""
    rng = random.Random(seed)
    known: list[tuple[int, tuple[bytes, ...]]] = [(1, ())]
    inode, left, place = 2, files, 0
    while left > 0:
        parent, above = known[rng.randrange(len(known))]
        flat = place % 4000 == 50
        count = min(left, min(FLAT_FILES, files // 5) if flat else rng.choice(_USUAL))
        name = _directory_name(rng, place)
        path = (*above, name)
        yield Directory(inode, parent, name, path, _file_names(rng, count))
        known.append((inode, path))
        inode += 1 + count
        left -= count
        place += 1


def _directory_name(rng: random.Random, place: int) -> bytes:
    first = rng.choice(_WORDS)
    return b"%s %s %d" % (first.title(), rng.choice(_WORDS), place)


def _file_names(rng: random.Random, count: int) -> tuple[bytes, ...]:
    start, kind = rng.randrange(10_000), rng.randrange(5)
    one, two = rng.choice(_WORDS), rng.choice(_WORDS)
    numbers = range(start, start + count)
    if kind == 0:
        return tuple(b"IMG_20190412_%06d.jpg" % (n * 7 + 153012) for n in numbers)
    if kind == 1:
        return tuple(b"%02d - %s %s.flac" % (n, one.title(), two.title()) for n in numbers)
    if kind == 2:
        return tuple(b"%s %s 2019-%05d.pdf" % (one.title(), two, n) for n in numbers)
    if kind == 3:
        return tuple(b"test_%s_%d.py" % (two, n) for n in numbers)
    return tuple(
        b"%032x.eml" % (n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)) for n in numbers
    )


def size_of(inode: int) -> int:
    """Bytes of a small file: 100 bytes to a full block, most of them a few tens of kilobytes."""
    mixed = inode * 2_654_435_761 % (1 << 32)
    return 100 + (mixed % 90_000 if mixed % 16 else mixed % (BLOCK - 100))
