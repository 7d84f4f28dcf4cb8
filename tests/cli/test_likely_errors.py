"""What goes wrong on the way to the first mount: each says what to do next, in words that work."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.private_inn import free_port
from scripts.world import ServerProcess
from tests.cli.conftest import PASSPHRASE, User
from tests.net.test_stream import Certificates
from usenetfs import lock
from usenetfs.article.passphrase import MINIMUM_COST
from usenetfs.cli.output import error_lines
from usenetfs.config.vault import Vault
from usenetfs.control.client import RemoteError
from usenetfs.control.model import ErrorReport
from usenetfs.errors import DatabaseError, FilesystemBusyError, WrongPassphraseError

GROUP = "alt.binaries.test"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A server with STARTTLS and a login: its port, and its authority."""
    folder = tmp_path_factory.mktemp("provider")
    certificates = Certificates(folder)
    (folder / "password").write_text("right\n")
    options = (
        *(f"--group={GROUP}", "--user=me", f"--password-file={folder / 'password'}", "--starttls"),
        *(f"--tls-cert={certificates.certificate}", f"--tls-key={certificates.key}"),
    )
    with ServerProcess(folder / "server", *options) as server:
        yield server.endpoint.port, certificates.ca_file


@pytest.mark.parametrize(
    ("keys", "password", "said", "step"),
    [
        ('tls = "starttls"\nca_file = "{ca}"', "right", "main lets us in", None),
        (
            'tls = "starttls"\nca_file = "{ca}"',
            "wrong",
            "481",
            "store the password again: usenetfs server add main",
        ),
        ('tls = "starttls"', "right", "certificate not accepted", "openssl s_client -connect "),
        ("tls = true", "right", "main", "563 is, usually"),
        ("tls = true\nport = {nobody}", "right", "Connection refused", "usually 563 with TLS"),
    ],
)
def test_reaching_the_provider(
    user: User,
    provider: tuple[int, Path],
    keys: str,
    password: str,
    said: str,
    step: str | None,
) -> None:
    port, authority = provider
    vault = Vault.create(user.directories.vault, PASSPHRASE, cost=MINIMUM_COST)
    vault.set("main", password)
    vault.save()
    chosen = keys.format(ca=authority, nobody=free_port())
    if "port" not in chosen:
        chosen += f"\nport = {port}"
    user.configure(
        f'[[servers]]\nname = "main"\nhost = "127.0.0.1"\nusername = "me"\n{chosen}\n'
        f'[posting]\ngroups = ["{GROUP}"]\n'
    )
    report = json.loads(user.run("doctor", "--json").stdout)
    found = next(r for r in report["findings"] if r["subject"] == "server.main.login")
    assert said in found["text"]
    assert (found["next_step"] is None) == (step is None)
    assert step is None or step in found["next_step"]
    if step is not None:
        done = user.run("init", "photos")
        assert done.exit_code in {3, 4}
        assert step in done.stderr


def test_a_failed_command_leaves_no_note_in_the_lock(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with pytest.raises(WrongPassphraseError), lock.exclusive(file, name="photos", purpose="x"):
        raise WrongPassphraseError("no")
    assert file.read_text() == ""


def test_a_full_disk_does_not_keep_anybody_out(tmp_path: Path) -> None:
    """The lock holds without its note. (A limit on file sizes is the full disk here.)"""
    file = tmp_path / "lock"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with lock.exclusive(file, name="photos", purpose="mounted"):
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            with (
                pytest.raises(FilesystemBusyError, match="by another process"),
                lock.exclusive(file, name="photos", purpose="x"),
            ):
                raise AssertionError("not reached")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fails_says_who_looks() -> None:
    assert "usenetfs doctor" in error_lines(DatabaseError("index.db: disk I/O error"))[-1]
    told = RemoteError(ErrorReport("database", "index.db: disk I/O error"))
    assert "usenetfs doctor" in error_lines(told)[-1]
