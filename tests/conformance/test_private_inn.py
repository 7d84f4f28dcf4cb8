"""The script that runs INN for us: TLS, the command line, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from scripts.private_inn import InnError, PrivateInn, main

SCRIPT = Path(__file__).parents[2] / "scripts" / "private_inn.py"
pytestmark = pytest.mark.inn


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="inn.") as name:
        yield Path(name)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_tls(directory: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.private_key_pem.write_to_path(key)
    certificate.cert_chain_pems[0].write_to_path(chain)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with PrivateInn(directory, tls=(chain, key)) as inn:
        with (
            socket.create_connection((inn.host, inn.tls_port), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            assert secure.recv(3) == b"200"
        with socket.create_connection((inn.host, inn.port), 10) as plain:
            assert plain.recv(4096).startswith(b"200")
            plain.sendall(b"STARTTLS\r\n")
            assert plain.recv(4096).startswith(b"382")
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                secure.sendall(b"DATE\r\n")
                assert secure.recv(3) == b"111"


def test_nothing_is_left_running(directory: Path) -> None:
    inn = PrivateInn(directory)
    with pytest.raises(InnError, match="not running"):
        _ = inn.pid
    inn.start()
    pid = inn.pid
    with pytest.raises(InnError, match="already running"):
        inn.start()
    with socket.create_connection((inn.host, inn.port), 10) as session:
        assert session.recv(3) == b"200"
        inn.stop()
        assert not _is_there(pid)
        while session.recv(4096):
            continue
    assert "stopped" in repr(inn)


def test_command_line(directory: Path) -> None:
    password = directory / "password"
    password.write_text("secret\n")
    users = ["--user", "me", "--password-file", str(password)]
    command = [sys.executable, str(SCRIPT), "--dir", str(directory / "inn"), *users]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        host, _, port = process.stdout.readline().strip().rpartition(":")
        with socket.create_connection((host, int(port)), 10) as session:
            assert session.recv(3) == b"200"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 10)


def test_command_line_says_what_is_wrong(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, reason in (
        ([], "--dir is needed"),
        (["--dir", str(directory), "--user", "me"], "needs --password-file"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert reason in capsys.readouterr().err
    assert main(["--list-packages"]) == 0
    assert "libcanlock3" in capsys.readouterr().out
