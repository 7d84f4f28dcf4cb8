"""The same work through usenetfs's own client: ProviderSet, its pools, lanes and retries.

Posts as the uploader does (an article is built in a thread by ``build_article``, then posted) and
fetches as the fetcher does (the seal is opened where the reply arrives, into buffers that are used
again). For posts one caller a
connection waits (two where POST is sent ahead), for bodies ``depth`` a connection.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Final

import trio

from scripts.bench import transfer
from scripts.bench.articles import BLOCK, FILESYSTEM_ID, GROUP, KEYS, article, opened_into
from scripts.bench.transfer import Job, is_right
from usenetfs.article.container import Kind
from usenetfs.article.seal import new_salt
from usenetfs.article.wire import build_article
from usenetfs.net.providers import ProviderSet
from usenetfs.net.settings import ServerSettings, TlsMode
from usenetfs.transfer.upload.sizing import first_workers
from usenetfs.types import Lane

PLAINTEXT: Final = memoryview(bytearray(BLOCK))
"""Of one article at a time: opening does not wait for anything."""

SEALERS: Final = trio.CapacityLimiter(first_workers(os.cpu_count() or 1))
"""As many threads as the uploader has for it; more of them only wait for the interpreter."""

Worker = Callable[[Job, ProviderSet, Iterator[int]], Awaitable[None]]


async def upload(job: Job) -> None:
    """Post every piece."""
    await _run(job, _post, job.connections * (2 if job.post_ahead else 1))


async def download(job: Job) -> None:
    """Fetch every piece."""
    await _run(job, _fetch, job.connections * job.depth)


async def _run(job: Job, worker: Worker, workers: int) -> None:
    server = ServerSettings(
        "news",
        job.host,
        job.port,
        tls=TlsMode.NONE,
        connections=job.connections,
        post_ahead=job.post_ahead,
    )
    providers = ProviderSet([server])
    numbers = iter(range(len(job.payload)))
    async with trio.open_nursery() as keeping:
        await keeping.start(providers.run)
        async with trio.open_nursery() as nursery:
            for _ in range(workers):
                nursery.start_soon(worker, job, providers, numbers)
        keeping.cancel_scope.cancel()


async def _post(job: Job, providers: ProviderSet, numbers: Iterator[int]) -> None:
    for number in numbers:
        outgoing, _ = await trio.to_thread.run_sync(
            lambda number: build_article(
                KEYS,
                FILESYSTEM_ID,
                article(number),
                0,
                new_salt(),
                Kind.DATA,
                job.payload.piece(number),
                (GROUP,),
                datetime.now(UTC),
                message_id=job.ids[number],
            ),
            number,
            limiter=SEALERS,
        )
        await providers.post(outgoing)


async def _fetch(job: Job, providers: ProviderSet, numbers: Iterator[int]) -> None:
    for number in numbers:
        body = await providers.fetch(job.ids[number], lane=Lane.READAHEAD)
        data = body.data if job.check == "plain" else opened_into(number, body.data, PLAINTEXT)
        if not is_right(job, number, data):
            raise ValueError(f"article {number} is not what was posted")


if __name__ == "__main__":
    sys.exit(transfer.main(upload, download))
