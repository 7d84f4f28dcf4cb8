"""Directories that are there only while something is made in them.

Whoever makes one holds a lock on it, which the kernel lets go when the process ends, however it
does. So the next one who makes such a directory can tell what was left behind, and removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SUFFIX: Final = r"[a-z0-9_]{8}"
"""What ``mkdtemp`` adds to a prefix."""


@contextlib.contextmanager
def unfinished(parent: Path, prefix: str) -> Iterator[Path]:
    """A new directory in ``parent``, gone with the block unless it was renamed. OSError."""
    _sweep(parent, prefix)
    making = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        claim = os.open(making, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX)
            yield making
        finally:
            os.close(claim)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _sweep(parent: Path, prefix: str) -> None:
    """Remove those whose makers are gone."""
    pattern = re.compile(re.escape(prefix) + SUFFIX)
    for other in list(parent.iterdir()):
        if not pattern.fullmatch(other.name):
            continue
        try:
            claim = os.open(other, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # not of our making, or gone
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(other, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(claim)
