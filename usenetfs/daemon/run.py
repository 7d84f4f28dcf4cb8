"""From options to a mounted filesystem and back: start, serve, stop.

The order of stopping matters. First the kernel lets go of the mount (so nothing new comes), then
what is unsaved is saved and synced, then the workers are cancelled; what they had under way is in
doubt and is looked for at the next start.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from usenetfs.control.serving import serve_control
from usenetfs.daemon.facade import Facade
from usenetfs.daemon.memory import keep_large_buffers
from usenetfs.daemon.parts import Parts, open_parts
from usenetfs.daemon.reasons import run_to_one_end
from usenetfs.daemon.serving import serve_mount
from usenetfs.daemon.upkeep import keep_in_shape
from usenetfs.daemon.web import serve_web
from usenetfs.errors import FencedError, UsenetfsError
from usenetfs.index.sqlite_log import log_sqlite_errors
from usenetfs.index.sqlite_process import leave_out_statistics
from usenetfs.options import DaemonOptions

log = logging.getLogger("usenetfs.daemon")

LAST_CHECKPOINT = 30.0
"""Seconds that the end of a drained mount waits for its last checkpoint."""


Work = Callable[[DaemonOptions, Parts, Facade], Awaitable[None]]
"""What is done with an opened filesystem; when it returns, everything is taken down."""


def run_daemon(options: DaemonOptions) -> None:
    """Mount, serve until unmounted, and take everything down. Blocks.

    Raises typed errors; before ``options.ready`` is called nothing is mounted when it does.
    """
    if options.view is not None:
        from usenetfs.daemon.view import run_view

        run_view(options)
        return
    run_with_parts(options, _serve)


def run_with_parts(options: DaemonOptions, work: Work) -> None:
    """Open the filesystem, do ``work`` while everything runs, and take it down. Blocks."""
    keep_large_buffers()
    leave_out_statistics()
    log_sqlite_errors()
    run_to_one_end(_run, options, work)


async def _run(options: DaemonOptions, work: Work) -> None:
    async with open_parts(options) as parts:
        facade = Facade(options, parts)
        freed = await trio.to_thread.run_sync(parts.staged.sweep)
        if freed:
            log.info("%d bytes of staging that nothing refers to were freed", freed)
        if not options.read_only:
            await parts.files.delete_leftovers()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_in_shape, parts.index, parts.errors.report)
            nursery.start_soon(parts.files.save_regularly)
            nursery.start_soon(facade.measure)
            nursery.start_soon(parts.care.run)
            nursery.start_soon(_upload, parts)
            nursery.start_soon(parts.publisher.run)
            nursery.start_soon(parts.catch_up.run)
            await nursery.start(serve_control, facade, options.paths.control_socket)
            if options.mountpoint is not None:
                nursery.start_soon(serve_web, options, parts, facade)
            await work(options, parts, facade)
            if facade.drained:
                await _publish_the_rest(parts)
            await facade.last_answer()
            nursery.cancel_scope.cancel()


async def _serve(options: DaemonOptions, parts: Parts, facade: Facade) -> None:
    """Mount and wait until somebody unmounts."""
    del facade
    await serve_mount(options, parts, read_only=options.read_only)
    if not options.read_only:
        await parts.files.delete_leftovers()
    await parts.files.sync_names()
    log.info("%s is unmounted", options.name)


async def _upload(parts: Parts) -> None:
    """Upload until cancelled, or until another writer has taken over."""
    with suppress(FencedError):
        await parts.publisher.unless_fenced(parts.uploader.run)


async def _publish_the_rest(parts: Parts) -> None:
    """What the last moments of the mount changed: times, names of files that were still open."""
    with trio.move_on_after(LAST_CHECKPOINT):
        try:
            await parts.publisher.publish()
        except UsenetfsError as error:
            log.info("the last changes are not in a checkpoint yet: %s", error)
