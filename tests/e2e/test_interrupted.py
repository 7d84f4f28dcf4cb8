"""Ctrl-C: what it ends says so, and nothing else; what goes on goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from scripts.world import ServerProcess, World, wait_until
from tests.e2e.conftest import NAME
from tests.e2e.running import Running
from usenetfs.cli.exit_status import ExitStatus

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(180)]


@pytest.mark.parametrize("arguments", [("init", "other"), ("server", "test", "news"), ("doctor",)])
def test_what_asks_a_server_ends_with_a_word(folder: Path, arguments: tuple[str, ...]) -> None:
    with (
        ServerProcess(folder / "server", "--latency", "1s") as server,
        World(folder, server.endpoint) as world,
    ):
        running = Running(world, *arguments)
        wait_until(lambda: _talks_to(running.process.pid, server.endpoint.port), "a dial", 30)
        running.process.send_signal(signal.SIGINT)
        status, said = running.finish()
        assert status == ExitStatus.INTERRUPTED
        assert said.endswith("usenetfs: interrupted\n")
        assert "Traceback" not in said


def test_unmounting_is_asked_for_again(world: World) -> None:
    """The first gave up waiting; those after it hear that it is done, or that it was."""
    mount = world.mount(NAME, "--set", "upload.check_delay=4s")
    (mount.path / "file").write_bytes(os.urandom(3_000_000))
    first = Running(world, "umount", mount.path)
    wait_until(lambda: "draining" in world.run("status", NAME, "--json").stdout, "draining", 30)
    assert first.end(signal.SIGINT) == ExitStatus.INTERRUPTED
    others = [Running(world, "umount", mount.path) for _ in range(3)]
    assert [other.finish() for other in others] == [(ExitStatus.OK, "")] * 3
    assert not mount.is_mounted
    assert world.run("fsck", NAME).returncode == 0


def _talks_to(pid: int, port: int) -> bool:
    """Whether the process has a connection to that port of this machine."""
    try:
        table = Path(f"/proc/{pid}/net/tcp").read_text()
        mine = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    except FileNotFoundError:
        return False
    remote = f"0100007F:{port:04X}"
    rows = [line.split() for line in table.splitlines()[1:]]
    return any(row[2] == remote and f"socket:[{row[9]}]" in mine for row in rows)
