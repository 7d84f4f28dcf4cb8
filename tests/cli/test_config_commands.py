"""``config`` and what a wrong configuration does to any command."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.conftest import User
from tests.config.test_loader import WRONG

OTHERS: dict[str, tuple[list[str], dict[str, str], str]] = {
    "variable": ([], {"USENETFS_CACHE__MAX_SIZE": "much"}, "USENETFS_CACHE__MAX_SIZE: cache.max"),
    "variable's name": ([], {"USENETFS_CAHCE__MAX_SIZE": "1"}, "USENETFS_CAHCE__MAX_SIZE: cahce:"),
    "variable's JSON": ([], {"USENETFS_SERVERS": "[{"}, "USENETFS_SERVERS: starts like a JSON"),
    "option": (["--set", "cache.max_size=x"], {}, '--set cache.max_size: cache.max_size: "x" is'),
    "option's form": (["--set", "cache"], {}, '--set "cache": is not of the form KEY=VALUE'),
    "log format": (["--log-format", "xml"], {}, '--log-format: log.format: "xml" is not one of'),
    "no such file": (["--config", "/nowhere/c.toml"], {}, "/nowhere/c.toml: there is no such file"),
    "not TOML": ([], {"USENETFS_SYSTEM_CONFIG": __file__}, "test_config_commands.py: is not valid"),
    "a directory": (["--config", "/"], {}, "/: cannot be read"),
}
"""Wrong elsewhere than in the user's file: arguments, variables, and what is said."""


@pytest.mark.parametrize("case", [*WRONG, *OTHERS])
def test_a_wrong_configuration_is_one_line_and_status_2(user: User, case: str) -> None:
    """By the real command, in a process of its own."""
    if case in WRONG:
        text, message = WRONG[case]
        user.configure(text)
        arguments: list[str] = []
        message = f"{user.config_file}:{message}" if message[0].isdigit() else message
    else:
        arguments, variables, message = OTHERS[case]
        user.variables |= variables
    done = user.spawn(*arguments, "config", "show")
    assert (done.returncode, done.stdout) == (2, "")
    first, *hints = done.stderr.splitlines()
    assert first.startswith("usenetfs: ")
    assert message in first
    assert [line for line in hints if not line.startswith("hint: ")] == []
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_there_are_at_least_thirty_of_them() -> None:
    assert len(WRONG) + len(OTHERS) >= 30


def test_init_writes_a_file_that_changes_nothing(user: User) -> None:
    before = user.run("config", "show").stdout
    done = user.run("config", "init")
    assert (done.exit_code, done.stdout) == (0, "")
    assert user.run("config", "show").stdout == before
    assert user.config_file.stat().st_mode & 0o777 == 0o600


def test_each_line_of_the_new_file_is_valid(user: User) -> None:
    """With every ``#`` before a key or a table taken away."""
    text = re.sub(r"(?m)^#(?=[a-z_]+ = |\[)", "", user.run("config", "init", "--stdout").stdout)
    user.configure(text)
    values = user.run("config", "show", "--json")
    assert values.exit_code == 0, values.stderr
    places = {entry["key"]: entry["origin"] for entry in json.loads(values.stdout)}
    assert places["cache.max_size"].startswith(str(user.config_file))
    named = re.findall(r"(?m)^# ([a-z_]+): not set\.$", text)
    unset = [key for key, place in places.items() if place == "default"]
    kept = [key for key in unset if not key.startswith("network.retry.")]
    assert [key for key in kept if key.rpartition(".")[2] not in named] == []


def test_init_keeps_what_was_there(user: User) -> None:
    user.configure("# mine\n")
    done = user.run("config", "init")
    assert (done.exit_code, user.config_file.read_text()) == (7, "# mine\n")
    assert "--force" in done.stderr
    assert user.run("config", "init", "--force").exit_code == 0
    assert user.config_file.with_name("config.toml.old").read_text() == "# mine\n"


def test_show_with_origin(user: User) -> None:
    user.configure('[cache]\nmax_size = "2 GiB"\n')
    user.variables["USENETFS_STAGING__SETTLE"] = "3 s"
    done = user.run("config", "show", "--origin", "--set", "log.format=json", "--data-dir", "/x")
    lines = {line.split(" ")[0]: line for line in done.stdout.splitlines()}
    assert lines["cache.max_size"].split("  # ")[1] == f"{user.config_file}:2"
    assert lines["cache.max_size"].startswith('cache.max_size = "2 GiB"')
    assert lines["staging.settle"].endswith("# USENETFS_STAGING__SETTLE")
    assert lines["log.format"].endswith("# --set log.format")
    assert lines["data_dir"].split() == ["data_dir", "=", '"/x"', "#", "--data-dir"]
    assert lines["cache.min_free"].endswith("# default")


def test_show_as_json(user: User) -> None:
    entries = json.loads(user.run("config", "show", "--json").stdout)
    assert {"key": "log.format", "value": "text", "origin": "default"} in entries


def test_what_is_shown_is_a_configuration_file(user: User) -> None:
    user.configure('[[servers]]\nname = "a"\nhost = "h"\n[posting]\ngroups = ["alt.test"]\n')
    shown = user.run("config", "show").stdout
    assert 'servers[1].host = "h"' in shown
    user.configure("\n".join(line for line in shown.splitlines() if "servers" not in line))
    assert user.run("config", "show").exit_code == 0


def test_path(user: User) -> None:
    user.configure("")
    lines = user.run("config", "path").stdout.splitlines()
    assert lines == [str(user.config_file), f"{user.home}/system.toml  (not there)"]
    assert json.loads(user.run("config", "path", "--json").stdout) == [
        {"path": str(user.config_file), "exists": True},
        {"path": f"{user.home}/system.toml", "exists": False},
    ]
