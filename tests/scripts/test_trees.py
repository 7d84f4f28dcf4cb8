"""The trees that benchmarks and demonstrations copy."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.trees import copy_sized_tree, hashes, total_size


def test_a_sized_tree_has_the_size_whatever_the_library_has(tmp_path: Path) -> None:
    copy_sized_tree(tmp_path)
    assert sum(len(names) for _, _, names in os.walk(tmp_path)) == 2400
    assert 0 <= 100_000_000 - total_size(tmp_path) < 2400
    cut = list(hashes(tmp_path / "more").values())
    assert len(set(cut)) == len(cut)
