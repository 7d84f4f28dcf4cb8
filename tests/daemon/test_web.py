"""The token of the control API on a port, and what is allowed as its address."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from usenetfs.config.models import ControlSection
from usenetfs.daemon.web import is_token, obtain_token
from usenetfs.errors import UsenetfsError


def test_the_token_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = obtain_token(path)
    assert is_token(token)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert obtain_token(path) == token
    assert obtain_token(tmp_path / "other") != token


def test_a_token_that_others_could_read_is_one_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = obtain_token(path)
    path.chmod(0o640)
    assert obtain_token(path) != token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 64, b"\xff\xfe" * 40, b"A" * 64])
def test_a_broken_token_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    assert is_token(obtain_token(path))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("0" * 64)
    elsewhere.chmod(0o600)
    path = tmp_path / "token"
    path.symlink_to(elsewhere)
    assert obtain_token(path) != "0" * 64
    assert not path.is_symlink()
    assert elsewhere.read_text() == "0" * 64


def test_a_disk_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsenetfsError):
        obtain_token(tmp_path / "file" / "token")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("given", "listen"),
    [
        ("127.0.0.1:8119", "127.0.0.1:8119"),
        ("localhost:8119", "127.0.0.1:8119"),
        ("[::1]:0", "[::1]:0"),
        ("8119", "127.0.0.1:8119"),
        (8119, "127.0.0.1:8119"),
        (None, None),
    ],
)
def test_addresses_of_this_machine(given: object, listen: str | None) -> None:
    assert ControlSection.model_validate({"listen": given}).listen == listen


@pytest.mark.parametrize(
    "given",
    [
        *("0.0.0.0:80", "192.0.2.1:80", "[::]:80", "host:80", "127.0.0.1", "127.0.0.1:x", ":"),
        *("127.0.0.1:65536", "127.0.0.1:-1", True, 3.5, "127.0.0.1:²"),
    ],
)
def test_other_addresses_are_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        ControlSection.model_validate({"listen": given})
