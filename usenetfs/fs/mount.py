"""The kernel's side of the mount: pyfuse3's session from init to close.

pyfuse3 keeps its session in module globals, so a process has one mount. What can go wrong before
the mount is usable leaves as MountError.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyfuse3
import trio

from usenetfs.errors import MountError
from usenetfs.fs.kernel_limits import raise_kernel_limits
from usenetfs.fs.operations import Operations
from usenetfs.fs.turns import take_over

log = logging.getLogger("usenetfs.fs")

MAX_TASKS = 512
"""Requests of the kernel in work at once. A waiting read holds one, so many are needed."""

PROBE_TIMEOUT = 30.0
"""Seconds that a new mount may take to answer its first request."""


@dataclass(slots=True)
class MountSession:
    """A live mount. ``ended`` fires when the kernel has let go of it, however that came about."""

    mountpoint: Path
    ended: trio.Event
    _serving: trio.CancelScope = field(default_factory=trio.CancelScope, repr=False)

    def abandon(self) -> None:
        """End it whoever still uses it: their calls fail from now on."""
        self._serving.cancel()


@asynccontextmanager
async def mounted(
    operations: Operations,
    mountpoint: Path,
    *,
    source: str,
    allow_other: bool,
    read_only: bool,
    debug: bool,
    noexec: bool = False,
) -> AsyncIterator[MountSession]:
    """Mount; inside the block the mount answers. Afterwards it is gone.

    Raises MountError if the kernel refuses or does not answer.
    """
    options = {
        *(option for option in pyfuse3.default_options),
        "default_permissions",
        f"fsname={source}",
        "subtype=usenetfs",
    }
    if allow_other:
        options.add("allow_other")
    if read_only:
        options.add("ro")
    if noexec:
        options.add("noexec")
    if debug:
        options.add("debug")
    try:
        pyfuse3.init(operations, os.fspath(mountpoint), options)
    except RuntimeError as error:
        raise MountError(
            f"the kernel refused to mount on {mountpoint}: {error}",
            hint="usually /dev/fuse or fusermount3 is missing or not allowed here: usenetfs doctor",
        ) from error
    try:
        session = MountSession(mountpoint, trio.Event())
        turns = take_over()
        async with trio.open_nursery() as nursery:
            if turns is not None:
                operations.on_wait = turns.hand_over
                nursery.start_soon(turns.watch)
            nursery.start_soon(_serve, session)
            await _probe(mountpoint)
            await trio.to_thread.run_sync(raise_kernel_limits, mountpoint, operations.block_size)
            yield session
            nursery.cancel_scope.cancel()
    finally:
        pyfuse3.close(unmount=True)


async def _serve(session: MountSession) -> None:
    try:
        with session._serving:
            await pyfuse3.main(max_tasks=MAX_TASKS)
    finally:
        session.ended.set()


async def _probe(mountpoint: Path) -> None:
    """Ask the mount for its root, from a thread: an answer means that it works."""
    with trio.move_on_after(PROBE_TIMEOUT):
        await trio.to_thread.run_sync(os.statvfs, mountpoint, abandon_on_cancel=True)
        return
    raise MountError(f"the mount on {mountpoint} does not answer")
