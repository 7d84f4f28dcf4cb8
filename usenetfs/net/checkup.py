"""A short look at one server: may we in, may we post, are the newsgroups there, what time is it?

For ``usenetfs doctor``: nothing is posted. Whether posting is allowed is asked by POST, and the
connection ends before an article, so that there is none to take (RFC 3977 §6.3.1: what is not
terminated is not an article). Owns one session, which is closed whatever happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from usenetfs.net.plain_session import PlainSession
from usenetfs.net.settings import ServerSettings

if TYPE_CHECKING:
    from usenetfs.net.verdict import Tls


@dataclass(frozen=True, slots=True)
class Checkup:
    """What was found. Times in seconds."""

    login: float
    round_trip: float
    clock_ahead: float | None
    """How far this machine's clock is ahead of the server's; None where it does not tell."""
    refuses_post: str | None
    """The server's words; None where it invites an article, or was not asked."""
    missing_groups: tuple[str, ...]
    tls: Tls | None


async def check_up(settings: ServerSettings, groups: Sequence[str], *, patience: float) -> Checkup:
    """Raises what logging in raises; ConnectionLostError where an answer takes too long."""
    from usenetfs.net.examine import tls_of

    began = trio.current_time()
    session = await PlainSession.open(settings, patience=patience)
    try:
        login = trio.current_time() - began
        tls = tls_of(session)
        asked = trio.current_time()
        date = await session.ask("DATE")
        round_trip = trio.current_time() - asked
        ahead = clock_ahead(date.text, datetime.now(UTC)) if date.code == 111 else None
        missing = [name for name in groups if (await session.ask(f"GROUP {name}")).code == 411]
        refusal = None
        if settings.posting:
            reply = await session.ask("POST")
            refusal = None if reply.code == 340 else str(reply)
    finally:
        session.close()
    return Checkup(login, round_trip, ahead, refusal, tuple(missing), tls)


def clock_ahead(text: str, now: datetime) -> float | None:
    """How far ``now`` is ahead of the reply to DATE, ``yyyymmddhhmmss`` in UTC; None if it is none.

    The reply has whole seconds: half of one is the error on average.
    """
    try:
        theirs = datetime.strptime(text.split(maxsplit=1)[0], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except (IndexError, ValueError):
        return None
    return (now - theirs).total_seconds() - 0.5
