"""A PostgreSQL cluster in the mount: made, filled, killed, recovered, back from the server.

Needs Debian's ``postgresql`` (``make test-long`` installs it). Its programs refuse to run as root,
so they run as ``nobody`` there.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.world import Mount, World
from tests.e2e.conftest import NAME

pytestmark = [pytest.mark.fuse, pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = 50_000


def _program(name: str) -> str:
    """Where Debian puts it, or anybody else."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = str(debian[-1]) if debian else shutil.which(name)
    assert found is not None, f"{name} is missing: apt-get install postgresql"
    return found


class Cluster:
    """A cluster in ``data``, with its socket in ``sockets``."""

    def __init__(self, data: Path, sockets: Path) -> None:
        self.data, self.sockets = data, sockets
        self.user = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        for folder in (data, sockets):
            folder.mkdir(mode=0o700)
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)

    def run(self, name: str, *arguments: str) -> str:
        as_user = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        done = subprocess.run(
            [_program(name), *arguments],
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", "PGHOST": str(self.sockets)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            **(as_user if os.getuid() == 0 else {}),  # type: ignore[call-overload]
        )
        assert done.returncode == 0, f"{name} {arguments}\n{done.stdout}{done.stderr}"
        output: str = done.stdout
        return output

    def make(self) -> None:
        self.run("initdb", "-D", str(self.data), "-U", "tester", "-A", "trust")

    def start(self) -> None:
        options = f"-k {self.sockets} -c listen_addresses=''"
        log = self.sockets / "log"
        command = ("-D", str(self.data), "-w", "-t", "300", "-o", options, "-l", str(log))
        self.run("pg_ctl", "start", *command)

    def stop(self, how: str) -> None:
        self.run("pg_ctl", "stop", "-D", str(self.data), "-w", "-t", "300", "-m", how)

    def ask(self, sql: str) -> str:
        return self.run("psql", "-U", "tester", "-d", "postgres", "-Atc", sql).strip()


@pytest.fixture
def mount(world: World) -> Mount:
    return world.mount(NAME, "-o", "allow_other")


@pytest.fixture
def sockets(folder: Path) -> Path:
    return folder / "s"


def test_a_cluster_lives_in_the_mount(world: World, mount: Mount, sockets: Path) -> None:
    mount.path.chmod(0o755)
    cluster = Cluster(mount.path / "cluster", sockets)
    cluster.make()
    cluster.start()
    cluster.ask("CREATE TABLE numbers (n int PRIMARY KEY, text text)")
    cluster.ask(f"INSERT INTO numbers SELECT n, md5(n::text) FROM generate_series(1, {ROWS}) n")
    wanted = cluster.ask("SELECT count(*), md5(string_agg(text, '' ORDER BY n)) FROM numbers")
    cluster.stop("immediate")  # no orderly end: it has to recover from its own log
    cluster.start()
    checked = "SELECT count(*), md5(string_agg(text, '' ORDER BY n)) FROM numbers"
    assert cluster.ask(checked) == wanted
    cluster.ask("UPDATE numbers SET text = md5(text) WHERE n % 3 = 0")
    cluster.ask("VACUUM FULL numbers")
    wanted = cluster.ask(checked)
    cluster.stop("fast")
    mount.stop()
    world.drop_cache()
    mount.start("-o", "allow_other")
    cluster.start()
    assert cluster.ask(checked) == wanted
    cluster.run("pg_amcheck", "-U", "tester", "-d", "postgres", "--install-missing")
    cluster.stop("fast")
    mount.stop()
