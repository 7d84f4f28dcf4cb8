"""Commands on filesystems that are not mounted. With a mount: ``tests/e2e``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import PASSPHRASE, User
from usenetfs import lock
from usenetfs.article.key_file import read_info, unlock
from usenetfs.article.passphrase import MINIMUM_COST, Argon2Cost
from usenetfs.article.recovery_key import parse_recovery_key
from usenetfs.cli.offline import open_index
from usenetfs.cli.passphrase import Passphrases
from usenetfs.cli.unlock import unlock_filesystem
from usenetfs.config.vault import Vault
from usenetfs.types import ROOT_INODE


def test_init(user: User) -> None:
    done = user.run("init", "photos", "--offline", "--json")
    assert done.exit_code == 0
    answer = json.loads(done.stdout)
    paths = user.directories.filesystem("photos")
    assert answer["path"] == str(paths.data)
    master = unlock(paths.key_file.read_bytes(), PASSPHRASE)
    assert parse_recovery_key(answer["recovery_key"]) == master
    assert sorted(entry.name for entry in user.directories.data.iterdir()) == ["photos"]
    modes = {p.relative_to(paths.data): p.stat().st_mode & 0o077 for p in paths.data.rglob("*")}
    assert set(modes.values()) == {0}, modes
    again = user.run("init", "photos", "--offline")
    assert again.exit_code == 7
    assert "there is a filesystem" in again.stderr


def test_what_a_guess_costs_is_configured(user: User) -> None:
    user.configure('[keys]\nmemory = "19 MiB"\niterations = 2\n')
    assert user.run("init", "photos", "--offline").exit_code == 0
    key_file = user.directories.filesystem("photos").key_file
    assert read_info(key_file.read_bytes()).cost == Argon2Cost(19 << 10, 2, 4)
    user.variables["USENETFS_KEYS__ITERATIONS"] = "3"
    new = user.home / "new"
    new.write_text("another long passphrase\n")
    new.chmod(0o600)
    changed = user.run(
        "key", "change-passphrase", "photos", "--offline", "--new-passphrase-file", new
    )
    assert changed.exit_code == 0, changed.stderr
    assert read_info(key_file.read_bytes()).cost == Argon2Cost(19 << 10, 3, 4)


@pytest.mark.parametrize(
    ("arguments", "variables", "status", "message"),
    [
        (["a/b"], {}, 2, "cannot be the name"),
        (["x", "--block-size", "5 kB"], {}, 2, "--block-size: 5000 is not possible"),
        (["x", "--block-size", "2 MiB"], {}, 2, "is not possible"),
        (["x", "--block-size", "lots"], {}, 2, '--block-size: "lots" is not a size'),
        (["x"], {"USENETFS_PASSPHRASE": "short"}, 2, "too short"),
        (["x"], {"USENETFS_PASSPHRASE": ""}, 2, "is set and empty"),
        (["x", "--passphrase-file", "/none"], {}, 2, "cannot read the passphrase file /none"),
    ],
)
def test_init_mistakes_leave_nothing(
    user: User, arguments: list[str], variables: dict[str, str], status: int, message: str
) -> None:
    user.variables.update(variables)
    done = user.run("init", "--offline", *arguments)
    assert (done.exit_code, message in done.stderr) == (status, True), done.stderr
    assert not user.directories.data.exists()


def test_init_wants_a_server_and_a_newsgroup(user: User) -> None:
    nothing = user.run("init", "x")
    assert (nothing.exit_code, "no newsgroup is configured" in nothing.stderr) == (2, True)
    user.configure('[posting]\ngroups = ["alt.test"]\n')
    no_server = user.run("init", "x")
    assert (no_server.exit_code, "no server is configured" in no_server.stderr) == (2, True)
    assert not user.directories.data.exists()


def test_status_of_what_is_not_mounted(user: User) -> None:
    user.filesystem()
    done = user.run("status", "--json")
    report = json.loads(done.stdout)
    assert (report["name"], report["state"], report["files"]) == ("photos", "not mounted", 0)
    assert report["block_size"] == 65536
    assert "photos  not mounted" in user.run("status", "photos").stdout


def test_commands_that_need_a_mount(user: User) -> None:
    user.filesystem()
    done = user.run("sync", "photos")
    assert done.exit_code == 9
    assert "hint: mount it: usenetfs mount photos MOUNTPOINT" in done.stderr


def test_names_that_do_not_exist(user: User) -> None:
    for command in (["status"], ["status", "none"], ["mount", "none", "/tmp"], ["ls", "none:/"]):
        done = user.run(*command)
        assert done.exit_code == 6, command
    assert user.run("umount", user.home).exit_code == 9
    assert user.run("umount", "/proc").exit_code == 2


NOW = (1, 2, 3)


def make_files(user: User) -> None:
    """/dir/b, /dir/a → b and a name that is no UTF-8."""
    paths, _ = user.filesystem()
    unlocked = unlock_filesystem(paths, Passphrases(PASSPHRASE, PASSPHRASE))
    with open_index(paths, unlocked, read_only=False) as index, index.transaction():
        folder = index.inodes.insert(0o040755, 1, 1, 2, 0, 0, NOW)
        index.dirents.insert(ROOT_INODE, b"dir", folder.id)
        for name, mode in ((b"b", 0o100640), (b"a", 0o120777), (b"\xff", 0o100600)):
            inode = index.inodes.insert(mode, 1, 2, 1, 0, 0, NOW)
            index.dirents.insert(folder.id, name, inode.id)
            if name == b"a":
                index.symlinks.set(inode.id, b"b")


def test_ls(user: User) -> None:
    make_files(user)
    assert user.run("ls", "photos:/").stdout_bytes == b"dir\n"
    assert user.run("ls", "photos").stdout_bytes == b"dir\n"
    assert user.run("ls", "photos:dir").stdout_bytes == b"a\nb\n\xff\n"
    assert user.run("ls", "photos:/dir/b").stdout_bytes == b"b\n"
    long = user.run("ls", "-l", "photos:/dir").stdout_bytes.splitlines()
    assert long[0].startswith(b"lrwxrwxrwx   1")
    assert long[0].endswith(b" a -> b")
    listed = json.loads(user.run("ls", "--json", "photos:/dir").stdout)
    assert [(e["name"], e["type"], e["mode"]) for e in listed] == [
        ("a", "symlink", "0777"),
        ("b", "file", "0640"),
        ("?", "file", "0600"),
    ]
    for path in ("/none", "/dir/none", "/dir/b/c"):
        missing = user.run("ls", f"photos:{path}")
        assert (missing.exit_code, "no such file" in missing.stderr) == (6, True)
    assert user.run("ls", ":/").exit_code == 2


def test_a_wrong_passphrase(user: User) -> None:
    user.filesystem()
    user.variables["USENETFS_PASSPHRASE"] = "seven words of another kind"
    for command in (["ls", "photos:/"], ["fsck", "photos"], ["key", "show-recovery", "photos"]):
        done = user.run(*command)
        assert done.exit_code == 13, command
        assert done.stderr.startswith("usenetfs: this is not the passphrase of 'photos'")


def test_fsck(user: User) -> None:
    make_files(user)
    done = user.run("fsck", "photos", "--repair")
    assert done.exit_code == 0, done.stderr
    again = user.run("fsck", "photos", "--json")
    assert json.loads(again.stdout) == {
        "name": "photos",
        "unrepaired": 0,
        "findings": [],
        "lost": [],
    }


def test_fsck_finds_and_mends(user: User) -> None:
    paths, _ = user.filesystem()
    unlocked = unlock_filesystem(paths, Passphrases(PASSPHRASE, PASSPHRASE))
    with open_index(paths, unlocked, read_only=False) as index, index.transaction():
        wrong = index.inodes.insert(0o100644, 0, 0, 5, 0, 0, NOW)
        index.dirents.insert(ROOT_INODE, b"x", wrong.id)
    before = paths.index.read_bytes()
    for arguments in ((), ("--dry-run",)):
        found = user.run("fsck", "photos", *arguments)
        assert found.exit_code == 11
        assert "hint: mend what can be mended: usenetfs fsck --repair photos" in found.stderr
        assert paths.index.read_bytes() == before
    refused = user.run("fsck", "photos", "--dry-run", "--repair")
    assert refused.exit_code == 2
    assert "give one of them" in refused.stderr
    assert paths.index.read_bytes() == before
    assert user.run("fsck", "--repair", "photos").exit_code == 0
    assert user.run("fsck", "photos").exit_code == 0


def test_fsck_waits_for_nobody(user: User) -> None:
    paths, _ = user.filesystem()
    with lock.exclusive(paths.lock, name="photos", purpose="mounted on /m"):
        done = user.run("fsck", "photos")
        assert done.exit_code == 8
        assert "is in use: mounted on /m" in done.stderr


def test_the_recovery_key_is_shown_again(user: User) -> None:
    _, recovery_key = user.filesystem()
    assert user.run("key", "show-recovery", "photos").stdout == recovery_key + "\n"
    shown = json.loads(user.run("key", "show-recovery", "photos", "--json").stdout)
    assert shown == {"name": "photos", "recovery_key": recovery_key}


def test_another_passphrase(user: User) -> None:
    paths, recovery_key = user.filesystem()
    vault = Vault.create(user.directories.vault, PASSPHRASE, cost=MINIMUM_COST)
    vault.set("main", "secret")
    vault.save()
    new = user.home / "new"
    new.write_text("quite another passphrase\n")
    new.chmod(0o600)
    done = user.run("key", "change-passphrase", "photos", "--offline", "--new-passphrase-file", new)
    assert done.exit_code == 0, done.stderr
    assert user.run("key", "show-recovery", "photos").exit_code == 13
    master = unlock(paths.key_file.read_bytes(), "quite another passphrase")
    assert master == parse_recovery_key(recovery_key)
    assert Vault.open(vault.path, "quite another passphrase").passwords() == {"main": "secret"}
    assert paths.key_file.stat().st_mode & 0o777 == 0o600


def test_a_vault_of_several_filesystems_keeps_its_passphrase(user: User) -> None:
    user.filesystem()
    user.filesystem("books")
    vault = Vault.create(user.directories.vault, PASSPHRASE, cost=MINIMUM_COST)
    vault.save()
    new = user.home / "new"
    new.write_text("quite another passphrase\n")
    done = user.run("key", "change-passphrase", "photos", "--offline", "--new-passphrase-file", new)
    assert (done.exit_code, "keeps its passphrase" in done.stderr) == (0, True)
    assert "can be read by others" in done.stderr
    assert Vault.open(vault.path, PASSPHRASE).names() == []


def test_damaged_and_missing_key_files(user: User) -> None:
    paths, _ = user.filesystem()
    paths.key_file.write_bytes(b"{}")
    assert user.run("ls", "photos:/").exit_code == 12
    paths.key_file.unlink()
    missing = user.run("ls", "photos:/")
    assert (missing.exit_code, "is missing" in missing.stderr) == (12, True)


def test_the_cache_without_a_mount(user: User) -> None:
    paths, _ = user.filesystem()
    (paths.articles / "ab").mkdir(parents=True)
    (paths.articles / "ab" / "x").write_bytes(b"12345")
    stat = json.loads(user.run("cache", "stat", "--json").stdout)
    assert (stat["articles"], stat["bytes"]) == (1, 5)
    assert "on disk    5 B" in user.run("cache", "stat").stdout
    assert json.loads(user.run("cache", "drop", "--json").stdout) == {"articles": 1, "bytes": 5}
    assert not paths.articles.exists()
    assert user.run("cache", "drop", "photos").exit_code == 0


def test_passphrase_files(user: User, tmp_path: Path) -> None:
    user.filesystem()
    del user.variables
    user.variables = {"USENETFS_PASSPHRASE": "wrong, but not asked"}
    file = tmp_path / "passphrase"
    file.write_text(PASSPHRASE + "\n")
    file.chmod(0o600)
    good = user.run("ls", "photos:/", "--passphrase-file", file)
    assert (good.exit_code, good.stderr) == (0, "")
    piped = user.run("ls", "photos:/", "--passphrase-file", "-", stdin=PASSPHRASE)
    assert piped.exit_code == 0
    for content, message in (
        (b"", "is empty"),
        (b"\xff", "is not UTF-8"),
        (b"x" * 5000, "too long"),
    ):
        file.write_bytes(content)
        done = user.run("ls", "photos:/", "--passphrase-file", file)
        assert (done.exit_code, message in done.stderr) == (2, True)
