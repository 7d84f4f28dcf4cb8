"""Where things are on this machine.

Owns the names of every file and directory that usenetfs keeps, and the choice of the data and
cache directories (from the same layers as every setting, but without loading pydantic: commands
that only ask the daemon must answer at once). Creates nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from usenetfs.config.sources import KeyPath, Layer, read_layers
from usenetfs.errors import ConfigurationError, FilesystemNotFoundError, UsageError

VIEW_MARK: Final = "@"
"""Between a filesystem's name and that of a view of it; in no name."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class FilesystemPaths:
    """The files of one filesystem. ``data`` must survive; ``cache`` may vanish at any time."""

    name: str
    data: Path
    cache: Path

    @property
    def key_file(self) -> Path:
        return self.data / "keys.json"

    @property
    def index(self) -> Path:
        return self.data / "index.db"

    @property
    def staging(self) -> Path:
        return self.data / "staging"

    @property
    def downloads(self) -> Path:
        """Sessions of downloads that did not end."""
        return self.data / "downloads"

    @property
    def lock(self) -> Path:
        return self.data / "lock"

    @property
    def pins(self) -> Path:
        """What is to stay in the cache."""
        return self.data / "pins.json"

    @property
    def verification(self) -> Path:
        """What the last verification found."""
        return self.data / "verification.json"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def control_socket(self) -> Path:
        return self.data / "control.sock"

    @property
    def token(self) -> Path:
        """What the control API asks for where it listens on a port."""
        return self.data / "token"

    @property
    def articles(self) -> Path:
        """The cache of fetched articles."""
        return self.cache / "articles"

    @property
    def root(self) -> str:
        """The filesystem's name, also where these are the paths of a view of it."""
        return self.name.partition(VIEW_MARK)[0]

    def view(self, key: str) -> FilesystemPaths:
        """The paths of a read-only view of it: beside its own, so that both may be mounted."""
        return FilesystemPaths(
            name=f"{self.name}{VIEW_MARK}{key}",
            data=self.data / "views" / key,
            cache=self.cache / "views" / key,
        )

    def exists(self) -> bool:
        return self.key_file.is_file() or self.index.is_file()


@dataclass(frozen=True, slots=True)
class Directories:
    """The two roots, absolute."""

    data: Path
    cache: Path

    @property
    def vault(self) -> Path:
        return self.data / "vault.json"

    def filesystem(self, name: str) -> FilesystemPaths:
        """The paths of filesystem ``name``, there or not. UsageError for an impossible name."""
        if not _NAME.fullmatch(name):
            raise UsageError(
                f'"{name}" cannot be the name of a filesystem',
                hint="use letters, digits, dots, dashes and underscores, at most 64 of them",
            )
        return FilesystemPaths(name=name, data=self.data / name, cache=self.cache / name)

    def mounted(self, label: str) -> FilesystemPaths:
        """The paths of what a mount calls itself: a filesystem, or a view of one."""
        name, mark, key = label.partition(VIEW_MARK)
        paths = self.filesystem(name)
        return paths.view(key) if mark else paths

    def existing(self, name: str) -> FilesystemPaths:
        """The paths of a filesystem that is there; FilesystemNotFoundError names those that are."""
        paths = self.filesystem(name)
        if paths.exists():
            return paths
        others = self.names()
        raise FilesystemNotFoundError(
            f'there is no filesystem "{name}" in {self.data}',
            hint=f"there are: {', '.join(others)}"
            if others
            else f"make it: usenetfs init {name}; or get it back: usenetfs recover {name}",
        )

    def only(self) -> FilesystemPaths:
        """The paths of the one filesystem there is; an error when there are none or several."""
        names = self.names()
        if not names:
            raise FilesystemNotFoundError(
                f"there is no filesystem in {self.data}", hint="make one with: usenetfs init NAME"
            )
        if len(names) > 1:
            raise UsageError(
                "there are several filesystems; say which", hint=f"there are: {', '.join(names)}"
            )
        return self.filesystem(names[0])

    def names(self) -> list[str]:
        """Names of the filesystems on this machine, sorted."""
        try:
            entries = sorted(self.data.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [
            entry.name
            for entry in entries
            if _NAME.fullmatch(entry.name) and self.filesystem(entry.name).exists()
        ]


def find_directories(
    *,
    config_file: Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, tuple[KeyPath, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Directories:
    """The directories that the five sources choose."""
    return choose_directories(
        read_layers(
            config_file=config_file,
            assignments=assignments,
            options=options,
            environment=environment,
        )
    )


def choose_directories(layers: tuple[Layer, ...]) -> Directories:
    """``data_dir`` and ``cache_dir`` of the strongest layer that has them, else the platform's."""
    import platformdirs

    chosen = {}
    for key, default in (
        ("data_dir", platformdirs.user_data_dir("usenetfs")),
        ("cache_dir", platformdirs.user_cache_dir("usenetfs")),
    ):
        layer = next((layer for layer in layers if key in layer.tree), None)
        value = default if layer is None else layer.tree[key]
        if not isinstance(value, str | Path) or not str(value):
            place = layer.place((key,)) if layer else key
            raise ConfigurationError(f"{place}: {key}: {value!r} is not a path in quotes")
        chosen[key] = Path(value).expanduser().absolute()
    return Directories(data=chosen["data_dir"], cache=chosen["cache_dir"])
