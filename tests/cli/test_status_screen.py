"""The status on a whole screen, and the terminal that it is shown on."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from tests.cli.conftest import User
from tests.status_reports import BUSY, NOW, figures
from usenetfs.cli.graph import bar, graph, nice_top, resampled, shares
from usenetfs.cli.output import say_json
from usenetfs.cli.status_screen import Past, screen
from usenetfs.cli.status_view import render
from usenetfs.control.model import (
    HistoryReport,
    RecentError,
    Sample,
    SpeedReport,
    StatusReport,
    TransferReport,
)

ESCAPE = "\x1b]0;evil\x07\x1b[2J\udcffname\r\n"


def printed(content: RenderableType, width: int, height: int = 60) -> list[str]:
    """The lines that come out of a terminal of this size."""
    console = Console(file=io.StringIO(), width=width, height=height, highlight=False)
    console.print(content)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(text).removesuffix("\n").split("\n")


def past_of(seconds: int = 300) -> Past:
    past = Past()
    samples = [Sample(NOW - seconds + n, upload=1e6 * n, download=5e5) for n in range(seconds)]
    past.learn(HistoryReport(samples=tuple(samples)))
    return past


def test_watch_view_and_command_show_the_numbers_of_the_json() -> None:
    """And so does the page: tests/control/test_page.py."""
    wanted = figures(BUSY.to_json())
    for lines in (
        printed(render(BUSY, now=NOW), 200),
        printed(screen(BUSY, past_of(), now=NOW, width=200, height=60), 200),
    ):
        text = " ".join(" ".join(lines).split())
        assert [figure for figure in wanted if figure not in text] == []


@pytest.mark.parametrize("height", [5, 10, 24, 30, 60])
@pytest.mark.parametrize("width", [40, 80, 132, 250])
def test_it_fills_the_terminal_and_no_more(width: int, height: int) -> None:
    long = "x" * 300
    crowded = replace(
        BUSY,
        mountpoint=f"/{long}",
        servers=tuple(replace(server, last_error=long) for server in BUSY.servers * 5),
        recent_errors=(RecentError(NOW, "network", long, long, 10),) * 20,
        transfers=(TransferReport(f"/{long}", "up", 10**12, 10**11, 9, "post"),) * 12,
    )
    for status in (BUSY, crowded, StatusReport("photos"), StatusReport("photos", pid=1)):
        lines = printed(screen(status, past_of(), now=NOW, width=width, height=height), width)
        assert len(lines) == height
        assert max(map(len, lines)) <= width
        assert lines[0].startswith("photos")
        assert lines[-1].startswith("q or Ctrl-C")


def test_who_is_shut_out_is_told_first() -> None:
    fenced = replace(BUSY, checkpoint=replace(BUSY.checkpoint, fenced="writer ab of epoch 2"))
    lines = printed(screen(fenced, Past(), now=NOW, width=80, height=24), 80)
    assert "another writer has taken over: writer ab" in lines[1]


def test_why_it_is_not_new() -> None:
    lines = printed(screen(BUSY, Past(), now=NOW, width=80, height=24, note="no answer"), 80)
    assert lines[-1] == "no answer"


def test_names_give_the_terminal_no_orders() -> None:
    hostile = replace(
        BUSY,
        mountpoint=ESCAPE,
        transfers=(TransferReport(ESCAPE, "up", 10, 5, 1, "post"),),
        recent_errors=(RecentError(NOW, "network", ESCAPE, ESCAPE),),
        servers=(replace(BUSY.servers[1], last_error=ESCAPE),),
        jobs=tuple(replace(job, name=ESCAPE) for job in BUSY.jobs),
        checkpoint=replace(BUSY.checkpoint, awaited_files=1, awaited=(ESCAPE,), fenced=ESCAPE),
    )
    for content in (
        render(hostile, now=NOW),
        screen(hostile, Past(), now=NOW, width=120, height=60),
    ):
        text = "\n".join(printed(content, 120))
        assert "name??" in text
        assert not set(text) & set("\x1b\x07\r\x9b\udcff")


def test_the_past_goes_on_from_what_the_daemon_knew() -> None:
    past = past_of(10)
    for second in range(3):
        total = SpeedReport(total_bytes=second * 5_000_000)
        past.note(StatusReport("p", time=NOW + second, upload=total))
        past.note(StatusReport("p", time=NOW + second, upload=total))  # the same one again
    assert [value for _, value in past.up][-2:] == [5e6, 5e6]
    past.note(StatusReport("p", time=NOW + 9))  # mounted anew: counters begin at zero
    assert past.up[-1][1] == 0
    past.note(StatusReport("p"))


# --- characters ----------------------------------------------------------------------------------


def test_a_graph() -> None:
    assert graph([0, 1, 2, 3, None, 4], 1, 4) == [" ▂▄▆ █"]
    assert graph([4, 2], 2, 4) == ["█ ", "██"]
    assert graph([1e-9], 1, 4) == ["▁"]
    assert [nice_top(v) for v in (0, 1, 3, 6, 51, 0.3)] == [1, 1, 5, 10, 100, 0.5]
    assert resampled([(0, 1), (5, 3), (9, 5), (10, 7)], 2, 10, 10) == [1, 5]
    assert bar(0.5, 4) == ("██", "  ")
    assert bar(0.3, 4) == ("█▎", "  ")
    assert bar(9, 2) == ("██", "")


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=6), st.integers(0, 300))
@example([1, 1, 1, 3, 3], 5)
def test_shares_fill_the_width(amounts: list[int], width: int) -> None:
    given = shares(amounts, width)
    if sum(amounts) and width >= len(amounts):
        assert sum(given) == width
        assert [bool(share) for share in given] == [bool(amount) for amount in amounts]
    else:
        assert not any(given)


# --- a real terminal -----------------------------------------------------------------------------


class Terminal:
    """A pseudo-terminal with a program in it."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self.descriptor = descriptor
        self.process = process
        self.output = b""

    def until(self, wanted: bytes) -> None:
        """Wait for output."""
        deadline = time.monotonic() + 20
        while wanted not in self.output:
            left = deadline - time.monotonic()
            assert left > 0, self.output
            if select.select([self.descriptor], [], [], left)[0]:
                self.output += os.read(self.descriptor, 65536)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def type(self, keys: bytes) -> None:
        os.write(self.descriptor, keys)


def _take_terminal() -> None:
    """So that Ctrl-C is a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def terminal(user: User, *arguments: str) -> Iterator[Terminal]:
    leader, follower = pty.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    kept = {k: v for k, v in os.environ.items() if not k.startswith("USENETFS_")}
    environment = {**kept, **user.environment, "TERM": "xterm-256color"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    before = termios.tcgetattr(follower)
    process = subprocess.Popen(
        [sys.executable, "-m", "usenetfs", *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment,
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - no thread runs here
    )
    try:
        yield Terminal(leader, process)
        assert process.wait(20) == 0
        assert termios.tcgetattr(follower) == before
    finally:
        process.kill()
        process.wait()
        os.close(leader)
        os.close(follower)


def test_it_takes_the_terminal_and_gives_it_back(user: User) -> None:
    user.filesystem()
    with terminal(user, "status", "--watch") as shown:
        shown.until(b"q or Ctrl-C")
        assert b"\x1b[?1049h" in shown.output  # the alternate screen
        assert b"not mounted" in shown.output
        shown.output = b""
        shown.resize(50, 10)
        shown.until(b"q or Ctrl-C")
        shown.type(b"x")
        shown.type(b"q")
        shown.until(b"\x1b[?1049l")


def test_ctrl_c_ends_it_as_well(user: User) -> None:
    user.filesystem()
    with terminal(user, "status", "-w") as shown:
        shown.until(b"q or Ctrl-C")
        shown.type(b"\x03")
        shown.until(b"\x1b[?1049l")


def test_without_a_terminal_it_says_what_to_do(user: User) -> None:
    user.filesystem()
    done = user.run("status", "--watch")
    assert done.exit_code == 2
    assert "--json" in done.output


def test_the_link_needs_a_page(user: User) -> None:
    user.filesystem()
    done = user.run("status", "--link")
    assert "is not mounted" in done.output


def test_json_carries_what_is_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"mountpoint": "/mnt/\udcff", "name": "fotos é"}
    say_json(value)
    said = capsys.readouterr().out
    said.encode()
    assert json.loads(said) == value
    say_json({"name": "é"})
    assert "é" in capsys.readouterr().out
