"""Points in time, and followers: read-only mounts with an index of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.world import COMMAND, Mount, ServerProcess, World, wait_until
from tests.e2e.conftest import NAME
from tests.e2e.trees import differences, make_odd_files

pytestmark = [pytest.mark.fuse]

POLL = 1.0
"""Seconds between two polls of a follower in these tests."""


def views_of(world: World, kind: str, *options: str) -> Mount:
    """Mount a view beside whatever is mounted."""
    place = world.directory / f"view-{kind}"
    mount = world.mount(NAME, *options, mountpoint=place)
    mount.lock = world.data_dir / NAME / "views" / kind / "lock"
    return mount


def numbers(world: World) -> list[int]:
    done = world.run("checkpoints", NAME, "--count", "0", "--json")
    return [checkpoint["number"] for checkpoint in json.loads(done.stdout)]


@pytest.fixture
def live(world: World) -> Mount:
    """The filesystem, mounted for writing, in the state of a first sync."""
    mount = world.mount(NAME)
    make_odd_files(mount.path / "odd")
    (mount.path / "file").write_text("first content")
    mount.sync()
    return mount


def test_a_point_in_time_beside_the_live_mount(world: World, live: Mount, folder: Path) -> None:
    then = numbers(world)[-1]
    subprocess.run(["cp", "-a", f"{live.path}/.", folder / "kept"], check=True)
    (live.path / "file").write_text("second content")
    shutil.rmtree(live.path / "odd" / "names")
    live.sync()
    past = views_of(world, f"at-{then}", "--at", str(then))
    assert differences(folder / "kept", past.path) == []
    assert (past.path / "file").read_text() == "first content"
    assert (live.path / "file").read_text() == "second content"
    with pytest.raises(OSError, match="Read-only"):
        (past.path / "new").write_text("x")
    past.stop()
    assert not past.is_mounted
    assert not list((world.data_dir / NAME / "views").rglob("index.db"))
    assert (live.path / "file").read_text() == "second content"


def test_points_that_are_not_there(world: World, live: Mount) -> None:
    place = world.directory / "nowhere"
    place.mkdir()
    for at, status in (("9999", 17), ("2001-02-03", 17), ("someday", 2)):
        done = world.run("mount", NAME, place, "--at", at, check=False)
        assert (at, done.returncode) == (at, status), done.stderr
    done = world.run("mount", NAME, place, "--at", "1", "--follow", check=False)
    assert done.returncode == 2


def test_downloading_an_index_tells_whoever_waits(world: World, live: Mount) -> None:
    place = world.directory / "past"
    place.mkdir()
    ready, tell = os.pipe()
    options = ["-f", "--ready-fd", str(tell), "--at", "1"]
    command = [str(COMMAND), "mount", *options, NAME, str(place)]
    with subprocess.Popen(command, env=world.environment, pass_fds=[tell]) as daemon:
        os.close(tell)
        with open(ready, "rb") as told:
            *getting_on, answer = told.read().split(b"\n")[:-1]
        daemon.terminate()
        assert daemon.wait(60) == 0
    assert getting_on
    assert set(getting_on) == {b""}
    assert json.loads(answer)["ready"]


def test_a_time_in_words(world: World, live: Mount) -> None:
    past = views_of(world, "at-0-s-ago", "--at", "0 s ago")
    assert (past.path / "file").read_text() == "first content"
    past.stop()


# --- followers -----------------------------------------------------------------------------------


@pytest.fixture
def follower(folder: Path, embedded: ServerProcess, live: Mount) -> Iterator[Mount]:
    """Another machine, with nothing but a configuration and the passphrase."""
    with World(folder / "other", embedded.endpoint) as other:
        yield views_of(other, "follow", "--follow", "--set", f"checkpoint.interval={POLL:g}s")


def same(live: Mount, follower: Mount) -> bool:
    """Whether both show the same now; a tree that changes while it is walked does not."""
    try:
        return differences(live.path, follower.path) == []
    except FileNotFoundError:
        return False


def shows(follower: Mount, live: Mount) -> None:
    wait_until(lambda: same(live, follower), "the follower shows the same", 60)


def test_a_follower_shows_each_checkpoint(live: Mount, follower: Mount) -> None:
    assert differences(live.path, follower.path) == []
    (live.path / "file").write_text("second content, longer")
    os.rename(live.path / "odd" / "text", live.path / "odd" / "renamed")
    shutil.rmtree(live.path / "odd" / "links")
    (live.path / "odd" / "modes").chmod(0o711)
    os.setxattr(live.path / "file", "user.new", b"attribute")
    assert os.listdir(follower.path / "odd" / "links")
    live.sync()
    shows(follower, live)
    assert (follower.path / "file").read_text() == "second content, longer"
    assert not (follower.path / "odd" / "links").exists()
    for number in range(5):
        (live.path / f"new {number}").write_text(f"{number}" * 5000)
        (live.path / "file").write_text(f"content {number}")
        live.sync()
    shows(follower, live)
    (live.path / "file").write_text("second content, longer")  # as it was some checkpoints ago
    live.sync()
    shows(follower, live)


def test_an_open_file_keeps_what_it_had(live: Mount, follower: Mount) -> None:
    with (follower.path / "file").open() as opened:
        (live.path / "file").write_text("second content, and much longer than before")
        (live.path / "marker").write_text("now")
        live.sync()
        wait_until((follower.path / "marker").exists, "the follower is there", 60)
        assert opened.read() == "first content"
        assert os.fstat(opened.fileno()).st_size == len("first content")
    wait_until(
        lambda: (follower.path / "file").read_text().startswith("second"), "it is new again", 30
    )


def test_an_open_file_that_is_deleted_can_be_read_to_its_end(live: Mount, follower: Mount) -> None:
    wanted = (live.path / "odd" / "text").read_bytes()
    with (follower.path / "odd" / "text").open("rb") as opened:
        (live.path / "odd" / "text").unlink()
        live.sync()
        wait_until(lambda: not (follower.path / "odd" / "text").exists(), "the name is gone", 60)
        assert opened.read() == wanted


def test_a_follower_goes_on_after_a_pause(live: Mount, follower: Mount) -> None:
    follower.stop()
    for number in range(3):
        (live.path / f"meanwhile {number}").write_text("x")
        live.sync()
    follower.start("--follow", "--set", f"checkpoint.interval={POLL:g}s")
    shows(follower, live)
    with pytest.raises(OSError, match="Read-only"):
        (follower.path / "new").write_text("x")
    other = follower.world
    status = json.loads(other.run("status", f"{NAME}@follow", "--json").stdout)
    assert status["checkpoint"]["number"] == numbers(live.world)[-1]
    assert status["read_only"]
    done = other.run("mount", NAME, other.directory, check=False)
    assert "usenetfs recover" in done.stderr
    for command in (("status", NAME), ("ls", f"{NAME}:/"), ("fsck", NAME)):
        done = other.run(*command, check=False)
        assert done.returncode not in {0, 70}, done
        assert "usenetfs recover" in done.stderr, done


def test_a_follower_takes_nothing_over(live: Mount, follower: Mount) -> None:
    status = json.loads(live.world.run("status", NAME, "--json").stdout)
    assert status["checkpoint"]["fenced"] is None
    (live.path / "still").write_text("the writer")
    live.sync()
