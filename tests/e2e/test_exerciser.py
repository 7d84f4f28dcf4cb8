"""Random work on a file in a mount gives what memory gives, whatever is dropped in between."""

from __future__ import annotations

import random

import pytest

from scripts.world import Mount, World
from tests.e2e.conftest import NAME
from tests.e2e.exerciser import Exerciser

pytestmark = [pytest.mark.fuse]

OPERATIONS = 3_000


@pytest.mark.parametrize("options", [(), ("-o", "writeback")], ids=["plain", "writeback"])
def test_a_file_is_what_was_done_to_it(world: World, options: tuple[str, ...]) -> None:
    mount = world.mount(NAME, *options)
    with Exerciser(mount.path / "file", seed=1) as exerciser:
        exerciser.run(OPERATIONS, every=(1_000, lambda: _forget_everything(mount)))
    assert len(exerciser.counts) == 10, "a kind of operation never came"
    mount.stop()


def _forget_everything(mount: Mount) -> None:
    """What can be fetched again has to be."""
    mount.sync()
    mount.world.run("cache", "drop", NAME)


@pytest.mark.slow
@pytest.mark.timeout(1700)
@pytest.mark.parametrize("options", [(), ("-o", "writeback")], ids=["plain", "writeback"])
def test_two_hundred_thousand_operations(world: World, options: tuple[str, ...]) -> None:
    mount = world.mount(NAME, *options)
    seed = random.SystemRandom().getrandbits(32)
    with Exerciser(mount.path / "file", seed) as exerciser:
        exerciser.run(200_000, every=(20_000, lambda: _forget_everything(mount)))
    mount.stop()
