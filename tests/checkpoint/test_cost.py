"""What a checkpoint costs does not follow the size of the index (the figures for a million files:
``make bench-checkpoint``)."""

from __future__ import annotations

from pathlib import Path

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
