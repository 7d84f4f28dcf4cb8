"""Every package that usenetfs declares is imported, and every package it imports is declared.

A dependency that nothing uses is weight on every installation; one that is used and not declared
works only by luck. Reads pyproject.toml and the imports of ``usenetfs/``.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MODULE_OF = {
    "prometheus-client": "prometheus_client",
    "pydantic-settings": "pydantic_settings",
    "zstandard": "zstandard",
}
"""Import name of a distribution, where it is not simply its name."""

DEVELOPMENT = {"dev"}
"""Extras that are not for users."""

PART_OF = {"pydantic_core": "pydantic"}
"""Modules of another distribution that a declared one pins exactly and documents as its own."""


def main() -> int:
    """Print what does not match; 0 if nothing, 1 otherwise."""
    declared = {_module(requirement) for requirement in _requirements()}
    imported = set(_imports(ROOT / "usenetfs")) - sys.stdlib_module_names - {"usenetfs"}
    for module in sorted(declared - imported):
        print(f"declared in pyproject.toml and never imported: {module}")
    for module in sorted(imported - declared):
        print(f"imported and not declared in pyproject.toml: {module}")
    return int(declared != imported)


def _requirements() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = settings["project"]
    extras = project["optional-dependencies"]
    requirements: list[str] = list(project["dependencies"])
    for name in extras.keys() - DEVELOPMENT:
        requirements += extras[name]
    return requirements


def _module(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None, requirement
    name = match.group().lower()
    return MODULE_OF.get(name, name)


def _imports(folder: Path) -> Iterator[str]:
    """Top-level names of all modules that the Python files under ``folder`` import."""
    for path in folder.rglob("*.py"):
        for node in _executed(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            else:
                continue
            for name in names:
                module = name.partition(".")[0]
                yield PART_OF.get(module, module)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below ``node`` but those that only type checkers look at."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from _executed(child)


if __name__ == "__main__":
    sys.exit(main())
