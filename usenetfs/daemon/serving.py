"""A mount while it lasts: from the kernel's first call to the last, for a filesystem or a view.

Owns the order: signals are listened for, then mounted, then whoever waits is told that it is ready.
What has to happen before and after is the business of who serves (``run.py``, ``view.py``).

A signal ends the mount within a bound. Unmounting lazily takes the mount out of sight at once, but
programs keep what they have open, and with it the daemon. So they get ``PATIENCE``; after that, or
at a second signal, they are cut off. What they had written is staged by then.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from usenetfs import mounts
from usenetfs.daemon.notify import ServiceManager, describe_staged
from usenetfs.daemon.parts import Parts
from usenetfs.errors import UsenetfsError
from usenetfs.fs.mount import MountSession, mounted
from usenetfs.options import DaemonOptions

log = logging.getLogger("usenetfs.daemon")

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What ends a mount."""

PATIENCE: Final = 10.0
"""Seconds that programs have to close what they have open, once a signal has come."""

FLUSH_PATIENCE: Final = 10.0
"""Seconds that the kernel has to hand over what it holds back (``-o writeback``)."""


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
    manager = ServiceManager.from_environment(os.environ)

    def describe() -> str:
        return f"{mountpoint}: {describe_staged(parts.store.staged_bytes())}"

    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with (
            mounted(
                parts.operations,
                mountpoint,
                source=options.source,
                allow_other=options.allow_other,
                read_only=read_only,
                debug=options.debug,
                noexec=options.noexec,
            ) as session,
            trio.open_nursery() as nursery,
        ):
            parts.kernel.mounted = True
            nursery.start_soon(_unmount_on_signal, signals, session, manager)
            if beside is not None:
                nursery.start_soon(beside)
            log.info("%s is mounted on %s", options.name, mountpoint)
            options.ready()
            manager.ready(describe())
            nursery.start_soon(manager.report, describe)
            await session.ended.wait()
            parts.kernel.mounted = False
            nursery.cancel_scope.cancel()
    manager.stopping(describe())


async def _unmount_on_signal(
    signals: AsyncIterator[int], session: MountSession, manager: ServiceManager
) -> None:
    """At the first signal unmount; what is staged stays for the next time."""
    name = signal.Signals(await anext(signals)).name
    log.info("%s: unmounting", name)
    manager.stopping(f"unmounting {session.mountpoint}")
    try:
        await _unmount_now(session)
    except UsenetfsError as error:
        log.warning("could not unmount: %s; programs are cut off instead", error)
    else:
        with trio.move_on_after(PATIENCE):
            name = signal.Signals(await anext(signals)).name
            log.info("%s again", name)
    log.warning("programs still use %s: they are cut off", session.mountpoint)
    session.abandon()


async def _unmount_now(session: MountSession) -> None:
    with trio.move_on_after(FLUSH_PATIENCE):
        await trio.to_thread.run_sync(_flush_kernel, session.mountpoint, abandon_on_cancel=True)
    await trio.to_thread.run_sync(_unmount_lazily, session)


def _flush_kernel(mountpoint: Path) -> None:
    """Have the kernel hand over what it holds back; where it cannot, unmounting goes on as well."""
    try:
        descriptor = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        ctypes.CDLL(None).syncfs(descriptor)
    finally:
        os.close(descriptor)


def _unmount_lazily(session: MountSession) -> None:
    mounts.unmount(session.mountpoint, lazy=True)
