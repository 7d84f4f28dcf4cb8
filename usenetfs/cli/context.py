"""The options common to all commands, and what follows from them.

Owns the single reading of configuration in a process: layers are read once, settings validated once
and only for commands that need them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usenetfs.config.directories import Directories, choose_directories
from usenetfs.config.sources import KeyPath, Layer, read_layers

if TYPE_CHECKING:
    from usenetfs.config.loader import LoadedSettings
    from usenetfs.config.models import Settings


@dataclass(frozen=True)
class Common:
    """What was given before or after the command's name."""

    config_file: Path | None = None
    data_dir: Path | None = None
    cache_dir: Path | None = None
    passphrase_file: Path | None = None
    vault_passphrase_file: Path | None = None
    log_format: str | None = None
    assignments: tuple[str, ...] = ()
    verbosity: int = 0

    @functools.cached_property
    def layers(self) -> tuple[Layer, ...]:
        return read_layers(
            config_file=self.config_file, assignments=self.assignments, options=self._options()
        )

    @functools.cached_property
    def directories(self) -> Directories:
        return choose_directories(self.layers)

    @functools.cached_property
    def loaded(self) -> LoadedSettings:
        from usenetfs.config.loader import validate

        return validate(self.layers)

    @property
    def settings(self) -> Settings:
        return self.loaded.settings

    def arguments(self) -> list[str]:
        """These options again, as arguments for a child process; never a secret."""
        arguments = []
        for option, value in (
            ("--config", self.config_file and self.config_file.absolute()),
            ("--data-dir", self.data_dir and self.data_dir.absolute()),
            ("--cache-dir", self.cache_dir and self.cache_dir.absolute()),
            ("--log-format", self.log_format),
        ):
            if value is not None:
                arguments += [option, str(value)]
        for assignment in self.assignments:
            arguments += ["--set", assignment]
        return arguments + ["-v"] * self.verbosity

    def _options(self) -> Mapping[str, tuple[KeyPath, Any]]:
        given: dict[str, tuple[KeyPath, Any]] = {
            "--data-dir": (("data_dir",), self.data_dir),
            "--cache-dir": (("cache_dir",), self.cache_dir),
            "--log-format": (("log", "format"), self.log_format),
        }
        return {option: value for option, value in given.items() if value[1] is not None}
