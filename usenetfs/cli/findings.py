"""What ``usenetfs doctor`` finds, and the judgements that need no more than numbers.

Pure: whoever looks (``doctor_machine.py``, ``commands/doctor.py``) hands in what was seen.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from usenetfs.config.units import format_size, human_duration, human_size


class Verdict(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It works, and something will be slow, or fail one day."""
    FAIL = "fail"
    """Mounting, reading or writing cannot work so."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    subject: str
    """Stable, for programs: ``fuse``, ``disk.data``, ``server.NAME.login`` and so on."""
    verdict: Verdict
    text: str
    next_step: str | None = None


def ok(subject: str, text: str) -> Finding:
    return Finding(subject, Verdict.OK, text)


def warn(subject: str, text: str, next_step: str) -> Finding:
    return Finding(subject, Verdict.WARN, text, next_step)


def fail(subject: str, text: str, next_step: str) -> Finding:
    return Finding(subject, Verdict.FAIL, text, next_step)


def worst(findings: Iterable[Finding]) -> Verdict:
    order = list(Verdict)
    return max((finding.verdict for finding in findings), key=order.index, default=Verdict.OK)


NEEDED_FILES: Final = 512
"""Descriptors beside those of connections: staging files, cache, logs, and the index, which takes
320 if it is in 64 files (and a checkpoint being made reads them on a connection of its own)."""

LITTLE_SPACE: Final = 5_000_000_000
NO_SPACE: Final = 200_000_000

SKEW_NOTICED: Final = 30.0
SKEW_REFUSED: Final = 6 * 3600.0
"""Seconds. Servers refuse articles that are too old (often ten days) or from the future (a day)."""

EXPIRES_SOON: Final = 14.0
"""Days."""

LONGEST_SOCKET: Final = 107
"""Octets of a Unix socket's path that the kernel takes."""


def judge_open_files(limit: int, most: int, connections: int) -> Finding:
    """``limit`` and ``most`` are the soft and the hard limit of open files."""
    subject, needed = "limits.open_files", NEEDED_FILES + connections
    if limit >= needed:
        return ok(subject, f"{limit} files may be open, about {needed} are needed")
    text = f"only {limit} files may be open, and about {needed} are needed"
    if most >= needed:
        return warn(subject, text, f"raise it before mounting: ulimit -n {needed}")
    return fail(subject, text, f"raise the hard limit in /etc/security/limits.conf to {needed}")


def judge_space(subject: str, place: str, free: int, *, wanted: int | None = None) -> Finding:
    """``wanted``: what the configuration lets it grow to."""
    text = f"{human_size(free)} free for {place}"
    if free < NO_SPACE:
        return fail(subject, text, "free space, or choose another directory (data_dir, cache_dir)")
    if free < LITTLE_SPACE:
        return warn(subject, text, "free space: writers wait, and reads are fetched twice, without")
    if wanted is not None and wanted > free:
        return ok(subject, f"{text}, of the {format_size(wanted)} that it may grow to")
    return ok(subject, text)


def judge_kind_of_disk(kind: str) -> Finding | None:
    """The type of the filesystem that holds the data directory, as the kernel calls it."""
    if kind in {"tmpfs", "ramfs"}:
        return warn(
            "disk.kind",
            f"the data directory is in memory ({kind}): what is staged does not survive power loss",
            "put it on a disk: --data-dir, or data_dir in the configuration",
        )
    if kind in {"nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph"} or kind.startswith("fuse"):
        return warn(
            "disk.kind",
            f"the data directory is on {kind}: SQLite and fsync may not be safe there",
            "put it on a local disk: --data-dir, or data_dir in the configuration",
        )
    return None


def judge_clock(server: str, ahead: float | None) -> Finding:
    subject = f"server.{server}.clock"
    if ahead is None:
        return ok(subject, f"{server} does not tell the time")
    away = abs(ahead)
    if away < SKEW_NOTICED:
        return ok(subject, f"the clocks of {server} and of this machine agree")
    way = "ahead of" if ahead > 0 else "behind"
    text = f"this machine's clock is {human_duration(away)} {way} that of {server}"
    step = "set it by the network: timedatectl set-ntp true"
    return (fail if away >= SKEW_REFUSED else warn)(subject, text, step)


def judge_mode(subject: str, what: str, path: str, mode: int) -> Finding:
    """A file or directory that holds secrets."""
    if mode & 0o077:
        return fail(
            subject,
            f"{what} is open to other users (mode {mode & 0o777:04o})",
            f"close it: chmod go= {path}",
        )
    return ok(subject, f"{what} is yours alone")


def judge_socket_path(path: str) -> Finding | None:
    """The control socket's path; None where it is short enough."""
    length = len(path.encode(errors="surrogateescape"))
    if length <= LONGEST_SOCKET:
        return None
    return fail(
        "data_dir.length",
        f"the path of the control socket has {length} octets, {LONGEST_SOCKET} are possible",
        "choose a data directory with a shorter path: --data-dir",
    )
