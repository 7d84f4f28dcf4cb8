"""Passwords, passphrases and keys are nowhere but where they belong.

A mount has a hard time: everything is logged, a server starts to refuse the login, articles are
rejected, commands get wrong passphrases, the daemon crashes. Then every log, every answer of the
control API, every process's arguments, the daemon's environment, what commands said, and what the
crash left are searched for every secret there is, in every spelling.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from scripts.find_secrets import spellings
from scripts.private_inn import free_port
from scripts.world import PASSPHRASE, Endpoint, ServerProcess, World, wait_until
from tests.e2e.conftest import NAME
from usenetfs.article.key_file import unlock
from usenetfs.article.recovery_key import parse_recovery_key

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(180)]

ACCOUNT = "me"
PASSWORD = 'pass"word & of the account'
NEW_PASSWORD = "what the account has now"
WRONG = "not-the-passphrase-but-nearly"

LOUD = {
    f"USENETFS_LOG__{name}": "debug"
    for name in ("UPLOAD", "DOWNLOAD", "SECURITY", "DATABASE", "PERFORMANCE")
}


def get(path: Path, target: str) -> bytes:
    """The answer of the control API, to its end."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def processes() -> bytes:
    """The arguments of every process there is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.append((process / "cmdline").read_bytes())
        except OSError:
            continue
    return b"\n".join(found)


class Provider:
    """A server with a login, whose password and faults change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.password_file = folder / "server-password"
        self.plan = folder / "plan"
        self.plan.write_text("POST after 12 reply code=441 text='437 not today' times=2\n")
        self.set_password(PASSWORD)
        options = (f"--user={ACCOUNT}", f"--password-file={self.password_file}")
        self.server = ServerProcess(folder / "server", *options, f"--faults={self.plan}")

    def set_password(self, password: str) -> None:
        self.password_file.write_text(password + "\n")
        self.password_file.chmod(0o600)


def test_no_secret_is_found_anywhere(folder: Path) -> None:
    provider = Provider(folder)
    with provider.server as server:
        endpoint = Endpoint(server.endpoint.host, server.endpoint.port, ACCOUNT)
        with World(folder, endpoint) as world:
            _live(world, provider)


def _live(world: World, provider: Provider) -> None:
    said: list[str] = []

    def run(*arguments: str | Path, **options: object) -> None:
        done = world.run(*arguments, check=False, **options)  # type: ignore[arg-type]
        said.extend((done.stdout, done.stderr))

    run("server", "add", "news", "--password-file", provider.password_file)
    made = world.run("init", NAME)
    recovery_key = made.stdout.strip()
    master = parse_recovery_key(recovery_key)
    assert unlock((world.data_dir / NAME / "keys.json").read_bytes(), PASSPHRASE) == master
    said.append(made.stderr)

    mount = world.mount(NAME, "-vv", "--set", f"control.listen=127.0.0.1:{free_port()}")
    (mount.path / "file").write_bytes(os.urandom(7_000_000))
    mount.sync()
    pid = mount.pid
    assert pid is not None
    seen = [processes(), Path(f"/proc/{pid}/environ").read_bytes()]
    assert b"usenetfs" in seen[0]

    provider.set_password(NEW_PASSWORD)
    provider.server.stop(signal.SIGKILL)
    provider.server.start()
    (mount.path / "other").write_bytes(os.urandom(100_000))
    control = world.data_dir / NAME / "control.sock"
    wait_until(lambda: b"does not let us in" in get(control, "/v1/status"), "the login fails", 30)
    for target in ("status", "history", "operations", "metrics", "cache", "limits", "openapi.json"):
        answer = get(control, f"/v1/{target}")
        assert answer.startswith(b"HTTP/1.1 200"), target
        seen.append(answer)

    wrong = world.directory / "wrong"
    wrong.write_text(WRONG)
    wrong.chmod(0o600)
    for arguments in (("ls", f"{NAME}:/"), ("fsck", NAME), ("doctor",)):
        run(*arguments, "-vv", "--passphrase-file", wrong)
    run("server", "test", "news", "--no-speed", "-vv")
    run("doctor", "--json")
    run("config", "show", "--origin")
    run("status", NAME)

    os.kill(pid, signal.SIGSEGV)
    wait_until(lambda: mount.pid is None, "the daemon has crashed", 30)
    subprocess.run(["fusermount3", "-u", "-z", str(mount.path)], check=False)
    run("mount", NAME, mount.path, "-vv", environment=LOUD | {"USENETFS_PASSPHRASE": PASSPHRASE})
    pid = mount.pid
    assert pid is not None
    seen.append(Path(f"/proc/{pid}/environ").read_bytes())
    run("umount", "--lazy", mount.path)

    logs = {path: path.read_bytes() for path in sorted((world.data_dir / NAME / "logs").iterdir())}
    names = {path.name for path in logs}
    assert {"upload.log", "security.log", "daemon.log", "daemon.err", "crash.log.1"} <= names
    text = b"\n".join([*logs.values(), *seen, *(part.encode() for part in said)])
    assert b"481" in text, "the login failed, and was reported"
    assert b"not today" in text, "articles were rejected"
    assert b"Segmentation fault" in text
    assert re.search(rb"\[[0-9a-f]{4}-\d+\]", text), "lines name their operations"

    token = (world.data_dir / NAME / "token").read_bytes().strip()
    secrets = [PASSWORD.encode(), NEW_PASSWORD.encode(), PASSPHRASE.encode(), WRONG.encode()]
    for secret in (*secrets, master, token, recovery_key.encode(), recovery_key[:11].encode()):
        for spelling in spellings(secret):
            assert spelling not in text, spelling
