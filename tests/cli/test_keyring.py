"""Passphrases in the desktop's keyring: the real library over a backend in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import keyring
import keyring.errors
import pytest
from keyring.backend import KeyringBackend

from tests.cli.conftest import PASSPHRASE, User
from usenetfs.article.passphrase import MINIMUM_COST
from usenetfs.config.vault import Vault


class InMemory(KeyringBackend):
    """What a desktop's service does."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        del self.kept[service, username]

    def _check(self) -> None:
        if self.locked:
            raise keyring.errors.KeyringLocked("it is locked")


@pytest.fixture
def backend() -> Iterator[InMemory]:
    before = keyring.get_keyring()
    backend = InMemory()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


@pytest.fixture
def owner(user: User, backend: InMemory) -> User:
    """Who has a filesystem, a vault, and the keyring switched on."""
    user.configure("[keys]\nkeyring = true\n")
    user.filesystem()
    Vault.create(user.directories.vault, PASSPHRASE, cost=MINIMUM_COST).save()
    return user


def test_remembered_used_and_forgotten(owner: User, backend: InMemory) -> None:
    assert owner.run("key", "remember", "photos").exit_code == 0
    assert backend.kept == {
        ("usenetfs", "photos"): PASSPHRASE,
        ("usenetfs", "@vault"): PASSPHRASE,
    }
    owner.without_passphrase = True
    assert owner.run("fsck", "photos").exit_code == 0
    assert owner.run("key", "forget", "photos").exit_code == 0
    assert backend.kept == {}
    done = owner.run("fsck", "photos")
    assert (done.exit_code, "no terminal to ask on" in done.stderr) == (2, True)
    assert "nothing of photos" in owner.run("key", "forget", "photos").stderr


def test_a_given_passphrase_comes_first(owner: User, backend: InMemory) -> None:
    backend.kept["usenetfs", "photos"] = "an old passphrase"
    assert owner.run("fsck", "photos").exit_code == 0


def test_only_what_opens_is_remembered(owner: User, backend: InMemory) -> None:
    owner.variables["USENETFS_PASSPHRASE"] = "quite another one"
    assert owner.run("key", "remember", "photos").exit_code == 13
    assert backend.kept == {}


def test_a_locked_keyring(owner: User, backend: InMemory) -> None:
    backend.locked = True
    done = owner.run("key", "remember", "photos")
    assert (done.exit_code, "does not take the passphrase" in done.stderr) == (12, True)
    owner.without_passphrase = True
    done = owner.run("fsck", "photos")
    assert done.exit_code == 2
    assert "warning: the keyring gives nothing: it is locked" in done.stderr
    assert PASSPHRASE not in done.stderr


def test_a_new_passphrase_reaches_it(owner: User, backend: InMemory) -> None:
    assert owner.run("key", "remember", "photos").exit_code == 0
    new = owner.home / "new"
    new.write_text("the next passphrase\n")
    new.chmod(0o600)
    change = ("key", "change-passphrase", "photos", "--offline", "--new-passphrase-file", new)
    assert owner.run(*change).exit_code == 0
    assert backend.kept["usenetfs", "photos"] == "the next passphrase"
    owner.without_passphrase = True
    assert owner.run("fsck", "photos").exit_code == 0


def test_without_the_library(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    done = owner.run("key", "remember", "photos")
    assert (done.exit_code, "pipx inject usenetfs keyring" in done.stderr) == (2, True)
