"""Writing through the mount: how safe it says to be, back-pressure, many writers, small writes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scripts.world import Mount, ServerProcess, World, wait_until
from tests.e2e.conftest import NAME

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(300)]

STATE = "user.usenetfs.state"


def _status(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(world.run("status", NAME, "--json").stdout)
    return found


def _amend(world: World, section: str, line: str) -> None:
    text = world.config_file.read_text()
    world.config_file.write_text(text.replace(f"[{section}]\n", f"[{section}]\n{line}\n"))


def _read_anew(path: Path, length: int) -> bytes:
    """The beginning of a file as the daemon gives it, whatever pages the kernel holds."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.pread(descriptor, length, 0)
    finally:
        os.close(descriptor)


# --- how safe it is ---------------------------------------------------------------------------


def test_a_file_says_how_safe_it_is_and_no_copy_says_it_too(world: World, mount: Mount) -> None:
    path = mount.path / "file"
    path.write_bytes(os.urandom(2_000_000))
    assert os.getxattr(path, STATE) in {b"staged", b"posted", b"seen"}
    mount.sync()
    assert os.getxattr(path, STATE) == b"seen"
    assert os.getxattr(path, "user.usenetfs.bytes.seen") == b"2000000"
    assert os.getxattr(mount.path, STATE) == b"seen"
    os.setxattr(path, "user.mine", b"kept")
    assert os.listxattr(path) == ["user.mine"]
    subprocess.run(["cp", "-a", path, mount.path / "copy"], check=True)
    subprocess.run(["rsync", "-aX", path, f"{mount.path}/synced"], check=True)
    for copy in ("copy", "synced"):
        assert os.listxattr(mount.path / copy) == ["user.mine"]
    with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
        os.setxattr(path, STATE, b"verified")
    with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
        os.removexattr(path, STATE)


@pytest.mark.parametrize("level", ["posted", "seen"])
def test_fsync_waits_for_the_servers_where_asked(world: World, level: str) -> None:
    mount = world.mount(NAME, "-o", f"fsync={level}")
    path = mount.path / "file"
    with path.open("wb", buffering=0) as file:
        file.write(os.urandom(1_500_000))
        os.fsync(file.fileno())
        states = {b"seen", b"posted"} if level == "posted" else {b"seen"}
        assert os.getxattr(path, STATE) in states


def test_an_unknown_level_of_fsync_is_refused(world: World, folder: Path) -> None:
    refused = world.run("mount", NAME, folder, "-o", "fsync=never", check=False)
    assert refused.returncode != 0
    assert "posted" in refused.stderr


def test_staging_may_be_kept_until_articles_were_opened(world: World) -> None:
    _amend(world, "staging", 'free_at = "verified"')
    mount = world.mount(NAME)
    (mount.path / "file").write_bytes(os.urandom(3_000_000))
    mount.sync()
    assert os.getxattr(mount.path / "file", STATE) == b"verified"


# --- back-pressure ----------------------------------------------------------------------------


def test_full_staging_holds_writers_up_and_not_readers(
    world: World, embedded: ServerProcess
) -> None:
    limit = 24 << 20
    _amend(world, "staging", 'max_size = "24 MiB"')
    mount = world.mount(NAME)
    (mount.path / "known").write_bytes(b"read me")
    mount.sync()
    assert _read_anew(mount.path / "known", 100) == b"read me"  # and so it is in the cache
    embedded.stop()
    content = os.urandom(100_000_000)

    def write() -> None:
        with (mount.path / "large").open("wb", buffering=0) as file:
            for start in range(0, len(content), 1 << 20):
                file.write(content[start : start + (1 << 20)])

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: _status(world)["durability"]["staged"]["bytes"] > limit * 0.8, "full", 60)
    wait_until(
        lambda: any(
            queue["name"] == "writers waiting" and queue["depth"]
            for queue in _status(world)["queues"]
        ),
        "the writer waits",
        60,
    )
    assert writer.is_alive()
    assert _read_anew(mount.path / "known", 100) == b"read me"
    assert _read_anew(mount.path / "large", 4096) == content[:4096]
    embedded.start()
    writer.join(timeout=200)
    assert not writer.is_alive()
    mount.sync()
    world.drop_cache()
    assert (mount.path / "large").read_bytes() == content


# --- many writers (R20) -----------------------------------------------------------------------


def _thousand(mount: Mount, files: int, workers: int, disturb: Any) -> None:
    rng = random.Random(20)
    sizes = [rng.choice((0, 1, 700, 4096, 30_000, 120_000, 900_000)) for _ in range(files)]
    digests: dict[int, str] = {}

    def write(number: int) -> None:
        content = random.Random(number).randbytes(sizes[number])
        folder = mount.path / f"{number % workers:03}"
        folder.mkdir(exist_ok=True)
        with (folder / f"{number}").open("wb") as file:
            file.write(content)
        digests[number] = hashlib.sha256(content).hexdigest()
        if number == files // 2:
            disturb()

    def read(number: int) -> bool:
        content = (mount.path / f"{number % workers:03}" / f"{number}").read_bytes()
        return hashlib.sha256(content).hexdigest() == digests[number]

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(write, range(files)))
        mount.sync()
        mount.world.run("cache", "drop", mount.name)
        assert all(pool.map(read, range(files)))


def test_1000_files_from_100_workers_while_the_server_restarts(
    world: World, mount: Mount, embedded: ServerProcess
) -> None:
    def restart() -> None:
        embedded.stop()
        embedded.start()

    _thousand(mount, 1000, 100, restart)
    mount.stop()
    assert world.run("fsck", NAME).returncode == 0


# --- much data --------------------------------------------------------------------------------


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_stays_flat_while_ten_gigabytes_go_through(world: World, mount: Mount) -> None:
    peak, done = 0, threading.Event()
    pid = mount.pid
    assert pid is not None

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.2):
            peak = max(peak, _resident(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with (mount.path / "large").open("wb", buffering=0) as file:
            for _ in range(10_000):
                file.write(os.urandom(1_000_000))
        mount.sync(timeout=1500)
    finally:
        done.set()
        watcher.join()
    print(f"resident at most {peak / 1e6:.0f} MB")
    assert 0 < peak <= 250_000_000


# --- small writes -----------------------------------------------------------------------------


def _small_writes(mount: Mount, size: int, written: int, settle: float) -> None:
    """fio: 4 KiB random writes over a file that is on the servers, verified by reading back."""
    path = mount.path / "data"
    with path.open("wb") as file:
        for _ in range(0, size, 1 << 20):
            file.write(os.urandom(1 << 20))
    mount.sync()
    before = _status(mount.world)["upload"]["total_bytes"]
    began = time.monotonic()
    subprocess.run(
        [
            *("fio", "--name=small", f"--filename={path}", "--rw=randwrite", "--bs=4k"),
            *(f"--size={size}", f"--io_size={written}", "--ioengine=psync", "--fallocate=none"),
            *("--verify=crc32c", "--verify_fatal=1", "--randrepeat=1", "--verify_state_save=0"),
            *("--minimal", "--overwrite=1"),
        ],
        check=True,
        cwd=mount.world.directory,
        capture_output=True,
    )
    took = time.monotonic() - began
    mount.sync()
    uploaded = _status(mount.world)["upload"]["total_bytes"] - before
    rounds = took // settle + 2
    assert uploaded <= 1.06 * size * rounds
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    mount.stop()
    mount.world.drop_cache()
    mount.start()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_small_random_writes_stay_right_and_go_out_once_they_settle(
    folder: Path, embedded: ServerProcess
) -> None:
    with World(folder, embedded.endpoint, settle="5s") as world:
        world.run("init", NAME)
        _small_writes(world.mount(NAME), 32 << 20, 8 << 20, 5.0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_small_random_writes_over_a_gigabyte(folder: Path, embedded: ServerProcess) -> None:
    with World(folder, embedded.endpoint, settle="2s") as world:
        world.run("init", NAME)
        _small_writes(world.mount(NAME), 1 << 30, 64 << 20, 2.0)
