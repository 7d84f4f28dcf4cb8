"""``usenetfs umount``: drain, unmount, wait for the daemon to end."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import Final

from usenetfs import mounts
from usenetfs.cli.context import Common
from usenetfs.cli.output import note
from usenetfs.cli.progress import Watch, while_draining
from usenetfs.control.client import ControlClient
from usenetfs.control.model import StatusReport
from usenetfs.errors import ControlError, MountError, NotMountedError, UsageError

LEAVE: Final = (
    "Ctrl-C stops waiting, not the unmounting; usenetfs umount --lazy unmounts at once, and what is"
    " staged on this disk goes up after the next mount"
)

LAZY_TIMEOUT: Final = 60.0
"""Seconds that a daemon may take to end when it has nothing to wait for."""


def run(common: Common, mountpoint: Path, *, lazy: bool) -> None:
    """Unmount what is mounted at ``mountpoint``."""
    name = _filesystem_at(mountpoint)
    client = ControlClient(common.directories.mounted(name).control_socket, name=name)
    status = _daemon_of(client, mountpoint)
    if status is None or status.pid is None:
        _without_daemon(name, mountpoint, lazy=lazy)
        return
    daemon = _process(status.pid)
    try:
        while_draining(client, lambda: client.unmount(lazy=lazy), "unmounting", leave=LEAVE)
        if daemon is not None:
            _wait_for_end(daemon, client, LAZY_TIMEOUT if lazy else None)
    finally:
        if daemon is not None:
            os.close(daemon)


def _filesystem_at(mountpoint: Path) -> str:
    mount = mounts.mount_at(mountpoint)
    if mount is None:
        raise NotMountedError(
            f"nothing is mounted at {mountpoint}", hint="see what is: findmnt -t fuse.usenetfs"
        )
    if mount.filesystem is None:
        raise UsageError(
            f"what is mounted at {mountpoint} is not of usenetfs ({mount.source})",
            hint=f"unmount it with: umount {mountpoint}",
        )
    return mount.filesystem


def _daemon_of(client: ControlClient, mountpoint: Path) -> StatusReport | None:
    """The status of the daemon that serves ``mountpoint``; None when none answers for it."""
    try:
        status = client.status()
    except NotMountedError:
        return None
    served = status.mountpoint
    return status if served and mounts.same_path(Path(served), mountpoint) else None


def _without_daemon(name: str, mountpoint: Path, *, lazy: bool) -> None:
    """No daemon answers: it is dead, or it keeps its data elsewhere. Ask the kernel alone."""
    note(f"usenetfs: no daemon answers for {name}; asking the kernel to unmount {mountpoint}")
    mounts.unmount(mountpoint, lazy=lazy)
    if mounts.mount_at(mountpoint) is not None:
        raise MountError(f"{mountpoint} is still mounted", hint="try: usenetfs umount --lazy")


def _process(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None when it has ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _wait_for_end(daemon: int, client: ControlClient, timeout: float | None) -> None:
    deadline = None if timeout is None else time.monotonic() + timeout
    with Watch(client, "finishing", leave=LEAVE) as watch:
        while not select.select([daemon], [], [], watch.interval)[0]:
            watch.look()
            if deadline is not None and time.monotonic() > deadline:
                raise ControlError(
                    "the daemon is unmounted and has not ended yet",
                    hint="it may still be closing connections; its log says more",
                )
