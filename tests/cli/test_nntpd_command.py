"""``usenetfs nntpd`` on the command line, and ``init`` against it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.private_inn import free_port
from scripts.world import Endpoint, greets, wait_until
from tests.cli.conftest import User

ROOT = Path(__file__).parents[2]


@contextmanager
def running(user: User, *options: str | Path) -> Iterator[Endpoint]:
    endpoint = Endpoint("127.0.0.1", free_port())
    listen = f"{endpoint.host}:{endpoint.port}"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "usenetfs", "nntpd", "--listen", listen),
            *("--spool", user.home / "spool", *options),
        ],
        env={**os.environ, **user.environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: process.poll() is not None or greets(endpoint), "it greets", 20)
        yield endpoint
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert said.decode().startswith(f"usenetfs: news server on {listen}, spool ")
    assert process.returncode == 0


def configuration(endpoint: Endpoint, *groups: str, login: str = "") -> str:
    listed = ", ".join(f'"{group}"' for group in groups)
    return (
        f'[[servers]]\nname = "main"\nhost = "{endpoint.host}"\nport = {endpoint.port}\n'
        f"tls = false\n{login}[posting]\ngroups = [{listed}]\n"
    )


def test_init_asks_the_server(user: User) -> None:
    with running(user, "--group", "alt.test", "--group", "misc.test") as endpoint:
        user.configure(configuration(endpoint, "alt.test", "alt.none", "alt.nothing"))
        missing = user.run("init", "photos")
        assert missing.exit_code == 6
        assert "server main has no newsgroup alt.none, alt.nothing" in missing.stderr
        user.configure(configuration(endpoint, "alt.test", login="posting = false\n"))
        silent = user.run("init", "photos")
        assert (silent.exit_code, "allows posting" in silent.stderr) == (16, True)
        user.configure(configuration(endpoint, "alt.test", "misc.test"))
        assert user.run("init", "photos").exit_code == 0


def test_init_with_a_password(user: User) -> None:
    file = user.home / "password"
    file.write_text("right")
    file.chmod(0o600)
    with running(user, "--user", "me", "--password-file", file) as endpoint:
        login = 'username = "me"\n'
        user.configure(configuration(endpoint, "alt.test", login=login))
        no_vault = user.run("init", "photos")
        assert (no_vault.exit_code, "there is no vault" in no_vault.stderr) == (12, True)
        file.write_text("wrong")
        assert user.run("server", "add", "main", "--password-file", file).exit_code == 0
        refused = user.run("init", "photos")
        assert refused.exit_code == 4, refused.stderr
        assert "wrong" not in refused.stderr
        file.write_text("right")
        assert user.run("server", "add", "main", "--password-file", file).exit_code == 0
        assert user.run("init", "photos").exit_code == 0


def test_no_server_there(user: User) -> None:
    user.configure(configuration(Endpoint("127.0.0.1", free_port()), "alt.test"))
    done = user.run("init", "photos")
    assert done.exit_code == 3
    message, hint = done.stderr.splitlines()
    assert message.startswith("usenetfs: server main: cannot connect")
    assert message.endswith("Connection refused")
    assert hint.startswith("hint: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--listen", "nowhere"], '"nowhere" is not a port'),
        (["--listen", "127.0.0.1:99999"], '"99999" is not a port'),
        (["--latency", "soon"], '--latency: "soon" is not a duration'),
        (["--max-article", "big"], '--max-article: "big" is not a size'),
        (["--user", "me"], "--user and --password-file go together"),
        (["--faults", "/none"], "cannot read the fault plan /none"),
        (["--tls-cert", "/none"], "TLS needs"),
    ],
)
def test_mistakes(user: User, options: list[str], message: str) -> None:
    done = user.run("nntpd", "--spool", user.home / "spool", *options)
    assert (done.exit_code, message in done.stderr) == (2, True), done.stderr
