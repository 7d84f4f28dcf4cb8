"""The embedded news server: listens, opens the spool, runs a session for each connection."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from typing import cast

import trio

from usenetfs.errors import ConnectError, UsenetfsError
from usenetfs.nntpd.counters import ServerCounters
from usenetfs.nntpd.faults import FaultDecider
from usenetfs.nntpd.session import ByteStream, Session, Shared
from usenetfs.nntpd.settings import NntpdSettings
from usenetfs.nntpd.spool import Spool

log = logging.getLogger("usenetfs.nntpd")


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that listens."""

    host: str
    port: int
    counters: ServerCounters


class _Commits:
    """Syncs of the spool, shared by all who wait at the same time (group commit)."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._next = trio.Event()
        self._asked = trio.Event()

    def ask(self) -> trio.Event:
        self._asked.set()
        return self._next

    async def run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            done, self._next = self._next, trio.Event()
            await trio.to_thread.run_sync(self._spool.sync)
            done.set()


async def serve(
    settings: NntpdSettings,
    *,
    task_status: trio.TaskStatus[RunningServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. Raises ConnectError when it cannot listen, and the spool's errors."""
    counters = ServerCounters()
    context = _tls_context(settings)
    with Spool(settings.spool) as spool:
        commits = _Commits(spool)
        shared = Shared(settings, spool, counters, FaultDecider(settings.faults), commits.ask)
        if context is not None and not settings.implicit_tls:
            shared.start_tls = lambda stream: _secured(stream, context)
        listeners = await _listen(settings)

        async def handle(stream: trio.SocketStream) -> None:
            counters.opened()
            try:
                wrapped: ByteStream = stream
                if context is not None and settings.implicit_tls:
                    wrapped = _secured(stream, context)
                await Session(wrapped, shared).run()
            except* (ssl.SSLError, trio.BrokenResourceError) as group:
                log.info("a session ended early: %s", group.exceptions[0])
            finally:
                counters.closed()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(commits.run)
            host, port = listeners[0].socket.getsockname()[:2]
            log.info("news server on %s:%d, spool %s", host, port, settings.spool)
            task_status.started(RunningServer(host, port, counters))
            await trio.serve_listeners(handle, listeners)


async def _listen(settings: NntpdSettings) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(settings.port, host=settings.host)
    except OSError as error:
        raise ConnectError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}",
            hint="is another server running there? choose another port with --listen",
        ) from error


def _tls_context(settings: NntpdSettings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise UsenetfsError(f"the TLS certificate cannot be used: {error}") from error
    return context


def _secured(stream: ByteStream, context: ssl.SSLContext) -> ByteStream:
    transport = cast(trio.SocketStream, stream)
    secured = trio.SSLStream(transport, context, server_side=True, https_compatible=True)
    return cast(ByteStream, secured)
