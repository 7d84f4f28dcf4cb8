"""What a fetched article proves: that it opens, and that its members are what they say they are.

Opening checks the seal, which binds the body to the article's number: another article's body does
not open. Then every member is decompressed and hashed. What comes out is the hashes of the members
that are right; whether these are all that the index counts on is looked up by the caller.

It does not know servers or files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import trio

from usenetfs.article.compression import decompress
from usenetfs.article.container import Container, Kind, unpack
from usenetfs.article.hashing import segment_hash
from usenetfs.article.keys import KeySet
from usenetfs.article.seal import open_seal
from usenetfs.errors import DecompressionError
from usenetfs.index.articles import Article
from usenetfs.index.index import Index
from usenetfs.index.segments import NewSegment
from usenetfs.types import ArticleId, SegmentHash

LOOKUPS: Final = 100
"""Members looked up between two chances for others: some 400 µs."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The members of an article that are right, as the index would have them, by slot."""

    members: tuple[NewSegment, ...]

    @property
    def hashes(self) -> frozenset[SegmentHash]:
        return frozenset(member.hash for member in self.members)


class ContentsReader:
    """Opens bodies of data articles, in threads."""

    def __init__(self, keys: KeySet, filesystem_id: bytes) -> None:
        self._keys = keys
        self._filesystem_id = filesystem_id

    def __repr__(self) -> str:
        return "<ContentsReader>"

    async def open(self, article: ArticleId, body: bytes | bytearray) -> Contents:
        """IntegrityError where the body is not that article's."""
        return await trio.to_thread.run_sync(self._open, article, body)

    def _open(self, article: ArticleId, body: bytes | bytearray) -> Contents:
        plaintext = open_seal(self._keys.data_key, self._filesystem_id, article, Kind.DATA, body)
        container = unpack(plaintext)
        slots = range(len(container))
        return Contents(
            tuple(
                member
                for slot in slots
                if (member := self._right_member(article, container, slot)) is not None
            )
        )

    def _right_member(
        self, article: ArticleId, container: Container, slot: int
    ) -> NewSegment | None:
        member = container.member(slot)
        try:
            raw = decompress(member.codec, container.payload(slot), member.raw_length)
        except DecompressionError:
            return None
        if segment_hash(self._keys.hash_key, raw) != member.hash:
            return None
        return NewSegment(
            member.hash, member.raw_length, member.stored_length, member.codec, article, slot
        )


async def serves_all(index: Index, article: Article, contents: Contents) -> bool:
    """Whether the members that are right serve every block that rests on the article."""
    found = 0
    for start in range(0, len(contents.members), LOOKUPS):
        found += _served(index, contents.members[start : start + LOOKUPS])
        await trio.lowlevel.checkpoint()
    if found >= article.blocks:
        return True
    # Blocks came or went meanwhile, or there is something wrong: both counts at one moment.
    row = index.articles.get(article.id)
    return row is None or _served(index, contents.members) >= row.blocks


def _served(index: Index, members: tuple[NewSegment, ...]) -> int:
    """Block rows that point to these members."""
    found = 0
    for member in members:
        row = index.segments.by_hash(member.hash)
        if row is not None and member == NewSegment(
            row.hash, row.raw_length, row.stored_length, row.codec, row.article, row.slot
        ):
            found += row.refs
    return found
