"""Living on a machine: service manager, fstab, signals, crashes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.world import COMMAND, Mount, World, wait_until
from tests.e2e.conftest import NAME

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(180)]


def log_of(world: World) -> str:
    return (world.data_dir / NAME / "logs/daemon.log").read_text()


def test_the_service_manager_is_told(world: World, folder: Path) -> None:
    mount = Mount(world, NAME, folder / "here")
    mount.path.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(60)
        variables = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "400000"}
        command = [str(COMMAND), "mount", NAME, str(mount.path), "-f"]
        with subprocess.Popen(command, env=world.environment | variables) as daemon:
            try:
                assert manager.recv(4096).decode().startswith("READY=1\nSTATUS=")
                assert mount.is_mounted
                assert manager.recv(4096).decode().startswith("WATCHDOG=1\nSTATUS=")
                daemon.send_signal(signal.SIGTERM)
                said = ""
                while not said.startswith("STOPPING=1"):
                    said = manager.recv(4096).decode()
                assert daemon.wait(timeout=60) == 0
            finally:
                mount.discard()


def test_a_program_that_holds_a_file_does_not_keep_the_daemon(world: World, mount: Mount) -> None:
    """A second SIGTERM is what the end of the patience is: it cuts the program off."""
    pid = mount.pid
    assert pid is not None
    held = os.open(mount.path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        os.write(held, b"written")
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not mount.is_mounted, "out of sight", 30)
        assert mount.pid == pid
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: mount.pid is None, "the daemon has ended", 30)
        with pytest.raises(OSError, match="not connected"):
            os.write(held, b"more")
    finally:
        with contextlib.suppress(OSError):  # the close fails with the rest
            os.close(held)
    assert "they are cut off" in log_of(world)
    mount.start()
    assert (mount.path / "file").read_bytes() == b"written"


def test_a_crash_is_reported_by_the_next_daemon(world: World, mount: Mount) -> None:
    pid = mount.pid
    assert pid is not None
    (mount.path / "file").write_bytes(b"written before the crash")
    assert Path(f"/proc/{pid}/coredump_filter").read_text().strip() == "00000000"
    os.kill(pid, signal.SIGSEGV)
    wait_until(lambda: mount.pid is None, "the daemon is gone", 30)
    mount.start()
    assert (mount.path / "file").read_bytes() == b"written before the crash"
    assert re.search(rf"ERROR .*process {pid}, .* crashed: Fatal Python error: Seg", log_of(world))
    assert "in run_daemon" in (world.data_dir / NAME / "logs/crash.log.1").read_text()
    mount.kill()
    mount.start()
    assert "was killed, or lost power" in log_of(world)
    mount.stop()
    assert not (world.data_dir / NAME / "logs/crash.log").exists()


@pytest.fixture
def helper() -> Iterator[Callable[[list[str]], list[str]]]:
    """The command that mounts as mount(8) does: by itself where one is root, else by its helper."""
    if os.geteuid() != 0:
        yield lambda arguments: [str(COMMAND.with_name("mount.usenetfs")), *arguments]
        return
    kind = f"usenetfs-test-{os.getpid()}"
    link = Path(f"/sbin/mount.{kind}")
    link.symlink_to(COMMAND.with_name("mount.usenetfs"))
    yield lambda arguments: ["mount", "-t", kind, *arguments]
    link.unlink()


def test_mount_and_umount_as_for_any_filesystem(
    world: World, folder: Path, helper: Callable[[list[str]], list[str]]
) -> None:
    mount = Mount(world, NAME, folder / "here")
    mount.path.mkdir()
    options = (
        f"noatime,_netdev,noexec,data_dir={world.data_dir},cache_dir={world.cache_dir},"
        f"config={world.config_file},passphrase_file={world.passphrase_file}"
    )

    def run(options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            helper([NAME, str(mount.path), "-o", options]),
            env={"PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    wrong = run(f"{options},alow_other")
    assert (wrong.returncode, "did you mean allow_other" in wrong.stderr) == (1, True)
    unknown = run(options.replace("passphrase_file=", "x-nothing="))
    assert unknown.returncode == 1
    assert "in fstab: passphrase_file=FILE" in unknown.stderr
    try:
        done = run(options)
        assert done.returncode == 0, done.stderr
        assert mount.is_mounted
        program = mount.path / "program"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        with pytest.raises(PermissionError):
            subprocess.run([str(program)], check=True)
        subprocess.run(["fusermount3", "-u", str(mount.path)], check=True)
        wait_until(lambda: mount.pid is None, "the daemon has ended", 30)
    finally:
        mount.discard()
