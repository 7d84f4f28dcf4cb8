"""Newsgroup rules in the write path: for articles of one file, and for no others."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from trio.testing import MockClock

from tests.transfer.world import BLOCK, ExpectLog, FakeServers, World, opened_world, uploading
from usenetfs.article.newsgroups import GroupRule, NewsgroupChoice
from usenetfs.article.wire import OutgoingArticle
from usenetfs.errors import PostRejectedError
from usenetfs.types import ROOT_INODE, InodeId

GENERAL = ("alt.binaries.test", "alt.binaries.misc")
MOVIES = GroupRule(("alt.binaries.movies",), ("*.mkv",))
LARGE = GroupRule(("alt.binaries.large",), min_size=5 * BLOCK)


class Groups:
    """Collects the newsgroup of each article that arrives."""

    def __init__(self, servers: FakeServers) -> None:
        self.seen: list[str] = []
        servers.before_post = self

    def __call__(self, article: OutgoingArticle) -> None:
        found = re.search(rb"^Newsgroups: (.*)\r$", article.wire, re.MULTILINE)
        assert found is not None
        self.seen.append(found[1].decode())


def choice(*rules: GroupRule) -> NewsgroupChoice:
    return NewsgroupChoice(GENERAL, rules, start=0)


def write(world: World, name: bytes, size: int) -> InodeId:
    inode = world.new_file(size)
    with world.index.transaction():
        world.index.dirents.insert(ROOT_INODE, name, inode)
        world.index.dirents.remove(ROOT_INODE, b"file-%d" % inode)
    world.write(inode, 0, os.urandom(size))
    return inode


async def test_files_go_where_their_rules_say(tmp_path: Path, patient_clock: MockClock) -> None:
    servers = FakeServers()
    groups = Groups(servers)
    async with opened_world(tmp_path, servers, groups=choice(MOVIES, LARGE)) as world:
        write(world, b"Some Film.MKV", 3 * BLOCK)
        write(world, b"archive.tar", 6 * BLOCK)
        write(world, b"notes.txt", 2 * BLOCK)
        async with uploading(world):
            await world.uploader.sync()
    counts = Counter(groups.seen)
    assert counts["alt.binaries.movies"] == 3
    assert counts["alt.binaries.large"] == 6
    assert counts[GENERAL[0]] == counts[GENERAL[1]] == 1


async def test_an_article_of_several_files_tells_nothing(
    tmp_path: Path, patient_clock: MockClock
) -> None:
    servers = FakeServers()
    groups = Groups(servers)
    async with opened_world(tmp_path, servers, groups=choice(MOVIES)) as world:
        for number in range(6):
            write(world, b"%d.mkv" % number, BLOCK // 8)
        async with uploading(world):
            await world.uploader.sync()
    assert len(groups.seen) == 1
    assert groups.seen[0] in GENERAL


async def test_a_rejected_article_keeps_its_rule(
    tmp_path: Path, expect_log: ExpectLog, patient_clock: MockClock
) -> None:
    expect_log("rejected")
    servers = FakeServers()
    groups = Groups(servers)
    async with opened_world(tmp_path, servers, groups=choice(MOVIES)) as world:
        write(world, b"a.mkv", BLOCK)

        def once(article: OutgoingArticle) -> None:
            groups(article)
            if len(groups.seen) == 1:
                raise PostRejectedError("441 no")

        servers.before_post = once
        async with uploading(world):
            await world.uploader.sync()
    assert groups.seen == ["alt.binaries.movies"] * 2


@pytest.mark.parametrize("rules", [(), (MOVIES,)])
async def test_without_a_fitting_rule_the_general_groups_take_turns(
    rules: tuple[GroupRule, ...], tmp_path: Path, patient_clock: MockClock
) -> None:
    servers = FakeServers()
    groups = Groups(servers)
    async with opened_world(tmp_path, servers, groups=choice(*rules)) as world:
        write(world, b"data.bin", 8 * BLOCK)
        async with uploading(world):
            await world.uploader.sync()
    assert Counter(groups.seen) == {GENERAL[0]: 4, GENERAL[1]: 4}
