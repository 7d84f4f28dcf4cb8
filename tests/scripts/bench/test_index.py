"""The index benchmark at a size that takes a moment: what it builds and leaves is sound."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from scripts.bench import index, index_measure, plot, report
from scripts.bench.index_fill import fill, load_samples, reopen
from scripts.bench.index_tree import LARGE_BLOCKS, directories
from scripts.bench.machine import describe
from scripts.bench.samples import Entry, Result, Sample
from usenetfs.index.spreading import spread

FILES = 600


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.db"


def test_the_tree_is_reproducible_and_its_parents_come_first() -> None:
    made = list(directories(FILES))
    assert made == list(directories(FILES))
    assert sum(len(one.files) for one in made) == FILES
    known = {1}
    for one in made:
        assert one.parent in known
        known.add(one.number)
        assert len(set(one.files)) == len(one.files)
    assert max(len(one.path) for one in made) > 2


def test_what_is_built_passes_the_check(path: Path) -> None:
    fill(path, FILES, LARGE_BLOCKS)
    with reopen(path) as built:
        assert built.check() == []
        assert built.inodes.totals().files == FILES + 1
        assert built.blocks.last(load_samples(path).large[0]) == LARGE_BLOCKS - 1  # type: ignore[arg-type]


@pytest.mark.parametrize("shards", [1, 3])
def test_the_measures_leave_it_sound(path: Path, shards: int) -> None:
    fill(path, FILES, LARGE_BLOCKS)
    spread(path, shards)
    samples, rng = load_samples(path), random.Random(1)
    with reopen(path) as built:
        figures = index_measure.lookups(built, samples, rng)
        figures |= index_measure.block_lookups(built, samples, rng)
        figures |= index_measure.sizes(built, samples)
        figures |= index_measure.insert_files(built, 100)
        figures |= index_measure.insert_blocks(built, 100)
        figures |= index_measure.write_path(built, 100)
        figures |= index_measure.deletions(built, samples, rng)
        assert built.check(deep=True) == []
        assert built.blocks.last(samples.large[-1]) is None  # type: ignore[arg-type]
    assert all(value > 0 for value in figures.values()), figures


def test_the_table_and_the_picture_name_every_size() -> None:
    columns = [{"files": n, **dict.fromkeys(index.CURVES, 1.0)} for n in (100.0, 2000.0)]
    text = index.markdown(columns, describe())
    assert text.startswith("| files | 100 | 2,000 |\n|---|--:|--:|\n")
    assert "| lookup µs | 1 | 1 |" in text
    root = ET.fromstring(index.picture(columns))
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == len(index.CURVES)


def test_what_was_kept_of_several_runs_is_one_table(tmp_path: Path) -> None:
    paths = []
    for number, sizes in enumerate(((100.0, 2000.0), (100.0,))):
        samples = [Sample(0, 1.0, extra={"files": n, "lookup µs": 1.0 + number}) for n in sizes]
        results = [Result("x", "x", "index", [Entry("index", [sample])]) for sample in samples]
        paths.append(report.save(f"index{number}", results, describe(), tmp_path))
    columns, machine = index.kept_results(paths)
    assert columns == [
        {"files": 100.0, "lookup µs": 2.0},
        {"files": 2000.0, "lookup µs": 1.0},
    ]
    assert machine.cores > 0


def test_a_picture_needs_points_above_zero() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        plot.svg("t", "x", "y", {"a": [(1, 0)]})
    with pytest.raises(ValueError, match="greater than 0"):
        plot.svg("t", "x", "y", {})


def test_sizes_are_numbers_with_a_letter() -> None:
    assert index.parse_sizes("10k,5M,7") == [10_000, 5_000_000, 7]
    with pytest.raises(ValueError, match="invalid literal"):
        index.parse_sizes("many")
    assert list(islice(directories(0), 1)) == []
