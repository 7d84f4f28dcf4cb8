"""Mounting: usable when ``mount`` returns, clean when it ends, continued after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from scripts.world import COMMAND, Mount, ServerProcess, World, wait_until
from tests.e2e.conftest import NAME

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(180)]


def _status(world: World) -> dict[str, object]:
    found: dict[str, object] = json.loads(world.run("status", NAME, "--json").stdout)
    return found


def test_the_mount_is_usable_when_mount_returns(mount: Mount) -> None:
    (mount.path / "file").write_bytes(b"at once")
    assert (mount.path / "file").read_bytes() == b"at once"
    assert mount.is_mounted
    assert mount.pid is not None


def test_in_the_foreground_until_sigterm(world: World, folder: Path) -> None:
    mount = Mount(world, NAME, folder / "here")
    mount.path.mkdir()
    command = [str(COMMAND), "mount", NAME, str(mount.path), "-f"]
    with subprocess.Popen(command, env=world.environment, stderr=subprocess.PIPE) as daemon:
        try:
            wait_until(lambda: mount.is_mounted, "mounted in the foreground", 30)
            (mount.path / "file").write_bytes(b"written before SIGTERM")
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(timeout=60) == 0
        finally:
            mount.discard()
    assert not mount.is_mounted
    again = world.mount(NAME)
    assert (again.path / "file").read_bytes() == b"written before SIGTERM"


def test_umount_waits_until_everything_is_on_the_server(
    world: World, mount: Mount, embedded: ServerProcess
) -> None:
    content = os.urandom(20_000_000)
    (mount.path / "file").write_bytes(content)
    mount.stop()
    assert not mount.is_mounted
    assert sum(path.stat().st_size for path in embedded.spool.rglob("*.seg")) > len(content)
    world.drop_cache()
    mount.start()
    assert (mount.path / "file").read_bytes() == content


def test_lazy_umount_leaves_the_rest_for_the_next_mount(
    world: World, mount: Mount, embedded: ServerProcess
) -> None:
    embedded.stop()
    (mount.path / "file").write_bytes(b"staged while no server was there")
    started = time.monotonic()
    mount.stop("--lazy", timeout=60)
    assert time.monotonic() - started < 30
    embedded.start()
    mount.start()
    mount.sync()
    mount.stop()
    world.drop_cache()
    mount.start()
    assert (mount.path / "file").read_bytes() == b"staged while no server was there"


def test_what_was_staged_when_the_daemon_was_killed_is_uploaded_after_the_next_mount(
    world: World, mount: Mount, embedded: ServerProcess
) -> None:
    embedded.stop()
    content = os.urandom(5_000_000)
    with (mount.path / "file").open("wb") as file:
        file.write(content)
        os.fsync(file.fileno())
    mount.kill()
    embedded.start()
    mount.start()
    assert (mount.path / "file").read_bytes() == content
    mount.stop()
    world.drop_cache()
    mount.start()
    assert (mount.path / "file").read_bytes() == content


def test_status_follows_the_data(world: World, mount: Mount, embedded: ServerProcess) -> None:
    assert _status(world)["state"] == "mounted"
    assert _status(world)["mountpoint"] == str(mount.path)
    embedded.stop()
    (mount.path / "file").write_bytes(os.urandom(1_000_000))
    durability = _status(world)["durability"]
    assert isinstance(durability, dict)
    assert durability["staged"]["bytes"] >= 1_000_000
    embedded.start()
    mount.sync()
    durability = _status(world)["durability"]
    assert isinstance(durability, dict)
    assert durability["staged"]["bytes"] == durability["posted"]["bytes"] == 0
    assert durability["seen"]["bytes"] + durability["verified"]["bytes"] >= 1_000_000
    assert "1 " in world.run("status", NAME).stdout
    mount.stop()
    assert _status(world)["state"] == "not mounted"


def test_ls_without_a_mount_and_fsck(world: World, mount: Mount) -> None:
    (mount.path / "folder").mkdir()
    (mount.path / "folder" / "file").write_bytes(b"x" * 1234)
    mount.stop()
    assert "folder" in world.run("ls", f"{NAME}:/").stdout
    assert "file" in world.run("ls", f"{NAME}:/folder").stdout
    assert world.run("fsck", NAME).returncode == 0


def test_readers_survive_a_server_that_restarts(
    world: World, mount: Mount, embedded: ServerProcess
) -> None:
    content = os.urandom(8_000_000)
    (mount.path / "file").write_bytes(content)
    mount.sync()
    mount.stop()
    world.drop_cache()
    mount.start()
    with (mount.path / "file").open("rb", buffering=0) as file:
        first = file.read(1_000_000)
        embedded.stop(signal.SIGKILL)
        embedded.start()
        rest = b"".join(iter(lambda: file.read(1_000_000), b""))
    assert first + rest == content


def test_two_filesystems_at_once(world: World, mount: Mount) -> None:
    world.run("init", "other")
    other = world.mount("other")
    (mount.path / "file").write_bytes(b"one")
    (other.path / "file").write_bytes(b"two")
    assert (mount.path / "file").read_bytes() == b"one"
    other.stop()
    mount.stop()


def test_killed_and_mounted_again_without_any_cleaning_up(world: World, mount: Mount) -> None:
    (mount.path / "file").write_bytes(b"x")
    pid = mount.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: mount.pid is None, "the daemon is gone", 30)
    mount.start()
    assert sorted(os.listdir(mount.path)) == ["file"]
    mount.stop()
