"""A small tree through a mount whose server misbehaves all the time, as a user would see it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts.world import ServerProcess, World
from tests.e2e.conftest import NAME
from tests.e2e.trees import differences

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(200)]

PLAN = """
seed 5
CONNECT  every 7   too-many      times=6
CONNECT  always    end           articles=40
POST     every 9   drop
POSTED   every 5   lose-reply
POSTED   every 7   reply         code=441 text="437 not today"
POSTED   every 8   hide          seconds=2
POSTED   every 11  discard       times=3
POSTED   every 13  rewrite-id
STAT     every 6   reply         code=430
BODY     every 9   drop-body     after=2000
BODY     every 14  reply         code=400 text=Closing
"""

SETTINGS = {
    "USENETFS_UPLOAD__CHECK_TIMEOUT": "5",
    "USENETFS_NETWORK__TIMEOUT": "5",
    "USENETFS_NETWORK__RETRY_DELAY": "0.2",
    "USENETFS_NETWORK__RETRY_MAX_DELAY": "1",
}
OPTIONS = tuple(
    word
    for name, value in SETTINGS.items()
    for word in ("--set", f"{name[9:].lower().replace('__', '.')}={value}")
)


def test_a_tree_comes_back_from_a_server_that_misbehaves(folder: Path) -> None:
    plan, tree = folder / "plan", folder / "tree"
    plan.write_text(PLAN)
    for number in range(120):
        path = tree / f"d{number % 7}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d " % number * (number * 97))
    (tree / "large").write_bytes(bytes(range(251)) * 30_000)
    with (
        ServerProcess(folder / "server", f"--faults={plan}") as server,
        World(folder, server.endpoint) as world,
    ):
        world.run("init", NAME, environment=SETTINGS, timeout=120)
        mount = world.mount(NAME, *OPTIONS)
        subprocess.run(["cp", "-a", f"{tree}/.", f"{mount.path}/"], check=True, timeout=60)
        mount.sync(timeout=120)
        world.drop_cache()
        assert differences(tree, mount.path) == []
        mount.stop()
        world.drop_cache()
        mount.start(*OPTIONS)
        assert differences(tree, mount.path) == []
        mount.stop()
