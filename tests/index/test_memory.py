"""Memory follows the page cache that was asked for, not the index (R18)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.bench.index_fill import fill

SCRIPT = """
import json, random, sys
from pathlib import Path
from scripts.bench import index_measure as measure
from scripts.bench.index_fill import KEY, load_samples
from usenetfs.index.index import Index

path, cache = Path(sys.argv[1]), int(sys.argv[2])
samples = load_samples(path)
bare = measure.resident()
with Index.open(path, directory_key=KEY, cache=cache) as index:
    measure.lookups(index, samples, random.Random(1))
    measure.block_lookups(index, samples, random.Random(1))
    measure.insert_files(index, 5000)
    print(json.dumps(measure.resident() - bare))
"""


def held(path: Path, cache: int) -> float:
    """Octets that a process holds after reading all over an index and writing to it."""
    command = [sys.executable, "-c", SCRIPT, str(path), str(cache)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return float(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_memory_does_not_follow_the_index(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    fill(path, 100_000, 300_000)
    assert path.stat().st_size > 50 << 20
    assert held(path, 4 << 20) < 20 << 20
    assert held(path, 16 << 20) < 36 << 20
