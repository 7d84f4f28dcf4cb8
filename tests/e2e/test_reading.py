"""Reading from servers that lie or lose, and the cache as its user wants it, in real mounts."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.world import Endpoint, Mount, ServerProcess, World, wait_until
from tests.e2e.conftest import NAME

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(300)]

BLOCK = 716_800
BLOCKS = 6
SMALL = 40


@contextmanager
def stored(folder: Path) -> Iterator[tuple[World, Mount, ServerProcess, dict[str, bytes]]]:
    """A long file and some small ones, on the server alone; unmounted."""
    server = ServerProcess(folder / "server")
    with server, World(folder, server.endpoint) as world:
        world.run("init", NAME)
        mount = world.mount(NAME)
        files = {"long": os.urandom(BLOCKS * BLOCK - 100)}
        files |= {f"small-{n}": os.urandom(500 + 97 * n) for n in range(SMALL)}
        for name, content in files.items():
            (mount.path / name).write_bytes(content)
        mount.stop()
        world.drop_cache()
        yield world, mount, server, files


def lie(server: ServerProcess, plan: str) -> ServerProcess:
    """The same server again, with faults."""
    file = server.directory / "faults"
    file.write_text(plan + "\n")
    server.stop()
    again = ServerProcess(server.directory, "--faults", str(file))
    again.endpoint = server.endpoint
    return again


def second_server(world: World, endpoint: Endpoint) -> None:
    with world.config_file.open("a") as config:
        config.write(
            f'\n[[servers]]\nname = "other"\nhost = "{endpoint.host}"\nport = {endpoint.port}\n'
            "tls = false\nconnections = 4\npriority = 1\n"
        )


LIES = {
    "another article": "BODY always wrong-article",
    "altered": "BODY always corrupt octets=3",
    "cut short": "BODY always truncate after=2000",
    "cut off": "BODY always drop-body after=2000",
    "missing": 'BODY always reply code=430 text="No such article"',
    "an error": 'BODY always reply code=503 text="Not today"',
}


@pytest.mark.parametrize("how", LIES)
def test_a_lying_server_costs_time_and_nothing_else(folder: Path, how: str) -> None:
    with stored(folder) as (world, mount, honest, files):
        shutil.copytree(honest.spool, folder / "liar" / "spool")
        liar = ServerProcess(folder / "liar")
        with lie(liar, LIES[how]) as lying:
            # The liar is asked first.
            text = world.config_file.read_text()
            world.config_file.write_text(
                text.replace(f"port = {honest.endpoint.port}", f"port = {lying.endpoint.port}")
            )
            second_server(world, honest.endpoint)
            mount.start()
            for name, content in files.items():
                assert (mount.path / name).read_bytes() == content
            mount.stop("--lazy")  # access times want a checkpoint, which is not the question here


@pytest.mark.parametrize("how", ["another article", "altered", "cut short", "missing"])
def test_where_nobody_has_it_whole_there_is_an_error_and_never_zeros(
    folder: Path, how: str
) -> None:
    with stored(folder) as (world, mount, honest, files):
        with lie(honest, LIES[how]):
            mount.start()
            for name in ("long", "small-1"):
                with pytest.raises(OSError, match=r"Errno") as caught:
                    (mount.path / name).read_bytes()
                assert caught.value.errno == errno.EIO
            assert len(list(mount.path.iterdir())) == len(files)
            reasons = json.loads(world.run("status", NAME, "--json").stdout)["recent_errors"]
            assert any(reason["code"] == "data_unavailable" for reason in reasons)
        if how == "missing":
            return  # that a server has nothing is believed for a while
        with honest:
            wait_until(lambda: _reads(mount.path / "long", files["long"]), "it reads again", 60)
            mount.stop()


def _reads(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def test_one_lost_article_is_an_error_for_its_block_alone(folder: Path) -> None:
    with (
        stored(folder) as (_, mount, honest, files),
        lie(honest, "BODY nth 3 expire"),
    ):
        mount.start()
        lost = [number for number in range(BLOCKS) if not _comes_back(mount.path, files, number)]
        assert len(lost) == 1
        assert (mount.path / "small-3").read_bytes() == files["small-3"]
        (mount.path / "new").write_bytes(b"written since")
        assert (mount.path / "new").read_bytes() == b"written since"
        mount.stop()


def _comes_back(folder: Path, files: dict[str, bytes], number: int) -> bool:
    """Whether a block of the long file reads as it was; False if it cannot be read."""
    part = files["long"][number * BLOCK : (number + 1) * BLOCK]
    try:
        found = _read_at(folder / "long", number * BLOCK, len(part))
    except OSError as error:
        if error.errno == errno.EIO:
            return False
        raise
    assert found == part
    return True


def _read_at(path: Path, offset: int, length: int) -> bytes:
    """In pieces, each read for itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        step = 8192
        return b"".join(
            os.pread(descriptor, min(step, length - at), offset + at)
            for at in range(0, length, step)
        )
    finally:
        os.close(descriptor)


def cached(world: World) -> int:
    return int(json.loads(world.run("cache", "stat", NAME, "--json").stdout)["articles"])


def test_the_cache_is_filled_and_emptied_as_one_likes(folder: Path) -> None:
    with stored(folder) as (world, mount, server, files):
        mount.start()
        assert cached(world) == 0
        warmed = json.loads(world.run("cache", "warm", f"{NAME}:/long", "--json").stdout)
        assert warmed["fetched"] == warmed["articles"] == cached(world) >= BLOCKS
        world.run("cache", "warm", NAME)
        everything = cached(world)
        assert everything > warmed["articles"]
        dropped = json.loads(world.run("cache", "drop", f"{NAME}:/long", "--json").stdout)
        assert dropped["articles"] == warmed["articles"]
        assert cached(world) == everything - warmed["articles"]
        world.run("cache", "warm", f"{NAME}:/", "--json")
        mount.stop()
        server.stop()
        mount.start()  # what is in the cache outlives the daemon, and needs no server
        assert (mount.path / "long").read_bytes() == files["long"]
        assert (mount.path / "small-7").read_bytes() == files["small-7"]
        missing = world.run("cache", "warm", f"{NAME}:/nothing", check=False)
        assert missing.returncode != 0
        assert "no such file" in missing.stderr
        mount.stop("--lazy")


def test_what_cannot_be_fetched_into_the_cache_is_reported(folder: Path) -> None:
    with stored(folder) as (world, mount, honest, _), lie(honest, LIES["missing"]):
        mount.start()
        done = world.run("cache", "warm", NAME, check=False)
        assert done.returncode != 0
        assert "could not be had" in done.stderr
        mount.stop()


def test_a_pinned_file_stays_here_and_its_pin_is_nobody_elses(folder: Path) -> None:
    with stored(folder) as (world, mount, server, files):
        mount.start()
        path = mount.path / "long"
        os.setxattr(path, "user.usenetfs.pin", b"1")
        assert os.getxattr(path, "user.usenetfs.pin") == b"1"
        assert os.listxattr(path) == []
        wait_until(lambda: cached(world) >= BLOCKS, "what is pinned is fetched", 30)
        subprocess.run(["cp", "-a", path, mount.path / "copy"], check=True)
        with pytest.raises(OSError, match=r"Errno") as none:
            os.getxattr(mount.path / "copy", "user.usenetfs.pin")
        assert none.value.errno == errno.ENODATA
        with pytest.raises(OSError, match=r"Errno") as wrong:
            os.setxattr(path, "user.usenetfs.pin", b"perhaps")
        assert wrong.value.errno == errno.EINVAL
        mount.stop()
        world.drop_cache()
        mount.start()
        assert os.getxattr(path, "user.usenetfs.pin") == b"1"
        wait_until(lambda: cached(world) >= BLOCKS, "it is fetched anew", 30)
        os.setxattr(path, "user.usenetfs.pin", b"0")
        with pytest.raises(OSError, match=r"Errno"):
            os.removexattr(path, "user.usenetfs.pin")
        server.stop()
        assert path.read_bytes() == files["long"]
        mount.stop("--lazy")


def test_the_cache_may_vanish_while_it_is_read_from(folder: Path) -> None:
    with stored(folder) as (world, mount, _, files):
        mount.start()
        for _round in range(3):
            world.run("cache", "warm", NAME)
            world.drop_cache()
            assert _read_at(mount.path / "long", 0, 3 * BLOCK) == files["long"][: 3 * BLOCK]
            assert (mount.path / "small-9").read_bytes() == files["small-9"]
            subprocess.run(["sync"], check=True)
        mount.stop()
