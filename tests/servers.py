"""News servers for tests: the embedded one and a private INN, behind one small face.

Owns the processes, which end with the test session. Import the fixtures where they are needed,
in a ``conftest.py``::

    from tests.servers import embedded_server, inn_server

``raw_session`` of this module is a blocking NNTP client with no cleverness at all, so that a
mistake shared by both of our roles does not hide.
"""

from __future__ import annotations

import itertools
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self

import pytest

from scripts.private_inn import DEFAULT_MAX_ARTICLE, PrivateInn
from scripts.world import ServerProcess

GROUP = "alt.binaries.test"
OTHER_GROUP = "alt.binaries.misc"
USER, PASSWORD = "reader", "pass word"
_numbers = itertools.count(1)


class NewsServer(Protocol):
    """A running server. Its spool outlives ``restart`` and ``kill``."""

    name: str
    max_article: int
    """Octets."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    def start(self) -> None:
        """Start it after ``kill``; returns when it answers."""

    def restart(self) -> None:
        """Stop it in order and start it again on the same port."""

    def kill(self) -> None:
        """SIGKILL."""


class EmbeddedServer:
    """``usenetfs nntpd`` in a process of its own. See NewsServer."""

    name = "embedded"
    max_article = DEFAULT_MAX_ARTICLE

    def __init__(self, directory: Path, *options: str) -> None:
        groups = (f"--group={name}" for name in (GROUP, OTHER_GROUP, "alt.test"))
        self._process = ServerProcess(directory, *groups, *options)
        self._process.start()

    def __repr__(self) -> str:
        return repr(self._process)

    @property
    def host(self) -> str:
        return self._process.endpoint.host

    @property
    def port(self) -> int:
        return self._process.endpoint.port

    def start(self) -> None:
        self._process.start()

    def restart(self) -> None:
        self._process.stop()
        self._process.start()

    def kill(self) -> None:
        self._process.stop(signal.SIGKILL)

    def close(self) -> None:
        self._process.stop()


class InnServer:
    """A private INN. See NewsServer."""

    name = "inn"
    max_article = DEFAULT_MAX_ARTICLE

    def __init__(self, directory: Path, users: dict[str, str] | None = None) -> None:
        self._inn = PrivateInn(directory, users=users)
        self._inn.start()

    def __repr__(self) -> str:
        return repr(self._inn)

    @property
    def host(self) -> str:
        return self._inn.host

    @property
    def port(self) -> int:
        return self._inn.port

    def start(self) -> None:
        self._inn.start()

    def restart(self) -> None:
        self._inn.restart()

    def kill(self) -> None:
        self._inn.kill()

    def close(self) -> None:
        self._inn.stop()


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """No login; one for the whole test session, so ids have to be fresh."""
    server = EmbeddedServer(tmp_path_factory.mktemp("nntpd"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def embedded_server_with_users(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[EmbeddedServer]:
    """``USER`` and ``PASSWORD`` have to log in."""
    directory = tmp_path_factory.mktemp("nntpd-users")
    password = directory / "password"
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o600)
    server = EmbeddedServer(directory, f"--user={USER}", f"--password-file={password}")
    yield server
    server.close()


@pytest.fixture(scope="session")
def inn_server() -> Iterator[InnServer]:
    """No login; one for the whole test session. Its packages are fetched the first time."""
    with tempfile.TemporaryDirectory(prefix="inn.") as directory:
        server = InnServer(Path(directory))
        yield server
        server.close()


@pytest.fixture(scope="session")
def inn_server_with_users() -> Iterator[InnServer]:
    """``USER`` and ``PASSWORD`` have to log in."""
    with tempfile.TemporaryDirectory(prefix="inn.") as directory:
        server = InnServer(Path(directory), {USER: PASSWORD})
        yield server
        server.close()


# --- a client with no cleverness -----------------------------------------------------------------


class RawSession:
    """A blocking session: lines out, lines in. ``greeting`` is the first line."""

    def __init__(self, server: NewsServer, *, timeout: float = 20) -> None:
        self._socket = socket.create_connection((server.host, server.port), timeout)
        self._file = self._socket.makefile("rb")
        self.greeting = self.line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def line(self) -> str:
        """The next line without its CRLF; "" when the server has closed the connection."""
        line = self._file.readline()
        assert not line or line.endswith(b"\r\n"), line
        return line[:-2].decode()

    def ask(self, command: str) -> str:
        """The status line of the reply to a command."""
        self.send(f"{command}\r\n".encode())
        return self.line()

    def code(self, command: str) -> int:
        return int(self.ask(command)[:3])

    def block(self) -> list[bytes]:
        """The lines of a block, stuffed dots undone, without CRLF."""
        lines = []
        while (line := self._file.readline()) != b".\r\n":
            assert line.endswith(b"\r\n"), "the block ended without a terminator"
            lines.append(line[:-2].removeprefix(b".") if line[:1] == b"." else line[:-2])
        return lines

    def submit(self, wire: bytes, command: str = "POST") -> str:
        """POST or IHAVE: the last reply. ``wire``: stuffed, with the terminator."""
        first = self.ask(command)
        if first[:3] not in {"340", "335"}:
            return first
        self.send(wire)
        return self.line()


def fresh_id() -> str:
    """A Message-ID that no test has used."""
    return f"<{next(_numbers)}.{id(_numbers):x}@tests.example>"


def article(
    message_id: str | None,
    body: bytes = b"some text\r\n",
    *,
    groups: str = GROUP,
    extra: str = "",
) -> bytes:
    """An article ready for the wire; ``body`` is stuffed already and ends with CRLF."""
    head = f"From: Someone <someone@tests.example>\r\nNewsgroups: {groups}\r\nSubject: a test\r\n"
    if message_id is not None:
        head += f"Message-ID: {message_id}\r\n"
    return f"{head}{extra}\r\n".encode() + body + b".\r\n"
