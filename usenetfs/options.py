"""What a daemon is started with: the one value that passes from the command line to ``daemon``.

A leaf of values. ``run_daemon`` takes a :class:`DaemonOptions` and nothing else; it reads no file
of configuration, no variable and no argument.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from usenetfs.mounts import SOURCE_PREFIX

if TYPE_CHECKING:
    from usenetfs.config.directories import Directories, FilesystemPaths
    from usenetfs.config.models import Settings

FsyncLevel = Literal["local", "posted", "seen"]
"""What ``fsync`` waits for: this disk; a server's 240; a later STAT that found it."""

FSYNC_LEVELS: Final[tuple[FsyncLevel, ...]] = ("local", "posted", "seen")


@dataclass(frozen=True, slots=True)
class View:
    """A read-only look at what is on the servers, with an index of its own.

    ``at``: the number of a checkpoint (int), or a time in seconds since 1970 (float); None: follow
    the newest.
    """

    at: int | float | None

    @property
    def follows(self) -> bool:
        return self.at is None


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """Everything that :func:`usenetfs.daemon.run_daemon` needs."""

    name: str
    paths: FilesystemPaths
    directories: Directories
    settings: Settings
    filesystem_id: bytes
    """16 bytes, as in the key file."""
    master_key: bytes = field(repr=False)
    passwords: Mapping[str, str] = field(repr=False)
    """Password of each server that has one, by the server's name."""
    mountpoint: Path | None
    """Absolute, checked, an empty directory; None when a command works without a mount."""
    ready: Callable[[], None]
    """To be called once, when the mount is usable."""
    at_work: Callable[[], None] = lambda: None
    """To be called now and then before that, by what takes long and gets on."""
    read_only: bool = False
    allow_other: bool = False
    writeback: bool = False
    """Whether the kernel may hold written pages back and merge them."""
    foreground: bool = False
    debug: bool = False
    noexec: bool = False
    """Whether the kernel shall run no programs from the mount."""
    fsync: FsyncLevel | None = None
    """None: what the settings say."""
    view: View | None = None
    """What to show instead of the filesystem of this machine; ``paths`` are the view's then."""

    @property
    def source(self) -> str:
        """What the kernel is to show as the device (``fsname``); ``umount`` finds mounts by it."""
        return SOURCE_PREFIX + self.name

    @property
    def secrets(self) -> tuple[str, ...]:
        """Text that must never appear in a log."""
        key = self.master_key
        forms = (key.hex(), base64.b64encode(key).decode("ascii"), repr(key)[2:-1])
        return (*self.passwords.values(), *forms)
