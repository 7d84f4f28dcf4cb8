"""Every command of README and guide works as it stands there, in that order, typed by a new user.

The provider is an INN with TLS and a login; its address takes the place of the example's. Blocks
marked ``sh`` are run, ``sh new-machine`` in another, empty home, ``sh install`` not at all: they
change the system.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts import evidence
from scripts.private_inn import PrivateInn
from scripts.world import COMMAND, wait_until
from tests.docs.terminal import Said, type_command
from tests.net.test_stream import Certificates
from usenetfs import mounts
from usenetfs.lock import exclusive

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/guide.md")
PASSWORD = "what the provider told"
PASSPHRASE = "six words that nobody can guess"
ANSWERS = {
    r"Password of .*: ": PASSWORD,
    r"[Pp]assphrase.*: ": PASSPHRASE,
    r"\[y/N\] ": "y",
}

pytestmark = [pytest.mark.fuse, pytest.mark.inn, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Machine:
    """A new user's computer. ``provider``: what stands for the example's host."""

    home: Path
    provider: str

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("USENETFS_", "XDG_"))}
        return kept | {
            "HOME": str(self.home),
            "PATH": f"{COMMAND.parent}:{os.environ['PATH']}",
            "USENETFS_SYSTEM_CONFIG": str(self.home / "system.toml"),
            "TERM": "xterm",
            "LANG": "C.UTF-8",
        }

    def type(self, line: str) -> Said:
        line = line.replace("--host news.example.net", self.provider)
        done = type_command(
            line, environment=self.environment, directory=self.home, answers=ANSWERS
        )
        evidence.secret(PASSWORD, PASSPHRASE)
        evidence.command(shlex.split(line, comments=True), {}, done.text, "")
        evidence.answers(self.home / ".local/share/usenetfs")
        return done

    def clean_up(self) -> None:
        """End what a failed test left."""
        for mount in mounts.read_mounts():
            if mount.mountpoint.is_relative_to(self.home):
                mounts.unmount(mount.mountpoint, lazy=True)
        for lock in self.home.rglob("lock"):
            wait_until(lambda lock=lock: not lock.read_text(), f"{lock} is free", 60)  # type: ignore[misc]
            with exclusive(lock, name="x", purpose="cleaning up"):
                pass
        evidence.logs(self.home)
        shutil.rmtree(self.home)


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """The options that reach INN, in place of the example's host."""
    folder = Path(tempfile.mkdtemp(prefix="ufs-docs-"))
    folder.chmod(0o755)
    certificates = Certificates(folder)
    pair = (certificates.certificate, certificates.key)
    with PrivateInn(folder / "inn", users={"me": PASSWORD}, tls=pair) as inn:
        yield f"--host localhost --port {inn.tls_port} --ca-file {certificates.ca_file}"
    shutil.rmtree(folder)


@pytest.fixture
def machines(provider: str) -> Iterator[dict[str, Machine]]:
    """By the word behind ``sh``."""
    made = {}
    for kind in ("", "new-machine"):
        home = Path(tempfile.mkdtemp(prefix="ufs-home-"))
        # What unlocking costs is for attackers; here it would be most of the time.
        (home / "system.toml").write_text(
            '[keys]\nmemory = "19 MiB"\niterations = 2\n[upload]\ncheck_delay = "50 ms"\n'
        )
        for folder in ("Pictures", "Music"):
            (home / folder).mkdir()
        (home / "Pictures/shore.jpg").write_bytes(os.urandom(2_000_000))
        (home / "Music/song.flac").write_bytes(os.urandom(1_000_000))
        (home / "Music/old.txt").write_text("lyrics")
        made[kind] = Machine(home, provider)
    yield made
    for machine in made.values():
        machine.clean_up()


def blocks(document: str) -> list[tuple[str, list[str]]]:
    """The shell blocks of a document: the word behind ``sh``, and the commands."""
    text = (ROOT / document).read_text()
    found = re.findall(r"^```sh *([a-z-]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(kind, [line for line in body.splitlines() if line]) for kind, body in found]


def commands() -> list[tuple[str, str]]:
    """What a reader of one document after the other types."""
    return [
        (kind, line)
        for document in DOCUMENTS
        for kind, lines in blocks(document)
        for line in lines
        if kind != "install"
    ]


def _logs(home: Path) -> str:
    """The end of what the daemons there said of their work: where a failure is explained."""
    logs = (path for path in sorted(home.rglob("*.log")) if path.is_file())
    return "\n".join(path.read_text(errors="replace")[-3000:] for path in logs)


def test_each_command_works(machines: dict[str, Machine]) -> None:
    shown = ""
    for kind, command in commands():
        done = machines[kind].type(command)
        assert done.status == 0, f"{command}\n{done.text}\n{_logs(machines[kind].home)}"
        assert "Traceback" not in done.text
        shown += done.text
    assert PASSWORD not in shown
    assert PASSPHRASE not in shown
    assert shown.count("Recovery key.") == 1
    original = (machines[""].home / "Music/song.flac").read_bytes()
    assert (machines[""].home / "back/Music/song.flac").read_bytes() == original


def test_mounted_and_copying_within_five_commands() -> None:
    """README's first block: from an account to files in the mount."""
    first = next(lines for kind, lines in blocks("README.md") if kind == "")
    assert len(first) == 5
    assert first[-1].startswith("cp ")


def test_nothing_but_installation_is_left_out() -> None:
    kinds = {kind for document in DOCUMENTS for kind, _ in blocks(document)}
    assert kinds == {"", "install", "new-machine"}


def test_colours_and_bars_are_for_terminals_that_want_them(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "")
    assert "\x1b[3" in machine.type("usenetfs doctor --offline").text
    assert "\x1b[3" not in machine.type("NO_COLOR=1 usenetfs doctor --offline").text
    assert "\x1b" not in machine.type("usenetfs doctor --offline | cat").text
    assert "\x1b" not in machine.type("TERM=dumb usenetfs doctor --offline").text
