"""Both kinds of server behind one face."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from scripts.private_inn import PrivateInn
from scripts.world import ServerProcess

USER, PASSWORD = "reader", "correct horse"
MAX_ARTICLE = 100_000


class NewsServer(Protocol):
    """A server that can be stopped, killed and started again over the same spool."""

    @property
    def address(self) -> tuple[str, int]: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class Embedded:
    def __init__(self, directory: Path, *options: str) -> None:
        self._process = ServerProcess(
            directory, "--max-article", str(MAX_ARTICLE), "--group", "alt.binaries.test", *options
        )

    @property
    def address(self) -> tuple[str, int]:
        return self._process.endpoint.host, self._process.endpoint.port

    def start(self) -> None:
        self._process.start()

    def stop(self) -> None:
        self._process.stop()

    def kill(self) -> None:
        self._process.stop(signal.SIGKILL)


class Inn:
    def __init__(self, directory: Path, users: dict[str, str]) -> None:
        self._inn = PrivateInn(directory, users=users, max_article=MAX_ARTICLE)

    @property
    def address(self) -> tuple[str, int]:
        return self._inn.host, self._inn.port

    def start(self) -> None:
        self._inn.start()

    def stop(self) -> None:
        self._inn.stop()

    def kill(self) -> None:
        self._inn.kill()


def _made(kind: str, directory: Path, *, with_users: bool) -> NewsServer:
    directory.chmod(0o755)
    if kind == "inn":
        return Inn(directory, {USER: PASSWORD} if with_users else {})
    if not with_users:
        return Embedded(directory)
    password = directory / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    return Embedded(directory, "--user", USER, "--password-file", str(password))


KINDS = ["embedded", pytest.param("inn", marks=pytest.mark.inn)]


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[NewsServer]:
    """A server that anybody may read from and post to."""
    with tempfile.TemporaryDirectory(prefix="ufs-news-") as path:
        made = _made(request.param, Path(path), with_users=False)
        made.start()
        yield made
        made.stop()


@pytest.fixture(scope="module", params=KINDS)
def guarded_server(request: pytest.FixtureRequest) -> Iterator[NewsServer]:
    """A server that wants a user name and a password."""
    with tempfile.TemporaryDirectory(prefix="ufs-news-") as path:
        made = _made(request.param, Path(path), with_users=True)
        made.start()
        yield made
        made.stop()
