"""What is installed is what is needed: every file of the package that is no module is named."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_data_file_of_the_package_is_installed() -> None:
    """``pip install .`` leaves out what no pattern names; in a checkout nobody notices."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = tools["package-data"]["usenetfs"]
    package = ROOT / "usenetfs"
    named = {path for pattern in patterns for path in package.glob(pattern)}
    there = {
        path for path in package.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert there - named == set()
    (pages,) = tools["data-files"].values()
    assert all((ROOT / page).is_file() for page in pages)


def test_each_command_that_is_installed_has_a_function() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for target in scripts.values():
        module, _, function = target.partition(":")
        text = (ROOT / (module.replace(".", "/") + ".py")).read_text()
        assert f"def {function}(" in text
    assert set(scripts) == {"usenetfs", "mount.usenetfs"}
