"""Builds the index of a synthetic filesystem as ``recover`` does: a :class:`Replica` fed with a
changeset, so that twenty million blocks take minutes and not hours.

What is measured later needs names and inodes to ask for; a sample of them is kept beside the index.
"""

from __future__ import annotations

import hashlib
import pickle
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import Final

from scripts.bench.index_tree import BLOCK, LARGE_BLOCKS, Directory, directories, size_of
from usenetfs.index.index import Index
from usenetfs.index.normal_form import FORMS, encoded_inserts, table_header
from usenetfs.index.replica import Replica

KEY: Final = b"directory key 16"
FILESYSTEM_ID: Final = b"f" * 16
EPOCH_BASE: Final = 1 << 40
SMALL_PER_ARTICLE: Final = 20
TIME: Final = 1_700_000_000
CHUNK: Final = 4000
"""Rows of a table in one piece of the changeset."""

Cookie = Callable[[bytes], int]

_INODE: Final = Struct(">" + "Bq" * 10)
_DIRENT_HEAD: Final = Struct(">BqBqBB")
_INTEGER: Final = Struct(">Bq")
_BLOCK: Final = Struct(">" + "Bq" * 4)
_SEGMENT_HEAD: Final = Struct(">BqBB")
_SEGMENT_TAIL: Final = Struct(">" + "Bq" * 6)
_ARTICLE: Final = Struct(">" + "Bq" * 7)
_INSERT: Final = b"\x12\x00"


@dataclass(slots=True)
class Samples:
    """What the measurements ask for. ``files``: (parent, name, inode, path of the directory)."""

    files: list[tuple[int, bytes, int, tuple[bytes, ...]]] = field(default_factory=list)
    directories: list[tuple[int, int]] = field(default_factory=list)
    """(inode, number of files)"""
    large: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    name_bytes: int = 0
    last_inode: int = 1


def create(path: Path) -> Index:
    return Index.create(
        path, filesystem_id=FILESYSTEM_ID, name="bench", block_size=BLOCK, directory_key=KEY
    )


def reopen(path: Path) -> Index:
    return Index.open(path, directory_key=KEY)


def segment_hash(segment: int) -> bytes:
    return hashlib.blake2b(segment.to_bytes(8, "big"), digest_size=16).digest()


def fill(path: Path, files: int, further: int) -> dict[str, float]:
    """An index of ``files`` small files and ``further`` blocks of large ones; what it took."""
    seed = path.with_name("seed.db")
    with create(seed) as empty:
        cookie = empty.dirents.cookie
        head = [
            table_header(FORMS[table]) + b"".join(encoded_inserts(empty.database.connection, table))
            for table in ("meta", "inodes")
        ]
    samples = Samples()
    replica = Replica.create(path)
    started = time.process_time()
    replica.apply(_changes(files, further, head, samples, cookie))
    replica.settle(writable=True)
    replica.finish()
    took = time.process_time() - started
    samples_path(path).write_bytes(pickle.dumps(samples))
    return {"built as recover does, CPU s": took}


def samples_path(path: Path) -> Path:
    return path.with_name("samples.pickle")


def load_samples(path: Path) -> Samples:
    samples: Samples = pickle.loads(samples_path(path).read_bytes())
    return samples


def _changes(
    files: int, further: int, head: list[bytes], samples: Samples, cookie: Cookie
) -> Iterator[bytes]:
    yield from head
    yield from _names(files, further, samples, cookie)
    yield from _content(files, further, samples)


def _names(files: int, further: int, samples: Samples, cookie: Cookie) -> Iterator[bytes]:
    """Rows of inodes and dirents; samples are drawn on the way."""
    rng = random.Random(2)
    step = max(1, files // 20_000)
    inodes: list[bytes] = []
    dirents: list[bytes] = []
    for directory in directories(files):
        _sample(directory, samples, rng, step)
        entries = [(directory.parent, directory.name, directory.number)]
        inodes.append(_inode_row(directory.number, 0o040755, 0))
        for number, name in enumerate(directory.files, directory.number + 1):
            inodes.append(_inode_row(number, 0o100644, size_of(number)))
            entries.append((directory.number, name, number))
        for parent, name, number in entries:
            samples.name_bytes += len(name)
            dirents.append(_dirent_row(parent, cookie(name), name, number))
        samples.last_inode = directory.number + len(directory.files)
        if len(inodes) >= CHUNK:
            yield _table("inodes", inodes)
            yield _table("dirents", dirents)
    samples.large = [samples.last_inode + 1 + n for n in range(further // LARGE_BLOCKS)]
    for number in samples.large:
        name = b"Disk image %d.img" % number
        inodes.append(_inode_row(number, 0o100644, LARGE_BLOCKS * BLOCK))
        dirents.append(_dirent_row(1, cookie(name), name, number))
    samples.last_inode += len(samples.large)
    yield _table("inodes", inodes)
    yield _table("dirents", dirents)


def _sample(directory: Directory, samples: Samples, rng: random.Random, step: int) -> None:
    samples.directories.append((directory.number, len(directory.files)))
    for place, name in enumerate(directory.files):
        if rng.randrange(step) == 0:
            number = directory.number + 1 + place
            samples.files.append((directory.number, name, number, directory.path))


def _content(files: int, further: int, samples: Samples) -> Iterator[bytes]:
    """Rows of blocks, segments and articles: small files share articles, large ones do not."""
    blocks: list[bytes] = []
    segments: list[bytes] = []
    articles: list[bytes] = []
    number, place = EPOCH_BASE, 0
    step = max(1, (files + further) // 20_000)
    for segment, (inode, block, length) in enumerate(_blocks(samples), 1):
        if place == 0:
            number += 1
            articles.append(_article_row(number))
        content = segment_hash(segment)
        blocks.append(_INSERT + _BLOCK.pack(1, inode, 1, block, 1, segment, 1, length))
        segments.append(_segment_row(segment, content, length, number, place))
        place = (place + 1) % SMALL_PER_ARTICLE if length < BLOCK else 0
        if segment % step == 0:
            samples.hashes.append(content)
        if len(segments) >= CHUNK:
            yield _table("blocks", blocks)
            yield _table("segments", segments)
            yield _table("articles", articles)
    yield _table("blocks", blocks)
    yield _table("segments", segments)
    yield _table("articles", articles)


def _blocks(samples: Samples) -> Iterator[tuple[int, int, int]]:
    """(inode, block, length) of all, in order."""
    for directory, files in samples.directories:
        for inode in range(directory + 1, directory + 1 + files):
            yield inode, 0, size_of(inode)
    for inode in samples.large:
        for block in range(LARGE_BLOCKS):
            yield inode, block, BLOCK


def _inode_row(number: int, mode: int, size: int) -> bytes:
    when = (TIME + number) * 1_000_000_000 + number * 7919 % 1_000_000_000
    # the link count of a file is its only name; a directory's is derived
    links = 0 if mode & 0o040000 else 1
    return _INSERT + _INODE.pack(
        1, number, 1, mode, 1, 1000, 1, 1000, 1, links, 1, size, 1, 0, 1, when, 1, when, 1, when
    )


def _dirent_row(parent: int, cookie: int, name: bytes, inode: int) -> bytes:
    head = _DIRENT_HEAD.pack(1, parent, 1, cookie, 4, len(name))
    return _INSERT + head + name + _INTEGER.pack(1, inode)


def _segment_row(segment: int, content: bytes, length: int, article: int, slot: int) -> bytes:
    stored = length if length == BLOCK else length * 2 // 3
    codec = 0 if length == BLOCK else 1
    head = _SEGMENT_HEAD.pack(1, segment, 4, len(content))
    tail = _SEGMENT_TAIL.pack(1, length, 1, stored, 1, codec, 1, article, 1, slot, 1, 0)
    return _INSERT + head + content + tail


def _article_row(number: int) -> bytes:
    posted = TIME + (number - EPOCH_BASE) // 100
    return _INSERT + _ARTICLE.pack(1, number, 1, 0, 1, 2, 1, 724_000, 1, posted, 1, 0, 1, 0)


def _table(name: str, rows: list[bytes]) -> bytes:
    """Rows with their table's header; the list is empty afterwards."""
    if not rows:
        return b""
    whole = table_header(FORMS[name]) + b"".join(rows)
    rows.clear()
    return whole
