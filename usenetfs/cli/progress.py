"""Showing how a drain goes on while another call waits for it.

A call that lasts (sync, unmount) runs in a thread of its own; meanwhile this asks for the status
and shows what is left. On a terminal that is one line that changes; elsewhere nothing. But when no
server answers, so that the wait has no end in sight, that is said everywhere, once, with the reason
and with how to leave.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Self, TypeVar

from usenetfs.cli.output import clean, note
from usenetfs.config.units import human_duration, human_size
from usenetfs.control.client import ControlClient
from usenetfs.control.model import CheckpointReport, StatusReport
from usenetfs.errors import UsenetfsError

T = TypeVar("T")

INTERVAL: Final = 0.5
"""Seconds between two looks, on a terminal."""

QUIET_INTERVAL: Final = 2.0
"""The same elsewhere, where there is only one thing to say."""

PATIENCE: Final = 5.0
"""Seconds without any server after which the wait is called one without an end."""


def while_draining(client: ControlClient, call: Callable[[], T], doing: str, *, leave: str) -> T:
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
    with Watch(client, doing, leave=leave) as watch:
        while not done.wait(watch.interval):
            watch.look()
    if errors:
        raise errors[0]
    return results[0]


class Watch:
    """A wait for a daemon, as a person sees it. ``leave``: how to stop waiting, for a hint."""

    def __init__(self, client: ControlClient, doing: str, *, leave: str) -> None:
        self._client = client
        self._doing = doing
        self._leave = leave
        self._line = Line()
        self._down_since: float | None = None
        self._said = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.show("")

    @property
    def interval(self) -> float:
        """Seconds until the next look is worth it."""
        return INTERVAL if self._line.shown else QUIET_INTERVAL

    def look(self) -> None:
        """Show how things are now; nothing when the daemon cannot be asked."""
        try:
            status = self._client.status()
        except UsenetfsError:
            self._line.show("")
            return
        self._line.show(describe(status, self._doing))
        self._say_if_held_up(status, time.monotonic())

    def _say_if_held_up(self, status: StatusReport, now: float) -> None:
        if not _none_answers(status):
            self._down_since = None
            return
        if self._down_since is None:
            self._down_since = now
        if self._said or now - self._down_since < PATIENCE:
            return
        self._said = True
        self._line.show("")
        for text in describe_held_up(status):
            note(text)
        note(f"hint: {self._leave}")


def _none_answers(status: StatusReport) -> bool:
    return bool(status.servers) and all(server.state == "down" for server in status.servers)


def describe_held_up(status: StatusReport) -> list[str]:
    """Why a drain does not end while no server answers, a reason for each."""
    left = f", {human_size(status.pending_bytes)} left" if status.pending_bytes else ""
    return [
        f"usenetfs: {status.name}: no server answers{left}; waiting until one does",
        *(
            f"  {server.name}: {clean(server.last_error or 'no reason is known')}"
            for server in status.servers
        ),
    ]


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
    if _none_answers(status):
        down = ", ".join(server.name for server in status.servers)
        parts.append(f"no server answers ({down})")
    return ", ".join(parts)


def _some(checkpoint: CheckpointReport) -> str:
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
