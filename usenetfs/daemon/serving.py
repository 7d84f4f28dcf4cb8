"""A mount while it lasts: from the kernel's first call to the last, for a filesystem or a view.

Owns the order: mounted, then signals are listened for, then whoever waits is told that it is ready.
What has to happen before and after is the business of who serves (``run.py``, ``view.py``).
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Awaitable, Callable

import trio

from usenetfs import mounts
from usenetfs.daemon.parts import Parts
from usenetfs.errors import UsenetfsError
from usenetfs.fs.mount import MountSession, mounted
from usenetfs.options import DaemonOptions

log = logging.getLogger("usenetfs.daemon")


async def serve_mount(
    options: DaemonOptions,
    parts: Parts,
    *,
    read_only: bool,
    beside: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Mount, and return when somebody has unmounted. ``beside`` runs meanwhile."""
    mountpoint = options.mountpoint
    assert mountpoint is not None
    async with (
        mounted(
            parts.operations,
            mountpoint,
            source=options.source,
            allow_other=options.allow_other,
            read_only=read_only,
            debug=options.debug,
        ) as session,
        trio.open_nursery() as nursery,
    ):
        parts.kernel.mounted = True
        await nursery.start(_unmount_on_signal, session)
        if beside is not None:
            nursery.start_soon(beside)
        log.info("%s is mounted on %s", options.name, mountpoint)
        options.ready()
        await session.ended.wait()
        parts.kernel.mounted = False
        nursery.cancel_scope.cancel()


async def _unmount_on_signal(
    session: MountSession, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """SIGTERM, SIGINT, SIGHUP: unmount now; what is staged stays for the next time."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            log.info("%s: unmounting", signal.Signals(number).name)
            try:
                await trio.to_thread.run_sync(_unmount_lazily, session)
            except UsenetfsError as error:
                log.warning("could not unmount: %s", error)


def _unmount_lazily(session: MountSession) -> None:
    mounts.unmount(session.mountpoint, lazy=True)
