"""The layers of configuration, before anybody asks whether their values make sense.

Owns the order (command line, environment, user file, system file), the reading of each into a
nested dict, and where each key came from. Invariant: a layer's tree has only string keys and TOML
or text values; nothing is validated here. Must not import pydantic: finding the directories needs
the files, and ``usenetfs status`` must stay quick.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from usenetfs.config.toml_lines import locate_keys
from usenetfs.errors import ConfigurationError

KeyPath = tuple[str | int, ...]
Tree = dict[str, Any]

ENVIRONMENT_PREFIX: Final = "USENETFS_"
SYSTEM_CONFIG_FILE: Final = Path("/etc/usenetfs/config.toml")

OPTION_VARIABLES: Final = frozenset(
    {
        "USENETFS_CONFIG",
        "USENETFS_PASSPHRASE",
        "USENETFS_PASSPHRASE_FILE",
        "USENETFS_VAULT_PASSPHRASE",
        "USENETFS_VAULT_PASSPHRASE_FILE",
        "USENETFS_SYSTEM_CONFIG",
    }
)
"""Variables that stand for command-line options and are no settings."""

VARIABLE_ALIASES: Final[Mapping[str, KeyPath]] = {"USENETFS_LOG_FORMAT": ("log", "format")}
"""Variables named after an option whose setting has another path."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One source: its values, and how to name each of them to the user."""

    kind: str
    """``command line``, ``environment``, ``user file`` or ``system file``."""
    tree: Tree
    places: Mapping[KeyPath, str] = field(default_factory=dict)
    """For each key path of the tree that is known: a file with its line, a variable, an option."""
    default_place: str = ""

    def holds(self, path: KeyPath) -> bool:
        """Whether this layer says something about ``path`` (or about something below it)."""
        node: Any = self.tree
        for step in path:
            try:
                node = node[step]
            except (LookupError, TypeError):
                return False
        return True

    def place(self, path: KeyPath) -> str:
        """Where ``path`` is set, as precisely as known."""
        for length in range(len(path), 0, -1):
            if (known := self.places.get(path[:length])) is not None:
                return known
        below = (place for known, place in self.places.items() if known[: len(path)] == path)
        return next(below, self.default_place or self.kind)


def user_config_file(environment: Mapping[str, str]) -> Path:
    """``$XDG_CONFIG_HOME/usenetfs/config.toml``, normally under ``~/.config``."""
    import platformdirs

    del environment  # platformdirs reads XDG_CONFIG_HOME itself
    return Path(platformdirs.user_config_dir("usenetfs")) / "config.toml"


def read_layers(
    *,
    config_file: Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, tuple[KeyPath, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[Layer, ...]:
    """All layers, strongest first.

    ``config_file`` replaces the user file and must exist; ``assignments`` are the ``KEY=VALUE`` of
    ``--set``; ``options`` maps an option's name to the setting it stands for and its value.
    """
    variables = os.environ if environment is None else environment
    system_file = Path(variables.get("USENETFS_SYSTEM_CONFIG") or SYSTEM_CONFIG_FILE)
    user_file = config_file or user_config_file(variables)
    layers = [command_line_layer(assignments, options or {}), environment_layer(variables)]
    for kind, file, required in (
        ("user file", user_file, config_file is not None),
        ("system file", system_file, False),
    ):
        layer = file_layer(kind, file, required=required)
        if layer is not None:
            layers.append(layer)
    return tuple(layers)


def file_layer(kind: str, file: Path, *, required: bool) -> Layer | None:
    """The layer of a TOML file; None when it is not there and need not be."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if not required:
            return None
        raise ConfigurationError(
            f"{file}: there is no such file", hint="check the path given to --config"
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file}: is not UTF-8 text, as TOML must be") from None
    except NotADirectoryError:
        if not required:
            return None
        raise ConfigurationError(f"{file}: there is no such file") from None
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{file}: is not valid TOML: {error}",
            hint='text goes in quotes: name = "value"; sections in brackets: [cache]',
        ) from None
    places = {path: f"{file}:{line}" for path, line in locate_keys(text).items()}
    return Layer(kind=kind, tree=tree, places=places, default_place=str(file))


def environment_layer(variables: Mapping[str, str]) -> Layer:
    """The layer of ``USENETFS_`` variables; ``__`` separates sections from keys."""
    tree: Tree = {}
    places: dict[KeyPath, str] = {}
    for name in sorted(variables):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in OPTION_VARIABLES:
            continue
        path = VARIABLE_ALIASES.get(name) or tuple(
            name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        )
        _plant(tree, path, _decode(variables[name], name), name)
        places[path] = name
    return Layer(kind="environment", tree=tree, places=places)


def command_line_layer(
    assignments: Iterable[str], options: Mapping[str, tuple[KeyPath, Any]]
) -> Layer:
    """The layer of ``--set KEY=VALUE`` and of the options that stand for a setting."""
    tree: Tree = {}
    places: dict[KeyPath, str] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        path = tuple(part.strip() for part in key.split("."))
        if not equals or not all(path):
            raise ConfigurationError(
                f'--set "{assignment}": is not of the form KEY=VALUE',
                hint='for example: --set "cache.max_size=20 GiB"',
            )
        _plant(tree, path, _decode(value.strip(), f"--set {key.strip()}"), f"--set {key.strip()}")
        places[path] = f"--set {key.strip()}"
    for option, (option_path, option_value) in options.items():
        _plant(tree, option_path, option_value, option)
        places[option_path] = option
    return Layer(kind="command line", tree=tree, places=places)


def _decode(text: str, place: str) -> Any:
    """Text from a variable or option: JSON where it starts like a list or table, else itself."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"{place}: starts like a JSON list or table and is none: {error.msg}",
            hint='lists are written ["a", "b"] or a,b',
        ) from None


def _plant(tree: Tree, path: KeyPath, value: Any, place: str) -> None:
    """Put ``value`` at ``path``, making the tables on the way."""
    node: Any = tree
    for step in path[:-1]:
        node = node.setdefault(step, {})
        if not isinstance(node, dict):
            raise ConfigurationError(
                f"{place}: {'.'.join(map(str, path))} is set both as a value and as a table"
            )
    node[path[-1]] = value
