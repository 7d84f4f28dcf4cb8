"""From segments that share an article to what is recorded and what is sealed of them.

Pure but for the randomness of salt and padding. The two forms must agree: what the index says an
article holds is what is in it, slot by slot.
"""

from __future__ import annotations

import os

from usenetfs.article.container import Member, choose_padding, container_size
from usenetfs.article.seal import SEAL_OVERHEAD, new_salt
from usenetfs.index.articles import NewArticle, NewMember, StagedLink
from usenetfs.index.transitions import NewRecord
from usenetfs.transfer.upload.packer import PreparedSegment
from usenetfs.transfer.upload.poster import Recorded
from usenetfs.types import ArticleId


def draft(
    article: ArticleId, segments: list[PreparedSegment]
) -> tuple[NewRecord, Recorded, list[PreparedSegment]]:
    """What is recorded of an article, and what will be sealed of it."""
    padding = choose_padding(
        container_size(len(segments), sum(len(segment.payload) for segment in segments)),
        os.urandom(4),
    )
    members = [
        Member(
            inode=segment.claims[0].inode,
            block=segment.claims[0].number,
            hash=segment.hash,
            codec=segment.codec,
            raw_length=segment.raw_length,
            stored_length=len(segment.payload),
        )
        for segment in segments
    ]
    recorded = Recorded(
        article,
        0,
        new_salt(),
        [(member, segment.payload) for member, segment in zip(members, segments, strict=True)],
        padding,
    )
    size = container_size(len(members), sum(member.stored_length for member in members))
    record = NewArticle(
        article,
        0,
        recorded.salt,
        size + padding + SEAL_OVERHEAD,
        [
            NewMember(
                member.inode,
                member.block,
                segment.claims[0].generation,
                member.hash,
                member.codec,
                member.raw_length,
                member.stored_length,
            )
            for member, segment in zip(members, segments, strict=True)
        ],
    )
    links = [
        StagedLink(claim.inode, claim.number, claim.generation, slot)
        for slot, segment in enumerate(segments)
        for claim in segment.claims[1:]
    ]
    return NewRecord(record, links), recorded, segments
