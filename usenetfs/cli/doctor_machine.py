"""Looking at this machine: FUSE, limits, disks, permissions. Judges by ``findings.py``.

Everything here is quick and changes nothing, but for a mount on a directory of its own that lasts
some milliseconds: whether mounting works is known only once one has mounted.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from usenetfs import mounts
from usenetfs.cli.findings import (
    Finding,
    fail,
    judge_kind_of_disk,
    judge_mode,
    judge_open_files,
    judge_socket_path,
    judge_space,
    ok,
    warn,
)
from usenetfs.config.directories import Directories, FilesystemPaths
from usenetfs.config.models import Settings

MOUNT_TIMEOUT: Final = 20.0


def look_at_machine(
    settings: Settings, directories: Directories, paths: FilesystemPaths | None
) -> Iterator[Finding]:
    """All findings about this machine; those about one filesystem where ``paths`` are given."""
    yield look_at_fuse()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield judge_open_files(soft, hard, sum(server.connections for server in settings.servers))
    yield from look_at_disks(settings, directories)
    yield from look_at_permissions(directories, paths)


# --- FUSE ----------------------------------------------------------------------------------------


def look_at_fuse() -> Finding:
    """Mount something, as ordinary as can be, and unmount it."""
    if not Path("/dev/fuse").exists():
        return fail(
            "fuse", "/dev/fuse is not there", "load it: modprobe fuse; a container needs the device"
        )
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return fail("fuse", "/dev/fuse is not open to you", "ask root for: chmod 666 /dev/fuse")
    program = shutil.which("fusermount3")
    if program is None:
        return fail("fuse", "fusermount3 is not installed", "install it: apt install fuse3")
    reason = try_mount(program)
    if reason is None:
        return ok("fuse", "mounting works")
    if "not permitted" in reason or "denied" in reason:
        step = (
            "start the container with --device /dev/fuse --cap-add SYS_ADMIN"
            if os.geteuid() == 0
            else f"fusermount3 needs its setuid bit: chmod u+s {program}"
        )
        return fail("fuse", f"mounting is refused: {reason}", step)
    return fail("fuse", f"mounting fails: {reason}", "see what the kernel says: dmesg | tail")


def try_mount(program: str) -> str | None:
    """Why mounting does not work; None when it does. What is mounted is gone again."""
    with tempfile.TemporaryDirectory(prefix="usenetfs-doctor-") as place:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs:
            reason = _run(
                [program, "-o", "fsname=usenetfs-doctor", "--", place],
                environment={"_FUSE_COMMFD": str(theirs.fileno())},
                descriptor=theirs.fileno(),
            )
        if mounts.mount_at(Path(place)) is not None:
            undone = _run([program, "-u", "-z", "--", place])
            reason = reason or undone
        return reason


def _run(
    command: list[str], *, environment: dict[str, str] | None = None, descriptor: int | None = None
) -> str | None:
    try:
        done = subprocess.run(
            command,
            env=os.environ | (environment or {}),
            pass_fds=() if descriptor is None else (descriptor,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=MOUNT_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
    return lines[-1].removeprefix("fusermount3: ")


# --- disks ---------------------------------------------------------------------------------------


def look_at_disks(settings: Settings, directories: Directories) -> Iterator[Finding]:
    for subject, place, path, wanted in (
        ("disk.data", "what is staged", directories.data, settings.staging.max_size),
        ("disk.cache", "the cache", directories.cache, settings.cache.max_size),
    ):
        existing = _existing(path)
        try:
            free = shutil.disk_usage(existing).free
        except OSError as error:
            yield fail(subject, f"{path}: {error.strerror}", "choose another directory")
            continue
        if not os.access(existing, os.W_OK | os.X_OK):
            yield fail(subject, f"{existing} is not writable by you", "choose another directory")
            continue
        yield judge_space(subject, place, free, wanted=wanted)
    kind = judge_kind_of_disk(_kind_of(_existing(directories.data)))
    if kind is not None:
        yield kind


def _existing(path: Path) -> Path:
    """The path, or the nearest directory above it that is there."""
    return next((place for place in (path, *path.parents) if place.exists()), Path("/"))


def _kind_of(path: Path) -> str:
    """The type of the filesystem that ``path`` is on."""
    resolved = path.resolve()
    holding = [m for m in mounts.read_mounts() if resolved.is_relative_to(m.mountpoint)]
    return max(reversed(holding), key=lambda m: len(m.mountpoint.parts)).kind if holding else ""


# --- permissions ---------------------------------------------------------------------------------


def look_at_permissions(
    directories: Directories, paths: FilesystemPaths | None
) -> Iterator[Finding]:
    if not directories.data.is_dir():
        yield ok("data_dir", f"{directories.data} is made by the first init")
        return
    state = directories.data.stat()
    if state.st_uid != os.geteuid():
        yield warn(
            "data_dir",
            f"{directories.data} belongs to another user",
            "run usenetfs as its owner, or choose another directory",
        )
    named = [("vault", "the vault", directories.vault)]
    for name in [paths.name] if paths is not None else directories.names():
        one = directories.filesystem(name)
        named.append((f"filesystem.{name}.keys", f"the key file of {name}", one.key_file))
        named.append((f"filesystem.{name}.index", f"the index of {name}", one.data))
        socket_path = judge_socket_path(str(one.control_socket))
        if socket_path is not None:
            yield socket_path
    for subject, what, path in named:
        if path.exists():
            yield judge_mode(subject, what, str(path), path.stat().st_mode)
