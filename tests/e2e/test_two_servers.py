"""A writer at one news server, a follower at another that is fed by the first."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from scripts.inn_pair import InnPair
from scripts.world import Endpoint, World, wait_until
from tests.e2e.conftest import NAME
from tests.e2e.test_views import same, views_of
from tests.e2e.trees import make_odd_files

pytestmark = [pytest.mark.fuse, pytest.mark.inn]

POLL = 2.0
PROPAGATION = 10.0
"""Seconds that the feed may take on a busy machine; alone it takes about one."""


def test_changes_cross_over_within_propagation_and_a_poll(folder: Path) -> None:
    with InnPair(folder / "inn") as pair:
        first = Endpoint(pair.first.host, pair.first.port)
        second = Endpoint(pair.second.host, pair.second.port)
        with World(folder / "w", first) as writing, World(folder / "r", second) as reading:
            writing.run("init", NAME)
            live = writing.mount(NAME)
            make_odd_files(live.path / "odd")
            live.sync()
            wait_until(
                lambda: reading.run("recover", NAME, check=False).returncode == 2,
                "the keys and a checkpoint cross over",
                60,
            )
            follower = views_of(
                reading, "follow", "--follow", "--set", f"checkpoint.interval={POLL:g}s"
            )
            wait_until(lambda: same(live, follower), "the tree crosses over", 60)
            for number in range(3):
                (live.path / f"file {number}").write_text(f"content {number}")
                live.sync()
                synced = time.monotonic()
                wait_until((follower.path / f"file {number}").exists, "a change crosses over", 60)
                assert time.monotonic() - synced < PROPAGATION + POLL
                assert (follower.path / f"file {number}").read_text() == f"content {number}"
            follower.stop()
            live.stop()
