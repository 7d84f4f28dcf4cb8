"""The vault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from usenetfs.article.passphrase import MINIMUM_COST
from usenetfs.config.vault import Vault, replace_file
from usenetfs.errors import KeyFileError, LocalStorageError, WrongPassphraseError

PASSPHRASE = "correct horse battery staple"
PASSWORD = "pässword with spaces"
IMPOSSIBLE_COST = (
    b'{"format": "usenetfs vault", "version": 1, "entries": "x",'
    b' "kdf": {"memory_kib": 8, "iterations": 1, "lanes": 9, "salt": "AAAA"}}'
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "vault.json"


@pytest.fixture
def vault(path: Path) -> Vault:
    made = Vault.create(path, PASSPHRASE, cost=MINIMUM_COST)
    made.set("primary", PASSWORD)
    made.save()
    return made


def test_what_was_stored_comes_back(vault: Vault, path: Path) -> None:
    again = Vault.open(path, PASSPHRASE)
    assert again.passwords() == {"primary": PASSWORD}
    assert again.cost == MINIMUM_COST
    again.set("other", "x")
    assert again.names() == ["other", "primary"]
    assert Vault.open(path, PASSPHRASE).names() == ["primary"], "nothing is written before save"
    assert again.remove("primary")
    assert not again.remove("primary")
    again.save()
    assert Vault.open(path, PASSPHRASE).passwords() == {"other": "x"}


def test_a_wrong_passphrase_is_said(vault: Vault, path: Path) -> None:
    with pytest.raises(WrongPassphraseError, match=r"not the passphrase of the vault"):
        Vault.open(path, PASSPHRASE + "x")
    with pytest.raises(WrongPassphraseError, match="empty"):
        Vault.open(path, "")


def test_the_file_is_private_and_tells_nothing(vault: Vault, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    content = path.read_text()
    for secret in (PASSPHRASE, PASSWORD, "primary"):
        assert secret not in content
        assert secret not in repr(vault)
    assert [entry.name for entry in path.parent.iterdir()] == ["vault.json"]


def test_another_passphrase(vault: Vault, path: Path) -> None:
    vault.change_passphrase("another one entirely")
    vault.save()
    assert Vault.open(path, "another one entirely").passwords() == {"primary": PASSWORD}
    with pytest.raises(WrongPassphraseError):
        Vault.open(path, PASSPHRASE)


def test_two_vaults_of_one_passphrase_have_nothing_in_common(vault: Vault, path: Path) -> None:
    first = json.loads(path.read_text())
    Vault.create(path, PASSPHRASE, cost=MINIMUM_COST).save()
    second = json.loads(path.read_text())
    assert first["kdf"]["salt"] != second["kdf"]["salt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "not a vault"),
        (b'{"format": "usenetfs vault", "version": 2}', "newer version|not known"),
        (b'{"format": "usenetfs vault", "version": 1}', "damaged"),
        (IMPOSSIBLE_COST, "damaged"),
    ],
)
def test_a_damaged_file(vault: Vault, path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match=message):
        Vault.open(path, PASSPHRASE)


def test_altered_entries_do_not_open(vault: Vault, path: Path) -> None:
    document = json.loads(path.read_text())
    token = document["entries"]
    document["entries"] = token[:-8] + ("A" if token[-8] != "A" else "B") + token[-7:]
    path.write_text(json.dumps(document))
    with pytest.raises(WrongPassphraseError):
        Vault.open(path, PASSPHRASE)


def test_a_vault_that_others_can_read_is_refused(vault: Vault, path: Path) -> None:
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match=r"open to other users \(mode 0640\)"):
        Vault.open(path, PASSPHRASE)


def test_no_vault(path: Path) -> None:
    with pytest.raises(KeyFileError, match="there is no vault"):
        Vault.open(path, PASSPHRASE)


def test_a_failed_write_leaves_the_old_file(vault: Vault, path: Path) -> None:
    before = path.read_bytes()
    blocked = path / "below-a-file"
    with pytest.raises(LocalStorageError, match="cannot write"):
        replace_file(blocked, b"x")
    assert path.read_bytes() == before
