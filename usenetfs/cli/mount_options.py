"""The ``-o`` options of ``mount``: parsing, meaning, refusal.

Options that ``mount(8)`` and fstab pass to every filesystem and that mean nothing here are accepted
and ignored by name; every other unknown one is an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from usenetfs.errors import UsageError
from usenetfs.options import FSYNC_LEVELS, FsyncLevel


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What ``-o`` says."""

    read_only: bool = False
    allow_other: bool = False
    writeback: bool = False
    debug: bool = False
    noexec: bool = False
    fsync: FsyncLevel | None = None
    """None: what the configuration says."""


_FLAGS: Final[dict[str, dict[str, Any]]] = {
    "ro": {"read_only": True},
    "rw": {"read_only": False},
    "allow_other": {"allow_other": True},
    "writeback": {"writeback": True},
    "nowriteback": {"writeback": False},
    "debug": {"debug": True},
    "exec": {"noexec": False},
    "noexec": {"noexec": True},
}

_IGNORED: Final = re.compile(
    r"defaults|auto|noauto|user(=.*)?|nouser|users|owner|group|nofail|_netdev|nodev|nosuid|async|"
    r"((no|rel|strict|nodir)atime|lazytime)|x-.*|X-.*|comment=.*"
)


def parse_mount_options(texts: Iterable[str]) -> MountOptions:
    """The options in ``texts``, each a comma-separated list; UsageError names the wrong one."""
    options = MountOptions()
    for name in (part.strip() for text in texts for part in text.split(",")):
        if not name or _IGNORED.fullmatch(name):
            continue
        if name in _FLAGS:
            options = replace(options, **_FLAGS[name])
        elif name.startswith("fsync="):
            options = replace(options, fsync=_fsync_level(name.removeprefix("fsync=")))
        else:
            raise _unknown(name)
    return options


def format_mount_options(options: MountOptions) -> str:
    """The ``-o`` text that reads back as ``options``."""
    parts = ["ro" if options.read_only else "rw"]
    parts += [
        name for name in ("allow_other", "writeback", "debug", "noexec") if getattr(options, name)
    ]
    if options.fsync is not None:
        parts.append(f"fsync={options.fsync}")
    return ",".join(parts)


def _fsync_level(text: str) -> FsyncLevel:
    for level in FSYNC_LEVELS:
        if text == level:
            return level
    raise UsageError(
        f"-o fsync={text}: fsync can wait for {', '.join(FSYNC_LEVELS)}",
        hint="local: this disk; posted: a server took it; seen: it was found there afterwards",
    )


def _unknown(name: str) -> UsageError:
    close = difflib.get_close_matches(name, _FLAGS, n=1, cutoff=0.6)
    return UsageError(
        f"-o {name}: unknown option{f'; did you mean {close[0]}?' if close else ''}",
        hint=f"known: {', '.join(_FLAGS)}, fsync=local|posted|seen",
    )
