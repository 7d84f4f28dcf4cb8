"""``usenetfs service``: systemd units that mount a filesystem.

Owns the filling in of the templates in ``cli/units``. A unit never holds a secret, only the name
of the file that does; a system's unit has systemd hand that over as a credential, so that only root
and the daemon can read it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Final

from usenetfs.cli.context import Common
from usenetfs.cli.mount_options import format_mount_options, parse_mount_options
from usenetfs.cli.output import note, say
from usenetfs.errors import LocalStorageError, UsageError

_PLAIN: Final = re.compile(r"[A-Za-z0-9/_.,=%$-]+")
SYSTEM_DIRECTORY: Final = Path("/etc/systemd/system")


def show(common: Common, name: str, mountpoint: Path, *, system: bool, options: list[str]) -> None:
    """Print the unit."""
    say(unit_text(common, name, mountpoint, system=system, options=options).rstrip("\n"))


def install(
    common: Common, name: str, mountpoint: Path, *, system: bool, options: list[str]
) -> None:
    """Write the unit to where systemd looks for it, and say what is next."""
    common.directories.existing(name)
    text = unit_text(common, name, mountpoint, system=system, options=options)
    directory = SYSTEM_DIRECTORY if system else _user_directory()
    file = directory / unit_name(name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except PermissionError:
        raise UsageError(
            f"{directory} is not yours to write", hint="run this as root, or without --system"
        ) from None
    except OSError as error:
        raise LocalStorageError(f"cannot write {file}: {error.strerror}") from error
    control = "systemctl" if system else "systemctl --user"
    note(f"Written: {file}")
    if common.passphrase_file is None:
        note("It has no passphrase yet: install it again with --passphrase-file FILE.")
    note(f"Next: {control} daemon-reload && {control} enable --now {file.name}")
    if not system:
        note("It runs while you are logged in; always, after: loginctl enable-linger")


def unit_name(name: str) -> str:
    return f"usenetfs-{name}.service"


def unit_text(
    common: Common, name: str, mountpoint: Path, *, system: bool, options: list[str]
) -> str:
    """The unit that mounts ``name``."""
    common.directories.filesystem(name)  # a name that can be one
    chosen = format_mount_options(parse_mount_options(options))
    command = [
        *_program(),
        *common.arguments(),
        *("mount", "--foreground", "-o", chosen, "--", name, str(mountpoint.absolute())),
    ]
    template = (
        resources.files("usenetfs.cli") / "units" / f"{'system' if system else 'user'}.service"
    )
    return (
        template.read_text(encoding="utf-8")
        .replace("@NAME@", name)
        .replace("@UNIT@", unit_name(name))
        .replace("@COMMAND@", " ".join(map(_quoted, command)))
        .replace("@PASSPHRASE@", _passphrase(common.passphrase_file, system=system))
    )


def _program() -> list[str]:
    """The command that runs this usenetfs, wherever the service's PATH leads."""
    beside = Path(sys.executable).with_name("usenetfs")
    found = beside if beside.exists() else shutil.which("usenetfs")
    return [str(found)] if found else [sys.executable, "-m", "usenetfs"]


def _passphrase(file: Path | None, *, system: bool) -> str:
    if file is None:
        return "# The passphrase: Environment=USENETFS_PASSPHRASE_FILE=/path/of/a/file/of/mode/0600"
    path = str(file.expanduser().absolute())
    if not system:
        return f"Environment={_quoted(f'USENETFS_PASSPHRASE_FILE={path}')}"
    if ":" in path:
        raise UsageError(f"{path}: systemd takes no path with a colon", hint="rename the file")
    return (
        f"LoadCredential=passphrase:{path.replace('%', '%%')}\n"
        "Environment=USENETFS_PASSPHRASE_FILE=%d/passphrase"
    )


def _quoted(word: str) -> str:
    """A word as systemd's command lines spell it (systemd.syntax(7))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if _PLAIN.fullmatch(escaped) else f'"{escaped}"'


def _user_directory() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "systemd" / "user"
