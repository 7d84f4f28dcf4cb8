"""NZBGet fetching what an NZB names, as a contestant.

It is a server itself: it is started, given the NZB, and asked until its history has it. The time is
from giving to there, the CPU what the process used meanwhile. What it wrote is compared by the
caller, outside of that time.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.bench.processes import Watch, ended_whatever_happens
from scripts.bench.samples import BenchError
from scripts.private_inn import free_port
from scripts.world import Endpoint

START_TIMEOUT: Final = 30.0
FETCH_TIMEOUT: Final = 600.0
TICK: Final = 0.02
"""Seconds between questions: the error of the time taken."""
USER, PASSWORD = "bench", "bench"

# Its defaults, but: nothing is unpacked or repaired, articles are joined in memory and written in
# large pieces (what its own documentation recommends for speed), nothing is kept in logs.
CONFIGURATION: Final = """\
MainDir={folder}
DestDir=${{MainDir}}/dst
InterDir=${{MainDir}}/inter
NzbDir=${{MainDir}}/nzb
QueueDir=${{MainDir}}/queue
TempDir=${{MainDir}}/tmp
WebDir=
LockFile=${{MainDir}}/lock
Server1.Active=yes
Server1.Host={host}
Server1.Port={port}
Server1.Connections={connections}
Server1.Encryption=no
ControlIP=127.0.0.1
ControlPort={control}
ControlUsername={user}
ControlPassword={password}
OutputMode=log
WriteLog=none
NzbLog=no
DirectWrite=yes
ArticleCache=256
WriteBuffer=1024
ParCheck=manual
ParRename=no
RarRename=no
Unpack=no
DupeCheck=no
AppendCategoryDir=no
DiskSpace=0
"""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A download that NZBGet says it finished."""

    seconds: float
    cpu_seconds: float
    peak_rss: int
    folder: Path
    """Where the files are."""


class NzbGet:
    """A running NZBGet. Made by :func:`running`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self._port = port

    def fetch(self, nzb: str, name: str) -> Fetched:
        """Fetch all that the NZB names. BenchError unless it says that it succeeded."""
        watch = Watch.begin(self._process.pid)
        content = base64.b64encode(nzb.encode()).decode()
        started = time.perf_counter()
        to_top = paused = False
        added = self.call(
            "append", f"{name}.nzb", content, "", 0, to_top, paused, "", 0, "SCORE", []
        )
        if not isinstance(added, int) or added <= 0:
            raise BenchError(f"NZBGet did not take the NZB: {added!r}")
        entry = self._until_finished(added, started + FETCH_TIMEOUT)
        seconds = time.perf_counter() - started
        if not str(entry["Status"]).startswith("SUCCESS"):
            raise BenchError(f"NZBGet ended with {entry['Status']}")
        return Fetched(seconds, watch.cpu_seconds(), watch.peak_rss(), Path(entry["DestDir"]))

    def _until_finished(self, number: int, deadline: float) -> dict[str, Any]:
        pause = threading.Event()
        while time.perf_counter() < deadline:
            for entry in self.call("history"):
                if entry["NZBID"] == number:
                    return dict(entry)
            pause.wait(TICK)
        raise BenchError(f"NZBGet did not finish within {FETCH_TIMEOUT:g} s")

    def call(self, method: str, *parameters: object) -> Any:
        """One call of its JSON-RPC interface."""
        body = json.dumps({"method": method, "params": parameters}).encode()
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/jsonrpc",
            body,
            {"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)["result"]
        except (OSError, ValueError) as error:
            raise BenchError(f"NZBGet does not answer: {error}") from error


@contextlib.contextmanager
def running(program: Path, server: Endpoint, folder: Path, *, connections: int) -> Iterator[NzbGet]:
    """An NZBGet that fetches from ``server`` into ``folder``; it is ready."""
    folder.mkdir()
    port = free_port()
    configuration = folder / "nzbget.conf"
    configuration.write_text(
        CONFIGURATION.format(
            folder=folder,
            host=server.host,
            port=server.port,
            connections=connections,
            control=port,
            user=USER,
            password=PASSWORD,
        )
    )
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [program, "-s", "-c", configuration],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    with ended_whatever_happens(process):
        peer = NzbGet(process, port)
        _until_ready(peer, process, folder / "output")
        yield peer


def _until_ready(peer: NzbGet, process: subprocess.Popen[bytes], output: Path) -> None:
    pause = threading.Event()
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(BenchError):
            peer.call("version")
            return
        pause.wait(TICK)
    raise BenchError(f"NZBGet did not start: {output.read_text(errors='replace')[-1000:]}")
