"""Showing how a drain goes on while another call waits for it.

A call that lasts (sync, unmount) runs in a thread of its own; meanwhile this asks for the status
twice a second and shows what is left. On a terminal it is one line that changes; otherwise nothing.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from usenetfs.config.units import human_duration, human_size
from usenetfs.control.client import ControlClient
from usenetfs.control.model import CheckpointReport, StatusReport
from usenetfs.errors import UsenetfsError

T = TypeVar("T")

INTERVAL: Final = 0.5


def while_draining(client: ControlClient, call: Callable[[], T], doing: str) -> T:
    """The result of ``call``, or its error; shows progress until then.

    The thread is a daemon thread: Ctrl-C gives up waiting, the daemon goes on by itself.
    """
    done = threading.Event()
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001  carried to the waiting thread
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=work, name=doing, daemon=True).start()
    with Line() as line:
        while not done.wait(INTERVAL):
            if line.shown:
                line.show(progress_text(client, doing))
    if errors:
        raise errors[0]
    return results[0]


def progress_text(client: ControlClient, doing: str) -> str:
    """One line about what is left; empty when the daemon cannot be asked."""
    try:
        return describe(client.status(), doing)
    except UsenetfsError:
        return ""


def describe(status: StatusReport, doing: str) -> str:
    """``photos: syncing, 1.20 GB left, 90.1 MB/s, about 14 s``."""
    parts = [f"{status.name}: {doing}"]
    if status.pending_bytes:
        parts.append(f"{human_size(status.pending_bytes)} left")
    if status.upload.now:
        parts.append(f"{human_size(status.upload.now)}/s")
    if status.time_left is not None:
        parts.append(f"about {human_duration(status.time_left)}")
    checkpoint = status.checkpoint
    if checkpoint.awaited_files:
        parts.append(f"{checkpoint.awaited_files:,} files are being changed: {_some(checkpoint)}")
    down = [server.name for server in status.servers if server.state == "down"]
    if down and len(down) == len(status.servers):
        parts.append(f"no server answers ({', '.join(down)})")
    return ", ".join(parts)


def _some(checkpoint: CheckpointReport) -> str:
    from usenetfs.cli.status_view import clean

    more = checkpoint.awaited_files > len(checkpoint.awaited)
    return ", ".join((*map(clean, checkpoint.awaited), *(("…",) if more else ())))


class Line:
    """One line at the bottom of the terminal that is rewritten; nothing elsewhere."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.show("")

    def show(self, text: str) -> None:
        """Replace the line by ``text``."""
        if self.shown:
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()
