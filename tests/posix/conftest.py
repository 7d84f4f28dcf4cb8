"""One mount for a whole file of tests; each test has a directory of its own in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from scripts.world import Mount, ServerProcess, World

USER = 65_534
OTHER = 65_533

Identity = Callable[..., AbstractContextManager[None]]


@pytest.fixture(scope="module")
def mount() -> Iterator[Mount]:
    """A mount that other users may use."""
    folder = Path(tempfile.mkdtemp(prefix="ufs-"))
    folder.chmod(0o755)
    with ServerProcess(folder / "server") as server, World(folder, server.endpoint) as world:
        world.run("init", "posix")
        made = world.mount("posix", "-o", "allow_other")
        yield made
        made.stop()
    shutil.rmtree(folder)


@pytest.fixture
def here(mount: Mount) -> Iterator[Path]:
    """An empty directory in the mount, with umask 022 while the test runs."""
    old = os.umask(0o022)
    path = Path(tempfile.mkdtemp(dir=mount.path))
    path.chmod(0o755)
    yield path
    os.umask(old)
    shutil.rmtree(path)


@pytest.fixture
def act_as() -> Identity:
    """``with act_as(uid):`` what follows is done by that user (group of the same number)."""

    @contextmanager
    def acting(uid: int, gid: int | None = None) -> Iterator[None]:
        groups = os.getgroups()
        os.setgroups([])
        os.setegid(uid if gid is None else gid)
        os.seteuid(uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)

    return acting
