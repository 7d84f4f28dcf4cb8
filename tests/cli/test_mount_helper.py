"""``mount.usenetfs``: from mount(8)'s way of calling to ours."""

from __future__ import annotations

import getpass
import os

import pytest

from usenetfs.cli import mount_helper
from usenetfs.cli.mount_helper import translate
from usenetfs.errors import UsageError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["photos", "/mnt"], ["mount", "--", "photos", "/mnt"]),
        (["photos", "/mnt", "-o", "rw"], ["mount", "-o", "rw", "--", "photos", "/mnt"]),
        (["usenetfs:photos", "/mnt", "-n"], ["mount", "--", "photos", "/mnt"]),
        (["-v", "photos", "/mnt"], ["-v", "mount", "--", "photos", "/mnt"]),
        (
            ["photos", "/m", "-sv", "-o", "ro,passphrase_file=/p,_netdev,at=2 h ago,config=/c"],
            [
                *("--passphrase-file", "/p", "--config", "/c", "-v", "mount", "--at", "2 h ago"),
                *("-o", "ro,_netdev", "--", "photos", "/m"),
            ],
        ),
        (["photos", "/m", "-o", "follow"], ["mount", "--follow", "--", "photos", "/m"]),
    ],
)
def test_arguments(given: list[str], expected: list[str]) -> None:
    assert translate(given).arguments == expected


def test_a_user_and_a_dry_run() -> None:
    call = translate(["photos", "/m", "-f", "-o", "setuid=me"])
    assert (call.user, call.fake) == ("me", True)
    assert "setuid=me" not in call.arguments


@pytest.mark.parametrize("given", [[], ["photos"], ["a", "b", "c"], ["a", "b", "-x"], ["-o"]])
def test_wrong_calls(given: list[str]) -> None:
    with pytest.raises(UsageError):
        translate(given)
    assert mount_helper.run(given) == mount_helper.WRONG_CALL


def test_becoming_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/elsewhere")
    monkeypatch.setenv("HOME", "/elsewhere")
    mount_helper.become(getpass.getuser())
    assert os.environ["HOME"] != "/elsewhere"
    assert "XDG_DATA_HOME" not in os.environ
    with pytest.raises(UsageError, match="no such user"):
        mount_helper.become("nobody-of-this-name")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["nowhere", "/nowhere"], mount_helper.FAILED),
        (["nowhere", "/nowhere", "-o", "alow_other"], mount_helper.WRONG_CALL),
        (["nowhere", "/nowhere", "-f"], mount_helper.OK),
    ],
)
def test_statuses_are_those_of_mount(
    arguments: list[str], status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("USENETFS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("USENETFS_SYSTEM_CONFIG", f"{tmp_path}/system.toml")
    assert mount_helper.run(arguments) == status
