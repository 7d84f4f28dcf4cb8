"""Losing and damaging articles in the spool of a stopped embedded server.

Record by record: a header of 30 octets, Message-ID, group names, the article (nntpd/spool.py).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

HEADER = struct.Struct("<4sBBHHIIII")


def message_ids(spool: Path) -> list[str]:
    """Of all articles, oldest first."""
    found: list[str] = []

    def note(name: str, article: bytes) -> bytes:
        found.append(name)
        return article

    _rewrite(spool, note, save=False)
    return found


def remove(spool: Path, gone: Collection[str]) -> int:
    """Take articles away; how many were there."""
    count = 0

    def judge(name: str, article: bytes) -> bytes | None:
        nonlocal count
        if name in gone:
            count += 1
            return None
        return article

    _rewrite(spool, judge)
    return count


def damage(spool: Path, articles: Collection[str]) -> int:
    """Change one octet in the middle of articles; how many were there."""
    count = 0

    def judge(name: str, article: bytes) -> bytes:
        nonlocal count
        if name not in articles:
            return article
        count += 1
        middle = article.index(b"=ypart") + 2000
        while not (65 < article[middle] < 90 and article[middle - 1] != 61):
            middle += 1
        return article[:middle] + bytes([article[middle] + 1]) + article[middle + 1 :]

    _rewrite(spool, judge)
    return count


def exchange(spool: Path, others: Mapping[str, str]) -> int:
    """Put another article, whole, under each id that ``others`` has; how many were there."""
    content: dict[str, bytes] = {}

    def note(name: str, article: bytes) -> bytes:
        content[name] = article
        return article

    _rewrite(spool, note, save=False)
    _rewrite(spool, lambda name, article: content[others[name]] if name in others else article)
    return len(others.keys() & content.keys())


def _rewrite(
    spool: Path, judge: Callable[[str, bytes], bytes | None], *, save: bool = True
) -> None:
    for segment in sorted(spool.glob("*.seg")):
        content, kept, at = segment.read_bytes(), bytearray(), 0
        while at + HEADER.size <= len(content):
            fields = HEADER.unpack_from(content, at)
            name_length, filed_length, head_length, length = fields[3:7]
            start = at + HEADER.size
            names = content[start : start + name_length + filed_length]
            start += len(names)
            at = start + length
            name = names[:name_length].decode("ascii")
            article = judge(name, content[start:at])
            if article is None:
                continue
            checksum = zlib.crc32(article, zlib.crc32(names))
            sizes = (name_length, filed_length, head_length, len(article))
            header = HEADER.pack(*fields[:3], *sizes, checksum, 0)[:-4]
            kept += header + zlib.crc32(header).to_bytes(4, "little") + names + article
        if save:
            segment.write_bytes(kept)
