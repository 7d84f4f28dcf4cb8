"""The kernel's view of mounts: which there are, whether one may be made, how one is undone.

Owns the reading of ``/proc/self/mountinfo`` and the calls of ``fusermount3``. Everything here is
blocking and short, except ``unmount``, which belongs in a thread. Knows nothing of filesystems'
contents; never touches a path below a mount point, for a dead daemon would hang it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from usenetfs.errors import MountError

SOURCE_PREFIX: Final = "usenetfs:"
"""What ``mount`` and ``df`` show as the device, followed by the filesystem's name."""

_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo."""

    mountpoint: Path
    source: str
    kind: str

    @property
    def filesystem(self) -> str | None:
        """The name of the usenetfs filesystem mounted here; None for other mounts."""
        return self.source.removeprefix(SOURCE_PREFIX) if self.is_ours else None

    @property
    def is_ours(self) -> bool:
        return self.kind.startswith("fuse") and self.source.startswith(SOURCE_PREFIX)


def read_mounts(text: str | None = None) -> list[Mount]:
    """All mounts this process sees, in the order of their making. ``text`` is for tests."""
    if text is None:
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    mounts = []
    for line in text.splitlines():
        fields, separator, rest = line.partition(" - ")
        parts, tail = fields.split(), rest.split()
        if separator and len(parts) >= 5 and len(tail) >= 2:
            mounts.append(Mount(Path(_unescaped(parts[4])), _unescaped(tail[1]), tail[0]))
    return mounts


def mount_at(path: Path) -> Mount | None:
    """The topmost mount whose mount point is exactly ``path``."""
    resolved = _resolved(path)
    return next((m for m in reversed(read_mounts()) if m.mountpoint == resolved), None)


def prepare_mount_point(path: Path, *, filesystem: str, allow_other: bool = False) -> Path:
    """The absolute mount point, after all checks that can be made beforehand.

    A dead mount of the same filesystem, left by a killed daemon, is cleared away. MountError says
    what is wrong and what to do.
    """
    resolved = _resolved(path)
    mounted = mount_at(resolved)
    if mounted is not None:
        if mounted.filesystem != filesystem or not _is_dead(resolved):
            raise MountError(
                f"{path} is already a mount point (of {mounted.source})",
                hint=f"unmount it first: {_unmount_command(mounted)}",
            )
        unmount(resolved, lazy=True)
    _check_directory(path, resolved)
    _check_fuse(allow_other=allow_other)
    return resolved


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Ask the kernel to unmount. Blocking. MountError when it is in use or not ours to unmount."""
    program = shutil.which("fusermount3") or shutil.which("fusermount")
    if program is None:
        raise MountError("fusermount3 is not installed", hint="install it: apt install fuse3")
    command = [program, "-u", *(["-z"] if lazy else []), "--", str(mountpoint)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == 0 or mount_at(mountpoint) is None:
        return
    reason = done.stderr.strip().removeprefix("fusermount3: ")
    if "busy" in reason.lower():
        raise MountError(
            f"{mountpoint} is in use: {users_of(mountpoint)}",
            hint="close the files and leave the directory, or use: usenetfs umount --lazy",
        )
    raise MountError(f"cannot unmount {mountpoint}: {reason or 'fusermount3 failed'}")


def users_of(mountpoint: Path) -> str:
    """Who keeps a mount busy, as far as /proc lets us see; for messages."""
    users = []
    prefix = f"{mountpoint}/"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [process / "cwd", *(process / "fd").iterdir()]
            held = any(f"{link.readlink()}/".startswith(prefix) for link in links)
            name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue  # it ended, or it is not ours to look at
        if held:
            users.append(f"{name} ({process.name})")
    return "by " + ", ".join(users[:5]) if users else "by a process that cannot be named"


# --- checks --------------------------------------------------------------------------------------


def _check_directory(path: Path, resolved: Path) -> None:
    try:
        empty = resolved.is_dir() and not any(resolved.iterdir())
    except PermissionError:
        raise MountError(
            f"{path} may not be read by you", hint="mount on a directory of yours"
        ) from None
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise MountError(
                f"{path} holds a dead mount", hint=f"clear it: fusermount3 -u {path}"
            ) from None
        raise MountError(f"{path} cannot be used: {error.strerror}") from None
    if not resolved.exists():
        raise MountError(f"{path} does not exist", hint=f"make it: mkdir -p {path}")
    if not resolved.is_dir():
        raise MountError(f"{path} is not a directory", hint="give an empty directory")
    if not empty:
        raise MountError(
            f"{path} is not empty", hint="give an empty directory; its files would be hidden"
        )
    if not os.access(resolved, os.W_OK):
        raise MountError(f"{path} is not writable by you", hint="mount on a directory of yours")


def _check_fuse(*, allow_other: bool) -> None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise MountError(
            "/dev/fuse is not there or not open to you",
            hint="install fuse3, load the module (modprobe fuse), or start the container with it",
        )
    if shutil.which("fusermount3") is None:
        raise MountError("fusermount3 is not installed", hint="install it: apt install fuse3")
    if allow_other and os.geteuid() != 0 and not _user_allow_other():
        raise MountError(
            "-o allow_other is not allowed to ordinary users here",
            hint='root may allow it: put a line "user_allow_other" into /etc/fuse.conf',
        )


def _user_allow_other() -> bool:
    try:
        lines = Path("/etc/fuse.conf").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)


def _is_dead(path: Path) -> bool:
    """Whether the daemon behind a mount point is gone. A live but stuck one is not dead.

    The kernel answers a stat of the root from what it remembers; this it has to ask for.
    """
    try:
        os.statvfs(path)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def _unmount_command(mount: Mount) -> str:
    verb = "usenetfs umount" if mount.is_ours else "umount"
    return f"{verb} {mount.mountpoint}"


def _resolved(path: Path) -> Path:
    """Absolute, without links in its parents; the last component is not looked at.

    A dead mount cannot be resolved itself, its parent can.
    """
    absolute = path.expanduser().absolute()
    try:
        return absolute.resolve()
    except OSError:
        return absolute.parent.resolve() / absolute.name


def _unescaped(field: str) -> str:
    """Octets that the kernel wrote as ``\\ooo``, as a path spells them."""
    raw = _ESCAPE.sub(lambda match: bytes([int(match[1], 8) & 255]), os.fsencode(field))
    return os.fsdecode(raw)


def same_path(one: Path, other: Path) -> bool:
    """Whether two paths name the same mount point, however spelled. Touches no mount."""
    return _resolved(one) == _resolved(other)
