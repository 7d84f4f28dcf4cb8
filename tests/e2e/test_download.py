"""``usenetfs download``: what was put in comes out, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.trees import write_random
from scripts.world import ServerProcess, World, wait_until
from tests.e2e.conftest import NAME
from tests.e2e.counting_relay import CountingRelay
from tests.e2e.running import Running
from tests.e2e.trees import BLOCK, differences, make_odd_files, rsync_differences
from usenetfs.cli.exit_status import ExitStatus

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(300)]

BLOCKS = 90
LARGE = BLOCKS * BLOCK


def test_a_real_tree_there_and_back(any_world: World, tree: Path, folder: Path) -> None:
    any_world.run("upload", f"{tree}/", f"{NAME}:/in", timeout=200)
    any_world.drop_cache()
    without = folder / "without a mount"
    any_world.run("download", f"{NAME}:/in/", without, timeout=200)
    assert differences(tree, without) == []
    assert rsync_differences(tree, without) == ""
    mount = any_world.mount(NAME)
    any_world.drop_cache()
    through = folder / "through the daemon"
    any_world.run("download", f"{NAME}:/in", through, timeout=200)
    assert differences(tree, through / "in") == []
    assert not any((any_world.data_dir / NAME / "downloads").iterdir())
    mount.stop()


@pytest.fixture
def counted(folder: Path, embedded: ServerProcess) -> Iterator[tuple[World, CountingRelay]]:
    """A world whose fetches are counted."""
    with CountingRelay(embedded.endpoint) as relay, World(folder, relay.endpoint) as world:
        world.run("init", NAME)
        yield world, relay


def _large(world: World, folder: Path) -> Path:
    source = folder / "source"
    source.mkdir()
    write_random(source / "large.bin", LARGE)
    write_random(source / "other.bin", 3 * BLOCK)
    world.run("upload", f"{source}/", f"{NAME}:/")
    world.drop_cache()
    return source


def test_a_killed_download_goes_on(counted: tuple[World, CountingRelay], folder: Path) -> None:
    """Twice killed: what was noted is not fetched again, though nothing is cached."""
    world, relay = counted
    source, target = _large(world, folder), folder / "target"
    relay.reset()
    for limit in (30, 60):
        running = Running(world, "download", f"{NAME}:/", target)
        wait_until(lambda limit=limit: relay.bodies.total() >= limit, "fetches", 60)  # type: ignore[misc]
        assert running.end(signal.SIGKILL) == -signal.SIGKILL
        assert not (target / "large.bin").exists(), "not whole and under its name"
        world.drop_cache()
    world.run("download", f"{NAME}:/", target)
    in_flight = 2 * 8 + 8
    assert relay.bodies.total() <= BLOCKS + 3 + 2 * in_flight
    assert differences(source, target) == []
    relay.reset()
    world.drop_cache()
    assert "0 files, 0 B" in world.run("download", f"{NAME}:/", target).stderr
    assert "0 files, 0 B" in world.run("download", "-c", f"{NAME}:/", target).stderr
    assert relay.bodies.total() == 0


def _killed_download(world: World, relay: CountingRelay, folder: Path) -> tuple[Path, Path]:
    """The tree that ``large.bin`` is in, and where a download of it was killed in the middle."""
    source, target = _large(world, folder), folder / "target"
    relay.reset()
    running = Running(world, "download", f"{NAME}:/large.bin", f"{target}/")
    wait_until(lambda: relay.bodies.total() >= 40, "fetches", 60)
    running.end(signal.SIGKILL)
    return source, target


def test_a_note_is_not_trusted(counted: tuple[World, CountingRelay], folder: Path) -> None:
    """A part file that lost what was noted (a power cut does that) is fetched where it is wrong."""
    world, relay = counted
    source, target = _killed_download(world, relay, folder)
    with (target / ".large.bin.usenetfs-part").open("r+b") as part:
        for block in range(0, 30, 3):
            part.seek(block * BLOCK)
            part.write(b"not what was noted")
    world.run("download", f"{NAME}:/large.bin", f"{target}/")
    assert (target / "large.bin").read_bytes() == (source / "large.bin").read_bytes()


def test_a_part_of_another_file_leaves_nothing_where_there_are_holes(
    counted: tuple[World, CountingRelay], folder: Path
) -> None:
    """What was begun was a file of the same name, size and time, with content all over."""
    world, relay = counted
    source, target = _killed_download(world, relay, folder)
    large = source / "large.bin"
    before = large.stat()
    content = large.read_bytes()[:BLOCK]
    large.unlink()
    with large.open("wb") as file:
        file.write(content)
        file.truncate(before.st_size)
    os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
    world.run("rm", f"{NAME}:/large.bin")
    world.run("upload", large, f"{NAME}:/")
    world.run("download", f"{NAME}:/large.bin", f"{target}/")
    assert (target / "large.bin").read_bytes() == large.read_bytes()


def test_a_lying_server(folder: Path) -> None:
    """Wrong bodies are never written; what could not be had is named and had the next time."""
    plan = folder / "plan"
    plan.write_text("BODY every 4 wrong-article times=12\nBODY every 5 corrupt times=8\n")
    with ServerProcess(folder / "server") as server, World(folder, server.endpoint) as world:
        world.run("init", NAME)
        source, target = _large(world, folder), folder / "target"
        server.stop()
        with ServerProcess(folder / "server", "--faults", str(plan)) as liar:
            _point_to(world, liar)
            done = world.run("download", "--json", f"{NAME}:/", target, check=False)
            assert done.returncode == ExitStatus.DATA_UNAVAILABLE
            events = [json.loads(line) for line in done.stdout.splitlines()]
            lost = [event for event in events if event["event"] == "lost"]
            assert lost
            assert all(event["offset"] % BLOCK == 0 and event["reason"] for event in lost)
            failed = {event["path"] for event in events if event["event"] == "failed"}
            assert failed == {event["path"] for event in lost}
            for _ in range(10):
                world.drop_cache()
                if world.run("download", f"{NAME}:/", target, check=False).returncode == 0:
                    break
            assert differences(source, target) == []


def _point_to(world: World, server: ServerProcess) -> None:
    text = world.config_file.read_text()
    lines = [
        f"port = {server.endpoint.port}" if line.startswith("port = ") else line
        for line in text.splitlines()
    ]
    world.config_file.write_text("\n".join(lines) + "\n")


def test_articles_that_are_gone(folder: Path) -> None:
    """Some are gone for good: the rest comes, the exit status says so, every time."""
    plan = folder / "plan"
    plan.write_text("POSTED every 7 expire seconds=2\n")
    with (
        ServerProcess(folder / "server", "--faults", str(plan)) as server,
        World(folder, server.endpoint) as world,
    ):
        world.run("init", NAME)
        source, target = _large(world, folder), folder / "target"
        make_odd_files(source / "odd")
        threading.Event().wait(2.5)  # until the last of them has expired
        for _ in range(2):
            done = world.run("download", f"{NAME}:/", target, check=False)
            assert done.returncode == ExitStatus.DATA_UNAVAILABLE
            assert "lost: large.bin at byte" in done.stderr
            assert "could not be downloaded" in done.stderr
            assert not (target / "large.bin").exists()
        session = next((world.data_dir / NAME / "downloads").glob("*.jsonl"))
        assert '"failed"' in session.read_text()


def test_what_is_not_uploaded_yet_comes_from_the_mount(
    world: World, folder: Path, embedded: ServerProcess
) -> None:
    mount = world.mount(NAME)
    embedded.stop()
    make_odd_files(mount.path / "odd")
    world.run("download", f"{NAME}:/odd", folder)
    assert differences(mount.path / "odd", folder / "odd") == []
    embedded.start()
    mount.stop()


def test_mistakes(world: World, folder: Path) -> None:
    (folder / "file").write_text("content")
    (folder / "tree").mkdir()
    (folder / "tree" / "in").write_text("x")
    world.run("upload", folder / "file", folder / "tree", f"{NAME}:/")
    done = world.run("download", f"{NAME}:/nowhere", folder, check=False)
    assert done.returncode == ExitStatus.NOT_FOUND
    target = folder / "target"
    target.mkdir()
    (target / "tree").write_text("in the way")
    (target / "file").mkdir()
    done = world.run("download", f"{NAME}:/", target, check=False)
    assert done.returncode == ExitStatus.PARTIAL
    assert "failed: tree: something else is in the way" in done.stderr
    assert "failed: file: a directory is in the way" in done.stderr
    listed = world.run("download", "--dry-run", f"{NAME}:/tree", folder / "new").stdout
    assert "would receive: tree/in" in listed
    assert not (folder / "new").exists()
    os.symlink("elsewhere", target / "linked")
    world.run("upload", folder / "tree", f"{NAME}:/linked/")
    done = world.run("download", f"{NAME}:/linked", target, check=False)
    assert done.returncode == ExitStatus.PARTIAL
    assert not (target / "elsewhere").exists(), "a link was followed"
