"""A user with a home of its own, whose commands run in this process or in others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from scripts import evidence
from usenetfs.article.passphrase import MINIMUM_COST
from usenetfs.cli.app import app
from usenetfs.cli.commands import init
from usenetfs.config.directories import Directories, FilesystemPaths

PASSPHRASE = "a long enough passphrase"


@dataclass
class User:
    """``usenetfs`` as a user runs it, with nothing of the machine's own settings."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)
    without_passphrase: bool = False

    @property
    def config_file(self) -> Path:
        return self.home / "config/usenetfs/config.toml"

    @property
    def directories(self) -> Directories:
        return Directories(self.home / "share/usenetfs", self.home / "cache/usenetfs")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_DATA_HOME": str(self.home / "share"),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "USENETFS_SYSTEM_CONFIG": str(self.home / "system.toml"),
            **({} if self.without_passphrase else {"USENETFS_PASSPHRASE": PASSPHRASE}),
            "COLUMNS": "200",
            "NO_COLOR": "1",
            **self.variables,
        }

    def configure(self, text: str) -> None:
        self.config_file.parent.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(text)

    def run(self, *arguments: str | Path, stdin: str = "") -> Result:
        """In this process."""
        others = {name: None for name in os.environ if name.startswith("USENETFS_")}
        done = CliRunner().invoke(
            app,
            [str(a) for a in arguments],
            env={**others, **self.environment},
            input=stdin,
            catch_exceptions=False,
        )
        evidence.command(arguments, self.environment, done.stdout, done.stderr)
        return done

    def spawn(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """In a process of its own."""
        return self._spawn("-m", "usenetfs", *map(str, arguments))

    def python(self, program: str) -> subprocess.CompletedProcess[str]:
        """A program of a few lines, in a process of its own."""
        return self._spawn("-c", program)

    def _spawn(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("USENETFS_")}
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**kept, **self.environment, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        evidence.command(arguments, self.environment, done.stdout, done.stderr)
        return done

    def filesystem(self, name: str = "photos") -> tuple[FilesystemPaths, str]:
        """A new filesystem, made cheaply; its paths and its recovery key."""
        paths = self.directories.filesystem(name)
        return paths, init.create(paths, PASSPHRASE, block_size=65536, cost=MINIMUM_COST)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    yield User(tmp_path)
    evidence.logs(tmp_path)
