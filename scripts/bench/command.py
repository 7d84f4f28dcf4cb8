"""The command line that all benchmarks share, and their exit status.

Status 0 when every contestant did its work and nothing came back wrong; 1 otherwise; 130 when
interrupted. What a benchmark needs is released in any case, because SIGTERM is treated as Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from scripts.bench import report
from scripts.bench.machine import describe
from scripts.bench.samples import GB, BenchError, Result, Scenario, run_scenario
from usenetfs.config.units import parse_size


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for.

    ``folder`` is a temporary directory of this run's own. What scenarios share is entered into
    ``stack`` by the first that needs it; it is left when the benchmark ends.
    """

    size: int
    rounds: int
    connections: int
    folder: Path
    stack: contextlib.ExitStack


WIDTH: Final = 160
"""Columns of what goes into a file or a pipe."""

Scenarios = Callable[[Options], Sequence[Scenario]]


def run_benchmark(
    name: str,
    purpose: str,
    scenarios: Scenarios,
    arguments: Sequence[str] | None = None,
    *,
    prepare: Callable[[Options], None] = lambda _: None,
    connections: int = 8,
) -> int:
    """Run the scenarios that were asked for, show and keep the results; the exit status.

    ``prepare`` makes what all of them need; only if any is run. ``connections``: unless asked for
    otherwise.
    """
    chosen = _parser(name, purpose, connections).parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=WIDTH)
    try:
        with _folder(chosen.directory) as folder, contextlib.ExitStack() as stack:
            options = Options(chosen.size, chosen.rounds, chosen.connections, folder, stack)
            wanted = _selected(scenarios(options), chosen.only)
            if chosen.list:
                for scenario in wanted:
                    print(f"{scenario.key:28} {scenario.title}")
                return 0
            if not wanted:
                print("no scenario has such a name; --list shows them", file=sys.stderr)
                return 2
            prepare(options)
            results = [run_scenario(s, chosen.rounds, progress=_say) for s in wanted]
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    machine = describe()
    report.show(results, machine, console)
    print(f"kept in {report.save(name, results, machine)}")
    if chosen.record:
        report.record(name, [result for result in results if result.ok], machine)
        print(f"recorded in {report.DOCUMENT}")
    return _status(results)


def _status(results: Sequence[Result]) -> int:
    for result in results:
        for entry in result.entries:
            if entry.failure:
                print(f"{result.title}: {entry.name} FAILED: {entry.failure}", file=sys.stderr)
    return 0 if all(result.ok for result in results) else 1


def _selected(scenarios: Sequence[Scenario], only: Sequence[str]) -> list[Scenario]:
    return [s for s in scenarios if not only or any(word in s.key for word in only)]


def _parser(name: str, purpose: str, connections: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"make bench-{name} ARGS=", description=purpose)
    add = parser.add_argument
    add("--size", type=parse_size, default=GB, help="octets of payload (1 GB)")
    add("--rounds", type=int, default=3, help="runs of each contestant (3)")
    add("--connections", type=int, default=connections, help=f"to the server ({connections})")
    add("--only", action="append", default=[], metavar="KEY", help="scenarios whose key has this")
    add("--list", action="store_true", help="name the scenarios and stop")
    add("--record", action="store_true", help="put the results into docs/benchmarks.md")
    add("--directory", type=Path, help="where to work (a temporary directory)")
    return parser


@contextlib.contextmanager
def _folder(parent: Path | None) -> Iterator[Path]:
    """A directory of this run's own. Others may enter it: INN runs as another user."""
    folder = Path(tempfile.mkdtemp(prefix="bench.", dir=parent)).resolve()
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _say(text: str) -> None:
    print(f"… {text}", file=sys.stderr, flush=True)


def settle() -> None:
    """Let the disk finish what former work left it, so that the next run does not pay for it."""
    os.sync()
