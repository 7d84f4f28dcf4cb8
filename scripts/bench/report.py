"""How results are shown and kept: a table, a JSON file, a section of ``docs/benchmarks.md``.

In the document each scenario has a block of its own between two comment lines, with the machine,
the date and the commit it was run on, so that one can be run again without the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from scripts.bench.machine import CHECKOUT, Machine
from scripts.bench.samples import MB, Entry, Result, Spread, as_json, ratio, spread

DOCUMENT: Final = CHECKOUT / "docs" / "benchmarks.md"
RESULTS: Final = CHECKOUT / ".cache" / "bench"

RATIO: Final = 3
"""The column with the ratio to the baseline."""

Row = Sequence[str]


def table_of(result: Result) -> tuple[Row, list[Row]]:
    """Heading and rows: one row for each contestant, in the order given."""
    extras = list(
        dict.fromkeys(name for e in result.entries for sample in e.samples for name in sample.extra)
    )
    baseline = next((e for e in result.entries if e.name == result.baseline), None)
    columns = ["", "seconds", "MB/s", f"× {result.baseline}", "CPU s/GB", "peak MB", *extras]
    rows = [_row(entry, baseline, extras) for entry in result.entries]
    if len(rows) == 1 and len(rows[0]) == len(columns):
        # Nobody to compare with; and of latencies there is no speed.
        kept = [n for n, text in enumerate(rows[0]) if n != RATIO and (text or n == 0)]
        return [columns[n] for n in kept], [[rows[0][n] for n in kept]]
    return columns, rows


def _row(entry: Entry, baseline: Entry | None, extras: Iterable[str]) -> Row:
    if not entry.samples:
        return (entry.name, "FAILED" if entry.failure else f"absent: {entry.absent}")
    factor = ratio(entry, baseline) if baseline is not None else None
    samples = entry.samples
    return (
        entry.name + (" (FAILED)" if entry.failure else ""),
        _figure(spread([s.seconds for s in samples])),
        _figure(spread([s.speed for s in samples])),
        "" if factor is None else f"{factor:.2f}",
        _figure(spread([s.cpu_per_gb for s in samples])),
        _figure(spread([s.peak_rss and s.peak_rss / MB for s in samples])),
        *(_figure(spread([s.extra.get(name) for s in samples])) for name in extras),
    )


def _figure(value: Spread | None) -> str:
    """The median, and the others in brackets."""
    if value is None:
        return ""
    if value.low == value.high:
        return _number(value.median)
    return f"{_number(value.median)} ({_number(value.low)}–{_number(value.high)})"


def _number(value: float) -> str:
    """Three digits that mean something."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or size == 0 else 4
    return f"{value:,.{digits}f}"


def show(results: Sequence[Result], machine: Machine, console: Console) -> None:
    """Print tables."""
    for result in results:
        heading, rows = table_of(result)
        table = Table(title=result.title, title_justify="left", show_edge=False, pad_edge=False)
        for number, name in enumerate(heading):
            table.add_column(name, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        console.print()
        console.print(table)
        for entry in result.entries:
            if entry.failure:
                console.print(f"{entry.name}: {entry.failure}", markup=False, highlight=False)
    console.print(f"\n{machine.text}; {machine.date}, commit {machine.version}", highlight=False)


def save(name: str, results: Sequence[Result], machine: Machine, folder: Path = RESULTS) -> Path:
    """Write all of it as JSON; the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{re.sub('[^0-9]', '', machine.date)}.json"
    whole = {
        "benchmark": name,
        "machine": machine.as_json(),
        "scenarios": [as_json(result) for result in results],
    }
    path.write_text(json.dumps(whole, indent=1) + "\n")
    return path


# --- the document --------------------------------------------------------------------------------


def record(
    name: str, results: Sequence[Result], machine: Machine, document: Path = DOCUMENT
) -> None:
    """Put each scenario's block into the section of benchmark ``name``, or replace it there."""
    text = document.read_text()
    for result in results:
        text = with_block(text, name, result.key, markdown(result, machine))
    document.write_text(text)


def markdown(result: Result, machine: Machine) -> str:
    """A scenario as a heading, a table and a line that says on what."""
    heading, rows = table_of(result)
    width = len(heading)
    lines = [f"**{result.title}**", ""]
    lines.append("| " + " | ".join(heading) + " |")
    lines.append("|---|" + "--:|" * (width - 1))
    lines.extend("| " + " | ".join([*row, *[""] * (width - len(row))]) + " |" for row in rows)
    rounds = max((len(entry.samples) for entry in result.entries), default=0)
    lines += ["", f"{rounds} rounds. {machine.text}; {machine.date}, commit {machine.version}."]
    return "\n".join(lines)


def with_block(text: str, name: str, key: str, block: str) -> str:
    """``text`` with the block of a scenario replaced, or added at the end of its section.

    A section lies between ``<!-- NAME -->`` and ``<!-- /NAME -->``. ValueError without one.
    """
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, found, rest = text.partition(start)
    inside, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"there is no section {start.strip()} … {end.strip()}")
    opening, closing = f"<!-- {name}: {key} -->\n", f"<!-- end of {key} -->\n"
    whole = f"{opening}{block}\n{closing}"
    old = re.compile(re.escape(opening) + r".*?" + re.escape(closing), re.DOTALL)
    inside, replaced = old.subn(lambda _: whole, inside)
    if not replaced:
        inside = f"{inside}{whole}\n"
    return f"{before}{start}{inside}{end}{after}"
