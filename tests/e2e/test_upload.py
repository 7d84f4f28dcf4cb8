"""``usenetfs upload``: with a mount and without one, the same tree comes out, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.trees import write_random
from scripts.world import COMMAND, Mount, ServerProcess, World, wait_until
from tests.e2e.conftest import NAME
from tests.e2e.counting_relay import CountingRelay
from tests.e2e.running import Running
from tests.e2e.trees import BLOCK, differences, make_odd_files, rsync_differences
from usenetfs.cli.exit_status import ExitStatus

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(300)]

LARGE = 45 * BLOCK + 12_345


def _comes_back(world: World, mount: Mount, source: Path, below: str = "") -> None:
    """The tree is in the mount, and again when only the servers have it."""
    assert differences(source, mount.path / below) == []
    mount.stop()
    world.drop_cache()
    mount.start()
    assert differences(source, mount.path / below) == []
    assert rsync_differences(source, mount.path / below) == ""


def test_a_real_tree_without_a_mount(any_world: World, tree: Path) -> None:
    any_world.run("upload", f"{tree}/", f"{NAME}:/", timeout=200)
    staged = [p for p in (any_world.data_dir / NAME / "staging").rglob("*") if p.is_file()]
    assert staged == [], "upload returned before everything was safe"
    mount = any_world.mount(NAME)
    _comes_back(any_world, mount, tree)
    mount.stop()
    assert any_world.run("fsck", NAME).returncode == 0


def test_a_real_tree_into_a_mount(any_world: World, tree: Path) -> None:
    mount = any_world.mount(NAME)
    assert not (mount.path / "odd").exists(), "so that the kernel remembers that it is not"
    any_world.run("upload", f"{tree}/", f"{NAME}:/", timeout=200)
    _comes_back(any_world, mount, tree)
    mount.stop()
    assert any_world.run("fsck", NAME).returncode == 0


# --- what goes where, what is left alone ---------------------------------------------------------


@pytest.fixture
def odd(folder: Path) -> Path:
    """A small tree of everything that is easily lost."""
    path = folder / "odd"
    make_odd_files(path)
    return path


def _names(world: World, path: str) -> list[str]:
    return sorted(entry["name"] for entry in json.loads(_ls(world, path)))


def _ls(world: World, path: str) -> str:
    return world.run("ls", "--json", f"{NAME}:{path}").stdout


def test_what_goes_where(world: World, folder: Path) -> None:
    source = folder / "photos"
    source.mkdir()
    (source / "one").write_bytes(b"1")
    (folder / "single").write_bytes(b"2")
    world.run("upload", source, f"{NAME}:/backup")
    assert _names(world, "/backup") == ["photos"]
    assert _names(world, "/backup/photos") == ["one"]
    world.run("upload", f"{source}/", f"{NAME}:/contents")
    assert _names(world, "/contents") == ["one"]
    world.run("upload", folder / "single", f"{NAME}:/new/name")
    assert _names(world, "/new") == ["name"]
    world.run("upload", folder / "single", f"{NAME}:/new")
    assert _names(world, "/new") == ["name", "single"]
    world.run("upload", folder / "single", source, f"{NAME}:/both/")
    assert _names(world, "/both") == ["photos", "single"]


@pytest.mark.parametrize("mounted", [True, False])
def test_what_is_there_is_left_alone(
    folder: Path, embedded: ServerProcess, odd: Path, mounted: bool
) -> None:
    with CountingRelay(embedded.endpoint) as relay, World(folder, relay.endpoint) as world:
        world.run("init", NAME)
        mount = world.mount(NAME) if mounted else None
        world.run("upload", odd, f"{NAME}:/")
        relay.reset()
        for options in ((), ("--checksum",)):
            said = world.run("upload", *options, odd, f"{NAME}:/").stderr
            assert "0 files, 0 B, uploaded" in said, said
        assert relay.posts == 0
        (odd / "text").chmod(0o600)
        before = (odd / "text").stat()
        with (odd / "text").open("r+b") as file:
            file.write(b"THE")
        os.utime(odd / "text", ns=(before.st_atime_ns, before.st_mtime_ns))
        assert "0 files, 0 B" in world.run("upload", odd, f"{NAME}:/").stderr
        assert "1 files, 3.00 MB" in world.run("upload", "-c", odd, f"{NAME}:/").stderr
        (odd / "text").write_bytes(b"another size")
        (odd / "zeros").unlink()
        (odd / "zeros").symlink_to("text")
        assert "2 files, 12 B" in world.run("upload", odd, f"{NAME}:/").stderr
        mount = mount or world.mount(NAME)
        _comes_back(world, mount, odd, "odd")
        mount.stop()
        assert world.run("fsck", NAME).returncode == 0


def test_a_dry_run_changes_nothing(world: World, odd: Path) -> None:
    done = world.run(
        "upload", "--dry-run", "--exclude", "names", "--exclude", "/odd/size-1", odd, f"{NAME}:/new"
    )
    assert "would send: odd/text" in done.stdout
    assert "odd/names" not in done.stdout
    assert "odd/size-1\n" not in done.stdout
    assert _names(world, "/") == []
    world.run("upload", "--exclude", "names", "--exclude", "/odd/size-1", odd, f"{NAME}:/new")
    there = _names(world, "/new/odd")
    assert "names" not in there
    assert "size-1" not in there
    assert "text" in there


# --- what goes wrong -----------------------------------------------------------------------------


def test_what_is_in_the_way_is_reported(world: World, odd: Path, folder: Path) -> None:
    (folder / "file").write_bytes(b"a file")
    world.run("upload", folder / "file", f"{NAME}:/odd/links")
    done = world.run("upload", odd, f"{NAME}:/", check=False)
    assert done.returncode == ExitStatus.PARTIAL
    assert "failed: odd/links: a file is in the way" in done.stderr
    assert "1 file could not be uploaded" in done.stderr
    assert "text" in _names(world, "/odd")
    done = world.run("upload", folder / "nowhere", f"{NAME}:/", check=False)
    assert done.returncode == ExitStatus.NOT_FOUND
    done = world.run("upload", odd, f"{NAME}:/file/below", f"{NAME}:/odd/text/x", check=False)
    assert done.returncode != 0
    done = world.run("upload", odd, "nocolon", check=False)
    assert done.returncode == ExitStatus.USAGE
    assert "NAME:/PATH" in done.stderr


@pytest.fixture
def large(folder: Path) -> Path:
    """A folder with one file of many blocks, and others around it."""
    path = folder / "source"
    path.mkdir()
    write_random(path / "large.bin", LARGE)
    for number in range(50):
        write_random(path / f"small-{number:02}", 30_000)
    return path


@pytest.fixture
def counted(folder: Path, embedded: ServerProcess) -> Iterator[tuple[World, CountingRelay]]:
    """A world whose posts and fetches are counted."""
    with CountingRelay(embedded.endpoint) as relay, World(folder, relay.endpoint) as world:
        world.run("init", NAME)
        yield world, relay


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_upload_goes_on(
    counted: tuple[World, CountingRelay], large: Path, number: signal.Signals
) -> None:
    world, relay = counted
    relay.reset()
    for limit in (15, 33):
        running = Running(world, "upload", f"{large}/", f"{NAME}:/")
        wait_until(lambda limit=limit: relay.posts >= limit, "posts", 60)  # type: ignore[misc]
        status = running.end(number)
        assert status == (-signal.SIGKILL if number is signal.SIGKILL else ExitStatus.INTERRUPTED)
    assert _names(world, "/") != [], "nothing was there yet: the test shows nothing"
    world.run("upload", f"{large}/", f"{NAME}:/")
    needed = LARGE // BLOCK + 1 + 3
    assert relay.posts <= needed + 30, "what was seen was sent again"
    mount = world.mount(NAME)
    _comes_back(world, mount, large)
    mount.stop()
    assert world.run("fsck", NAME).returncode == 0


def test_the_daemon_dies_in_the_middle(counted: tuple[World, CountingRelay], large: Path) -> None:
    world, relay = counted
    mount = world.mount(NAME)
    relay.reset()
    running = Running(world, "upload", f"{large}/", f"{NAME}:/")
    wait_until(lambda: relay.posts >= 25, "posts", 60)
    mount.kill()
    output, _ = running.process.communicate(timeout=60)
    assert running.process.returncode == ExitStatus.GENERAL
    assert b"run the command again" in output
    mount.start()
    world.run("upload", f"{large}/", f"{NAME}:/")
    assert relay.posts <= LARGE // BLOCK + 4 + 20
    _comes_back(world, mount, large)
    mount.stop()


def test_whoever_gives_up_ends_the_daemons_work(
    counted: tuple[World, CountingRelay], large: Path
) -> None:
    """Ctrl-C of a command that the daemon works for; a partial file is left and taken up."""
    world, relay = counted
    mount = world.mount(NAME)
    world.run("config", "set", "--runtime", "upload.rate", "4MB/s")
    relay.reset()
    running = Running(world, "upload", f"{large}/", f"{NAME}:/")
    wait_until(lambda: relay.posts >= 3, "posts", 60)
    assert running.end(signal.SIGINT) == ExitStatus.INTERRUPTED
    world.run("config", "set", "--runtime", "upload.rate", "none")
    world.run("upload", f"{large}/", f"{NAME}:/")
    _comes_back(world, mount, large)
    mount.stop()


# --- how it is shown -----------------------------------------------------------------------------


def test_events_as_json(world: World, odd: Path) -> None:
    done = world.run("upload", "--json", "-v", odd, f"{NAME}:/")
    events: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["event"] == "end"
    assert events[-1]["files"]["failed"] == 0
    assert events[-1]["files"]["found"] == events[-1]["files"]["done"]
    assert events[-1]["bytes"]["found"] == events[-1]["bytes"]["done"]
    assert {"progress", "file", "end"} == {event["event"] for event in events}
    last = [event for event in events if event["event"] == "progress"][-1]
    assert last["pending"] == 0


def test_a_terminal_gets_bars_and_a_pipe_gets_lines(world: World, folder: Path) -> None:
    write_random(folder / "file", 4_000_000)
    with_bars = subprocess.run(
        ["script", "-qec", f"{COMMAND} upload {folder}/file {NAME}:/a", "/dev/null"],
        env=world.environment | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
    ).stdout.decode()
    assert "━" in with_bars
    assert "4.00 MB/4.00 MB" in with_bars
    assert "1 files, 4.00 MB, uploaded" in with_bars
    plain = world.run("upload", folder / "file", f"{NAME}:/b").stderr
    assert "\x1b" not in plain
    assert "1 files, 4.00 MB, uploaded" in plain


# --- sizes and limits ----------------------------------------------------------------------------


def _peak(world: World, *arguments: str | Path) -> int:
    """Octets of resident memory that a command had at most, once it had unlocked the filesystem.

    Unlocking takes 256 MiB on purpose (Argon2id), which would hide everything else.
    """
    running = Running(world, *arguments)
    process = running.process
    socket = world.data_dir / NAME / "control.sock"
    wait_until(socket.exists, "the control socket", 60)
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak is counted anew
    peaks = [0]

    def ended() -> bool:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            return True
        peaks.extend(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line)
        return process.poll() is not None

    wait_until(ended, "the command ends", 120)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 0, output
    return max(peaks) * 1024


def test_memory_does_not_grow_with_the_file(world: World, folder: Path) -> None:
    write_random(folder / "small", 80 << 20)
    write_random(folder / "large", 400 << 20)
    small = _peak(world, "upload", folder / "small", f"{NAME}:/")
    large = _peak(world, "upload", folder / "large", f"{NAME}:/")
    assert large < small + (60 << 20)
    assert large < 250 << 20


def test_a_sparse_file_larger_than_memory(world: World, folder: Path) -> None:
    size = 200 << 30
    with (folder / "sparse").open("wb") as file:
        for place in (0, 70 << 30, 150 << 30, size - 10):
            file.seek(place)
            file.write(b"some data")
        file.truncate(size)
    began = time.monotonic()
    world.run("upload", folder / "sparse", f"{NAME}:/")
    world.run("download", f"{NAME}:/sparse", folder / "back")
    assert time.monotonic() - began < 60
    back = (folder / "back").stat()
    assert (back.st_size, back.st_mtime_ns) == (size, (folder / "sparse").stat().st_mtime_ns)
    assert back.st_blocks * 512 < 1 << 20
    with (folder / "back").open("rb") as file:
        file.seek(150 << 30)
        assert file.read(12) == b"some data\0\0\0"


def test_limits_hold_while_mounted(counted: tuple[World, CountingRelay], folder: Path) -> None:
    world, relay = counted
    mount = world.mount(NAME)
    said = world.run("config", "set", "--runtime", "upload.quiet_hours", "00:00-24:00").stderr
    assert "uploads rest" in said
    assert "uploads rest" in world.run("status", NAME).stdout
    relay.reset()
    write_random(folder / "file", 5 * BLOCK)
    world.run("upload", "--no-wait", folder / "file", f"{NAME}:/")
    assert len((mount.path / "file").read_bytes()) == 5 * BLOCK
    assert relay.posts == 0
    began = time.monotonic()
    world.run("config", "set", "--runtime", "upload.rate", "1 MB/s")
    world.run("config", "set", "--runtime", "upload.quiet_hours", "none")
    mount.sync()
    assert time.monotonic() - began > 2.0
    assert relay.posts >= 5
    done = world.run("config", "set", "--runtime", "upload.rate", "fast", check=False)
    assert done.returncode == ExitStatus.USAGE
    assert "upload.rate" in done.stderr
    done = world.run("config", "set", "--runtime", "cache.max_size", "1", check=False)
    assert done.returncode == ExitStatus.USAGE
    mount.stop()
