"""What is published does not tell how many files an index has, nor need the one who recovers it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import settings

from tests.checkpoint.builder import ChainBuilder, digest_of, state_of
from tests.checkpoint.test_draft import DraftMachine
from tests.checkpoint.test_replay import everything, grow, left_over, reader_of
from tests.index import world as files
from tests.transfer.world import FILESYSTEM_ID, KEYS, FakeServers
from usenetfs.checkpoint.replay import rebuild, remove_index
from usenetfs.index import shards as shards_module
from usenetfs.index.index import Index


@pytest.fixture(autouse=True)
def small_stripes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "STRIPE_BITS", 1)


def made(path: Path, shards: int) -> Index:
    """The same content whatever ``shards``."""
    index = Index.create(
        path,
        filesystem_id=FILESYSTEM_ID,
        name="t",
        block_size=files.BLOCK,
        directory_key=KEYS.directory_key,
        uid=1,
        gid=1,
        shards=shards,
    )
    grow(index, random.Random(3), 30)
    return index


def test_the_same_bytes_whatever_the_number_of_files(tmp_path: Path) -> None:
    with made(tmp_path / "one.db", 1) as one, made(tmp_path / "many.db", 16) as many:
        many.settling.run()
        for seed in (4, 5):
            assert everything(many) == everything(one)
            assert digest_of(state_of(many)) == digest_of(state_of(one))
            with one.cut() as cut_of_one, many.cut() as cut_of_many:
                assert b"".join(cut_of_many.export({})) == b"".join(cut_of_one.export({}))
                assert list(cut_of_many.changesets(0, 0)) == list(cut_of_one.changesets(0, 0))
                assert cut_of_many.size() > cut_of_one.size()
            for index in (one, many):
                grow(index, random.Random(seed), 20)
                for article in index.articles.list()[::5]:
                    index.mark_verified(article.id)


@pytest.mark.parametrize(("before", "after"), [(16, 1), (1, 16), (16, 5)])
async def test_recovered_into_another_number_of_files(
    tmp_path: Path, before: int, after: int
) -> None:
    servers = FakeServers()
    with made(tmp_path / "source.db", before) as index:
        index.settling.run()
        ChainBuilder(servers).publish(index)
        original = everything(index)
    reader = reader_of(servers)
    newest = await reader.find_end()
    assert newest is not None
    path = tmp_path / "rebuilt.db"
    await rebuild(reader, path, newest=newest, writable=True, shards=after)
    with Index.open(path, directory_key=KEYS.directory_key) as index:
        assert index.shards.count == after
        assert everything(index) == original
        index.settling.run()
        assert everything(index) == original
        assert index.check(deep=True) == []
        grow(index, random.Random(9), 10)
        assert index.check(deep=True) == []
    remove_index(path)
    assert left_over(tmp_path) == []


class SpreadDraftMachine(DraftMachine):
    files_of_content = 3


SpreadDraftMachine.TestCase.settings = settings(
    max_examples=10, stateful_step_count=30, deadline=None
)
TestSpreadDraft = SpreadDraftMachine.TestCase
