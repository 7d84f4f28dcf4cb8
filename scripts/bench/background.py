"""What else goes on in a mounted filesystem while somebody watches a film from it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Final

from scripts.bench.shelf import Shelf
from scripts.world import Mount

BULK: Final = """\
n=0
while :; do
    n=$((n + 1))
    head -c 400000000 /dev/zero |
        openssl enc -aes-128-ctr -nosalt -pbkdf2 -pass pass:$n >"$1/bulk$((n % 3))" || exit 1
done
"""
"""Files of 400 MB, each of other octets, or nothing would be uploaded."""
COPIES: Final = 'n=0; while :; do n=$((n + 1)); cp -r "$2" "$1/tree$n" || exit 1; done'


@contextlib.contextmanager
def background(shelf: Shelf, mount: Mount) -> Iterator[None]:
    """A bulk upload and copies of the tree within the mount, over and over, until the block ends.

    What they wrote is removed afterwards, and the filesystem is as it was.
    """
    folder = mount.path / "beside"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        for script in (BULK, COPIES):
            stack.enter_context(_running(["sh", "-c", script, "sh", folder, mount.path / "tree"]))
        yield
    subprocess.run(["rm", "-rf", folder], check=True)
    shelf.world.run("sync", mount.name, timeout=600)


@contextlib.contextmanager
def _running(command: list[object]) -> Iterator[None]:
    """The command and all that it starts, ended when the block is left."""
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
