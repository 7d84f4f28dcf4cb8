"""``usenetfs status --watch``: the status again and again, in place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from usenetfs.cli.output import console
from usenetfs.cli.status_view import render
from usenetfs.control.model import StatusReport

INTERVAL: Final = 1.0


def watch_status(read: Callable[[], StatusReport], *, stop: threading.Event | None = None) -> None:
    """Show what ``read`` gives until Ctrl-C, or until ``stop`` is set."""
    from rich.live import Live

    stop = stop or threading.Event()
    screen = console()
    with Live(
        render(read()), console=screen, screen=screen.is_terminal, auto_refresh=False
    ) as live:
        while not stop.wait(INTERVAL):
            live.update(render(read()), refresh=True)
