"""Two real servers with the same articles, one of which becomes late: readers do not wait for it.

The servers are processes; the late one stalls by its fault plan.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from scripts.world import ServerProcess
from tests.servers import GROUP
from usenetfs.article.container import Kind, Member, pack
from usenetfs.article.keys import KeySet
from usenetfs.article.seal import new_salt
from usenetfs.article.wire import build_article
from usenetfs.net.providers import ProviderSet
from usenetfs.net.retry import RetryManager
from usenetfs.net.settings import ServerSettings, TlsMode
from usenetfs.transfer.fetch.fetcher import Fetcher, open_fetcher
from usenetfs.types import (
    ArticleId,
    BlockNumber,
    Codec,
    InodeId,
    Lane,
    SegmentHash,
    article_id,
)

FILESYSTEM = bytes(16)
KEYS = KeySet.from_master(bytes(range(32)), FILESYSTEM)
SIZE = 20_000
ARTICLES = 40
QUICK = 30
"""Articles that the first server gives at once; then each takes it ``STALL`` seconds."""
STALL = 20


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Sequence[ServerProcess]]:
    plan = tmp_path / "plan"
    plan.write_text(f"BODY after {QUICK} stall seconds={STALL}\n")
    with (
        ServerProcess(tmp_path / "one", f"--group={GROUP}", f"--faults={plan}") as one,
        ServerProcess(tmp_path / "two", f"--group={GROUP}") as two,
    ):
        yield one, two


def settings(server: ServerProcess, number: int) -> ServerSettings:
    host, port = server.endpoint.host, server.endpoint.port
    return ServerSettings(
        f"server{number}", host, port, TlsMode.NONE, connections=4, priority=number
    )


@asynccontextmanager
async def running(*configured: ServerSettings) -> AsyncIterator[ProviderSet]:
    providers = ProviderSet(list(configured))
    async with trio.open_nursery() as nursery:
        await nursery.start(providers.run)
        yield providers
        nursery.cancel_scope.cancel()


async def stored_on_each(servers: Sequence[ServerProcess]) -> dict[ArticleId, bytes]:
    contents = {article_id(0, number): os.urandom(SIZE) for number in range(ARTICLES)}
    articles = []
    for article, content in contents.items():
        member = Member(
            InodeId(1),
            BlockNumber(0),
            SegmentHash(bytes(16)),
            Codec.NONE,
            SIZE,
            SIZE,
        )
        plaintext = pack(Kind.DATA, [(member, content)])
        now = datetime.now(UTC)
        outgoing, _ = build_article(
            KEYS, FILESYSTEM, article, 0, new_salt(), Kind.DATA, plaintext, (GROUP,), now
        )
        articles.append(outgoing)
    for number, server in enumerate(servers):
        async with running(settings(server, number)) as providers:
            for outgoing in articles:
                await providers.post(outgoing)
    return contents


async def read(fetcher: Fetcher, article: ArticleId) -> bytes:
    return bytes((await fetcher.container(article, 0, lane=Lane.READER)).payload(0))


@pytest.mark.timeout(120)
async def test_a_reader_gets_what_the_first_server_is_late_with_from_the_second(
    servers: Sequence[ServerProcess],
) -> None:
    contents = await stored_on_each(servers)
    articles = list(contents)
    async with (
        running(*(settings(server, number) for number, server in enumerate(servers))) as providers,
        open_fetcher(
            providers,
            None,
            keys=KEYS,
            filesystem_id=FILESYSTEM,
            memory=1 << 20,
            patience=5.0,
            retries=RetryManager(),
        ) as fetcher,
    ):
        for article in articles[:QUICK]:
            assert await read(fetcher, article) == contents[article]
        assert fetcher.lateness.hedged == 0
        first, second = providers.statuses()
        assert (first.requests["BODY"], second.requests.get("BODY", 0)) == (QUICK, 0)

        started = trio.current_time()
        late = articles[QUICK]
        assert await read(fetcher, late) == contents[late]
        assert trio.current_time() - started < STALL / 2, "the reader waited for the late server"
        assert fetcher.lateness.hedged == 1
        assert providers.statuses()[1].requests["BODY"] == 1
        assert fetcher.active == 0
