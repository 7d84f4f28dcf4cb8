"""The articles that hold a file, or a tree of them, as the block map has it now.

Pure reading of the index, in steps: whoever walks a large tree on the event loop gives others a
chance between two steps.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from usenetfs.errors import PathNotFoundError
from usenetfs.index.index import Index
from usenetfs.index.inodes import Inode
from usenetfs.types import ROOT_INODE, ArticleId, BlockNumber, InodeId, MessageId

STEP = 256
"""Rows looked at between two chances for others."""

FILES = 64
"""Files, each of which costs some 15 µs."""


@dataclass(frozen=True, slots=True)
class ArticlePlace:
    """An article, and what is needed to fetch it."""

    article: ArticleId
    attempt: int
    rewritten: MessageId | None


def find(index: Index, path: str) -> InodeId:
    """The inode at an absolute path within the filesystem. Links are not followed."""
    inode = ROOT_INODE
    for part in os.fsencode(path).split(b"/"):
        if part in {b"", b"."}:
            continue
        child = index.dirents.lookup(inode, part)
        if child is None:
            raise PathNotFoundError(f"{path}: there is no such file or directory")
        inode = child
    return inode


def files_below(index: Index, top: InodeId) -> Iterator[list[tuple[bytes, Inode]]]:
    """Step by step the files of ``top`` and, if it is a directory, of everything below it, each
    with the path by which it was come to. Nothing is held between steps, so what changes meanwhile
    may be missed or come twice."""
    row, path = index.inodes.get(top), index.dirents.path_of(top)
    if row is None or path is None:
        return
    if not stat.S_ISDIR(row.mode):
        yield [(path, row)]
        return
    directories = [(top, path.rstrip(b"/"))]
    while directories:
        (directory, path), cookie = directories.pop(), 0
        while entries := index.dirents.list(directory, cookie, FILES):
            cookie = entries[-1][0]
            named = [(path + b"/" + name, inode) for _, name, inode in entries]
            directories += [(row.id, name) for name, row in named if stat.S_ISDIR(row.mode)]
            yield [(name, row) for name, row in named if stat.S_ISREG(row.mode)]


def articles_below(index: Index, top: InodeId) -> Iterator[list[ArticlePlace]]:
    """The articles of these files. One that several files share comes once for each step it is
    in."""
    for files in files_below(index, top):
        step: dict[ArticleId, ArticlePlace] = {}
        for _, row in files:
            for places in _of_file(index, row):
                step.update((place.article, place) for place in places)
                if len(step) >= STEP:
                    yield list(step.values())
                    step.clear()
        yield list(step.values())


def _of_file(index: Index, row: Inode) -> Iterator[list[ArticlePlace]]:
    number = 0
    last = index.blocks.last(row.id)
    while last is not None and number <= last:
        found = index.blocks.locate(row.id, BlockNumber(number), STEP)
        places = {
            block.article: ArticlePlace(block.article, block.attempt, block.message_id)
            for block in found
        }
        yield list(places.values())
        number += STEP
