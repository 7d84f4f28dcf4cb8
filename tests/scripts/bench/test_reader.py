"""The reader reads all of it, and its percentiles are those of what it took."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.bench import reader
from scripts.bench.data import sha256, write_compressible, write_random, write_tar
from scripts.bench.writers import main as write_all


def test_each_kind_reads_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name, size in (("a/1", 3_000_000), ("a/b/2", 0), ("a/b/3", 17)):
        (tmp_path / name).write_bytes(os.urandom(size))
    one = str(tmp_path / "a" / "1")
    assert reader.sequential([one, one])["octets"] == 6_000_000
    assert reader.tree([str(tmp_path)]) == {"octets": 3_000_017, "files": 3}
    found = reader.random_pages([one, "9"])
    assert found["octets"] == 9 * 4096
    assert 0 < found["p50 ms"] <= found["p99 ms"] <= found["max ms"]
    assert reader.first([one, str(tmp_path / "a" / "b" / "3")])["octets"] == 2


def test_a_player_takes_its_time(tmp_path: Path) -> None:
    path = tmp_path / "film"
    write_random(path, 4_000_000)
    found = reader.player([str(path), "0.3"])
    assert 500_000 <= found["octets"] <= 3_000_000
    assert found["stall p50 ms"] <= found["stall max ms"]
    assert found["seek max ms"] > 0


def test_reading_an_empty_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(EOFError):
        reader.first([str(tmp_path / "empty")])


def test_percentiles() -> None:
    found = reader.percentiles([n / 1000 for n in range(1, 101)], "stall")
    assert found["stall p50 ms"] == pytest.approx(51)
    assert found["stall p99 ms"] == found["stall max ms"] == pytest.approx(100)


def test_payloads_are_the_same_for_the_same_seed_and_as_long_as_asked(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_random(tmp_path / name, 1_500_001, seed=seed)
        assert (tmp_path / name).stat().st_size == 1_500_001
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b") != sha256(tmp_path / "c")
    write_compressible(tmp_path / "text", 300_000)
    assert (tmp_path / "text").stat().st_size == 300_000


def test_many_writers_copy_all_of_it(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for number in range(20):
        (source / str(number)).write_bytes(os.urandom(100))
    write_all(source, target, 7)
    for path in source.iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()
    write_tar(tmp_path / "tar", source)
    assert (tmp_path / "tar").stat().st_size > 2000
