"""Two servers as processes, one of them killed and restarted while articles go up and down."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from scripts.world import ServerProcess
from tests.servers import GROUP
from usenetfs.article.yenc import encode_body
from usenetfs.errors import ArticleMissingError, DuplicateArticleError, UsenetfsError
from usenetfs.net.providers import ProviderSet
from usenetfs.net.retry import RetryManager, RetryPolicy
from usenetfs.net.settings import ServerSettings, Timeouts, TlsMode
from usenetfs.types import Lane, MessageId

ExpectLog = Callable[[str], None]
SIZE = 100_000


class Article:
    """What the provider set posts."""

    def __init__(self, number: int, content: bytes) -> None:
        self.message_id = MessageId(f"<{number}@restart.example>")
        head = (
            f"From: a <a@b.example>\r\nNewsgroups: {GROUP}\r\nSubject: {number}\r\n"
            f"Message-ID: {self.message_id}\r\n\r\n"
        )
        self.wire = head.encode() + encode_body(content, name="x")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, ServerProcess]]:
    names = ("first", "second")
    with (
        ServerProcess(tmp_path / "first", f"--group={GROUP}") as first,
        ServerProcess(tmp_path / "second", f"--group={GROUP}") as second,
    ):
        yield dict(zip(names, (first, second), strict=True))


def settings(servers: dict[str, ServerProcess]) -> list[ServerSettings]:
    return [
        ServerSettings(
            name,
            server.endpoint.host,
            server.endpoint.port,
            TlsMode.NONE,
            connections=4,
            priority=number,
            timeouts=Timeouts(connect=5, response=5),
        )
        for number, (name, server) in enumerate(servers.items())
    ]


class Transfer:
    """Articles up for as long as it is told to, and each down again; notes who did it."""

    def __init__(self, providers: ProviderSet) -> None:
        self.providers = providers
        self.retries = RetryManager(RetryPolicy(first=0.2, ceiling=1.0, retries=60))
        self.content = os.urandom(SIZE)
        self.posted: Counter[str] = Counter()
        self.fetched: Counter[str] = Counter()
        self.sent: dict[int, str] = {}
        self.next = 0
        self.stopping = False
        self.changed = trio.Event()
        self.arrived, self.wanted = trio.open_memory_channel[int](100_000)

    async def upload(self) -> None:
        while not self.stopping:
            number, self.next = self.next, self.next + 1
            await self.post(number)
            await self.arrived.send(number)
            self.changed.set()
            self.changed = trio.Event()

    async def download(self) -> None:
        """What only the killed server has is waited for; uploading goes on meanwhile."""
        async for number in self.wanted:
            await self.fetch(number)

    async def post(self, number: int) -> None:
        article = Article(number, self.content)
        async for attempt in self.retries.retrying("post"):
            with attempt:
                try:
                    result = await self.providers.post(article)
                except DuplicateArticleError as error:
                    self.sent[number] = error.server or "?"
                    return
                self.posted[result.server] += 1
                self.sent[number] = result.server

    async def fetch(self, number: int) -> None:
        wanted = MessageId(f"<{number}@restart.example>")
        async for attempt in self.retries.retrying(
            "fetch", may_retry=lambda error: isinstance(error, UsenetfsError)
        ):
            with attempt:
                body = await self.providers.fetch(wanted, lane=Lane.READER)
                assert body.data == self.content
                self.fetched[body.server] += 1

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(60):
            while not condition():
                await self.changed.wait()


@pytest.mark.timeout(180)
async def test_a_killed_server_is_left_and_taken_up_again(
    servers: dict[str, ServerProcess], expect_log: ExpectLog
) -> None:
    expect_log("first is given up")
    async with trio.open_nursery() as nursery:
        providers = ProviderSet(settings(servers), redial=RetryPolicy(first=0.2, ceiling=1.0))
        await nursery.start(providers.run)
        transfer = Transfer(providers)
        async with trio.open_nursery() as readers, transfer.arrived, trio.open_nursery() as workers:
            for _ in range(3):
                workers.start_soon(transfer.upload)
                readers.start_soon(transfer.download)
            await transfer.until(lambda: transfer.posted["first"] >= 60)
            assert not transfer.posted["second"], "the first one has priority"

            await trio.to_thread.run_sync(servers["first"].stop, signal.SIGKILL)
            await transfer.until(lambda: transfer.posted["second"] >= 60)
            assert providers.statuses()[0].state == "down"

            posted = transfer.posted["first"]
            await trio.to_thread.run_sync(servers["first"].start)
            await transfer.until(lambda: transfer.posted["first"] >= posted + 60)
            transfer.stopping = True
        assert len(transfer.sent) == transfer.next, "nothing was lost on the way"
        assert sum(transfer.fetched.values()) == transfer.next
        # And whatever anybody said it took, it has; after kill -9, too.
        for number, server in transfer.sent.items():
            wanted = MessageId(f"<{number}@restart.example>")
            others = {"first", "second"} - {server}
            try:
                body = await providers.fetch(wanted, lane=Lane.READER, exclude=others, fresh=True)
            except ArticleMissingError as error:
                raise AssertionError(f"{server} has lost {wanted}") from error
            assert body.data == transfer.content
        states = [status.state for status in providers.statuses()]
        assert states == ["healthy", "healthy"]
        assert all(status.open <= status.limit == 4 for status in providers.statuses())
        nursery.cancel_scope.cancel()
