"""Listing in pieces: what was read ahead is used again only while nothing has changed."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fs.test_pending import FILE, OWNER, Disk
from usenetfs.fs.listing import BATCH, Listing
from usenetfs.index.inodes import Inode
from usenetfs.types import ROOT_INODE, InodeId

MANY = 2 * BATCH + 17


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    opened = Disk.open(tmp_path / "one")
    for number in range(MANY):
        opened.names.make(ROOT_INODE, b"file %d" % number, FILE, OWNER)
    opened.pending.commit()
    yield opened
    opened.close()


def piece(listing: Listing, cookie: int, size: int) -> list[tuple[int, bytes]]:
    """As the kernel takes them: the entry after the last one is looked at and left."""
    found: list[tuple[int, bytes]] = []
    for place, name, _ in listing.behind(cookie):
        if len(found) == size:
            break
        found.append((place, name))
    return found


def everything(listing: Listing, size: int) -> list[bytes]:
    names, cookie = [], 2
    while entries := piece(listing, cookie, size):
        names += [name for _, name in entries]
        cookie = entries[-1][0]
    return names


@pytest.mark.parametrize("size", [1, 25, BATCH, MANY + 1])
def test_pieces_of_any_size_make_the_whole(disk: Disk, size: int) -> None:
    names = everything(Listing(disk.names, disk.inodes, ROOT_INODE), size)
    assert sorted(names) == sorted(b"file %d" % number for number in range(MANY))


def test_a_directory_is_read_from_the_index_once(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    listed = disk.names.list

    def counted(directory: InodeId, after: int, limit: int) -> list[tuple[int, bytes, Inode]]:
        asked.append(after)
        return listed(directory, after, limit)

    monkeypatch.setattr(disk.names, "list", counted)
    assert len(everything(Listing(disk.names, disk.inodes, ROOT_INODE), 10)) == MANY
    assert len(asked) <= MANY // BATCH + 3


def test_a_name_that_went_meanwhile_is_not_listed(disk: Disk) -> None:
    listing = Listing(disk.names, disk.inodes, ROOT_INODE)
    first = piece(listing, 2, 5)
    others = piece(Listing(disk.names, disk.inodes, ROOT_INODE), first[-1][0], 3)
    disk.names.unlink(ROOT_INODE, others[0][1])
    disk.names.rename(ROOT_INODE, others[1][1], ROOT_INODE, b"elsewhere")
    rest = []
    cookie = first[-1][0]
    while entries := piece(listing, cookie, 7):
        rest += [name for _, name in entries]
        cookie = entries[-1][0]
    assert others[0][1] not in rest
    assert others[1][1] not in rest
    assert others[2][1] in rest
    assert len(set(rest)) == len(rest)


def test_attributes_are_those_of_the_moment(disk: Disk) -> None:
    listing = Listing(disk.names, disk.inodes, ROOT_INODE)
    first = piece(listing, 2, 1)
    later = next(iter(Listing(disk.names, disk.inodes, ROOT_INODE).behind(first[0][0])))
    disk.write(later[2].id, 0, b"longer than before")
    assert next(iter(listing.behind(first[0][0])))[2].size == 18
    disk.pending.commit()
    assert next(iter(listing.behind(first[0][0])))[2].size == 18


def test_going_back_begins_anew(disk: Disk) -> None:
    listing = Listing(disk.names, disk.inodes, ROOT_INODE)
    first = piece(listing, 2, 30)
    assert piece(listing, first[-1][0], 30)
    assert piece(listing, 2, 30) == first
    assert piece(listing, first[9][0], 20) == first[10:30]


def test_an_empty_directory_lists_nothing(disk: Disk) -> None:
    empty = disk.names.make(ROOT_INODE, b"empty", stat.S_IFDIR | 0o755, OWNER)
    listing = Listing(disk.names, disk.inodes, empty.id)
    assert piece(listing, 2, 10) == []
    disk.names.make(empty.id, b"new", FILE, OWNER)
    assert [name for _, name in piece(listing, 2, 10)] == [b"new"]
