"""One look at one server: log in, ask for newsgroups, leave.

For ``init`` and for tests of a server, not for traffic: one connection, one question at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from usenetfs.errors import ConnectError
from usenetfs.net.lone import log_in_alone
from usenetfs.net.settings import ServerSettings
from usenetfs.nntp.grammar import Verb


@dataclass(frozen=True, slots=True)
class ServerProbe:
    """What a server said about itself."""

    login_seconds: float
    """From dialling to being logged in."""
    posting: bool
    """Whether the greeting allowed posting (200 rather than 201)."""
    missing_groups: tuple[str, ...]
    """Of the newsgroups asked for, those it does not have (411)."""


async def probe_server(settings: ServerSettings, groups: Sequence[str]) -> ServerProbe:
    """Log in and look for ``groups``. Raises what logging in raises; ConnectError if it is slow."""
    started = trio.current_time()
    connection, traits = await log_in_alone(settings)
    login = trio.current_time() - started
    try:
        missing = []
        for group in groups:
            with trio.fail_after(settings.timeouts.response):
                reply = await connection.ask(Verb.GROUP, group)
            if reply.code == 411:
                missing.append(group)
    except trio.TooSlowError:
        raise ConnectError(
            f"{settings.name} did not answer in time",
            hint="network.timeout says how long to wait",
            server=settings.name,
        ) from None
    finally:
        connection.close_now()
    return ServerProbe(login, traits.posting_announced, tuple(missing))
