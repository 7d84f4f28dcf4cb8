"""What is said while a command waits for a mount: on a pipe nothing, unless it cannot end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.status_reports import BUSY
from usenetfs.cli import progress
from usenetfs.cli.progress import Watch
from usenetfs.control.model import StatusReport
from usenetfs.errors import ControlError


class Daemon:
    """Answers with each of ``reports`` in turn; None: it does not answer."""

    def __init__(self, *reports: StatusReport | None) -> None:
        self._reports: Iterator[StatusReport | None] = iter(reports)

    def status(self) -> StatusReport:
        report = next(self._reports)
        if report is None:
            raise ControlError("it does not answer")
        return report


def with_servers(*states: str) -> StatusReport:
    server = replace(BUSY.servers[0], last_error="connection \x1b[31mrefused")
    servers = tuple(
        replace(server, name=f"s{place}", state=state) for place, state in enumerate(states)
    )
    return replace(BUSY, servers=servers)


DOWN, HALF = with_servers("down", "down"), with_servers("down", "idle")


def said(capsys: pytest.CaptureFixture[str], *reports: StatusReport | None) -> list[str]:
    watch = Watch(Daemon(*reports), "syncing", leave="go home")  # type: ignore[arg-type]
    with watch:
        for _ in reports:
            watch.look()
    return capsys.readouterr().err.splitlines()


def test_a_wait_without_any_server_says_once_why_and_how_to_leave(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    lines = said(capsys, DOWN, DOWN, None, DOWN)
    assert "no server answers" in lines[0]
    assert lines[1:] == [
        "  s0: connection ?[31mrefused",
        "  s1: connection ?[31mrefused",
        "hint: go home",
    ]


def test_while_one_server_answers_nothing_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    assert said(capsys, HALF, None, HALF) == []


def test_servers_that_are_down_for_a_moment_are_not_worth_a_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert said(capsys, DOWN, HALF, DOWN, DOWN) == []
