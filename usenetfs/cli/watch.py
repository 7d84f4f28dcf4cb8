"""``usenetfs status --watch``: the status as a screen of its own, again every second.

Owns the terminal while it lasts: the alternate screen, and a keyboard that answers at once. Both
are as before at the end, however it comes about. ``q`` and Ctrl-C end it; a terminal of another
size is filled at once. A daemon that does not answer for a while does not end it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from usenetfs.cli.status_screen import Past, screen
from usenetfs.control.model import HistoryReport, StatusReport
from usenetfs.errors import ControlError, UsageError

INTERVAL: Final = 1.0
_QUIT: Final = frozenset(b"qQ\x03\x04")


def watch_status(read: Callable[[], StatusReport], read_past: Callable[[], HistoryReport]) -> None:
    """Show what ``read`` gives until somebody presses q or Ctrl-C. UsageError without a
    terminal."""
    from rich.console import Console
    from rich.live import Live

    output = Console(highlight=False)
    if not output.is_terminal:
        raise UsageError(
            "--watch needs a terminal", hint="for programs: usenetfs status --json, or docs/api.md"
        )
    past = Past()
    status = read()  # what is wrong from the beginning is said as by any command
    past.learn(read_past())
    with (
        _keyboard() as keyboard,
        Live(console=output, screen=True, auto_refresh=False) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        note = ""
        while True:
            past.note(status)
            now = status.time or time.time()
            while True:
                width, height = output.size
                live.update(
                    screen(status, past, now=now, width=width, height=height, note=note),
                    refresh=True,
                )
                happened = keyboard.wait(INTERVAL)
                if happened is not RESIZED:
                    break
            if happened is QUIT:
                return
            try:
                status, note = read(), ""
            except ControlError as error:
                note = f"{error.message}; asked again"


QUIT: Final = "quit"
RESIZED: Final = "resized"
PASSED: Final = "passed"


class Keyboard:
    """Keys of ``descriptor`` (None: no keys) and changes of the terminal's size."""

    def __init__(self, descriptor: int | None, wakeups: int) -> None:
        self._descriptor = descriptor
        self._wakeups = wakeups

    def wait(self, seconds: float) -> str:
        """:data:`QUIT`, :data:`RESIZED`, or :data:`PASSED` when nothing of that came in time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            watched = [self._wakeups]
            if self._descriptor is not None:
                watched.append(self._descriptor)
            ready, _, _ = select.select(watched, [], [], left)
            if self._wakeups in ready:
                os.read(self._wakeups, 4096)
                return RESIZED
            if ready:
                keys = os.read(self._descriptor or 0, 64)
                if not keys:
                    self._descriptor = None  # it was closed
                elif _QUIT.intersection(keys):
                    return QUIT
        return PASSED


@contextlib.contextmanager
def _keyboard() -> Iterator[Keyboard]:
    """The keyboard of this process, key by key and unseen; as before at the end."""
    import termios
    import tty

    descriptor = sys.stdin.fileno() if sys.stdin.isatty() else None
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    before = None if descriptor is None else termios.tcgetattr(descriptor)
    former = signal.signal(signal.SIGWINCH, lambda *_: _wake(write_end))
    try:
        if descriptor is not None:
            tty.setcbreak(descriptor)
        yield Keyboard(descriptor, read_end)
    finally:
        signal.signal(signal.SIGWINCH, former)
        if descriptor is not None and before is not None:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        os.close(read_end)
        os.close(write_end)


def _wake(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.write(descriptor, b"w")
