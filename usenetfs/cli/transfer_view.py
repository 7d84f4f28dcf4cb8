"""How an upload or download is shown: bars on a terminal, plain lines elsewhere, or JSON lines.

Events come in, as ``docs/transfers.md`` lists them; results (JSON, the names of a listing) go to
standard output, all else to standard error. What was not transferred is said as it happens, and
counted for the exit status.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from usenetfs.cli.output import clean, console, note
from usenetfs.config.units import human_duration, human_size
from usenetfs.errors import DataUnavailableError, PartialTransferError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Event = dict[str, Any]

PLAIN_INTERVAL: Final = 5.0
"""Seconds between two lines of progress where there is no terminal."""


class TransferView:
    """A context manager. ``doing`` and ``done``: ``uploading``, ``uploaded``."""

    def __init__(self, doing: str, done: str, *, as_json: bool = False) -> None:
        self._doing = doing
        self._done = done
        self._as_json = as_json
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = time.monotonic()
        self._end: Event | None = None
        self._lost = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def _start_bars(self) -> None:
        """With the first event: before it a passphrase may be asked for, on the same terminal."""
        if self._bars is None and not self._as_json and sys.stderr.isatty():
            self._bars = _bars()
            self._bars.start()
            self._task = self._bars.add_task(self._doing, total=None, amount="", speed="", left="")

    def show(self, event: Event) -> None:
        """One event."""
        self._start_bars()
        if event["event"] == "end":
            self._end = event
        elif event["event"] == "lost":
            self._lost += 1
        if self._as_json:
            with contextlib.suppress(BrokenPipeError):
                sys.stdout.write(json.dumps(event) + "\n")
                sys.stdout.flush()
            return
        match event["event"]:
            case "progress":
                self._progress(event)
            case "failed":
                self._say(f"failed: {event['path']}: {event['reason']}")
            case "lost":
                self._say(self._lost_line(event))
            case "warning":
                self._say(f"warning: {event['path']}: {event['reason']}")
            case "file":
                self._file(event)
            case "omitted":
                self._say(f"… and {event['count']:,} more")

    def finish(self) -> None:
        """Say how it ended; PartialTransferError when something could not be
        transferred, DataUnavailableError when no server has it."""
        end = self._end
        if end is None:
            return
        if not self._as_json:
            note(self._summary(end))
        failed = end["files"]["failed"]
        if failed:
            kind = DataUnavailableError if self._lost else PartialTransferError
            raise kind(
                f"{failed:,} {'file' if failed == 1 else 'files'} could not be {self._done}",
                hint="the reasons are above; the same command again goes on with what is missing",
            )

    def _summary(self, end: Event) -> str:
        files, size = end["files"], end["bytes"]
        moved = files["done"] - files["skipped"] - files["failed"]
        text = (
            f"{max(moved, 0):,} files, {human_size(size['done'] - size['skipped'])}, {self._done}"
            f" in {human_duration(end['seconds'])}"
        )
        if files["skipped"]:
            text += f"; {files['skipped']:,} were there already"
        return text + "."

    def _progress(self, event: Event) -> None:
        if self._bars is not None and self._task is not None:
            self._move_bar(self._bars, self._task, event)
        elif time.monotonic() - self._last_line >= PLAIN_INTERVAL:
            self._last_line = time.monotonic()
            note(self._line(event))

    def _line(self, event: Event) -> str:
        return progress_line(self._doing, event)

    def _lost_line(self, event: Event) -> str:
        return f"lost: {event['path']} at byte {event['offset']:,}: {event['reason']}"

    def _move_bar(self, bars: Progress, bar: TaskID, event: Event) -> None:
        bars.update(bar, **self._bar(event))
        bars.refresh()

    def _bar(self, event: Event) -> dict[str, Any]:
        """What the bar is to show."""
        size = event["bytes"]
        safe = size["done"] - event.get("pending", 0)
        current = "" if not event["current"] else clean(event["current"][0])
        doing = "waiting for the servers" if event["phase"] == "waiting" else self._doing
        return {
            "description": f"{doing} {current[-40:]}".strip(),
            "total": None if event["counting"] else max(size["found"], size["done"], 1),
            "completed": safe,
            "amount": f"{human_size(safe)}/{human_size(max(size['found'], size['done']))}",
            "speed": f"{human_size(event['speed'])}/s",
            "left": time_left(event),
        }

    def _file(self, event: Event) -> None:
        line = f"{event['action']}: {clean(event['path'])}"
        if self._bars is not None:
            self._bars.console.print(line, markup=False, highlight=False)
        else:
            sys.stdout.write(line + "\n")

    def _say(self, text: str) -> None:
        if self._bars is not None:
            self._bars.console.print(clean(text), markup=False, highlight=False)
        else:
            note(clean(text))


def progress_line(doing: str, event: Event) -> str:
    """``uploading: 1.2 GB of 3.4 GB, 120 of 400 files, 90.1 MB/s, 24 s left``."""
    size, files = event["bytes"], event["files"]
    safe = size["done"] - event.get("pending", 0)
    parts = [
        f"{human_size(safe)} of {human_size(max(size['found'], size['done']))}",
        f"{files['done']:,} of {max(files['found'], files['done']):,} files",
        f"{human_size(event['speed'])}/s",
    ]
    if event["counting"]:
        parts[0] += " or more"
    if time_left(event):
        parts.append(f"{time_left(event)} left")
    return f"{doing}: {', '.join(parts)}"


def time_left(event: Event) -> str:
    """``24 s``, or nothing where it is not known."""
    seconds = event.get("time_left")
    return "" if seconds is None else human_duration(seconds)


def _bars() -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[amount]}", markup=False),
        TextColumn("{task.fields[speed]}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
        console=console(stderr=True),
        auto_refresh=False,
        transient=True,
    )
