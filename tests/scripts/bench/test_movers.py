"""What was downloaded wrongly is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.bench.articles import BLOCK, sealed
from scripts.bench.data import write_random
from scripts.bench.movers import Mover
from scripts.bench.samples import BenchError


def test_joined_pieces_are_compared_octet_by_octet(tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    write_random(payload, BLOCK + 1000)
    data = payload.read_bytes()
    mover = Mover(payload, tmp_path, 1)
    first, last = sealed(0, data[:BLOCK]), sealed(1, data[BLOCK:])
    joined = tmp_path / "joined"
    joined.write_bytes(first + last)
    mover.compare(joined)
    other = sealed(1, bytes(1000))
    altered = bytearray(first)
    altered[5000] ^= 1
    for wrong, why in (
        (first, "does not open"),
        (first + last + b"x", "more than was posted"),
        (first + other, "differs"),
        (bytes(altered) + last, "does not open"),
        (last + first, "does not open"),
    ):
        joined.write_bytes(wrong)
        with pytest.raises(BenchError, match=why):
            mover.compare(joined)
    joined.unlink()
    with pytest.raises(BenchError, match="there is no joined"):
        mover.compare(joined)
