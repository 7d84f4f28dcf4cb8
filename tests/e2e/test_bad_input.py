"""What goes wrong for users: a message that says what and what to do, the documented status.

And nothing is lost by it: what was written before is there when the cause is gone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts.private_inn import PrivateInn, free_port
from scripts.world import Endpoint, Mount, ServerProcess, World, wait_until
from tests.e2e.conftest import NAME
from usenetfs.cli.exit_status import ExitStatus

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Case:
    """A command that must fail, how it must end and what it must say."""

    arguments: Callable[[World], list[str | Path]]
    status: ExitStatus
    says: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


def _not_empty(world: World) -> list[str | Path]:
    place = world.directory / "full"
    place.mkdir()
    (place / "something").touch()
    return ["mount", NAME, place]


def _a_file(world: World) -> list[str | Path]:
    place = world.directory / "file"
    place.touch()
    return ["mount", NAME, place]


def _empty(world: World) -> Path:
    place = world.directory / "empty"
    place.mkdir(exist_ok=True)
    return place


def _wrong_passphrase(world: World) -> list[str | Path]:
    file = world.directory / "wrong"
    file.write_text("another passphrase than that\n")
    file.chmod(0o600)
    return ["mount", NAME, _empty(world), "--passphrase-file", file]


def _passphrase_file_missing(world: World) -> list[str | Path]:
    return ["mount", NAME, _empty(world), "--passphrase-file", world.directory / "nowhere"]


def _broken_config(world: World) -> list[str | Path]:
    file = world.directory / "broken.toml"
    file.write_text("[cache]\nmax_size = 'rather much'\n")
    return ["--config", file, "mount", NAME, _empty(world)]


CASES = {
    "mount point missing": Case(
        lambda world: ["mount", NAME, world.directory / "nowhere"],
        ExitStatus.MOUNT,
        ("nowhere", "does not exist", "mkdir"),
    ),
    "mount point not empty": Case(_not_empty, ExitStatus.MOUNT, ("not empty", "empty directory")),
    "mount point a file": Case(_a_file, ExitStatus.MOUNT, ("not a directory",)),
    "wrong passphrase": Case(
        _wrong_passphrase, ExitStatus.WRONG_PASSPHRASE, ("passphrase", "recovery key")
    ),
    "passphrase file missing": Case(
        _passphrase_file_missing, ExitStatus.USAGE, ("nowhere", "--passphrase-file")
    ),
    "no passphrase": Case(
        lambda world: ["mount", NAME, _empty(world)],
        ExitStatus.USAGE,
        ("passphrase", "terminal", "USENETFS_PASSPHRASE"),
        {"USENETFS_PASSPHRASE_FILE": ""},
    ),
    "no such filesystem": Case(
        lambda world: ["mount", "nothing", _empty(world)],
        ExitStatus.NOT_FOUND,
        ("nothing", NAME),
    ),
    "filesystem exists": Case(
        lambda _: ["init", NAME], ExitStatus.EXISTS, (NAME, "already", "usenetfs mount")
    ),
    "broken configuration": Case(
        _broken_config, ExitStatus.USAGE, ("broken.toml", "cache.max_size", "rather much")
    ),
    "sync without a mount": Case(
        lambda _: ["sync", NAME], ExitStatus.NOT_MOUNTED, ("not mounted", "usenetfs mount")
    ),
    "umount of nothing": Case(
        lambda world: ["umount", _empty(world)], ExitStatus.NOT_MOUNTED, ("nothing is mounted",)
    ),
    "unknown command": Case(lambda _: ["frobnicate"], ExitStatus.USAGE, ("frobnicate",)),
}


@pytest.mark.parametrize("name", CASES)
def test_mistakes_are_explained(world: World, name: str) -> None:
    case = CASES[name]
    _fails(world, case)
    mount = world.mount(NAME)  # and nothing stands in the way of doing it right
    mount.stop()


def _fails(world: World, case: Case) -> None:
    done = world.run(*case.arguments(world), check=False, environment=case.environment, timeout=60)
    assert done.returncode == case.status, done.stderr
    for words in case.says:
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr


def test_a_second_mount_names_the_first(world: World, mount: Mount) -> None:
    (mount.path / "file").write_bytes(b"kept")
    case = Case(
        lambda world: ["mount", NAME, _empty(world)], ExitStatus.BUSY, (str(mount.path), "umount")
    )
    _fails(world, case)
    assert (mount.path / "file").read_bytes() == b"kept"


def test_init_without_a_reachable_server(folder: Path) -> None:
    with World(folder, Endpoint("127.0.0.1", free_port())) as world:
        _fails(world, Case(lambda _: ["init", NAME], ExitStatus.NETWORK, ("news", "refused")))
        assert not (world.data_dir / NAME).exists(), "half a filesystem was left"


def test_mount_without_a_reachable_server_stages(
    world: World, mount: Mount, embedded: ServerProcess
) -> None:
    """The network is no reason not to mount: what is local works, and the rest waits."""
    mount.stop()
    embedded.stop()
    mount.start()
    (mount.path / "file").write_bytes(b"written offline")
    assert (mount.path / "file").read_bytes() == b"written offline"
    embedded.start()
    mount.sync()


@pytest.mark.inn
def test_a_wrong_password(folder: Path, tmp_path: Path) -> None:
    """The account exists, the stored password is another: init says so and makes nothing."""
    spool = folder / "inn"
    spool.mkdir(mode=0o755)
    with (
        PrivateInn(spool, users={"me": "the right password"}) as inn,
        World(folder, Endpoint(inn.host, inn.port, username="me")) as world,
    ):
        _store_password(world, "not the right one")
        case = Case(
            lambda _: ["init", NAME],
            ExitStatus.AUTHENTICATION,
            ("news", "does not let us in", "password", "server add"),
        )
        _fails(world, case)
        assert "not the right one" not in world.run("init", NAME, check=False).stderr
        assert not (world.data_dir / NAME).exists()
        _store_password(world, "the right password")
        world.run("init", NAME)
        mount = world.mount(NAME)
        (mount.path / "file").write_bytes(b"let in")
        mount.sync()
        mount.stop()


def _store_password(world: World, password: str) -> None:
    file = world.directory / "password"
    file.write_text(password + "\n")
    file.chmod(0o600)
    world.run("server", "add", "news", "--password-file", file)


@pytest.mark.inn
def test_a_newsgroup_that_does_not_exist(folder: Path, inn: PrivateInn) -> None:
    with World(folder, Endpoint(inn.host, inn.port), groups=["alt.no.such.group"]) as world:
        case = Case(
            lambda _: ["init", NAME], ExitStatus.NOT_FOUND, ("alt.no.such.group", "posting.groups")
        )
        _fails(world, case)
        assert not (world.data_dir / NAME).exists()


# --- full disk -----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A filesystem of 24 MB."""
    path = folder / "data"
    path.mkdir()
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    size = ["-o", f"size=24m,mode=0700,uid={os.geteuid()},gid={os.getegid()}"]
    subprocess.run([*as_root, "mount", "-t", "tmpfs", *size, "small", path], check=True)
    yield path
    subprocess.run([*as_root, "umount", "-l", path], check=True)


def test_a_full_disk(small_disk: Path, folder: Path, embedded: ServerProcess) -> None:
    with World(folder, embedded.endpoint) as world:
        assert world.data_dir == small_disk
        world.run("init", NAME)
        mount = world.mount(NAME, "--set", "staging.min_free=0 B")
        (mount.path / "before").write_bytes(os.urandom(1_000_000))
        other = small_disk / "of another program"
        other.write_bytes(bytes(4_000_000))
        embedded.stop()  # so that nothing can leave the disk
        written = _fill_up(mount.path / "large")
        assert written < 24_000_000
        assert len((mount.path / "before").read_bytes()) == 1_000_000
        status = world.run("status", NAME).stdout
        assert "full" in status or "space" in status
        embedded.start()
        other.unlink()  # as the message says
        mount.sync()
        kept = (mount.path / "large").read_bytes()
        assert len(kept) >= written
        assert kept[:written] == _pattern(written)
        (mount.path / "after").write_bytes(os.urandom(1_000_000))
        mount.stop()
        assert world.run("fsck", NAME).returncode == 0


def test_a_disk_that_only_usenetfs_fills(
    small_disk: Path, folder: Path, embedded: ServerProcess
) -> None:
    content = os.urandom(40_000_000)
    with World(folder, embedded.endpoint) as world, ThreadPoolExecutor(1) as threads:
        world.run("init", NAME)
        mount = world.mount(NAME)
        (mount.path / "before").write_bytes(content[:1_000_000])
        embedded.stop()
        writing = threads.submit((mount.path / "large").write_bytes, content)
        wait_until(lambda: _staged(world) > 12_000_000, "the disk to fill", 60)
        with pytest.raises(TimeoutError):
            writing.result(5)
        assert shutil.disk_usage(small_disk).free > 1_000_000, "the index has room"
        assert (mount.path / "before").read_bytes() == content[:1_000_000]
        assert sorted(os.listdir(mount.path)) == ["before", "large"]
        embedded.start()
        assert writing.result(120) == len(content)
        mount.sync()
        world.drop_cache()
        assert (mount.path / "large").read_bytes() == content
        mount.stop()
        assert world.run("fsck", NAME).returncode == 0


def test_a_disk_that_others_fill(small_disk: Path, folder: Path, embedded: ServerProcess) -> None:
    with World(folder, embedded.endpoint) as world:
        world.run("init", NAME)
        mount = world.mount(NAME)
        other = small_disk / "of another program"
        other.write_bytes(bytes(shutil.disk_usage(small_disk).free - 1_000_000))
        with pytest.raises(OSError, match="No space left"):
            (mount.path / "large").write_bytes(bytes(8_000_000))
        (mount.path / "large").unlink()
        mount.sync()
        assert "nearly full" in world.run("status", NAME).stdout
        other.unlink()
        (mount.path / "large").write_bytes(_pattern(8_000_000))
        mount.sync()
        assert (mount.path / "large").read_bytes() == _pattern(8_000_000)


def _staged(world: World) -> int:
    status = json.loads(world.run("status", NAME, "--json").stdout)
    return int(status["durability"]["staged"]["bytes"])


def _pattern(size: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


def _fill_up(path: Path) -> int:
    """Write until the disk is full; octets that write() said were written. The error is ENOSPC."""
    content = _pattern(40_000_000)
    written = 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while written < len(content):
            written += os.write(descriptor, content[written : written + 128 * 1024])
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017 - the loop needs to know how far it got
    finally:
        with contextlib.suppress(OSError):  # it may say the same once more
            os.close(descriptor)
    return written
