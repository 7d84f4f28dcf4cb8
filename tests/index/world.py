"""A small world around an index: files made, blocks staged and uploaded in one line each."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import replace
from pathlib import Path

from usenetfs.index.articles import NewArticle, NewMember
from usenetfs.index.database import Row
from usenetfs.index.index import Index
from usenetfs.index.staging import StagedBlock
from usenetfs.types import (
    ROOT_INODE,
    ArticleId,
    BlockNumber,
    Codec,
    InodeId,
    SegmentHash,
)

BLOCK = 1000
KEY = b"directory key 16"
NOW_NS = 1_700_000_000_000_000_000
TIMES = (NOW_NS, NOW_NS, NOW_NS)


def create(path: Path, *, shards: int = 1) -> Index:
    return Index.create(
        path,
        filesystem_id=b"f" * 16,
        name="test",
        block_size=BLOCK,
        directory_key=KEY,
        shards=shards,
    )


def reopen(path: Path) -> Index:
    return Index.open(path, directory_key=KEY)


def content_hash(content: bytes) -> SegmentHash:
    return SegmentHash(hashlib.sha256(content).digest()[:16])


def make_file(index: Index, name: bytes, *, size: int = 0, parent: InodeId = ROOT_INODE) -> InodeId:
    with index.transaction():
        inode = index.inodes.insert(stat.S_IFREG | 0o644, 1, 1, 1, 0, size, TIMES)
        index.dirents.insert(parent, name, inode.id)
    return inode.id


def make_directory(index: Index, name: bytes, *, parent: InodeId = ROOT_INODE) -> InodeId:
    with index.transaction():
        inode = index.inodes.insert(stat.S_IFDIR | 0o755, 1, 1, 2, 0, 0, TIMES)
        index.dirents.insert(parent, name, inode.id)
        above = index.inodes.get(parent)
        assert above is not None
        index.inodes.update(replace(above, nlink=above.nlink + 1))
    return inode.id


def set_size(index: Index, inode: InodeId, size: int) -> None:
    row = index.inodes.get(inode)
    assert row is not None
    index.inodes.update(replace(row, size=size))


def stage(index: Index, inode: InodeId, block: int, *, whole: bool = True) -> int:
    """A write of the whole block, or of its bytes 10 to 20; returns the generation."""
    generation = index.staging.next_generation()
    extents = ((0, BLOCK),) if whole else ((10, 20),)
    with index.transaction():
        index.staging.put(
            StagedBlock(inode, BlockNumber(block), generation, whole, extents, NOW_NS + generation)
        )
    return generation


def member(inode: InodeId, block: int, generation: int, content: bytes) -> NewMember:
    digest = content_hash(content)
    return NewMember(
        inode, BlockNumber(block), generation, digest, Codec.NONE, len(content), len(content)
    )


def record(index: Index, *members: NewMember) -> tuple[ArticleId, int]:
    """Record an article; its id and how many blocks wait for it."""
    article = index.articles.allocate()
    waiting = index.record_article(NewArticle(article, 0, b"s" * 32, 5000, members))
    return article, waiting


def upload(index: Index, inode: InodeId, block: int, content: bytes) -> ArticleId:
    """Stage a block and take it all the way to seen."""
    generation = stage(index, inode, block)
    article, waiting = record(index, member(inode, block, generation, content))
    assert waiting == 1
    assert index.mark_posted(article, "server", None, NOW_NS)
    assert index.mark_seen(article, NOW_NS).freed == ((inode, block),)
    return article


def rows_of_table(index: Index, table: str, columns: str = "*") -> list[Row]:
    """All rows of a table, from whatever files they are in."""
    sources = index.shards.sources(table) if index.shards.has(table) else [table]
    return [
        row for source in sources for row in index.database.rows(f"SELECT {columns} FROM {source}")
    ]
