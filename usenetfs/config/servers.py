"""From configured servers and the vault's passwords to what the news client takes.

The one place that knows both shapes. Loads ``net``, so only commands that talk to servers (and the
daemon) import this.
"""

from __future__ import annotations

from collections.abc import Mapping

from usenetfs.config.models import NetworkSection, ServerSection, Settings
from usenetfs.errors import ConfigurationError
from usenetfs.net.settings import ServerSettings, Timeouts, TlsMode


def server_settings(settings: Settings, passwords: Mapping[str, str]) -> list[ServerSettings]:
    """All configured servers, in the order of configuration; ConfigurationError when none is."""
    if not settings.servers:
        raise ConfigurationError(
            "no server is configured", hint="add one with: usenetfs server add NAME --host HOST"
        )
    return [one_server(server, settings.network, passwords) for server in settings.servers]


def one_server(
    server: ServerSection, network: NetworkSection, passwords: Mapping[str, str]
) -> ServerSettings:
    """One server. ConfigurationError when it has a user name and the vault has no password."""
    password = passwords.get(server.name) if server.username is not None else None
    if server.username is not None and password is None:
        raise ConfigurationError(
            f'server "{server.name}" has a user name and no password is stored for it',
            hint=f"store it with: usenetfs server add {server.name}",
        )
    return ServerSettings(
        name=server.name,
        host=server.host,
        port=server.effective_port,
        tls=TlsMode(server.tls),
        ca_file=server.ca_file,
        pin_sha256=server.pin,
        username=server.username,
        password=password,
        connections=server.connections,
        priority=server.priority,
        posting=server.posting,
        storage_group=server.storage_group,
        max_pipeline=server.max_pipeline,
        post_ahead=server.post_ahead,
        reserved_connections=server.reserved_connections,
        warm_connections=min(server.warm_connections, server.connections),
        timeouts=Timeouts(
            connect=network.connect_timeout,
            response=network.timeout,
            idle_check=network.idle_check,
        ),
    )
