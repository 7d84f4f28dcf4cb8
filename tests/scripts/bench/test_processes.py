"""Processes that are measured end, are measured, and never stay behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scripts.bench.processes import Watch, cpu_of, ended_whatever_happens, run_measured
from scripts.bench.samples import BenchError

BURN = "import time\nt = time.process_time()\nwhile time.process_time() < t + 0.2: pass\n"


def test_cpu_of_a_process_and_of_its_child_are_counted() -> None:
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}])\n{BURN}"
    ended = run_measured([sys.executable, "-c", child + "print('done')"], timeout=60)
    assert ended.cpu_seconds >= 0.4
    assert ended.seconds >= 0.4
    assert ended.peak_rss > 1 << 20
    assert ended.stdout == "done\n"


def test_failure_carries_the_last_words() -> None:
    with pytest.raises(BenchError, match=r"ended with 3: no luck"):
        run_measured(
            [sys.executable, "-c", "import sys; print('no luck'); sys.exit(3)"], timeout=60
        )


def test_one_that_takes_too_long_is_ended() -> None:
    with pytest.raises(BenchError, match="took longer"):
        run_measured(["sleep", "60"], timeout=0.1)


def test_one_that_runs_is_ended_when_the_block_is_left() -> None:
    process = subprocess.Popen(["sleep", "60"])
    with pytest.raises(KeyboardInterrupt), ended_whatever_happens(process):
        raise KeyboardInterrupt
    assert process.poll() is not None


def test_a_watch_counts_from_its_beginning() -> None:
    talk = f"{BURN}print(1, flush=True)\ninput()\n{BURN}print(2, flush=True)\ninput()\n"
    process = subprocess.Popen(
        [sys.executable, "-c", talk], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "1\n"
        watch = Watch.begin(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "2\n"
        assert 0.15 <= watch.cpu_seconds() < cpu_of(process.pid)
        assert watch.peak_rss() > 1 << 20
        process.stdin.write("\n")
        process.stdin.close()
    with pytest.raises(BenchError, match="has ended"):
        watch.cpu_seconds()
