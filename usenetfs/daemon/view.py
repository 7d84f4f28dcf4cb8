"""A read-only view: a mount over an index of its own, built from the servers.

``mount --at`` shows one state and throws its index away at the end; ``mount --follow`` keeps the
index and brings it up to date at each poll (``follow.py``). Nothing is uploaded or published, no
epoch is taken, and the filesystem of this machine is not touched, so a view may stand beside it.
"""

from __future__ import annotations

import logging
import time

import trio

from usenetfs.article.keys import KeySet
from usenetfs.checkpoint.chain import ChainReader
from usenetfs.checkpoint.record import Record
from usenetfs.checkpoint.replay import rebuild, remove_index
from usenetfs.control.model import CheckpointReport, SyncReport
from usenetfs.control.serving import serve_control
from usenetfs.daemon.facade import Facade
from usenetfs.daemon.follow import Following, state_of
from usenetfs.daemon.memory import keep_large_buffers
from usenetfs.daemon.parts import Parts, open_parts
from usenetfs.daemon.reasons import run_to_one_end
from usenetfs.daemon.recovery import Servers, checkpoint_at, open_servers
from usenetfs.daemon.serving import serve_mount
from usenetfs.daemon.web import serve_web
from usenetfs.errors import DataUnavailableError
from usenetfs.index.replica import followed_state, store_state
from usenetfs.index.sqlite_log import log_sqlite_errors
from usenetfs.index.sqlite_process import leave_out_statistics
from usenetfs.options import DaemonOptions, View

log = logging.getLogger("usenetfs.daemon")


class ViewFacade(Facade):
    """Answers for a view: there is nothing to wait for."""

    def _checkpoint(self) -> CheckpointReport:
        """The state that is shown."""
        state = self._parts.index.chain.state()
        if state is None:
            return CheckpointReport()
        return CheckpointReport(number=state.number, time=float(state.time))

    async def sync(self) -> SyncReport:
        started = time.monotonic()
        await trio.lowlevel.checkpoint()
        return SyncReport(duration=time.monotonic() - started)


def run_view(options: DaemonOptions) -> None:
    """Mount the view, serve until it is unmounted. Blocks."""
    keep_large_buffers()
    leave_out_statistics()
    log_sqlite_errors()
    run_to_one_end(_run, options)


async def _run(options: DaemonOptions) -> None:
    view = options.view
    assert view is not None
    keys = KeySet.from_master(options.master_key, options.filesystem_id)
    try:
        await _prepare(options, view, keys)
        async with open_parts(options) as parts:
            facade = ViewFacade(options, parts)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(facade.measure)
                await nursery.start(serve_control, facade, options.paths.control_socket)
                nursery.start_soon(serve_web, options, parts, facade)
                await _serve(options, parts, view, keys)
                await facade.last_answer()
                nursery.cancel_scope.cancel()
    finally:
        if not view.follows:
            remove_index(options.paths.index)


async def _prepare(options: DaemonOptions, view: View, keys: KeySet) -> None:
    """Make the index, unless one that follows is here already."""
    path = options.paths.index
    if view.follows and path.is_file() and followed_state(path) is not None:
        return
    async with open_servers(options.settings, options.passwords) as servers:
        reader = servers.chain(keys, options.filesystem_id)
        newest = await reader.find_end()
        if newest is None:
            raise DataUnavailableError(
                "there is no checkpoint on the servers", hint="was anything ever synced?"
            )
        wanted = await _wanted(reader, newest, view.at)
        record = await rebuild(
            reader, path, newest=wanted, writable=False, report=lambda _: options.at_work()
        )
    _say_what_it_is(record, wanted, view, reader)
    await trio.to_thread.run_sync(store_state, path, state_of(record))


async def _wanted(reader: ChainReader, newest: int, at: int | float | None) -> int:
    if at is None:
        return newest
    if isinstance(at, int):
        if at > newest:
            raise DataUnavailableError(
                f"there is no checkpoint {at} yet: the newest is {newest}",
                hint="list them: usenetfs checkpoints NAME",
            )
        return at
    return await checkpoint_at(reader, newest, at)


def _say_what_it_is(record: Record, wanted: int, view: View, reader: ChainReader) -> None:
    if record.number != wanted and isinstance(view.at, int):
        raise DataUnavailableError(
            f"checkpoint {wanted} cannot be had: {'; '.join(reader.losses.lines()[-3:])}",
            hint=f"the newest before it that can: --at {record.number}",
        )
    if record.number != wanted:
        log.warning(
            "checkpoint %d cannot be had (%s): this is %d",
            wanted,
            "; ".join(reader.losses.lines()[-3:]),
            record.number,
        )
    log.info("showing checkpoint %d%s", record.number, " and what follows" * view.follows)


async def _serve(options: DaemonOptions, parts: Parts, view: View, keys: KeySet) -> None:
    following: Following | None = None
    if view.follows:
        servers = Servers(parts.providers, options.settings)
        following = Following(
            parts,
            servers.chain(keys, options.filesystem_id),
            options.paths.index,
            interval=options.settings.checkpoint.interval,
        )
    beside = None if following is None else following.run
    await serve_mount(options, parts, read_only=True, beside=beside)
    log.info("%s is unmounted", options.name)
