"""Each rule of what waits, by the smallest case that needs it."""

from __future__ import annotations

from usenetfs.checkpoint.holdback import Row, RowChange, split

DIRECTORY, FILE = 0o040755, 0o100644
HELD, FREE = True, False


def inode(number: int, mode: int = FILE) -> Row:
    return (number, mode, 0, 0, 1, 0, 0, 0, 0, 0)


def name(parent: int, cookie: int, leads_to: int) -> Row:
    return (parent, cookie, b"n", leads_to)


def segment(number: int, digest: bytes = b"h", article: int = 1) -> Row:
    return (number, digest, 9, 9, 0, article, 0, 0)


def article(number: int) -> Row:
    return (number, 0, 2, 9, 0, 0, 0)


def made(table: str, row: Row) -> RowChange:
    return RowChange(table, None, row)


def gone(table: str, row: Row) -> RowChange:
    return RowChange(table, row, None)


def waits(
    staged: set[int], *changes: RowChange, directories: frozenset[int] = frozenset()
) -> list[bool]:
    decided = split(
        changes, staged, lambda number: inode(number, DIRECTORY if number in directories else FILE)
    )
    return [bool(waits) for waits in decided.held]


def test_nothing_staged_nothing_waits() -> None:
    assert waits(set(), made("inodes", inode(5)), made("dirents", name(1, 9, 5))) == [FREE, FREE]


def test_an_inode_waits_with_all_that_is_its_own() -> None:
    assert waits(
        {5},
        made("inodes", inode(5)),
        made("dirents", name(1, 9, 5)),
        made("xattrs", (5, b"user.a", b"")),
        made("blocks", (5, 0, 70, 9)),
        made("inodes", inode(6)),
        RowChange("meta", ("epoch", 1), ("epoch", 2)),
        made("segments", segment(70)),
        made("articles", article(1)),
    ) == [HELD, HELD, HELD, HELD, FREE, FREE, FREE, FREE]


def test_a_name_that_passes_to_a_new_file_keeps_the_old_one() -> None:
    """Save by rename: 5 had the name, 6 has it now, and 6 is not safe yet."""
    assert (
        waits(
            {6},
            RowChange("dirents", name(1, 9, 5), name(1, 9, 6)),
            gone("inodes", inode(5)),
            gone("blocks", (5, 0, 70, 9)),
            gone("segments", segment(70)),
            gone("articles", article(1)),
            gone("message_ids", (1, "<a@b>")),
            made("inodes", inode(6)),
        )
        == [HELD] * 7
    )


def test_a_name_needs_its_new_directory() -> None:
    """The directory took the name of an old file that gave its own to one that is not safe."""
    changes = [
        RowChange("dirents", name(1, 9, 5), name(1, 9, 7)),  # the file's name is the directory's
        made("dirents", name(1, 8, 5)),
        made("inodes", inode(7, DIRECTORY)),
        made("dirents", name(7, 3, 6)),
        made("inodes", inode(6)),
        made("inodes", inode(8)),
    ]
    assert waits({5}, *changes, directories=frozenset({7})) == [HELD] * 5 + [FREE]


def test_a_directory_goes_when_its_names_have_gone() -> None:
    """5 was moved out of directory 7, which was then removed; 5 is being rewritten."""
    changes = [
        gone("dirents", name(7, 3, 5)),
        made("dirents", name(1, 9, 5)),
        gone("dirents", name(1, 8, 7)),
        gone("inodes", inode(7, DIRECTORY)),
        gone("inodes", inode(6)),
    ]
    assert waits({5}, *changes) == [HELD, HELD, HELD, HELD, FREE]


def test_moves_of_directories_wait_together() -> None:
    """20 and 21 change places in the tree; a held file took 20's old name."""
    changes = [
        RowChange("dirents", name(1, 9, 20), name(1, 9, 5)),
        made("dirents", name(21, 3, 20)),
        gone("dirents", name(20, 3, 21)),
        made("dirents", name(1, 8, 21)),
    ]
    assert waits({5}, *changes, directories=frozenset({20, 21})) == [HELD] * 4


def test_a_segment_stays_while_a_block_that_waits_points_to_it() -> None:
    assert waits(
        {5},
        RowChange("blocks", (5, 0, 70, 9), (5, 0, 71, 9)),
        gone("segments", segment(70)),
        made("segments", segment(71, b"i", 2)),
        gone("articles", article(1)),
        gone("segments", segment(72, b"j", 3)),
        gone("articles", article(3)),
    ) == [HELD, HELD, FREE, HELD, FREE, FREE]


def test_equal_content_under_a_new_number_waits_for_the_old() -> None:
    """Hashes are unique: 6 has the content that 5, which waits, let go of."""
    assert (
        waits(
            {5},
            gone("blocks", (5, 0, 70, 9)),
            gone("segments", segment(70)),
            made("segments", segment(71)),
            made("blocks", (6, 0, 71, 9)),
            made("inodes", inode(6)),
        )
        == [HELD] * 5
    )


def test_a_segment_that_moved_leaves_its_article() -> None:
    assert waits(
        {5},
        made("inodes", inode(5)),
        RowChange("segments", segment(70, article=1), segment(70, article=2)),
        gone("articles", article(1)),
        made("articles", article(2)),
    ) == [HELD, FREE, FREE, FREE]


def lack(staged: set[int], wanted: set[int], *changes: RowChange) -> tuple[set[int], set[int]]:
    decided = split(changes, staged, inode, [wanted])
    (found,) = decided.lacks
    return set(found.inodes), set(found.causes)


def test_who_wants_what_does_not_wait_lacks_nothing() -> None:
    changes = made("inodes", inode(5)), made("inodes", inode(6))
    assert lack(set(), {5}, *changes) == (set(), set())
    assert lack({6}, {5}, *changes) == (set(), set())


def test_who_wants_what_waits_is_told_for_whose_content() -> None:
    assert lack({5, 6}, {5}, made("inodes", inode(5)), made("inodes", inode(6))) == ({5}, {5})
    # saved by rename: what has lost the name waits for the content of what has it now
    renamed = RowChange("dirents", name(1, 9, 5), name(1, 9, 6))
    assert lack({6}, {5}, renamed, gone("inodes", inode(5))) == ({5}, {6})


def test_an_inode_with_staged_content_is_lacking_though_no_row_of_it_changed() -> None:
    assert lack({5}, {5}, made("inodes", inode(6))) == ({5}, {5})


def test_what_something_needs_is_followed_to_the_content_that_it_waits_for() -> None:
    """A name in a new directory, whose making waits because of a file that lost a name to it."""
    changes = (
        made("inodes", inode(7, DIRECTORY)),
        RowChange("dirents", name(1, 9, 8), name(1, 9, 7)),
        made("dirents", name(7, 3, 5)),
        gone("dirents", name(1, 4, 5)),
    )
    assert lack({8}, {5}, *changes) == ({5}, {8})


def test_each_demand_has_an_answer_of_its_own() -> None:
    decided = split(
        [made("inodes", inode(5)), made("inodes", inode(6))],
        {5, 6},
        lambda _: None,
        [{5}, {6}, {7}],
    )
    assert [set(each.inodes) for each in decided.lacks] == [{5}, {6}, set()]
