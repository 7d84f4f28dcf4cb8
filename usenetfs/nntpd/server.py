"""The embedded news server: listens, opens the spool, runs a session for each connection.

Owns the listeners, the limit of connections and the life of all below. Invariant: what goes wrong
in one session ends that session and no other.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass

import trio

from usenetfs.errors import ConnectError, UsenetfsError
from usenetfs.nntpd.counters import ServerCounters
from usenetfs.nntpd.faults import FaultDecider
from usenetfs.nntpd.session import Session
from usenetfs.nntpd.settings import NntpdSettings
from usenetfs.nntpd.shared import GroupCommit, Shared
from usenetfs.nntpd.spool import Spool
from usenetfs.nntpd.wire import Wire

log = logging.getLogger("usenetfs.nntpd")

REFUSAL = b"502 Too many connections\r\n"


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that listens."""

    host: str
    port: int
    counters: ServerCounters


async def serve(
    settings: NntpdSettings,
    *,
    task_status: trio.TaskStatus[RunningServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. Raises ConnectError when it cannot listen, and the spool's errors."""
    counters = ServerCounters()
    context = _tls_context(settings)
    with Spool(settings.spool, segment_size=settings.segment_size) as spool:
        commit = GroupCommit(spool)
        faults = FaultDecider(settings.faults)
        shared = Shared(settings, spool, counters, faults, commit, context)
        listeners = await _listen(settings)

        async def handle(stream: trio.SocketStream) -> None:
            await _handle(stream, shared)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit.run)
            host, port = listeners[0].socket.getsockname()[:2]
            log.info("news server on %s:%d, spool %s", host, port, settings.spool)
            task_status.started(RunningServer(host, port, counters))
            await trio.serve_listeners(handle, listeners)


async def _handle(stream: trio.SocketStream, shared: Shared) -> None:
    """One connection from its first octet to its last."""
    counters, settings = shared.counters, shared.settings
    if counters.connections >= settings.max_connections:
        counters.refused += 1
        with trio.move_on_after(1):
            await _turn_away(stream, shared)
        await trio.aclose_forcefully(stream)
        return
    counters.opened()
    wire = Wire(stream)
    try:
        if shared.tls is not None and settings.implicit_tls:
            with trio.fail_after(settings.idle_timeout):
                await wire.start_tls(shared.tls)
        await Session(wire, shared).run()
    except (trio.BrokenResourceError, trio.TooSlowError) as error:
        log.info("a session ended early: %s", error)
    except Exception:
        log.exception("a session failed; its connection is closed, the server goes on")
    finally:
        counters.closed()
        with trio.move_on_after(1, shield=True):
            await wire.aclose()


async def _turn_away(stream: trio.SocketStream, shared: Shared) -> None:
    """Say why, in a way the client can hear before the connection ends."""
    wire = Wire(stream)
    try:
        if shared.tls is not None and shared.settings.implicit_tls:
            await wire.start_tls(shared.tls)
        await wire.send(REFUSAL)
        await stream.send_eof()
    except trio.BrokenResourceError as error:
        log.info("a client that was one too many left: %s", error)


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
