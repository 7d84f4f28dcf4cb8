"""What ``init`` asks the servers before it makes anything.

Every server must let us in, one of them at least must allow posting, and every newsgroup to post to
must exist on those that do. The first thing wrong is the error.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio

from usenetfs.config.models import Settings
from usenetfs.config.servers import server_settings
from usenetfs.daemon.reasons import run_to_one_end
from usenetfs.errors import NewsgroupNotFoundError, PostingNotAllowedError, UsenetfsError
from usenetfs.net.probe import ServerProbe, probe_server
from usenetfs.net.settings import ServerSettings


def check_servers(settings: Settings, passwords: Mapping[str, str]) -> None:
    """Ask all configured servers at once; raises the first problem, in their order."""
    servers = server_settings(settings, passwords)
    groups = dict.fromkeys(settings.posting.groups)
    groups |= {group: None for rule in settings.posting.rules for group in rule.groups}
    answers = run_to_one_end(_ask_all, servers, list(groups))
    allowed = [
        server.name
        for server, probe in zip(servers, answers, strict=True)
        if _checked(server, probe).posting and server.posting
    ]
    if not allowed:
        raise PostingNotAllowedError(
            "no configured server allows posting",
            hint="an account that may post is needed, and posting = true for its server",
        )


async def _ask_all(
    servers: list[ServerSettings], groups: list[str]
) -> list[ServerProbe | UsenetfsError]:
    answers: dict[str, ServerProbe | UsenetfsError] = {}

    async def ask(server: ServerSettings) -> None:
        try:
            answers[server.name] = await probe_server(server, groups if server.posting else [])
        except UsenetfsError as error:
            answers[server.name] = error

    async with trio.open_nursery() as nursery:
        for server in servers:
            nursery.start_soon(ask, server)
    return [answers[server.name] for server in servers]


def _checked(server: ServerSettings, answer: ServerProbe | UsenetfsError) -> ServerProbe:
    if isinstance(answer, UsenetfsError):
        if server.name not in answer.message:
            answer.args = (f"server {server.name}: {answer.message}",)
            answer.message = answer.args[0]
        if answer.hint is None:
            answer.hint = f"check {server.name} in the configuration, or use --offline"
        raise answer
    if answer.missing_groups:
        missing = ", ".join(answer.missing_groups)
        raise NewsgroupNotFoundError(
            f"server {server.name} has no newsgroup {missing}",
            hint="correct posting.groups in the configuration (usenetfs config path)",
        )
    return answer
