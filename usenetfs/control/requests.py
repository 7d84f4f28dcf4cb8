"""What the control API is asked with: the bodies of its POST requests."""

from __future__ import annotations

from dataclasses import dataclass

from usenetfs.control.message import Message


@dataclass(frozen=True, slots=True)
class PathRequest(Message):
    """The body of ``POST /v1/cache/drop`` (without a path: everything) and ``/v1/cache/warm``."""

    path: str | None = None


@dataclass(frozen=True, slots=True)
class UnmountRequest(Message):
    """The body of ``POST /v1/unmount``."""

    lazy: bool = False
    """Whether what is not safe yet may wait for the next mount."""


@dataclass(frozen=True, slots=True)
class SettingRequest(Message):
    """The body of ``POST /v1/settings``."""

    key: str
    """``upload.rate``, ``upload.quiet_hours``, ``upload.quiet_rate``, ``upload.connections``."""
    value: str
    """As in the configuration file; ``none`` takes the limit away."""


@dataclass(frozen=True, slots=True)
class RemoveRequest(Message):
    """The body of ``POST /v1/remove``."""

    paths: tuple[str, ...]
    recursive: bool = False


@dataclass(frozen=True, slots=True)
class MoveRequest(Message):
    """The body of ``POST /v1/move``."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class UploadRequest(Message):
    """The body of ``POST /v1/upload``. Paths are text as ``os.fsdecode`` makes it."""

    sources: tuple[str, ...]
    """Absolute; a slash at the end stands for what is in a directory rather than itself."""
    target: str
    """Path in the filesystem, from its root."""
    exclude: tuple[str, ...] = ()
    checksum: bool = False
    """Compare contents of files of equal size, instead of their times."""
    dry_run: bool = False
    wait: bool = True
    """Whether to end when everything is safe, rather than when it is staged."""
    listing: bool = False
    """Whether each file is told of."""


@dataclass(frozen=True, slots=True)
class DownloadRequest(Message):
    """The body of ``POST /v1/download``."""

    source: str
    """Path in the filesystem; a slash at the end stands for what is in a directory."""
    target: str
    """Local and absolute."""
    exclude: tuple[str, ...] = ()
    checksum: bool = False
    dry_run: bool = False
    listing: bool = False


@dataclass(frozen=True, slots=True)
class VerifyRequest(Message):
    """The body of ``POST /v1/verify``."""

    path: str = ""
    """A file or tree in the filesystem; empty: everything, and the chain of checkpoints."""
    data: bool = False
    """Whether articles are fetched whole and opened, rather than asked for."""
    unverified: bool = False
    """Only those that never were fetched whole."""
    percent: float | None = None
    """Only so many of them, chosen at random."""
