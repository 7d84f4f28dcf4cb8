"""``usenetfs config``: what is configured, and where it comes from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from usenetfs.cli.context import Common
from usenetfs.cli.output import note, say, say_json
from usenetfs.config.sources import SYSTEM_CONFIG_FILE, KeyPath, user_config_file
from usenetfs.errors import FilesystemExistsError, UsageError


def show(common: Common, *, origin: bool, as_json: bool) -> None:
    """Every setting in force, in the form of the configuration file."""
    directories = common.directories
    defaults: dict[KeyPath, str] = {
        ("data_dir",): str(directories.data),
        ("cache_dir",): str(directories.cache),
    }
    values = [
        (path, defaults.get(path, value), place) for path, value, place in common.loaded.values()
    ]
    if as_json:
        say_json([{"key": _dotted(p), "value": v, "origin": o} for p, v, o in values])
        return
    for path, value, place in values:
        if value is None:
            line = f"# {_dotted(path)} is not set"
        else:
            line = f"{_dotted(path)} = {_toml(value)}"
        say(f"{line:<48}  # {place}" if origin else line)


def set_value(common: Common, key: str, value: str, name: str | None, *, runtime: bool) -> None:
    """Change a setting of a mounted filesystem until it is unmounted."""
    from usenetfs.cli.status_view import limits_text
    from usenetfs.control.client import ControlClient

    if not runtime:
        file = common.config_file or user_config_file(os.environ)
        raise UsageError(
            "only --runtime changes are made by this command",
            hint=f"lasting ones are made in {file}, and hold from the next mount on",
        )
    directories = common.directories
    paths = directories.existing(name) if name else directories.only()
    limits = ControlClient(paths.control_socket, name=paths.name).change_setting(key, value)
    note(f"{paths.name}: {limits_text(limits) or 'nothing is limited'}, until it is unmounted.")


def path(common: Common, *, as_json: bool) -> None:
    """The files that are read, strongest first, and whether they are there."""
    system = Path(os.environ.get("USENETFS_SYSTEM_CONFIG") or SYSTEM_CONFIG_FILE)
    files = [common.config_file or user_config_file(os.environ), system]
    if as_json:
        say_json([{"path": str(file), "exists": file.exists()} for file in files])
        return
    for file in files:
        say(f"{file}{'' if file.exists() else '  (not there)'}")


def init(common: Common, *, force: bool, show: bool) -> None:
    """Write the commented file; one that is there is never lost."""
    from usenetfs.config.template import commented_file
    from usenetfs.config.vault import replace_file

    if show:
        say(commented_file().rstrip("\n"))
        return
    file = common.config_file or user_config_file(os.environ)
    if file.exists():
        if not force:
            raise FilesystemExistsError(
                f"there is a configuration file already: {file}",
                hint="edit it; --stdout prints a new one, --force replaces it and keeps a copy",
            )
        copy = file.with_name(f"{file.name}.old")
        replace_file(copy, file.read_bytes())
        note(f"The old one is kept as {copy}.")
    replace_file(file, commented_file().encode())
    note(f"Written: {file}")
    note("Next: usenetfs server add NAME --host HOST --username ME --group NEWSGROUP")


def _dotted(path: KeyPath) -> str:
    text = ""
    for step in path:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _toml(value: Any) -> str:
    """A value as TOML writes it; JSON's spelling of text, numbers, booleans and lists is TOML's."""
    return json.dumps(value, ensure_ascii=False)
