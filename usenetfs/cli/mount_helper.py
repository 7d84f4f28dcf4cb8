"""``mount.usenetfs``: what ``mount -t usenetfs`` and ``/etc/fstab`` run.

Owns the translation from mount(8)'s way of calling a helper to ``usenetfs mount``:

    mount.usenetfs NAME MOUNTPOINT [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTION,…]

Options with a value that stand for options of the command line (``passphrase_file=``, ``config=``
and so on) are given as those; ``setuid=USER`` makes the daemon that user's. What is left goes to
``usenetfs mount -o``. Exit statuses are mount(8)'s, not those of the other commands.
"""

from __future__ import annotations

import getopt
import os
import pwd
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from usenetfs.cli.exit_status import ExitStatus
from usenetfs.cli.output import report_error
from usenetfs.errors import UsageError, UsenetfsError
from usenetfs.mounts import SOURCE_PREFIX

COMMON: Final = {
    "config": "--config",
    "data_dir": "--data-dir",
    "cache_dir": "--cache-dir",
    "passphrase_file": "--passphrase-file",
    "vault_passphrase_file": "--vault-passphrase-file",
    "log_format": "--log-format",
}
"""Options of ``-o`` that are options common to all commands."""

MOUNT: Final = {"at": "--at"}
MOUNT_FLAGS: Final = {"follow": "--follow"}

OK, WRONG_CALL, INTERNAL, INTERRUPTED, FAILED = 0, 1, 4, 8, 32
"""Exit statuses that mount(8) defines."""

STATUSES: Final = {
    ExitStatus.OK: OK,
    ExitStatus.USAGE: WRONG_CALL,
    ExitStatus.INTERNAL: INTERNAL,
    ExitStatus.INTERRUPTED: INTERRUPTED,
}

USAGE: Final = "mount.usenetfs NAME MOUNTPOINT [-sfnv] [-o OPTION,…]"


@dataclass(frozen=True, slots=True)
class Call:
    """What mount(8) asked for."""

    arguments: list[str]
    """For ``usenetfs``."""
    user: str | None
    fake: bool
    """Everything but the mounting itself."""


def translate(arguments: Sequence[str]) -> Call:
    """UsageError when it is not how mount(8) calls a helper."""
    try:
        flags, words = getopt.gnu_getopt(list(arguments), "sfnvhN:t:o:")
    except getopt.GetoptError as error:
        raise UsageError(f"mount.usenetfs: {error}", hint=USAGE) from None
    if len(words) != 2:
        raise UsageError(f"mount.usenetfs takes a name and a mount point: {words}", hint=USAGE)
    common: list[str] = []
    own: list[str] = []
    rest: list[str] = []
    user = None
    for option in (part for flag, value in flags if flag == "-o" for part in value.split(",")):
        key, equals, value = option.partition("=")
        if equals and key in COMMON:
            common += [COMMON[key], value]
        elif equals and key in MOUNT:
            own += [MOUNT[key], value]
        elif option in MOUNT_FLAGS:
            own.append(MOUNT_FLAGS[option])
        elif equals and key == "setuid":
            user = value
        elif option:
            rest.append(option)
    given = [flag for flag, _ in flags]
    common += ["-v"] * given.count("-v")
    name, mountpoint = words[0].removeprefix(SOURCE_PREFIX), words[1]
    options = ["-o", ",".join(rest)] if rest else []
    return Call(
        [*common, "mount", *own, *options, "--", name, mountpoint], user, fake="-f" in given
    )


def become(user: str) -> None:
    """Be ``user`` from now on, with their groups and home. UsageError when that cannot be."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise UsageError(f"-o setuid={user}: there is no such user") from None
    if entry.pw_uid != os.geteuid():
        try:
            os.initgroups(user, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
        except PermissionError:
            raise UsageError(f"-o setuid={user}: only root may become another user") from None
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        del os.environ[name]
    os.environ |= {"HOME": entry.pw_dir, "USER": user, "LOGNAME": user}


def main() -> None:
    """Run as mount(8)'s helper; ends the process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """The exit status, as mount(8) takes it."""
    try:
        call = translate(arguments)
        if call.user is not None:
            become(call.user)
    except UsenetfsError as error:
        report_error(error, verbosity=0)
        return WRONG_CALL
    if call.fake:
        return OK
    # mount(8) started by init has none; the home directory is where everything is looked for.
    os.environ.setdefault("HOME", pwd.getpwuid(os.geteuid()).pw_dir)
    from usenetfs.cli.app import app

    try:
        app(call.arguments, prog_name="usenetfs")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else ExitStatus.INTERNAL
        return STATUSES.get(ExitStatus(status), FAILED) if status in set(ExitStatus) else FAILED
    return OK
