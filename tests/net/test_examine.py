"""An examination finds what the server does: the embedded one, well and under fault plans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.net.test_stream import Certificates
from usenetfs.errors import AuthenticationError, ConnectError, NetworkError, UsenetfsError
from usenetfs.net.examine import Examiner
from usenetfs.net.settings import ServerSettings, Timeouts, TlsMode
from usenetfs.net.verdict import Fate, Report, plan_effort, recommend
from usenetfs.nntpd import NntpdSettings, serve
from usenetfs.nntpd.faults import parse_plan
from usenetfs.nntpd.server import RunningServer

GROUP = "alt.binaries.test"
TRAFFIC = 60_000_000

ExpectLog = Callable[[str], None]


async def examined(
    folder: Path,
    faults: str = "",
    *,
    posting: bool = True,
    speed: bool = False,
    client: dict[str, object] | None = None,
    **server: object,
) -> tuple[Report, RunningServer]:
    chosen = NntpdSettings(folder / "spool", faults=parse_plan(faults), **server)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        running: RunningServer = await nursery.start(serve, chosen)
        options: dict[str, object] = {
            "tls": TlsMode.NONE,
            "connections": 4,
            "posting": posting,
            "timeouts": Timeouts(connect=5, response=3, article=10),
            **(client or {}),
        }
        settings = ServerSettings("main", "127.0.0.1", running.port, **options)  # type: ignore[arg-type]
        effort = plan_effort(settings.connections, traffic=TRAFFIC, posting=posting, speed=speed)
        examiner = Examiner(settings, group=GROUP, effort=effort, patience=3.0, tell=lambda _: None)
        outcome: Report | UsenetfsError
        with trio.fail_after(100):
            try:
                outcome = await examiner.run()
            except UsenetfsError as error:
                outcome = error
        nursery.cancel_scope.cancel()
    if isinstance(outcome, UsenetfsError):
        raise outcome
    assert outcome.bytes_up + outcome.bytes_down <= TRAFFIC * 1.2
    assert running.counters.peak_connections <= settings.connections
    return outcome, running


async def test_a_good_server(tmp_path: Path) -> None:
    report, _ = await examined(tmp_path, speed=True, max_article=4_000_000)
    assert report.problems == ()
    assert report.posting.allowed
    assert report.posting.message_id is Fate.KEPT
    assert report.posting.largest_payload == 3_500_000
    assert report.posting.refused_article is None
    assert report.posting.post_ahead
    assert report.pipelining == 32
    assert report.connections == 4
    assert [speed.connections for speed in report.speeds] == [1, 2, 4]
    assert all(speed.upload and speed.download for speed in report.speeds)
    assert 0 < report.round_trip < 1
    assert report.tls is None


async def test_an_article_that_appears_late_says_nothing_about_pipelining(tmp_path: Path) -> None:
    report, _ = await examined(tmp_path, "POSTED nth 9 hide seconds=1", max_article=4_000_000)
    assert report.pipelining == 32, report.pipelining_reason


async def test_tls_and_login(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    report, _ = await examined(
        tmp_path,
        client={
            "tls": TlsMode.IMPLICIT,
            "ca_file": certificates.ca_file,
            "username": "me",
            "password": "secret",
        },
        tls_certificate=certificates.certificate,
        tls_key=certificates.key,
        users={"me": "secret"},
    )
    assert report.logged_in
    assert report.tls is not None
    assert report.tls.version.startswith("TLSv1.")
    assert report.tls.sha256 == certificates.pin
    assert report.tls.expires_in > 0
    assert "secret" not in repr(report)
    assert report.posting.message_id is Fate.KEPT


async def test_the_limit_of_connections_is_found(tmp_path: Path) -> None:
    report, server = await examined(tmp_path, speed=True, max_connections=3)
    assert report.connections == 3
    assert report.speeds[-1].connections == 3
    assert server.counters.peak_connections <= 3
    said = recommend(report, configured=4, wants_posting=True).warnings
    assert any("3 connections of 4" in line for line in said)


async def test_the_limit_of_size_is_found(tmp_path: Path) -> None:
    report, _ = await examined(tmp_path, max_article=300_000)
    assert report.posting.largest_payload == 256_000
    assert report.posting.refused_article is not None
    assert report.posting.refused_article > 716_800
    assert "300000" in str(report.posting.refused_reason)
    assert recommend(report, configured=4, wants_posting=True).block_size < 256_000


async def test_a_server_that_cuts_the_line_at_large_articles(tmp_path: Path) -> None:
    report, _ = await examined(tmp_path, "POSTED nth 3 drop")
    assert report.posting.largest_payload == 256_000
    assert "ended the session" in str(report.posting.refused_reason)


@pytest.mark.parametrize(("tell", "fate"), [("yes", Fate.REWRITTEN), ("no", Fate.LOST)])
async def test_rewritten_ids_are_found(
    tmp_path: Path, tell: str, fate: Fate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usenetfs.net.examine.VISIBLE_WITHIN", 1.0)
    report, _ = await examined(tmp_path, f"POSTED always rewrite-id tell={tell}")
    assert report.posting.allowed
    assert report.posting.message_id is fate
    assert report.posting.largest_payload == 0
    assert not recommend(report, configured=4, wants_posting=True).posting


async def test_no_posting(tmp_path: Path) -> None:
    report, server = await examined(tmp_path, posting=True, speed=True, max_connections=9)
    assert report.posting.allowed
    refused, _ = await examined(tmp_path / "two", "POST always reply code=440 text=No")
    assert not refused.posting.allowed
    assert refused.posting.reason == "440 No"
    assert refused.posting.post_ahead is None
    assert refused.pipelining == 32, "also where there is nothing to read"
    unasked, server = await examined(tmp_path / "three", posting=False)
    assert server.counters.commands["POST"] == 0
    assert not unasked.posting.allowed


async def test_a_reader_reads_what_others_posted(tmp_path: Path) -> None:
    await examined(tmp_path, max_article=300_000)
    report, server = await examined(tmp_path, posting=False, speed=True)
    assert server.counters.commands["POST"] == 0
    assert all(speed.download and not speed.upload for speed in report.speeds)


async def test_post_sent_ahead_is_refused(tmp_path: Path) -> None:
    """The server forgets a POST that came before the reply to the article before it."""
    report, _ = await examined(tmp_path, "POST after 8 reply code=441")
    assert report.posting.post_ahead is False
    assert "441" in str(report.posting.post_ahead_reason)
    assert not recommend(report, configured=4, wants_posting=True).post_ahead


async def test_a_server_that_cannot_pipeline(tmp_path: Path) -> None:
    report, _ = await examined(tmp_path, "BODY after 12 drop")
    assert report.pipelining < 32
    assert "ended the session" in str(report.pipelining_reason)
    assert recommend(report, configured=4, wants_posting=True).max_pipeline == report.pipelining


async def test_an_article_that_appears_late(tmp_path: Path) -> None:
    report, _ = await examined(tmp_path, "POSTED nth 1 hide seconds=1")
    assert report.posting.message_id is Fate.KEPT
    assert report.posting.seen_after is not None
    assert report.posting.seen_after >= 1


@pytest.mark.parametrize("fault", ["corrupt octets=9", "truncate after=500", "drop-body"])
async def test_what_comes_back_damaged_is_a_problem_and_no_end(tmp_path: Path, fault: str) -> None:
    report, _ = await examined(tmp_path, f"BODY nth 1 {fault}")
    (problem,) = report.problems
    assert problem.startswith("posting: ")
    assert report.posting.largest_payload == 0
    assert report.pipelining >= 1


async def test_a_size_at_which_another_article_comes_back_is_not_taken(tmp_path: Path) -> None:
    report, _ = await examined(tmp_path, "BODY nth 3 wrong-article")
    assert report.posting.largest_payload == 256_000
    assert "did not come back" in str(report.posting.refused_reason)


async def test_what_makes_the_rest_pointless_is_raised(tmp_path: Path) -> None:
    with pytest.raises(AuthenticationError):
        await examined(
            tmp_path, users={"me": "right"}, client={"username": "me", "password": "wrong"}
        )
    with pytest.raises(NetworkError):
        await examined(tmp_path / "two", "CONNECT always too-many")
    with pytest.raises(ConnectError):
        await examined(
            tmp_path / "three",
            "CONNECT always stall seconds=60",
            client={"timeouts": Timeouts(connect=0.5, close=0.5)},
        )
