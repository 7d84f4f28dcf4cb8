"""Processes that are measured: run to their end, or watched while they serve.

Owns every process it starts: leaving in whatever way ends it. CPU is user + system time of the
process and of the children it waited for. Peak memory of a process that has ended is the kernel's
``ru_maxrss``, which is never less than what *this* process had when it started the other; so the
clients that are ours say themselves what they needed.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

from scripts.bench.samples import BenchError

TICKS: Final = os.sysconf("SC_CLK_TCK")
LAST_WORDS: Final = 2000
"""Characters of what a failed process said that are worth showing."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that ran to its end, with success."""

    seconds: float
    cpu_seconds: float
    peak_rss: int
    """Octets."""
    stdout: str
    stderr: str


def run_measured(
    command: Sequence[str | Path],
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Ended:
    """Run it to its end. BenchError when it fails or takes longer than ``timeout`` seconds."""
    words = [str(word) for word in command]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, cwd=directory
        )
        with ended_whatever_happens(process):
            usage = wait_for(process, timeout)
            seconds = time.perf_counter() - started
        stdout, stderr = _content(out), _content(err)
    said = (stderr.strip() or stdout.strip())[-LAST_WORDS:]
    if usage is None:
        raise BenchError(f"{Path(words[0]).name} took longer than {timeout:g} s: {said}")
    if process.returncode:
        raise BenchError(f"{Path(words[0]).name} ended with {process.returncode}: {said}")
    return Ended(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, stdout, stderr)


def wait_for(process: subprocess.Popen[bytes], timeout: float) -> resource.struct_rusage | None:
    """What the process used, once it has ended; None if it runs longer than ``timeout``."""
    descriptor = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(timeout * 1000):
            return None
    finally:
        os.close(descriptor)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


@contextlib.contextmanager
def ended_whatever_happens(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the process (politely, then not) when the block is left and it still runs."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


# --- processes that serve ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Watch:
    """What a running process had used when the watch began; its peak memory counts from then."""

    pid: int
    cpu_before: float

    @classmethod
    def begin(cls, pid: int) -> Self:
        with contextlib.suppress(OSError):  # another user's process: the peak is of its whole life
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        return cls(pid, cpu_of(pid))

    def cpu_seconds(self) -> float:
        """CPU seconds since the watch began."""
        return cpu_of(self.pid) - self.cpu_before

    def peak_rss(self) -> int:
        """Octets."""
        for line in _proc(self.pid, "status").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise BenchError(f"process {self.pid} has ended")


def cpu_of(pid: int) -> float:
    """User + system seconds of a running process and of the children it has waited for."""
    # The name in brackets may contain anything; fields are counted behind it (proc(5)).
    fields = _proc(pid, "stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise BenchError(f"process {pid} has ended") from error
