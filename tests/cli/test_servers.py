"""``server add``, ``list`` and ``remove``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import PASSPHRASE, User
from usenetfs.article.passphrase import MINIMUM_COST
from usenetfs.config.loader import load
from usenetfs.config.vault import Vault

PASSWORD = "the password of the account"


@pytest.fixture
def password_file(user: User) -> Path:
    file = user.home / "password"
    file.write_text(PASSWORD + "\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def vault(user: User) -> Path:
    """A vault that opens quickly."""
    vault = Vault.create(user.directories.vault, PASSPHRASE, cost=MINIMUM_COST)
    vault.save()
    return vault.path


def test_add_list_remove(user: User, vault: Path, password_file: Path) -> None:
    user.configure("# mine\n[cache]\nmax_size = 5\n")
    added = user.run(
        *("server", "add", "main", "--host", "news.example.net", "--username", "me"),
        *("--connections", "20", "--no-posting", "--password-file", password_file),
    )
    assert (added.exit_code, added.stdout) == (0, "")
    assert Vault.open(vault, PASSPHRASE).passwords() == {"main": PASSWORD}
    user.run("server", "add", "other", "--host", "h", "--tls", "none", "--port", "1119")
    (main, other) = load(config_file=user.config_file, environment={}).settings.servers
    assert (main.host, main.username, main.connections, main.posting) == (
        "news.example.net",
        "me",
        20,
        False,
    )
    assert (other.tls, other.port) == ("none", 1119)
    listed = user.run("server", "list")
    assert "news.example.net:563" in listed.stdout
    assert [s["name"] for s in json.loads(user.run("server", "list", "--json").stdout)] == [
        "main",
        "other",
    ]
    assert user.run("server", "remove", "main").exit_code == 0
    assert Vault.open(vault, PASSPHRASE).passwords() == {}
    assert user.config_file.read_text() == (
        '# mine\n[cache]\nmax_size = 5\n\n[[servers]]\nname = "other"\nhost = "h"\n'
        'port = 1119\ntls = "none"\n'
    )


def test_another_password_for_a_known_server(user: User, vault: Path, password_file: Path) -> None:
    user.configure('[[servers]]\nname = "main"\nhost = "h"\nusername = "me"\n')
    before = user.config_file.read_text()
    assert user.run("server", "add", "main", "--password-file", password_file).exit_code == 0
    assert Vault.open(vault, PASSPHRASE).passwords() == {"main": PASSWORD}
    assert user.config_file.read_text() == before


def test_the_first_server_makes_the_vault(user: User, password_file: Path) -> None:
    command = ("server", "add", "main", "--host", "h", "--username", "me")
    assert user.run(*command, "--password-file", password_file).exit_code == 0
    assert Vault.open(user.directories.vault, PASSPHRASE).names() == ["main"]
    assert user.directories.vault.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["server", "add", "new"], 2, "is not configured yet"),
        (["server", "add", "main", "--host", "x"], 2, "is configured already"),
        (["server", "add", "main"], 2, "has no user name, so it takes no password"),
        (["server", "add", "a b", "--host", "x"], 2, "characters that are not allowed"),
        (["server", "add", "new", "--host", "x", "--tls", "ssl"], 2, "is not one of 'implicit'"),
        (["server", "add", "new", "--host", "x", "--connections", "0"], 2, "at least 1"),
        (["server", "add", "new", "--host", "x", "--username", "me"], 2, "there is no terminal"),
        (["server", "remove", "none"], 2, 'there is no server "none"'),
    ],
)
def test_mistakes_change_nothing(
    user: User, vault: Path, arguments: list[str], status: int, message: str
) -> None:
    user.configure('[[servers]]\nname = "main"\nhost = "h"\n')
    before = (user.config_file.read_text(), vault.read_bytes())
    done = user.run(*arguments)
    assert (done.exit_code, message in done.stderr) == (status, True), done.stderr
    assert (user.config_file.read_text(), vault.read_bytes()) == before
    assert [file.name for file in user.config_file.parent.iterdir()] == ["config.toml"]


def test_a_wrong_passphrase_for_the_vault(user: User, vault: Path, password_file: Path) -> None:
    user.variables["USENETFS_PASSPHRASE"] = "not the vault's"
    command = ("server", "add", "main", "--host", "h", "--username", "me")
    done = user.run(*command, "--password-file", password_file)
    assert done.exit_code == 13
    assert "--vault-passphrase-file" in done.stderr
    assert not user.config_file.exists()
    user.variables["USENETFS_VAULT_PASSPHRASE"] = PASSPHRASE
    assert user.run(*command, "--password-file", password_file).exit_code == 0


@pytest.mark.parametrize(
    "before", ["", "# mine", "[posting]\n#groups = []\n", "[posting]\n[log]\n"]
)
def test_newsgroups_with_the_server(user: User, before: str) -> None:
    user.configure(before)
    add = ("server", "add", "main", "--host", "h", "--group", "alt.binaries.test")
    done = user.run(*add, "--group", "alt.test")
    assert done.exit_code == 0, done.stderr
    settings = load(config_file=user.config_file, environment={}).settings
    assert settings.posting.groups == ("alt.binaries.test", "alt.test")
    assert [server.name for server in settings.servers] == ["main"]
    assert user.config_file.read_text().startswith(before.partition("\n")[0])


def test_other_newsgroups_are_not_replaced(user: User) -> None:
    user.configure('[posting]\ngroups = ["alt.test"]\n')
    done = user.run("server", "add", "main", "--host", "h", "--group", "alt.binaries.test")
    assert done.exit_code == 2
    assert "configured already: alt.test" in done.stderr
    assert "config.toml:2" in done.stderr
    assert "servers" not in user.config_file.read_text()
