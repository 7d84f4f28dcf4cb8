"""News servers to measure against, and the distance to them: processes of their own.

Each is a context that leaves nothing behind, its spool included.
"""

from __future__ import annotations

import contextlib
import secrets
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.bench.processes import ended_whatever_happens
from scripts.bench.samples import BenchError
from scripts.private_inn import InnError, PrivateInn
from scripts.world import Endpoint, ServerProcess

RELAY_START: Final = 30.0


@contextlib.contextmanager
def inn(folder: Path) -> Iterator[Endpoint]:
    """A private INN with an empty spool."""
    directory = folder / f"inn-{secrets.token_hex(3)}"
    try:
        with PrivateInn(directory) as server:
            yield Endpoint(server.host, server.port)
    except InnError as error:
        raise BenchError(f"the private INN: {error}") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def embedded(folder: Path) -> Iterator[Endpoint]:
    """``usenetfs nntpd`` with an empty spool."""
    directory = folder / f"nntpd-{secrets.token_hex(3)}"
    try:
        with ServerProcess(directory) as server:
            yield server.endpoint
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def distance(
    server: Endpoint, round_trip: float, *, rate: float | None = None
) -> Iterator[Endpoint]:
    """The server, ``round_trip`` seconds away, on a line of ``rate`` octets a second; the server
    itself when there is neither."""
    if not round_trip and rate is None:
        yield server
        return
    command = [sys.executable, "-m", "usenetfs.nntpd.relay"]
    command += ["--target", f"{server.host}:{server.port}", "--round-trip", str(round_trip)]
    if rate is not None:
        command += ["--rate", str(rate)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    with process, ended_whatever_happens(process):
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], RELAY_START)[0]:
            raise BenchError(f"the relay did not start within {RELAY_START:g} s")
        host, _, port = process.stdout.readline().decode().strip().rpartition(":")
        if not port:
            raise BenchError("the relay did not start")
        yield Endpoint(host, int(port))
