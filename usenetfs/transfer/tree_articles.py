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


def articles_below(index: Index, top: InodeId) -> Iterator[list[ArticlePlace]]:
    """Step by step the articles of ``top`` and, if it is a directory, of everything below it. One
    that several files share comes once for each step it is in. Nothing is held between steps, so
    what changes meanwhile may be missed or come twice."""
    row = index.inodes.get(top)
    if row is None:
        return
    if not stat.S_ISDIR(row.mode):
        yield from _of_file(index, row)
        return
    directories = [top]
    while directories:
        directory, cookie = directories.pop(), 0
        while entries := index.dirents.list(directory, cookie, STEP):
            step: dict[ArticleId, ArticlePlace] = {}
            cookie = entries[-1][0]
            for _, _, inode in entries:
                if stat.S_ISDIR(inode.mode):
                    directories.append(inode.id)
                elif stat.S_ISREG(inode.mode):
                    for places in _of_file(index, inode):
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
