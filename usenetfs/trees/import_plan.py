"""What is to be done about one thing of the source, given what is under its name already.

Pure. The rules are rsync's: a file of the same size and time of modification is taken for the same
(``checksum``: is compared), and then only its attributes may be brought up to date; anything else
that is no directory is replaced; a directory is never replaced by a file or the other way round.
"""

from __future__ import annotations

import enum
import os
import stat

from usenetfs.index.inodes import Inode


class Step(enum.Enum):
    """What comes next."""

    SEND = "send"
    """Nothing is there, or it is replaced."""
    SAME = "same"
    """The content is there; attributes may differ."""
    COMPARE = "compare"
    """The same size: the content decides."""
    CONFLICT = "conflict"
    """A directory on one side only."""


def decide(
    source: os.stat_result,
    target: Inode | None,
    *,
    source_link: bytes | None = None,
    target_link: bytes | None = None,
    checksum: bool = False,
) -> Step:
    """``source_link``, ``target_link``: what symbolic links say."""
    if target is None:
        return Step.SEND
    mine, other = stat.S_IFMT(source.st_mode), stat.S_IFMT(target.mode)
    if mine != other:
        return Step.CONFLICT if stat.S_IFDIR in {mine, other} else Step.SEND
    if mine == stat.S_IFDIR:
        return Step.SAME
    if mine == stat.S_IFREG:
        if source.st_size != target.size:
            return Step.SEND
        if checksum:
            return Step.COMPARE
        return Step.SAME if source.st_mtime_ns == target.mtime_ns else Step.SEND
    if mine == stat.S_IFLNK:
        return Step.SAME if source_link == target_link else Step.SEND
    if mine in {stat.S_IFCHR, stat.S_IFBLK}:
        return Step.SAME if source.st_rdev == target.rdev else Step.SEND
    return Step.SAME
