"""Run the suite in parallel, with coverage if asked; the last line is pytest's summary.

    python -m scripts.run_tests [--coverage] [--keep-logs DIR] [pytest options…]

Coverage is measured in the daemons and commands that the tests start as well, so it is combined
and held against the floor in pyproject.toml after pytest has ended; pytest's summary line is then
said again, because that is the line that a log is read for. The exit status is pytest's, or that of
the coverage report if only the floor is missed, or 1 if only a secret was found.

``--keep-logs DIR`` (a folder that is not there yet) keeps what commands and daemons said, their
logs, answers, arguments and crash reports in DIR, together with the secrets that the tests used,
and searches the first for the second at the end (``scripts.find_secrets``). DIR is for this machine
alone.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from scripts import evidence, find_secrets

ROOT = Path(__file__).resolve().parent.parent
SUMMARY = re.compile(r"^=* ?(?:\d+ \w+,? ?)+.* in [\d.]+s.*$")
WORKERS = "4"
"""Twice the cores that the suite has to get by with: the end-to-end tests mostly wait (measured:
25 minutes with two workers, half of that with four)."""


def main(arguments: list[str]) -> int:
    """Run pytest with ``arguments``; returns the exit status."""
    # Whatever a shell starts in the background ignores Ctrl-C, and so would what the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with_coverage = "--coverage" in arguments
    options = [argument for argument in arguments if argument != "--coverage"]
    kept = _take_folder(options)
    python = [sys.executable]
    if with_coverage:
        _coverage("erase")
        python += ["-m", "coverage", "run"]
    command = [*python, "-m", "pytest", "-n", WORKERS, "--dist", "loadfile", *options]
    status, summary = _run(command, kept)
    if with_coverage:
        _coverage("combine", "--quiet")
        report = _coverage("report")
        status = status or report
    if kept is not None:
        status = find_secrets.search(kept) or status
    print(summary or "no summary: pytest did not finish", flush=True)
    return status


def _take_folder(options: list[str]) -> Path | None:
    """The folder of ``--keep-logs``, which is made and taken out of the options."""
    if "--keep-logs" not in options:
        return None
    at = options.index("--keep-logs")
    folder = Path(options[at + 1]).resolve()
    del options[at : at + 2]
    folder.mkdir(mode=0o700, parents=True)
    return folder


def _run(command: list[str], kept: Path | None) -> tuple[int, str]:
    """Run ``command``, passing its output on; its status and its last summary line."""
    summary = ""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if kept is not None:
        environment[evidence.VARIABLE] = str(kept)
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, errors="replace", env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if SUMMARY.match(line.strip()):
                summary = line.strip()
    return process.returncode, summary


def _coverage(*arguments: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "coverage", *arguments], cwd=ROOT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
