"""``service show`` and ``service install``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import User
from usenetfs.cli.commands import service


@pytest.mark.parametrize("kind", ["--user", "--system"])
def test_systemd_understands_the_unit(user: User, kind: str, tmp_path: Path) -> None:
    """As far as systemd is installed; what it must contain holds everywhere."""
    options = (
        "--passphrase-file",
        "/etc/a b",
        "--set",
        "cache.max_size=5 GiB",
        "-o",
        "allow_other",
    )
    done = user.run("service", "show", "photos", "/mnt/my photos", kind, *options)
    assert done.exit_code == 0, done.stderr
    text = done.stdout
    assert "@" not in text
    assert "Type=notify" in text
    assert '--set "cache.max_size=5 GiB" mount --foreground' in text
    assert '-o rw,allow_other -- photos "/mnt/my photos"' in text
    assert ("LoadCredential=passphrase:/etc/a b" in text) == (kind == "--system")
    assert "USENETFS_PASSPHRASE_FILE=" in text
    if shutil.which("systemd-analyze"):
        unit = tmp_path / "usenetfs-photos.service"
        unit.write_text(text)
        verify = ["systemd-analyze", "verify", "--man=no", kind, str(unit)]
        checked = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=60)
        complaints = [line for line in checked.stderr.splitlines() if "usenetfs-photos" in line]
        assert complaints == []


def test_install_for_the_user(user: User) -> None:
    assert user.run("service", "install", "photos", "/mnt/photos").exit_code == 6
    user.filesystem()
    done = user.run("service", "install", "photos", "/mnt/photos", "--passphrase-file", "/x")
    assert done.exit_code == 0, done.stderr
    assert "systemctl --user daemon-reload" in done.stderr
    unit = user.home / "config/systemd/user/usenetfs-photos.service"
    assert "USENETFS_PASSPHRASE_FILE=/x" in unit.read_text()


def test_install_for_the_machine(
    user: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    user.filesystem()
    monkeypatch.setattr(service, "SYSTEM_DIRECTORY", tmp_path / "etc")
    done = user.run("service", "install", "photos", "/mnt/photos", "--system")
    assert done.exit_code == 0, done.stderr
    assert "no passphrase yet" in done.stderr
    assert "multi-user.target" in (tmp_path / "etc/usenetfs-photos.service").read_text()


def test_no_secret_gets_into_a_unit(user: User) -> None:
    shown = user.run("service", "show", "photos", "/mnt/photos").stdout
    assert user.environment["USENETFS_PASSPHRASE"] not in shown


@pytest.mark.parametrize("arguments", [["a/b", "/m"], ["photos", "/m", "-o", "bogus"]])
def test_what_cannot_be_a_unit(user: User, arguments: list[str]) -> None:
    assert user.run("service", "show", *arguments).exit_code == 2
