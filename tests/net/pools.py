"""A pool over a server in memory, and requests for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from tests.net.fakes import FakeServer, article, message_id, open_server, settings
from usenetfs.errors import (
    UsenetfsError,
)
from usenetfs.net.connection import Request
from usenetfs.net.pool import Pool
from usenetfs.nntp.client import Response
from usenetfs.nntp.grammar import Verb
from usenetfs.types import Lane


@asynccontextmanager
async def running(**changes: Any) -> AsyncIterator[tuple[FakeServer, Pool]]:
    async with open_server() as server, trio.open_nursery() as nursery:
        pool = Pool(settings(**changes), dialer=server)
        await nursery.start(pool.run)
        yield server, pool
        nursery.cancel_scope.cancel()


def body(number: int, lane: Lane = Lane.READER) -> Request:
    return Request(Verb.BODY, message_id(number), lane)


def post(number: int, lane: Lane = Lane.UPLOAD) -> Request:
    wanted = article(number)
    return Request(Verb.POST, wanted.message_id, lane, article=wanted.wire)


async def outcome(pool: Pool, request: Request) -> Response | UsenetfsError:
    try:
        return await pool.perform(request)
    except UsenetfsError as error:
        return error
