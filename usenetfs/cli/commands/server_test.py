"""``usenetfs server test``: what a server can do, found out by trying, and what to configure.

Says before it starts how much traffic it will cause, and keeps to it. The report goes to standard
output, as tables or JSON (``docs/server-test.md``); what is being done goes to standard error.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

from usenetfs.cli import passphrase
from usenetfs.cli.context import Common
from usenetfs.cli.output import console, note, say, say_json
from usenetfs.cli.unlock import vault_passwords
from usenetfs.config.servers import one_server
from usenetfs.config.units import format_size, parse_size
from usenetfs.daemon.reasons import run_to_one_end
from usenetfs.errors import ConfigurationError, PostingNotAllowedError, UsageError
from usenetfs.net.examine import Examiner
from usenetfs.net.verdict import Effort, Fate, Recommendation, Report, plan_effort, recommend

if TYPE_CHECKING:
    from rich.table import Table

    from usenetfs.net.settings import ServerSettings


def test(
    common: Common,
    name: str,
    *,
    traffic: str,
    group: str | None,
    posting: bool,
    speed: bool,
    as_json: bool,
) -> None:
    """Examine the server ``name``. After the report: PostingNotAllowedError if it is configured
    for posting and is of no use for that."""
    settings = _server(common, name)
    settings = dataclasses.replace(settings, posting=settings.posting and posting)
    chosen = group or next(iter(common.settings.posting.groups), None)
    if settings.posting and chosen is None:
        raise ConfigurationError(
            "posting is tested in a newsgroup, and none is configured",
            hint="give one with --group, or leave posting out with --no-posting",
        )
    effort = plan_effort(
        settings.connections, traffic=_octets(traffic), posting=settings.posting, speed=speed
    )
    note(_announcement(settings, effort, chosen))
    examiner = Examiner(
        settings,
        group=chosen,
        effort=effort,
        patience=settings.timeouts.response,
        tell=lambda what: note(f"  {what} …"),
    )
    report = run_to_one_end(examiner.run)
    advice = recommend(report, configured=settings.connections, wants_posting=settings.posting)
    if as_json:
        say_json(document(report, advice))
    else:
        _show(report, advice)
    if settings.posting and not advice.posting:
        raise PostingNotAllowedError(
            f"server {name} is configured for posting, and is of no use for that",
            hint="set posting = false for it, or ask the provider",
            server=name,
        )


def _server(common: Common, name: str) -> ServerSettings:
    section = next((s for s in common.settings.servers if s.name == name), None)
    if section is None:
        names = ", ".join(s.name for s in common.settings.servers) or "none"
        raise UsageError(f'there is no server "{name}"', hint=f"there are: {names}")
    passwords = {}
    if section.username is not None:
        prompt = "Passphrase of the vault"
        given = passphrase.obtain(common, prompt=prompt, filesystem=False)
        passwords = dict(vault_passwords(common, given))
    return one_server(section, common.settings.network, passwords)


def _octets(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"--traffic: {error}") from None


def _announcement(settings: ServerSettings, effort: Effort, group: str | None) -> str:
    posts = f", posting to {group}" if settings.posting else ""
    return (
        f"Testing {settings.name} with up to {settings.connections} connections{posts}: "
        f"at most about {_megabytes(effort.up)} up and {_megabytes(effort.down)} down."
    )


# --- as JSON -------------------------------------------------------------------------------------


def document(report: Report, advice: Recommendation) -> dict[str, Any]:
    """The report for programs; ``docs/server-test.md`` explains each key."""
    plain: dict[str, Any] = _plain(report)
    plain["recommendation"] = _plain(advice)
    return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value


# --- as tables -----------------------------------------------------------------------------------


def _show(report: Report, advice: Recommendation) -> None:
    screen = console()
    screen.print(_findings(report))
    if report.speeds:
        screen.print()
        screen.print(_speeds(report))
    for problem in report.problems:
        say(f"problem: {problem}")
    say("")
    say("Recommended:")
    say(f"  connections = {advice.connections}")
    say(f"  max_pipeline = {advice.max_pipeline}")
    say(f"  post_ahead = {str(advice.post_ahead).lower()}")
    say(f"  posting = {str(advice.posting).lower()}")
    say(f'  and for new filesystems: init --block-size "{format_size(advice.block_size)}"')
    for warning in advice.warnings:
        say(f"  note: {warning}")


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading == "connections" else "left")
    return table


def _findings(report: Report) -> Table:
    table = _table("", "")
    table.show_header = False
    rows = {
        "address": report.address,
        "TLS": _tls(report),
        "login": f"{'accepted' if report.logged_in else 'none needed'}, "
        f"{report.login_seconds * 1000:.0f} ms from the first packet",
        "round trip": f"{report.round_trip * 1000:.1f} ms",
        "posting": _posting(report),
        "Message-ID": _message_id(report),
        "largest article": _largest(report),
        "pipelining": f"{report.pipelining} at once"
        + (f" ({report.pipelining_reason})" if report.pipelining_reason else ""),
        "POST sent ahead": _ahead(report),
        "traffic": f"{_megabytes(report.bytes_up)} up, {_megabytes(report.bytes_down)} down",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _tls(report: Report) -> str:
    tls = report.tls
    if tls is None:
        return "none"
    return (
        f"{tls.version}, {tls.cipher}; certificate of {tls.subject or 'nobody named'} "
        f"until {tls.expires[:10]} ({tls.expires_in:.0f} days)"
    )


def _posting(report: Report) -> str:
    posting = report.posting
    return "allowed" if posting.allowed else f"no: {posting.reason}"


def _message_id(report: Report) -> str:
    posting = report.posting
    words = {
        None: "not tried",
        Fate.KEPT: "kept",
        Fate.REWRITTEN: "rewritten",
        Fate.LOST: "accepted, and not found afterwards",
    }[posting.message_id]
    if posting.seen_after is not None:
        words += f", seen {posting.seen_after:.2f} s after"
    return words


def _largest(report: Report) -> str:
    posting = report.posting
    if not posting.allowed:
        return "not tried"
    taken = f"{posting.largest_article:,} octets" if posting.largest_article else "none taken"
    if posting.refused_article is None:
        return f"{taken}, no larger one was tried"
    return f"{taken}; {posting.refused_article:,} refused: {posting.refused_reason}"


def _ahead(report: Report) -> str:
    posting = report.posting
    if posting.post_ahead is None:
        return "not tried"
    return "works" if posting.post_ahead else f"no: {posting.post_ahead_reason}"


def _speeds(report: Report) -> Table:
    table = _table("connections", "upload", "download")
    for speed in report.speeds:
        table.add_row(str(speed.connections), _rate(speed.upload), _rate(speed.download))
    return table


def _megabytes(octets: int) -> str:
    return f"{octets / 1e6:,.1f} MB"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e6:,.1f} MB/s"
