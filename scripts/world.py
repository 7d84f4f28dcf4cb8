"""A throw-away usenetfs: configuration, directories and processes below one folder.

Used by the demonstration and the end-to-end tests, which drive the command line as a user does, as
processes. Owns every process and mount it starts and ends each by its id; whatever happens, leaving
the context leaves nothing behind. Every wait has a deadline. Knows nothing of usenetfs's code, only
its commands, its configuration file and ``data-dir/NAME/lock``, which names the daemon. What they
say is handed to ``evidence``, which keeps it if somebody wants it searched for secrets.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from scripts import evidence
from scripts.private_inn import free_port

COMMAND: Final = Path(sys.executable).parent / "usenetfs"
"""The console script of this virtual environment."""
PASSPHRASE: Final = "correct horse battery staple"
GROUPS: Final = ("alt.binaries.test", "alt.binaries.misc")

CONFIGURATION: Final = """\
[[servers]]
name = "news"
host = "{host}"
port = {port}
tls = false
connections = {connections}
{login}
[posting]
groups = [{groups}]

[upload]
check_delay = "{check_delay}"

[staging]
settle = "{settle}"

[cache]
min_free = "0 B"

[keys]
memory = "19 MiB"
iterations = 2
"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a news server listens, and who may use it."""

    host: str
    port: int
    username: str | None = None


class CommandError(Exception):
    """A command of usenetfs ended otherwise than it should have; the text has all it said."""


class World:
    """One user's usenetfs in ``directory``, talking to one server. A context manager.

    ``directory`` should have a short name: the control socket lies below it, and the kernel allows
    107 octets for a socket's path.
    """

    def __init__(
        self,
        directory: Path,
        server: Endpoint,
        *,
        connections: int = 8,
        check_delay: str = "200ms",
        settle: str = "200ms",
        groups: Sequence[str] = GROUPS,
    ) -> None:
        self.directory = directory.resolve()
        self.config_file = self.directory / "config.toml"
        self.data_dir = self.directory / "data"
        self.cache_dir = self.directory / "cache"
        self.passphrase_file = self.directory / "passphrase"
        self._mounts: list[Mount] = []
        self.directory.mkdir(parents=True, exist_ok=True)
        self.passphrase_file.write_text(PASSPHRASE + "\n")
        self.passphrase_file.chmod(0o600)
        self.config_file.write_text(
            CONFIGURATION.format(
                host=server.host,
                port=server.port,
                connections=connections,
                login=f'username = "{server.username}"\n' if server.username else "",
                groups=", ".join(f'"{group}"' for group in groups),
                check_delay=check_delay,
                settle=settle,
            )
        )

    def __repr__(self) -> str:
        return f"<World {self.directory} {self._mounts}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        evidence.answers(self.data_dir)
        for mount in self._mounts:
            mount.discard()
        evidence.logs(self.directory)

    @property
    def environment(self) -> dict[str, str]:
        """For commands run in this world: nothing of the caller's own usenetfs comes through."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("USENETFS_", "XDG_"))}
        return kept | {
            "HOME": str(self.directory),
            "USENETFS_CONFIG": str(self.config_file),
            "USENETFS_DATA_DIR": str(self.data_dir),
            "USENETFS_CACHE_DIR": str(self.cache_dir),
            "USENETFS_PASSPHRASE_FILE": str(self.passphrase_file),
            "COLUMNS": "100",
        }

    def run(
        self,
        *arguments: str | Path,
        check: bool = True,
        timeout: float = 60,
        environment: dict[str, str] | None = None,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``usenetfs arguments…`` to its end; CommandError if ``check`` and it fails."""
        command = [str(COMMAND), *map(str, arguments)]
        variables = self.environment | (environment or {})
        try:
            done = subprocess.run(
                command,
                env=variables,
                input=stdin if stdin is not None else "",
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(
                f"{' '.join(command)} took longer than {timeout:g} s\n"
                f"{error.stdout!r}\n{error.stderr!r}"
            ) from error
        evidence.command(arguments, variables, done.stdout, done.stderr)
        if check and done.returncode != 0:
            raise CommandError(
                f"{' '.join(command)} ended with status {done.returncode}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

    def mount(self, name: str, *options: str, mountpoint: Path | None = None) -> Mount:
        """Mount filesystem ``name`` (below ``directory`` unless said otherwise); it is usable."""
        place = mountpoint or self.directory / f"mnt-{name}"
        place.mkdir(exist_ok=True)
        mount = Mount(self, name, place)
        self._mounts.append(mount)
        mount.start(*options)
        return mount

    def drop_cache(self) -> None:
        """What a user may do at any time: delete the cache directory."""
        subprocess.run(["rm", "-rf", str(self.cache_dir)], check=True)


class Mount:
    """A mounted filesystem and the daemon behind it."""

    def __init__(self, world: World, name: str, path: Path) -> None:
        self.world = world
        self.name = name
        self.path = path
        self.lock = world.data_dir / name / "lock"
        """What names the daemon; a view has its own."""

    def __repr__(self) -> str:
        return (
            f"<Mount {self.name} at {self.path}, {'mounted' if self.is_mounted else 'not mounted'}>"
        )

    @property
    def is_mounted(self) -> bool:
        """As the kernel sees it; does not touch the filesystem, so a dead daemon cannot hang it."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return any(line.split()[4] == str(self.path) for line in lines)

    @property
    def pid(self) -> int | None:
        """The daemon's process id while it runs."""
        try:
            note = self.lock.read_text().split()
            pid = int(note[0]) if note else 0
        except FileNotFoundError:
            return None
        return pid if pid and _is_alive(pid) else None

    def start(self, *options: str, timeout: float = 60) -> None:
        """``usenetfs mount``; returns when it did."""
        self.world.run("mount", self.name, self.path, *options, timeout=timeout)

    def stop(self, *options: str, timeout: float = 300) -> None:
        """``usenetfs umount``, and the daemon has ended."""
        pid = self.pid
        evidence.answers(self.world.data_dir)
        self.world.run("umount", self.path, *options, timeout=timeout)
        if pid is not None:
            wait_until(lambda: not _is_alive(pid), f"daemon {pid} ends after umount", 30)
        evidence.logs(self.world.data_dir)

    def kill(self) -> None:
        """SIGKILL to the daemon; what the kernel keeps of the mount is cleared away."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not _is_alive(pid), f"daemon {pid} is gone", 30)
        if self.is_mounted:
            subprocess.run(["fusermount3", "-u", "-z", str(self.path)], check=True)

    def discard(self) -> None:
        """End it whatever its state: for clean-up."""
        with contextlib.suppress(subprocess.CalledProcessError, TimeoutError, ProcessLookupError):
            self.kill()

    def sync(self, timeout: float = 300) -> None:
        """``usenetfs sync``."""
        self.world.run("sync", self.name, timeout=timeout)


class ServerProcess:
    """``usenetfs nntpd`` over a spool in ``directory``. A context manager."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory.resolve()
        self.spool = self.directory / "spool"
        self.endpoint = Endpoint("127.0.0.1", free_port())
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<ServerProcess {self.endpoint} {'running' if self._process else 'stopped'}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; returns when it greets."""
        self.directory.mkdir(parents=True, exist_ok=True)
        address = f"{self.endpoint.host}:{self.endpoint.port}"
        command = [str(COMMAND), "nntpd", "--listen", address, "--spool", str(self.spool)]
        with (self.directory / "nntpd.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._process = process
        try:
            wait_until(
                lambda: process.poll() is not None or greets(self.endpoint), "the server greets", 30
            )
        except TimeoutError:
            self.stop()
            raise
        if process.poll() is not None:
            self._process = None
            raise CommandError(
                f"usenetfs nntpd ended: {(self.directory / 'nntpd.log').read_text()}"
            )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, in order unless ``how`` is SIGKILL."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=15)


def greets(server: Endpoint) -> bool:
    """Whether something that speaks NNTP listens there."""
    try:
        with socket.create_connection((server.host, server.port), timeout=5) as connection:
            return connection.recv(3) in {b"200", b"201"}
    except OSError:
        return False


def wait_until(condition: Callable[[], Any], what: str, timeout: float) -> None:
    """Return when ``condition()`` holds; TimeoutError naming ``what`` after ``timeout`` seconds."""
    pause = threading.Event()
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s in vain: {what}")
        pause.wait(0.02)


def _is_alive(pid: int) -> bool:
    """Whether anything of the process runs; one that has ended and is only not waited for does not.

    Each thread is looked at: the first may be gone while another, in the middle of an fsync, still
    holds the files open, and with them the lock.
    """
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if ") Z " not in stat.read_text():
                return True
    return False


@contextlib.contextmanager
def interrupted_by(*signals: signal.Signals) -> Iterator[threading.Event]:
    """An event that is set when one of ``signals`` arrives; their former handlers come back."""
    event = threading.Event()
    former = {number: signal.signal(number, lambda *_: event.set()) for number in signals}
    try:
        yield event
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
