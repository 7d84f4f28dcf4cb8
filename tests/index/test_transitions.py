"""From staged to seen, with everything that may happen to a block on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.index.world import (
    BLOCK,
    NOW_NS,
    content_hash,
    create,
    make_file,
    member,
    record,
    reopen,
    set_size,
    stage,
    upload,
)
from usenetfs.errors import DatabaseError
from usenetfs.index.articles import ArticleState, NewArticle, StagedLink
from usenetfs.index.index import Index
from usenetfs.index.staging import StagedBlock, StagingState, pack_extents, unpack_extents
from usenetfs.index.totals import Amount
from usenetfs.index.transitions import Settled
from usenetfs.types import (
    ArticleId,
    BlockNumber,
    Durability,
    InodeId,
    MessageId,
    SegmentId,
    article_id,
)

CONTENT = b"x" * BLOCK
OTHER = b"y" * BLOCK
B0, B1 = BlockNumber(0), BlockNumber(1)


@pytest.fixture
def file(index: Index) -> InodeId:
    return make_file(index, b"file", size=4 * BLOCK)


def row(index: Index, inode: InodeId, block: int = 0) -> StagedBlock:
    found = index.staging.get(inode, BlockNumber(block))
    assert found is not None
    return found


def segment_at(index: Index, inode: InodeId, block: int = 0) -> bytes | None:
    """Hash of what the block map names."""
    located = index.blocks.locate(inode, BlockNumber(block), 1)
    return located[0].hash if located else None


# --- the straight way ----------------------------------------------------------------------------


def test_the_whole_way(index: Index, file: InodeId) -> None:
    generation = stage(index, file, 0)
    assert row(index, file).state is StagingState.DIRTY
    assert index.durability_of(file) is Durability.STAGED
    article, waiting = record(index, member(file, 0, generation, CONTENT))
    assert waiting == 1
    assert row(index, file).state is StagingState.UPLOADING
    assert [flown.state for flown in index.in_doubt()] == [ArticleState.PENDING]
    assert index.mark_posted(article, "one", None, NOW_NS)
    assert row(index, file).state is StagingState.POSTED
    assert index.durability_of(file) is Durability.POSTED
    assert index.in_doubt() == []
    assert index.in_flight()[0].server == "one"
    assert index.mark_seen(article, NOW_NS + 5) == Settled(freed=((file, B0),))
    assert index.staging.get(file, B0) is None
    assert index.in_flight() == []
    assert index.durability_of(file) is Durability.SEEN
    (located,) = index.blocks.locate(file, B0, 4)
    assert (located.hash, located.article, located.slot) == (content_hash(CONTENT), article, 0)
    assert (located.length, located.attempt, located.message_id) == (BLOCK, 0, None)
    stored = index.articles.get(article)
    assert stored is not None
    assert (stored.state, stored.posted) == (Durability.SEEN, NOW_NS // 10**9)
    assert (stored.blocks, stored.bytes, stored.size) == (1, BLOCK, 5000)
    assert index.mark_verified(article)
    assert index.durability_of(file) is Durability.VERIFIED


def test_steps_repeated_or_out_of_order_do_nothing(index: Index, file: InodeId) -> None:
    article = upload(index, file, 0, CONTENT)
    assert index.mark_seen(article, NOW_NS) == Settled()
    assert not index.mark_posted(article, "one", None, NOW_NS)
    assert index.new_attempt(article, b"t" * 32) is None
    assert index.forget_article(article) == Settled()
    assert not index.mark_verified(ArticleId(article + 1))
    assert segment_at(index, file) == content_hash(CONTENT)


def test_seen_without_a_240(index: Index, file: InodeId) -> None:
    generation = stage(index, file, 0)
    article, _ = record(index, member(file, 0, generation, CONTENT))
    assert index.mark_seen(article, NOW_NS).freed == ((file, B0),)
    stored = index.articles.get(article)
    assert stored is not None
    assert stored.posted == NOW_NS // 10**9


def test_many_members_in_one_article(index: Index) -> None:
    files = [make_file(index, b"%d" % n, size=9) for n in range(100)]
    members = [member(f, 0, stage(index, f, 0), b"%09d" % f) for f in files]
    article, waiting = record(index, *members)
    assert waiting == 100
    assert len(index.mark_seen(article, NOW_NS).freed) == 100
    for slot, inode in enumerate(files):
        (located,) = index.blocks.locate(inode, B0, 1)
        assert (located.slot, located.hash) == (slot, content_hash(b"%09d" % inode))
    stored = index.articles.get(article)
    assert stored is not None
    assert (stored.blocks, stored.bytes) == (100, 900)


def test_several_articles_at_once(index: Index, file: InodeId) -> None:
    articles = []
    for block in range(3):
        generation = stage(index, file, block)
        articles.append(record(index, member(file, block, generation, b"%d" % block))[0])
    stage(index, file, 2)
    settled = index.mark_outcomes([], articles, [], NOW_NS)
    assert settled.freed == ((file, 0), (file, 1))
    assert settled.requeued == ((file, 2),)


# --- what may happen meanwhile -------------------------------------------------------------------


def test_rewritten_while_in_flight(index: Index, file: InodeId) -> None:
    generation = stage(index, file, 0)
    article, _ = record(index, member(file, 0, generation, CONTENT))
    index.mark_posted(article, "one", None, NOW_NS)
    later = stage(index, file, 0)
    found = row(index, file)
    assert found.state is StagingState.POSTED  # the upload goes on
    assert (found.generation, found.uploaded_generation) == (later, generation)
    assert found.rewritten
    assert index.durability_of(file) is Durability.STAGED
    assert index.staging.counts().dirty.count == 1
    assert index.mark_seen(article, NOW_NS) == Settled(requeued=((file, B0),))
    assert segment_at(index, file) == content_hash(CONTENT)
    assert row(index, file).state is StagingState.DIRTY
    article, _ = record(index, member(file, 0, later, OTHER))
    assert index.mark_seen(article, NOW_NS) == Settled(freed=((file, B0),))
    assert segment_at(index, file) == content_hash(OTHER)
    assert index.segments.by_hash(content_hash(CONTENT)) is None


def test_rewritten_between_reading_and_recording(index: Index, file: InodeId) -> None:
    read_at = stage(index, file, 0)
    stage(index, file, 0)
    article, waiting = record(index, member(file, 0, read_at, CONTENT))
    assert waiting == 1
    assert index.mark_seen(article, NOW_NS).requeued == ((file, B0),)


def test_deleted_while_in_flight(index: Index, file: InodeId) -> None:
    generation = stage(index, file, 0)
    article, _ = record(index, member(file, 0, generation, CONTENT))
    with index.transaction():
        assert index.staging.delete_inode(file) == 1
    assert index.mark_seen(article, NOW_NS) == Settled()
    assert index.articles.get(article) is None
    assert index.segments.by_hash(content_hash(CONTENT)) is None
    assert index.in_flight() == []


def test_one_of_two_deleted_while_in_flight(index: Index, file: InodeId) -> None:
    other = make_file(index, b"other", size=BLOCK)
    article, _ = record(
        index,
        member(file, 0, stage(index, file, 0), CONTENT),
        member(other, 0, stage(index, other, 0), OTHER),
    )
    with index.transaction():
        index.staging.delete_inode(file)
    assert index.mark_seen(article, NOW_NS).freed == ((other, B0),)
    assert index.segments.by_hash(content_hash(CONTENT)) is None
    assert segment_at(index, other) == content_hash(OTHER)


def test_a_new_file_in_the_old_place_takes_nothing_of_the_old(index: Index, file: InodeId) -> None:
    """Deleted and staged again between reading and recording."""
    read_at = stage(index, file, 0)
    with index.transaction():
        index.staging.delete(file, B0)
    stage(index, file, 0)
    _, waiting = record(index, member(file, 0, read_at, CONTENT))
    assert waiting == 0
    assert index.in_flight() == []
    assert row(index, file).state is StagingState.DIRTY


def test_truncated_away_while_in_flight(index: Index, file: InodeId) -> None:
    members = [member(file, n, stage(index, file, n), b"%d" % n) for n in range(4)]
    article, _ = record(index, *members)
    with index.transaction():
        set_size(index, file, 2 * BLOCK)
        assert index.staging.truncate(file, 2 * BLOCK) == 2
    assert index.mark_seen(article, NOW_NS).freed == ((file, 0), (file, 1))
    assert index.blocks.last(file) == 1


@pytest.mark.parametrize("whole", [True, False])
def test_cut_while_in_flight(index: Index, file: InodeId, whole: bool) -> None:
    """What arrives was read before the cut: its tail must not come back."""
    upload(index, file, 1, OTHER)
    generation = stage(index, file, 1, whole=whole)
    article, _ = record(index, member(file, 1, generation, CONTENT))
    with index.transaction():
        set_size(index, file, BLOCK + 15)
        index.staging.truncate(file, BLOCK + 15)
        index.blocks.set_length(file, B1, 15)
    assert row(index, file, 1).state is StagingState.DIRTY
    assert row(index, file, 1).extents == (((0, 15),) if whole else ((10, 15),))
    assert index.mark_seen(article, NOW_NS) == Settled()
    (located,) = index.blocks.locate(file, B1, 1)
    assert (located.hash, located.length) == (content_hash(OTHER), 15)
    # and what was read before the cut but recorded after it does not count either
    assert record(index, member(file, 1, generation, CONTENT))[1] == 0
    with index.transaction():
        index.staging.delete_inode(file)


def test_shortening_a_block_disowns_what_is_in_flight(index: Index, file: InodeId) -> None:
    generation = stage(index, file, 0)
    article, _ = record(index, member(file, 0, generation, CONTENT))
    with index.transaction():
        index.blocks.set_length(file, B0, 15)
    assert row(index, file).state is StagingState.DIRTY
    assert index.mark_seen(article, NOW_NS) == Settled()
    assert segment_at(index, file) is None


def test_content_of_a_generation_that_never_was_is_refused(index: Index, file: InodeId) -> None:
    generation = stage(index, file, 0)
    assert record(index, member(file, 0, generation + 1, CONTENT))[1] == 0
    assert row(index, file).state is StagingState.DIRTY


def test_cutting_keeps_sync_waiting(index: Index, file: InodeId) -> None:
    stage(index, file, 0)
    point = index.staging.sync_point()
    with index.transaction():
        index.staging.truncate(file, 15)
        set_size(index, file, 15)
    assert not index.staging.settled(point)
    generation = row(index, file).generation
    article, _ = record(index, member(file, 0, generation, CONTENT[:15]))
    index.mark_seen(article, NOW_NS)
    assert index.staging.settled(point)


# --- equal content -------------------------------------------------------------------------------


def test_equal_content_waits_for_one_segment(index: Index, file: InodeId) -> None:
    first = stage(index, file, 0)
    article, _ = record(index, member(file, 0, first, CONTENT))
    second, third = stage(index, file, 1), stage(index, file, 2)
    in_flight = index.articles.segment_in_flight(content_hash(CONTENT))
    assert in_flight is not None
    assert (in_flight.article, in_flight.slot) == (article, 0)
    assert index.link_staged(file, B1, second, article, 0)
    assert not index.link_staged(file, B1, second, article, 0)  # waits already
    index.mark_posted(article, "one", None, NOW_NS)
    assert index.link_staged(file, BlockNumber(2), third, article, 0)
    assert row(index, file, 2).state is StagingState.POSTED
    assert not index.link_staged(file, BlockNumber(3), third, article, 0)  # not staged
    assert not index.link_staged(file, BlockNumber(3), third, article, 1)  # no such slot
    assert [w.block for w in index.staging.waiting_for(article)] == [0, 1, 2]
    assert index.mark_seen(article, NOW_NS).freed == ((file, 0), (file, 1), (file, 2))
    segment = index.segments.by_hash(content_hash(CONTENT))
    assert segment is not None
    assert segment.refs == 3
    assert not index.link_staged(file, B1, second, article, 0)  # no longer in flight


def test_links_recorded_with_the_article(index: Index, file: InodeId) -> None:
    generations = [stage(index, file, n) for n in range(3)]
    new = NewArticle(
        index.articles.allocate(), 0, b"s" * 32, 1, [member(file, 0, generations[0], CONTENT)]
    )
    links = [StagedLink(file, BlockNumber(n), generations[n], 0) for n in (1, 2)]
    assert index.record_article(new, links) == 3
    assert len(index.mark_seen(new.id, NOW_NS).freed) == 3


def test_only_the_duplicate_is_left(index: Index, file: InodeId) -> None:
    """The member's own block was deleted; the segment lives for the one that was linked."""
    article, _ = record(index, member(file, 0, stage(index, file, 0), CONTENT))
    assert index.link_staged(file, B1, stage(index, file, 1), article, 0)
    with index.transaction():
        index.staging.cut(file, B0)
    assert index.mark_seen(article, NOW_NS).freed == ((file, B1),)
    assert segment_at(index, file, 1) == content_hash(CONTENT)
    assert segment_at(index, file, 0) is None


def test_two_articles_bring_the_same_content(index: Index, file: InodeId) -> None:
    one, _ = record(index, member(file, 0, stage(index, file, 0), CONTENT))
    two, _ = record(
        index,
        member(file, 1, stage(index, file, 1), CONTENT),
        member(file, 2, stage(index, file, 2), OTHER),
    )
    index.mark_seen(one, NOW_NS)
    assert index.mark_seen(two, NOW_NS).freed == ((file, 1), (file, 2))
    assert [b.article for b in index.blocks.locate(file, B0, 3)] == [one, one, two]


def test_content_that_is_known(index: Index, file: InodeId) -> None:
    article = upload(index, file, 0, CONTENT)
    segment = index.segments.by_hash(content_hash(CONTENT))
    assert segment is not None
    generation = stage(index, file, 1)
    assert not index.link_known(file, B1, generation + 1, segment.id, BLOCK)
    assert not index.link_known(file, B1, generation, SegmentId(999), BLOCK)
    assert index.link_known(file, B1, generation, segment.id, BLOCK)
    assert not index.link_known(file, B1, generation, segment.id, BLOCK)
    assert index.staging.get(file, B1) is None
    stored = index.articles.get(article)
    assert stored is not None
    assert stored.blocks == 2


def test_known_content_over_itself(index: Index, file: InodeId) -> None:
    """Rewritten with what it was: the last reference is dropped and taken in one step."""
    upload(index, file, 0, CONTENT)
    segment = index.segments.by_hash(content_hash(CONTENT))
    assert segment is not None
    assert index.link_known(file, B0, stage(index, file, 0), segment.id, BLOCK)
    assert segment_at(index, file) == content_hash(CONTENT)
    upload(index, file, 0, CONTENT)
    assert segment_at(index, file) == content_hash(CONTENT)


# --- back, and again -----------------------------------------------------------------------------


def test_a_new_attempt(index: Index, file: InodeId) -> None:
    article, _ = record(index, member(file, 0, stage(index, file, 0), CONTENT))
    index.mark_posted(article, "one", MessageId("<rewritten@x>"), NOW_NS)
    assert index.new_attempt(article, b"t" * 32) == 1
    flown = index.articles.get_in_flight(article)
    assert flown is not None
    assert (flown.attempt, flown.state, flown.salt) == (1, ArticleState.PENDING, b"t" * 32)
    assert (flown.message_id, flown.server, flown.posted_ns) == (None, None, 0)
    assert row(index, file).state is StagingState.UPLOADING
    index.mark_seen(article, NOW_NS)
    (located,) = index.blocks.locate(file, B0, 1)
    assert located.attempt == 1


def test_no_new_attempt_for_nobody(index: Index, file: InodeId) -> None:
    article, _ = record(index, member(file, 0, stage(index, file, 0), CONTENT))
    with index.transaction():
        index.staging.delete_inode(file)
    assert index.new_attempt(article, b"t" * 32) is None
    assert index.in_flight() == []


def test_forgotten(index: Index, file: InodeId) -> None:
    generation = stage(index, file, 0)
    article, _ = record(index, member(file, 0, generation, CONTENT))
    assert index.forget_article(article) == Settled(requeued=((file, B0),))
    assert row(index, file) == StagedBlock(
        file, B0, generation, True, ((0, BLOCK),), NOW_NS + generation
    )
    assert record(index, member(file, 0, generation, CONTENT))[0] > article


def test_message_ids_that_a_server_made(index: Index, file: InodeId) -> None:
    article, _ = record(index, member(file, 0, stage(index, file, 0), CONTENT))
    index.mark_posted(article, "one", MessageId("<theirs@x>"), NOW_NS)
    index.mark_seen(article, NOW_NS)
    (located,) = index.blocks.locate(file, B0, 1)
    assert located.message_id == index.articles.message_id(article) == "<theirs@x>"
    with index.transaction():
        index.articles.set_attempt(article, 3, None)
    (located,) = index.blocks.locate(file, B0, 1)
    assert (located.attempt, located.message_id) == (3, None)
    with index.transaction():
        index.articles.set_attempt(article, 4, MessageId("<again@x>"))
        index.blocks.delete_from(file, B0, 10)
    assert index.articles.message_id(article) is None


# --- numbering -----------------------------------------------------------------------------------


def test_article_numbers_are_not_used_twice(path: Path) -> None:
    with create(path) as index:
        file = make_file(index, b"file", size=BLOCK)
        index.articles.allocate()
        article = upload(index, file, 0, CONTENT)
        with index.transaction():
            index.blocks.delete_from(file, B0, 10)
        assert index.articles.get(article) is None
    with reopen(path) as index:
        assert index.articles.allocate() == article + 1
        with index.transaction():
            index.database.write("DELETE FROM local_meta")
    with reopen(path) as index:  # as after a recovery: only what is on record counts
        assert index.articles.allocate() == article_id(1, 1)


def test_an_article_of_another_epoch_is_refused(index: Index, file: InodeId) -> None:
    generation = stage(index, file, 0)
    new = NewArticle(article_id(2, 5), 0, b"s" * 32, 1, [member(file, 0, generation, CONTENT)])
    with pytest.raises(DatabaseError, match="not of epoch"):
        index.record_article(new)
    assert row(index, file).state is StagingState.DIRTY


# --- the queue, sync, counters -------------------------------------------------------------------


def test_the_queue_is_in_order_of_change(index: Index, file: InodeId) -> None:
    other = make_file(index, b"other", size=9 * BLOCK)
    times = [(file, 1, 50), (other, 3, 10), (file, 0, 30), (other, 0, 30), (file, 2, 90)]
    with index.transaction():
        index.staging.put_many(
            StagedBlock(inode, BlockNumber(block), index.staging.next_generation(), True, (), when)
            for inode, block, when in times
        )
    ordered = sorted((when, inode, block) for inode, block, when in times)

    def keys(rows: list[StagedBlock]) -> list[tuple[int, int, int]]:
        return [(r.dirtied_ns, r.inode, r.block) for r in rows]

    assert keys(index.staging.next_dirty(10)) == ordered
    assert keys(index.staging.next_dirty(10, before_ns=30)) == ordered[:3]
    assert keys(index.staging.next_dirty(10, inode=file)) == [k for k in ordered if k[1] == file]
    page: list[StagedBlock] = []
    paged: list[StagedBlock] = []
    while page := index.staging.next_dirty(2, after=page[-1] if page else None):
        paged.extend(page)
    assert keys(paged) == ordered
    assert index.staging.files() == [file, other]
    assert index.staging.files(after=file) == [other]
    assert index.staging.files(limit=1) == [file]
    assert [r.block for r in index.staging.of_inode(file, 1, 1)] == [1]
    plan = index.database.rows(
        "EXPLAIN QUERY PLAN SELECT inode FROM local_staging WHERE state = 0"
        " AND (dirtied_ns, inode, block) > (1, 2, 3) AND dirtied_ns <= 9"
        " ORDER BY dirtied_ns, inode, block LIMIT 5"
    )
    assert not any("TEMP B-TREE" in row[3] for row in plan)


def test_sync_waits_for_what_was_before_it(index: Index, file: InodeId) -> None:
    assert index.staging.settled(index.staging.sync_point())
    first = stage(index, file, 0)
    point = index.staging.sync_point()
    later = stage(index, file, 1)
    assert (index.staging.unsettled(point), index.staging.unsettled(later)) == (1, 2)
    assert index.staging.unsettled(later, InodeId(99)) == 0
    article, _ = record(index, member(file, 0, first, CONTENT))
    assert not index.staging.settled(point)
    index.mark_seen(article, NOW_NS)
    assert index.staging.settled(point)
    assert not index.staging.settled(later)


def test_sync_ends_although_the_block_is_written_again_and_again(
    index: Index, file: InodeId
) -> None:
    first = stage(index, file, 0)
    point = index.staging.sync_point()
    article, _ = record(index, member(file, 0, first, CONTENT))
    stage(index, file, 0)
    index.mark_seen(article, NOW_NS)
    assert index.staging.settled(point)  # what came later is none of its business
    assert not index.staging.settled(index.staging.sync_point())


def test_generations_only_grow(path: Path) -> None:
    with create(path) as index:
        file = make_file(index, b"file", size=BLOCK)
        with index.transaction():
            index.staging.put(StagedBlock(file, B0, 70, True, (), 1))
            index.staging.put(StagedBlock(file, B0, 70, False, ((1, 2),), 2))
            index.staging.put(StagedBlock(file, B0, 3, True, (), 3))
        assert row(index, file).generation == 72
        assert index.staging.next_generation() > 72
        assert row(index, file).dirtied_ns == 3
    with reopen(path) as index:
        assert index.staging.next_generation() > 72


def test_totals_by_state(index: Index, file: InodeId) -> None:
    none = Amount()
    with index.transaction():
        set_size(index, file, 2 * BLOCK + 5)
        for block in range(3):
            index.staging.put(
                StagedBlock(file, BlockNumber(block), index.staging.next_generation(), True, (), 1)
            )
        index.staging.put(
            StagedBlock(
                file, BlockNumber(9), index.staging.next_generation(), False, ((1, 4), (6, 8)), 1
            )
        )
    assert index.staging.counts().dirty == Amount(4, 2 * BLOCK + 5 + 5)
    one, _ = record(index, member(file, 0, row(index, file).generation, CONTENT))
    two, _ = record(index, member(file, 9, row(index, file, 9).generation, OTHER))
    index.mark_posted(two, "one", None, NOW_NS)
    counts = index.staging.counts()
    assert (counts.uploading, counts.posted) == (Amount(1, BLOCK), Amount(1, BLOCK))
    assert counts.total == Amount(4, 3 * BLOCK + 5)
    assert index.durability_totals() == {
        Durability.STAGED: Amount(3, 2 * BLOCK + 5),
        Durability.POSTED: Amount(1, BLOCK),
        Durability.SEEN: none,
        Durability.VERIFIED: none,
    }
    with index.transaction():
        set_size(index, file, 10 * BLOCK)
    index.mark_outcomes([], [one, two], [one], NOW_NS)
    totals = index.durability_totals()
    assert totals[Durability.SEEN] == totals[Durability.VERIFIED] == Amount(1, BLOCK)
    with index.transaction():
        index.blocks.delete_from(file, B0, 100)
        index.staging.delete_inode(file)
    assert set(index.durability_totals().values()) == {none}


def test_a_file_without_content_is_safe(index: Index, file: InodeId) -> None:
    assert index.durability_of(file) is Durability.VERIFIED


def test_extents_packed() -> None:
    for extents in ((), ((0, 5),), ((1, 2), (3, 716_800))):
        assert unpack_extents(pack_extents(extents)) == extents


# --- the block map by itself ---------------------------------------------------------------------


def test_blocks_set_shortened_and_deleted(index: Index, file: InodeId) -> None:
    article = upload(index, file, 0, CONTENT)
    known = index.blocks.get(file, B0)
    assert known is not None
    with index.transaction():
        for block in (1, 2, 3):
            index.blocks.set(file, BlockNumber(block), known.segment, BLOCK)
        index.blocks.set(file, B1, known.segment, BLOCK - 1)
        index.blocks.set_length(file, B1, BLOCK)  # longer than it is: nothing
        index.blocks.set_length(file, BlockNumber(2), 7)
        index.blocks.set_length(file, BlockNumber(3), 0)
        with pytest.raises(DatabaseError, match="does not exist"):
            index.blocks.set(file, B0, SegmentId(999), 1)
    assert [b.length for b in index.blocks.locate(file, B0, 9)] == [BLOCK, BLOCK - 1, 7]
    assert [b.number for b in index.blocks.locate(file, B1, 1)] == [1]
    stored = index.articles.get(article)
    assert stored is not None
    assert (stored.blocks, stored.bytes) == (3, 2 * BLOCK + 6)
    with index.transaction():
        assert index.blocks.delete_from(file, B1, 1) == 1
        assert index.blocks.last(file) == 1  # the last ones go first
        assert index.blocks.delete_from(file, B0, 10) == 2
        assert index.blocks.delete_from(file, B0, 10) == 0
    assert index.articles.get(article) is None
    assert index.segments.get(known.segment) is None


def test_articles_in_order_for_scrubbing(index: Index, file: InodeId) -> None:
    articles = [upload(index, file, n, b"%d" % n) for n in range(4)]
    index.mark_verified(articles[1])
    assert [a.id for a in index.articles.list()] == articles
    assert [a.id for a in index.articles.list(articles[0], 2)] == articles[1:3]
    assert [a.id for a in index.articles.list(state=Durability.VERIFIED)] == [articles[1]]


# --- where a block is ----------------------------------------------------------------------------


def test_looking_a_block_up_reads_no_page_of_the_articles(index: Index) -> None:
    inode = make_file(index, b"a", size=2 * BLOCK)
    first = upload(index, inode, 0, b"once")
    generation = stage(index, inode, 1)
    again, _ = record(index, member(inode, 1, generation, b"again"))
    assert index.new_attempt(again, b"t" * 32) == 1
    index.mark_seen(again, NOW_NS)
    found = index.blocks.locate(inode, BlockNumber(0), 9)
    assert [(b.article, b.attempt) for b in found] == [(first, 0), (again, 1)]
    with index.transaction():
        index.articles.set_attempt(again, 2, MessageId("<x@y.z>"))
        index.articles.set_attempt(first, 1, None)
    found = index.blocks.locate(inode, BlockNumber(0), 9)
    assert [(b.attempt, b.message_id) for b in found] == [(1, None), (2, "<x@y.z>")]
    plan = index.database.rows("EXPLAIN QUERY PLAN " + index.blocks._locate, (inode, 0, 9))
    ways = [row[3] for row in plan]
    assert any("COVERING INDEX articles_again" in way for way in ways), ways
    assert not any("a USING INTEGER PRIMARY KEY" in way for way in ways), ways
