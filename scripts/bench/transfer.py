"""What the two transfer clients share: their command line, the payload, and what they report.

A client is a program of its own, so that what it uses can be told from what the benchmark uses. It
is given a file, the Message-IDs (one a line, in the order of the file's pieces) and a server; it
moves all of it and prints one line of JSON. The time runs from before the first connection to after
the last reply, without the interpreter's start.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import trio

from scripts.bench.articles import BLOCK, count
from usenetfs.daemon.memory import keep_large_buffers
from usenetfs.types import MessageId

Check = Literal["open", "bytes", "plain"]
CHECKS: Final[tuple[Check, ...]] = ("open", "bytes", "plain")
"""Of what was fetched: that it opens under its seal; and that its bytes are the file's, too; for
articles that were not sealed: that its bytes are the file's."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a client is to do."""

    host: str
    port: int
    connections: int
    depth: int
    """Requests in flight on a connection."""
    check: Check
    ids: Sequence[MessageId]
    payload: Payload
    post_ahead: bool
    """Whether POST is sent before the reply to the article before it (the bare loop never does)."""


class Payload:
    """The file, in pieces. Not mapped: what is mapped counts as the client's memory."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.size = os.fstat(self._file.fileno()).st_size

    def __len__(self) -> int:
        return count(self.size)

    def piece(self, number: int) -> bytes:
        return os.pread(self._file.fileno(), BLOCK, number * BLOCK)


Work = Callable[[Job], Awaitable[None]]


def main(upload: Work, download: Work, arguments: Sequence[str] | None = None) -> int:
    """A client's program."""
    parser = argparse.ArgumentParser(description="Move one file over NNTP and say how fast.")
    parser.add_argument("work", choices=("upload", "download"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--post-ahead", action="store_true")
    parser.add_argument("--check", choices=CHECKS, default="open")
    parser.add_argument("--ids", type=Path, required=True)
    parser.add_argument("--file", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    ids = [MessageId(line) for line in chosen.ids.read_text().split()]
    payload = Payload(chosen.file)
    if len(ids) != len(payload):
        parser.error(f"{len(payload)} pieces and {len(ids)} Message-IDs")
    job = Job(
        chosen.host,
        chosen.port,
        chosen.connections,
        chosen.depth,
        chosen.check,
        ids,
        payload,
        chosen.post_ahead,
    )
    keep_large_buffers()
    work = upload if chosen.work == "upload" else download
    before, started = _cpu(), time.perf_counter()
    trio.run(work, job)
    seconds, cpu = time.perf_counter() - started, _cpu() - before
    print(
        json.dumps(
            {"seconds": seconds, "cpu_seconds": cpu, "peak_rss": _peak(), "size": payload.size}
        )
    )
    return 0


def is_right(job: Job, number: int, data: bytes | bytearray | memoryview) -> bool:
    """Whether an opened (or plain) piece is the file's, as far as the job wants it compared."""
    return job.check == "open" or data == job.payload.piece(number)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak() -> int:
    """Octets; of this program alone (``ru_maxrss`` would count its parent's, too)."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
