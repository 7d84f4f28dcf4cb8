"""Tables, JSON and the blocks in the document."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from scripts.bench import report
from scripts.bench.machine import Machine, describe
from scripts.bench.samples import Entry, Result, Sample

MACHINE = Machine(
    "a processor",
    2,
    24 << 30,
    "6.1",
    "3.11.2",
    "0123456789ab",
    dirty=True,
    date="2026-01-02 03:04 UTC",
)


def result(speed: float = 100.0, key: str = "up") -> Result:
    size = 100_000_000
    ours = [Sample(size, size / 1e6 / speed, 0.2, 50_000_000, {"cp s": 1.5})] * 2
    base = [Sample(size, 1.0)] * 2
    entries = [
        Entry("usenetfs", list(ours)),
        Entry("bare", list(base)),
        Entry("Nyuu", absent="make bench-peers installs it"),
        Entry("NZBGet", failure="wrong bytes"),
    ]
    return Result(key, "1 GB up", "bare", entries)


def test_a_row_for_each_contestant_absent_and_failed_ones_too() -> None:
    heading, rows = report.table_of(result(50))
    assert list(heading) == ["", "seconds", "MB/s", "× bare", "CPU s/GB", "peak MB", "cp s"]
    assert list(rows[0]) == ["usenetfs", "2.00", "50.0", "0.50", "2.00", "50.0", "1.50"]
    assert list(rows[1]) == ["bare", "1.00", "100", "1.00", "", "", ""]
    assert list(rows[2]) == ["Nyuu", "absent: make bench-peers installs it"]
    assert list(rows[3]) == ["NZBGet", "FAILED"]


def test_a_spread_is_shown_where_there_is_one() -> None:
    entry = Entry("a", [Sample(100_000_000, s) for s in (1.0, 2.0, 4.0)])
    _, rows = report.table_of(Result("k", "t", "a", [entry]))
    assert rows[0][1] == "2.00 (1.00–4.00)"


def test_one_alone_has_no_ratio_and_latencies_have_no_speed() -> None:
    entry = Entry("a", [Sample(0, 1.0, 0.5, 20_000_000, {"p50 ms": 3.0})])
    heading, rows = report.table_of(Result("k", "t", "a", [entry]))
    assert list(heading) == ["", "seconds", "peak MB", "p50 ms"]
    assert list(rows[0]) == ["a", "1.00", "20.0", "3.00"]


def test_it_is_printed_with_its_reasons() -> None:
    out = io.StringIO()
    report.show([result()], MACHINE, Console(file=out, width=200))
    text = out.getvalue()
    assert "wrong bytes" in text
    assert "commit 0123456789ab with changes" in text


def test_json_is_whole(tmp_path: Path) -> None:
    path = report.save("net", [result()], MACHINE, tmp_path / "new")
    whole = json.loads(path.read_text())
    assert whole["machine"]["commit"] == "0123456789ab"
    assert whole["scenarios"][0]["contestants"][0]["samples"][0]["extra"] == {"cp s": 1.5}


def test_a_block_is_added_then_replaced_and_the_others_stay(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text("before\n<!-- net -->\n<!-- /net -->\nafter\n")
    report.record("net", [result(100, "up"), result(10, "down")], MACHINE, document)
    report.record("net", [result(50, "up")], MACHINE, document)
    text = document.read_text()
    assert text.startswith("before\n<!-- net -->\n")
    assert text.endswith("<!-- /net -->\nafter\n")
    assert text.count("<!-- net: up -->") == text.count("<!-- net: down -->") == 1
    assert "| 2.00 | 50.0 | 0.50 |" in text
    assert "| 10.0 | 10.0 | 0.10 |" in text
    assert "| 1.00 | 100 | 1.00 | 2.00" not in text


def test_a_section_that_is_missing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no section"):
        report.with_block("nothing", "net", "up", "block")


def test_the_document_has_a_section_for_each_benchmark() -> None:
    text = report.DOCUMENT.read_text()
    for name in ("net", "write", "read"):
        assert "block\n" in report.with_block(text, name, "a-test", "block")


def test_this_machine_is_described() -> None:
    here = describe()
    assert here.cores >= 1
    assert here.memory > 1 << 28
    assert "cores" in here.text
