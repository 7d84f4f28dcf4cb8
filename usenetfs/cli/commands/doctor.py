"""``usenetfs doctor``: is everything there that a mount needs? What is wrong, and what to do.

Looks at the configuration, this machine (``doctor_machine.py``) and each server
(``net/checkup.py``), and goes on where something fails. Ends with status 0, or with 1 when
something will not work. Posts nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import typer

from usenetfs.cli.context import Common
from usenetfs.cli.exit_status import ExitStatus
from usenetfs.cli.findings import (
    EXPIRES_SOON,
    Finding,
    Verdict,
    fail,
    judge_clock,
    ok,
    warn,
    worst,
)
from usenetfs.cli.output import console, say_json
from usenetfs.config.models import ServerSection, Settings
from usenetfs.errors import (
    ConfigurationError,
    KeyFileError,
    PostingNotAllowedError,
    UsenetfsError,
    WrongPassphraseError,
)


def run(common: Common, name: str | None, *, offline: bool, as_json: bool) -> None:
    """Look at everything, or with ``offline`` at everything but the servers."""
    paths = common.directories.existing(name) if name else None
    findings: list[Finding] = []
    try:
        settings = common.settings
    except ConfigurationError as error:
        findings.append(_of(error, "configuration"))
    else:
        from usenetfs.cli.doctor_machine import look_at_machine

        findings += _look_at_settings(settings)
        findings += look_at_machine(settings, common.directories, paths)
        if not offline:
            findings += _look_at_servers(common, settings)
    verdict = worst(findings)
    if as_json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        say_json({"verdict": verdict, "findings": rows})
    else:
        _show(findings, verdict)
    if verdict is Verdict.FAIL:
        raise typer.Exit(ExitStatus.GENERAL)


def _of(error: UsenetfsError, subject: str) -> Finding:
    return fail(subject, error.message, error.hint or "see the message")


def _look_at_settings(settings: Settings) -> Iterator[Finding]:
    if not settings.servers:
        yield fail(
            "servers",
            "no server is configured",
            "add one: usenetfs server add NAME --host HOST --username ME --group NEWSGROUP",
        )
    elif not any(server.posting for server in settings.servers):
        yield warn(
            "servers", "no server is for posting", "set posting = true for one that allows it"
        )
    if not settings.posting.groups:
        yield fail(
            "posting.groups",
            "no newsgroup to post to is configured",
            'add to the configuration: [posting] groups = ["alt.binaries.test"]',
        )
    else:
        yield ok("configuration", "the configuration is valid")
    for server in settings.servers:
        if server.tls == "none" and server.username and not _is_loopback(server.host):
            yield warn(
                f"server.{server.name}.tls",
                f"the password for {server.name} goes over the network in the clear",
                'set tls = "implicit" (port 563) or "starttls" for it',
            )


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


# --- servers -------------------------------------------------------------------------------------


def _look_at_servers(common: Common, settings: Settings) -> Iterator[Finding]:
    passwords: Mapping[str, str] = {}
    if any(server.username for server in settings.servers):
        from usenetfs.cli import passphrase
        from usenetfs.cli.unlock import vault_passwords

        try:
            given = passphrase.obtain(common, prompt="Passphrase of the vault", filesystem=False)
            passwords = vault_passwords(common, given)
            yield ok("vault", "the vault opens")
        except (KeyFileError, WrongPassphraseError) as error:
            yield _of(error, "vault")
    for server in settings.servers:
        if server.username is None or server.name in passwords:
            yield from _look_at_server(settings, server, passwords)
        else:
            yield fail(
                f"server.{server.name}.login",
                f"there is no password for {server.name}",
                f"store it: usenetfs server add {server.name}",
            )


def _look_at_server(
    settings: Settings, server: ServerSection, passwords: Mapping[str, str]
) -> Iterator[Finding]:
    from usenetfs.config.servers import one_server
    from usenetfs.daemon.reasons import run_to_one_end
    from usenetfs.net.checkup import Checkup, check_up

    plain = one_server(server, settings.network, passwords)
    groups = settings.posting.groups if server.posting else ()

    async def look() -> Checkup:
        return await check_up(plain, groups, patience=plain.timeouts.response)

    subject = f"server.{server.name}"
    try:
        found = run_to_one_end(look)
    except UsenetfsError as error:
        message = error.message
        if server.name not in message:
            message = f"{server.name}: {message}"
        step = error.hint or f"check the entry of {server.name}: usenetfs config show --origin"
        yield fail(f"{subject}.login", message, step)
        return
    how = f"{found.round_trip * 1000:.0f} ms away, login took {found.login * 1000:.0f} ms"
    yield ok(f"{subject}.login", f"{server.name} lets us in ({how})")
    if found.refuses_post is not None:
        hint = PostingNotAllowedError.default_hint or ""
        yield fail(f"{subject}.posting", f"{server.name} refuses posts: {found.refuses_post}", hint)
    elif server.posting:
        yield ok(f"{subject}.posting", f"{server.name} takes posts")
    if found.missing_groups:
        missing = ", ".join(found.missing_groups)
        step = "correct posting.groups in the configuration (usenetfs config path)"
        yield fail(f"{subject}.groups", f"{server.name} has no newsgroup {missing}", step)
    if found.tls is not None and found.tls.expires_in < EXPIRES_SOON:
        text = f"the certificate of {server.name} ends in {found.tls.expires_in:.0f} days"
        yield warn(f"{subject}.tls", text, "tell the provider, or pin the next one")
    yield judge_clock(server.name, found.clock_ahead)


# --- the report ----------------------------------------------------------------------------------

_MARKS = {
    Verdict.OK: "[green] ok [/]",
    Verdict.WARN: "[yellow]warn[/]",
    Verdict.FAIL: "[red]FAIL[/]",
}


def _show(findings: list[Finding], verdict: Verdict) -> None:
    from rich.markup import escape

    screen = console()
    for finding in findings:
        screen.print(f"{_MARKS[finding.verdict]}  {escape(finding.text)}")
        if finding.next_step:
            screen.print(f"      → {escape(finding.next_step)}")
    count = sum(finding.verdict is Verdict.FAIL for finding in findings)
    screen.print()
    screen.print(
        {
            Verdict.OK: "Everything is as it should be.",
            Verdict.WARN: "It works; the warnings are worth a look.",
            Verdict.FAIL: f"{count} thing{'s' * (count != 1)} will not work.",
        }[verdict]
    )
