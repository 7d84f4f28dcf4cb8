"""What the kernel allows a FUSE mount by itself is little; where we may, it is raised.

Two limits hold readers back, both of the mounted device alone:

- ``/sys/class/bdi/MAJOR:MINOR/read_ahead_kb``: how far the kernel reads ahead, 128 KiB. It also
  bounds the size of one request, so raising it means fewer requests for the same bytes;
- ``/sys/fs/fuse/connections/MINOR/max_background`` (and ``congestion_threshold``): requests of the
  kernel's read-ahead under way at once, 12.

Both need root. Without it nothing is said and nothing is missing but speed: read-ahead of our own
(``transfer/fetch/prefetch.py``) hides the round trips anyway. Both vanish with the mount.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

log = logging.getLogger("usenetfs.performance")

LARGEST_REQUEST: Final = 1 << 20
"""Bytes of a request of FUSE: 256 pages at most."""
PAGE: Final = 4096
MAX_BACKGROUND: Final = 128

SYSFS: Final = Path("/sys")


def read_ahead_kib(block_size: int) -> int:
    """The largest request of whole blocks, or of equal parts of one; else the largest at all.

    Read from its start in large pieces, a file is then asked for block by block, and each answer is
    a slice of an article. One that spans two blocks has to be put together from both: a copy of
    every byte (measured: 2.57 s of the event loop's processor time a GB, and 2.31 block by block).
    """
    least = -(-block_size // LARGEST_REQUEST)
    wholes = (block_size * max(1, LARGEST_REQUEST // block_size),)
    parts = (block_size // parts for parts in range(least, 2 * least) if not block_size % parts)
    fitting = (size for size in (wholes if least == 1 else parts) if not size % PAGE)
    return next(fitting, LARGEST_REQUEST) // 1024


def raise_kernel_limits(mountpoint: Path, block_size: int, *, sysfs: Path = SYSFS) -> list[str]:
    """Raise what may be raised, never lower anything; the files that were written. Never fails.

    Asks the mount for its device: call it in a thread while the mount answers.
    """
    try:
        device = os.stat(mountpoint).st_dev
    except OSError as error:
        log.debug("the device of %s is not known: %s", mountpoint, error)
        return []
    bdi = sysfs / "class" / "bdi" / f"{os.major(device)}:{os.minor(device)}"
    connection = sysfs / "fs" / "fuse" / "connections" / str(os.minor(device))
    wanted = (
        (bdi / "read_ahead_kb", read_ahead_kib(block_size)),
        (connection / "max_background", MAX_BACKGROUND),
        (connection / "congestion_threshold", MAX_BACKGROUND * 3 // 4),
    )
    return [str(file) for file, value in wanted if _raise(file, value)]


def _raise(file: Path, value: int) -> bool:
    try:
        before = int(file.read_text())
        if before >= value:
            return False
        file.write_text(str(value))
    except (OSError, ValueError) as error:
        log.debug("%s stays as it is: %s", file, error)
        return False
    log.debug("%s raised from %d to %d", file, before, value)
    return True
