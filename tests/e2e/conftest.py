"""Worlds for the end-to-end tests: a server, a configuration, a filesystem, a mount.

Each test has its own filesystem. The embedded server is a process per test; INN is one per session,
because what tests need of it does not depend on what others left there.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.private_inn import PrivateInn
from scripts.world import Endpoint, Mount, ServerProcess, World
from tests.e2e.trees import make_tree

NAME = "world"
"""What the filesystem of each test is called."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder with a short name: a socket's path may have 107 octets."""
    path = Path(tempfile.mkdtemp(prefix="ufs-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def inn() -> Iterator[PrivateInn]:
    """A private INN for all tests of the session."""
    path = Path(tempfile.mkdtemp(prefix="ufs-inn-"))
    path.chmod(0o755)
    with PrivateInn(path) as server:
        yield server
    shutil.rmtree(path)


@pytest.fixture
def embedded(folder: Path) -> Iterator[ServerProcess]:
    """``usenetfs nntpd`` with a spool of the test's own."""
    with ServerProcess(folder / "server") as server:
        yield server


@pytest.fixture(params=["embedded", pytest.param("inn", marks=pytest.mark.inn)])
def server(request: pytest.FixtureRequest) -> Endpoint:
    """The same test against both kinds of server."""
    if request.param == "inn":
        inn: PrivateInn = request.getfixturevalue("inn")
        return Endpoint(inn.host, inn.port)
    embedded: ServerProcess = request.getfixturevalue("embedded")
    return embedded.endpoint


@pytest.fixture
def world(folder: Path, embedded: ServerProcess) -> Iterator[World]:
    """A world over the embedded server, with a filesystem in it that is not mounted."""
    with World(folder, embedded.endpoint) as made:
        made.run("init", NAME)
        yield made


@pytest.fixture
def any_world(folder: Path, server: Endpoint) -> Iterator[World]:
    """The same over each kind of server."""
    with World(folder, server) as made:
        made.run("init", NAME)
        yield made


@pytest.fixture
def mount(world: World) -> Mount:
    """The filesystem of ``world``, mounted."""
    return world.mount(NAME)


@pytest.fixture(scope="session")
def tree() -> Iterator[Path]:
    """Some thousands of real files, some odd ones, and a large one. Read only."""
    path = Path(tempfile.mkdtemp(prefix="ufs-tree-"))
    make_tree(path)
    yield path
    shutil.rmtree(path)
