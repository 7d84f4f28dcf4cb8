"""What a checkpoint costs does not follow the size of the index (the figures for a million files:
``make bench-checkpoint``)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.bench.checkpoint import run

FILES = 20_000


async def test_a_hundred_changes_cost_little_in_a_large_index(tmp_path: Path) -> None:
    result = await run(FILES, tmp_path)
    after_changes = result["after 100 changes"]
    assert isinstance(after_changes, list)
    for checkpoint in after_changes:
        assert checkpoint["octets posted, all copies"] < 200_000
        assert checkpoint["processor_seconds"] < 1
    snapshot = result["snapshot octets posted, all copies"]
    assert isinstance(snapshot, int)
    assert snapshot > 10 * 200_000, "the index is too small to show anything"


@pytest.mark.slow
@pytest.mark.parametrize("staged", [0, 1000])
def test_memory_hardly_follows_the_number_of_changes(staged: int) -> None:
    """In a process of its own. All changes as objects at once would be more than 200 MB."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.bench.checkpoint", "--new=80000", f"--staged={staged}"],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    found = json.loads(done.stdout)
    assert found["held inodes"] == staged
    assert found["at most, MB"] - found["memory before, MB"] < 90
