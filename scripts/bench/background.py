"""What else goes on in a mounted filesystem while somebody watches a film from it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from typing import Final

from scripts.bench.samples import BenchError
from scripts.bench.shelf import Shelf
from scripts.world import COMMAND, Mount

BULK: Final = """\
n=0
while :; do
    n=$((n + 1))
    head -c 400000000 /dev/zero |
        openssl enc -aes-128-ctr -nosalt -pbkdf2 -pass pass:$n >"$1/bulk$((n % 3))" || exit 1
done
"""
"""Files of 400 MB, each of other octets, or nothing would be uploaded."""
VERIFY: Final = 'while :; do "$1" verify --data "$2" || exit 1; done'
COPIES: Final = 'n=0; while :; do n=$((n + 1)); cp -r "$2" "$1/tree$n" || exit 1; done'


@contextlib.contextmanager
def background(shelf: Shelf, mount: Mount) -> Iterator[dict[str, float]]:
    """A bulk upload, copies of the tree within the mount, and verifications that fetch everything,
    over and over, until the block ends.

    What they wrote is removed afterwards, and the filesystem is as it was. What is yielded gets
    figures of what they did when the block ends.
    """
    folder = mount.path / "beside"
    folder.mkdir()
    figures: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        for script in (BULK, COPIES):
            command = ["sh", "-c", script, "sh", folder, mount.path / "tree"]
            stack.enter_context(_running(command, None))
        command = ["sh", "-c", VERIFY, "sh", COMMAND, mount.name]
        stack.enter_context(_running(command, shelf.world.environment))
        yield figures
        figures.update(_done(shelf, mount))
    subprocess.run(["rm", "-rf", folder], check=True)
    shelf.world.run("sync", mount.name, timeout=600)


def _done(shelf: Shelf, mount: Mount) -> dict[str, float]:
    """Megabytes verified and posted meanwhile, and how long the player's articles took to come."""
    status = json.loads(shelf.world.run("status", mount.name, "--json").stdout)
    (fetches,) = (kind for kind in status["operations"] if kind["kind"] == "fetch")
    verified = status["verified"]
    if not verified["bytes_read"] or verified["lost"] or not status["upload"]["total_bytes"]:
        raise BenchError("verification or upload did nothing meanwhile")
    return {
        "verified MB": verified["bytes_read"] / 1e6,
        "uploaded MB": status["upload"]["total_bytes"] / 1e6,
        "fetch p50 ms": (fetches["median"] or 0.0) * 1000,
        "fetch p95 ms": (fetches["p95"] or 0.0) * 1000,
    }


@contextlib.contextmanager
def _running(command: Sequence[object], environment: dict[str, str] | None) -> Iterator[None]:
    """The command and all that it starts, ended when the block is left."""
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
