"""``config`` and what a wrong configuration does to any command."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import User
from tests.config.test_loader import WRONG


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_configuration_is_one_line_and_status_2(user: User, case: str) -> None:
    user.configure(WRONG[case][0])
    done = user.run("config", "show")
    assert done.exit_code == 2
    assert done.stdout == ""
    message, *hints = done.stderr.splitlines()
    assert message.startswith("usenetfs: ")
    assert WRONG[case][1] in message
    assert [line for line in hints if not line.startswith("hint: ")] == []


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
