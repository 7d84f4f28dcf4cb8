"""How a verification is shown, and with which status the command ends."""

from __future__ import annotations

from typing import Any

import pytest

from usenetfs.cli.exit_status import ExitStatus, exit_status
from usenetfs.cli.status_view import verification_text
from usenetfs.cli.verify_view import VerifyView, summary
from usenetfs.control.model import VerificationReport
from usenetfs.errors import UsageError, UsenetfsError
from usenetfs.health.tally import ChainFindings, Findings
from usenetfs.health.verdict import Answer, Outcome, Said


def end_of(*outcomes: Outcome, chain: ChainFindings | None = None, **more: Any) -> dict[str, Any]:
    findings = Findings(chain=chain, **more)
    for outcome in outcomes:
        said = Said.MISSING if outcome is Outcome.LOST else Said.HAS
        findings.note(outcome, {"news": Answer(said)}, 1000)
    return {**findings.progress("finished", seconds=2.0), "event": "end"}


LOST_CHAIN = ChainFindings(Outcome.LOST, newest=7, recoverable=3, keys=Outcome.PRESENT)
UNKNOWN_KEYS = ChainFindings(Outcome.PRESENT, newest=7, recoverable=7, keys=Outcome.UNKNOWN)

STATUSES = {
    "whole": (end_of(Outcome.PRESENT), ExitStatus.OK),
    "degraded and fresh": (end_of(Outcome.DEGRADED, Outcome.FRESH), ExitStatus.OK),
    "unknown": (end_of(Outcome.UNKNOWN), ExitStatus.NETWORK),
    "lost": (end_of(Outcome.LOST, files_damaged=1), ExitStatus.DATA_UNAVAILABLE),
    "lost goes first": (end_of(Outcome.LOST, Outcome.UNKNOWN), ExitStatus.DATA_UNAVAILABLE),
    "chain": (end_of(Outcome.PRESENT, chain=LOST_CHAIN), ExitStatus.DATA_UNAVAILABLE),
    "keys": (end_of(Outcome.PRESENT, chain=UNKNOWN_KEYS), ExitStatus.NETWORK),
}


@pytest.mark.parametrize("case", STATUSES)
def test_the_status_says_the_worst(case: str) -> None:
    end, wanted = STATUSES[case]
    view = VerifyView("photos")
    view.show(end)
    if wanted is ExitStatus.OK:
        view.finish()
        return
    with pytest.raises(UsenetfsError) as caught:
        view.finish()
    assert exit_status(caught.value) is wanted
    assert caught.value.hint


def test_what_was_found_is_said() -> None:
    lines = list(
        summary(
            end_of(Outcome.LOST, Outcome.PRESENT, chain=LOST_CHAIN, files_damaged=2, bytes_lost=500)
        )
    )
    assert lines == [
        "2 articles, 2.00 kB, verified in 2.0 s.",
        "  1 are lost: no server has them whole",
        "  news: has 1, lacks 1",
        "  checkpoint 7 cannot be recovered, 3 can",
        "  2 damaged files, 500 B in them",
    ]


def test_a_name_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    findings = Findings(VerifyView("photos").show)
    findings.lose(b"/a\x1b[2J", 5, 10, held=True, reason="gone")
    assert capsys.readouterr().err == (
        "lost: /a?[2J: 10 bytes at byte 5: gone; still in the cache of this machine\n"
    )


def test_the_last_one_in_the_status() -> None:
    last = VerificationReport(1000.0, data=True, articles=1204, lost=2, files_damaged=3, unknown=1)
    assert verification_text(last, 1060.0) == (
        "/ with its data, 1 min 0 s ago: 1,204 articles, 2 LOST in 3 files, 1 not asked for"
    )


@pytest.mark.parametrize("part", ["0%", "101", "x", "-5%", "nan"])
def test_a_part_that_is_none(part: str) -> None:
    from usenetfs.cli.commands.verify import _percent

    with pytest.raises(UsageError):
        _percent(part)
    assert _percent("12.5 %") == 12.5
