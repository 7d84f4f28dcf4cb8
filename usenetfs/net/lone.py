"""One connection outside of any pool: for looking at a server, not for traffic.

It serves no requests by itself; whoever asked for it asks one question at a time, and closes it.
"""

from __future__ import annotations

import trio

from usenetfs.errors import ConnectError
from usenetfs.net.connection import Connection, Traits
from usenetfs.net.settings import ServerSettings
from usenetfs.net.stream import NetworkDialer


async def log_in_alone(settings: ServerSettings) -> tuple[Connection, Traits]:
    """Logged in, with what the server said of itself; the caller closes it (``close_now``).

    Raises what logging in raises; ConnectError if it is slow.
    """
    traits = Traits()
    connection = Connection(
        1,
        settings,
        traits,
        dialer=NetworkDialer(),
        on_reply=lambda *_: None,
        on_replies=lambda: None,
    )
    try:
        with trio.fail_after(settings.timeouts.connect):
            await connection.open()
    except BaseException as error:
        connection.close_now()
        if isinstance(error, trio.TooSlowError):
            raise ConnectError(
                f"{settings.name} did not let us in within {settings.timeouts.connect:g} s",
                hint="check host, port and tls: a port for TLS says nothing without, and the other "
                "way round; network.connect_timeout says how long to wait",
                server=settings.name,
            ) from None
        raise
    return connection, traits
