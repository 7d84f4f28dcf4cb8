"""What the index costs as it grows: ten thousand files to five million, four blocks to each.

A synthetic filesystem of each size is built the way ``recover`` builds an index, then opened, asked
and changed through the objects that the daemon uses. Each step is a process of its own, so that
memory and caches are its own too.

    python -m scripts.bench.index [--files 10k,100k,1M] [--shards N] [--record]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import trio
from rich.console import Console
from rich.table import Table

from scripts.bench import index_measure as measure
from scripts.bench import plot, report
from scripts.bench.index_fill import fill, load_samples, reopen
from scripts.bench.index_mount import mounting
from scripts.bench.machine import Machine, describe
from scripts.bench.samples import Entry, Result, Sample
from usenetfs.index.shard_files import shard_files
from usenetfs.index.spreading import spread

Figures = dict[str, float]

FURTHER: Final = 3
"""Blocks of large files for each small file."""

DEFAULT_SIZES: Final = "10k,100k,1M"
PICTURE: Final = report.DOCUMENT.with_name("index-cost.svg")
CURVES: Final = (
    "lookup µs",
    "lookup p99 µs",
    "path walk µs",
    "readdir µs",
    "block lookup µs",
    "block lookup p99 µs",
    "delete µs",
)
_SUFFIXES: Final = {"k": 1_000, "M": 1_000_000}


# --- the steps, each in a process of its own -----------------------------------------------------


def _fill(path: Path, files: int) -> Figures:
    return fill(path, files, FURTHER * files)


def _spread(path: Path, shards: int) -> Figures:
    """As ``recover --shards`` does it."""
    started = time.process_time()
    spread(path, shards)
    return {"spread, CPU s": time.process_time() - started}


def _open(path: Path, _files: int) -> Figures:
    bare = measure.resident()
    started = time.perf_counter()
    with reopen(path):
        opened = time.perf_counter() - started
        return {"open s": opened, "RSS at rest MB": measure.resident() / 1e6, "bare MB": bare / 1e6}


def _read(path: Path, _files: int) -> Figures:
    samples, rng = load_samples(path), random.Random(3)
    with reopen(path) as index:
        figures = measure.lookups(index, samples, rng)
        figures |= measure.block_lookups(index, samples, rng)
        return figures | {"RSS after reading MB": measure.resident() / 1e6}


def _sizes(path: Path, _files: int) -> Figures:
    with reopen(path) as index:
        return measure.sizes(index, load_samples(path))


def _write(path: Path, _files: int) -> Figures:
    samples, rng = load_samples(path), random.Random(4)
    with reopen(path) as index:
        figures = measure.insert_files(index, 50_000)
        figures |= measure.insert_blocks(index, 50_000)
        figures |= measure.write_path(index, 10_000)
        figures |= measure.deletions(index, samples, rng)
        return figures | {"RSS after writing MB": measure.resident() / 1e6}


def _publish(path: Path, _files: int) -> Figures:
    return trio.run(measure.publication, path)


def _sustain(path: Path, _files: int) -> Figures:
    return trio.run(measure.sustained, path)


def _dirty(path: Path, _files: int) -> Figures:
    """Writes without maintenance until the log is as long as it gets, and waits to be killed."""
    index = reopen(path)
    size = measure.lengthen_log(index)
    print(json.dumps({"WAL left by kill -9 MB": size / 1e6}), flush=True)
    signal.pause()
    raise AssertionError("it was to be killed")


STEPS: Final[Mapping[str, Callable[[Path, int], Figures]]] = {
    "fill": _fill,
    "spread": _spread,
    "open": _open,
    "read": _read,
    "sizes": _sizes,
    "write": _write,
    "publish": _publish,
    "sustain": _sustain,
    "dirty": _dirty,
    "mount": lambda path, _files: mounting(path),
}


def _run(step: str, path: Path, files: int) -> Figures:
    command = [sys.executable, "-m", "scripts.bench.index", "--step", step, str(path), str(files)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    figures: Figures = json.loads(done.stdout)
    return figures


def _kill(path: Path, files: int) -> Figures:
    command = [
        sys.executable,
        "-m",
        "scripts.bench.index",
        "--step",
        "dirty",
        str(path),
        str(files),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        figures: Figures = json.loads(child.stdout.readline())
        child.kill()
    return figures


# --- a size --------------------------------------------------------------------------------------


def build(files: int, folder: Path, shards: int = 1) -> Figures:
    """Build the index of one size in ``folder``, or take the one that was built there."""
    note = folder / "built.json"
    if not note.exists():
        _say(f"{files:,} files: fill")
        folder.mkdir(parents=True, exist_ok=True)
        built = _run("fill", folder / "index.db", files)
        if shards > 1:
            built |= _run("spread", folder / "index.db", shards)
        note.write_text(json.dumps(built))
    figures: Figures = json.loads(note.read_text())
    return figures


def of_size(files: int, built: Path, folder: Path, shards: int = 1) -> Figures:
    """All figures of one size; on a copy, because what is measured changes it."""
    path = folder / "index.db"
    figures: Figures = {"files": files, "blocks": files * (1 + FURTHER)}
    figures |= build(files, built, shards)
    for file in (built / "index.db", built / "samples.pickle", *shard_files(built / "index.db")):
        shutil.copy(file, folder)
    for step in ("open", "sizes", "read", "write", "publish", "sustain"):
        _say(f"{files:,} files: {step}")
        figures |= _run(step, path, files)
    figures |= _kill(path, files)
    after = _run("open", path, files)
    figures["open after kill -9 s"] = after["open s"]
    _say(f"{files:,} files: mount")
    figures |= _run("mount", path, files)
    return figures


def parse_sizes(text: str) -> list[int]:
    """``10k,1M`` as numbers; ValueError for what is none."""
    found = []
    for word in text.split(","):
        factor = _SUFFIXES.get(word[-1:], 1)
        found.append(int(word[:-1] if factor > 1 else word) * factor)
    return found


# --- what comes out ------------------------------------------------------------------------------


def rows_of(columns: Sequence[Figures]) -> list[tuple[str, list[str]]]:
    """A row for each figure, a column for each size."""
    names = list(dict.fromkeys(name for figures in columns for name in figures))
    return [(name, [_figure(figures.get(name)) for figures in columns]) for name in names]


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def markdown(columns: Sequence[Figures], machine: Machine) -> str:
    (_, heads), *rows = rows_of(columns)
    lines = ["| files | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(heads)]
    lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows]
    lines += ["", f"![cost against size]({PICTURE.name})"]
    lines += ["", f"{machine.text}; {machine.date}, commit {machine.version}."]
    return "\n".join(lines)


def picture(columns: Sequence[Figures]) -> str:
    lines = {name: [(f["files"], f[name]) for f in columns if name in f] for name in CURVES}
    return plot.svg("Cost of a call against the number of files", "files", "µs", lines)


def _show(columns: Sequence[Figures]) -> None:
    (_, heads), *rows = rows_of(columns)
    table = Table("files", show_edge=False, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right")
    for name, cells in rows:
        table.add_row(name, *cells)
    Console(width=120).print(table)


def _say(text: str) -> None:
    print(f"… {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-index ARGS=", description=__doc__)
    add = parser.add_argument
    add("--files", type=parse_sizes, default=parse_sizes(DEFAULT_SIZES), help=DEFAULT_SIZES)
    add("--shards", type=int, default=1, help="files that content is spread over (1)")
    add("--record", action="store_true", help="put the results into docs/benchmarks.md")
    add("--directory", type=Path, help="where to work (a temporary directory)")
    add("--keep", type=Path, help="where indexes are kept once built, and taken from")
    add("--build", action="store_true", help="build what is not kept yet, and stop")
    add("--results", type=Path, nargs="+", help="measure nothing; show what was kept in these")
    add("--step", nargs=3, metavar=("STEP", "PATH", "FILES"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        step, path, files = chosen.step
        print(json.dumps(STEPS[step](Path(path), int(files))))
        return 0
    if chosen.record and chosen.shards > 1:
        parser.error("--record is of one file")
    if chosen.build and chosen.keep is None:
        parser.error("--build needs --keep")
    if chosen.results:
        columns, machine = kept_results(chosen.results)
    else:
        columns, machine = run(chosen), describe()
    if columns:
        _show(columns)
    if columns and chosen.record:
        text = report.DOCUMENT.read_text()
        block = markdown(columns, machine)
        report.DOCUMENT.write_text(report.with_block(text, "index", "sizes", block))
        PICTURE.write_text(picture(columns))
    return 0


def run(chosen: argparse.Namespace) -> list[Figures]:
    """Measure every size that was asked for; what there is so far is kept after each."""
    columns: list[Figures] = []
    results: list[Result] = []
    machine = describe()
    for files in sorted(chosen.files):
        with tempfile.TemporaryDirectory(prefix="bench-index.", dir=chosen.directory) as text:
            folder = Path(text)
            several = f"-{chosen.shards}-shards" if chosen.shards > 1 else ""
            built = (chosen.keep or folder / "kept") / f"{files}{several}"
            if chosen.build:
                build(files, built, chosen.shards)
                continue
            started = time.perf_counter()
            columns.append(of_size(files, built, folder, chosen.shards))
        sample = Sample(0, time.perf_counter() - started, extra=columns[-1])
        entries = [Entry("index", [sample])]
        results.append(Result(str(files), f"{files:,} files", "index", entries))
        print(f"kept in {report.save('index', results, machine)}")
    return columns


def kept_results(paths: Sequence[Path]) -> tuple[list[Figures], Machine]:
    """The columns of earlier runs, the newest of each size, and what the last one ran on."""
    found: dict[float, Figures] = {}
    machine = describe()
    for path in paths:
        whole = json.loads(path.read_text())
        machine = Machine(**whole["machine"])
        for scenario in whole["scenarios"]:
            figures: Figures = scenario["contestants"][0]["samples"][0]["extra"]
            found[figures["files"]] = figures
    return [found[files] for files in sorted(found)], machine


if __name__ == "__main__":
    sys.exit(main())
