"""Both servers, each test run against each."""

from __future__ import annotations

import pytest

from tests.servers import (
    NewsServer,
    embedded_server,
    embedded_server_with_users,
    inn_server,
    inn_server_with_users,
)

__all__ = [
    "embedded_server",
    "embedded_server_with_users",
    "inn_server",
    "inn_server_with_users",
]

BOTH = [pytest.param("embedded", id="embedded"), pytest.param("inn", marks=pytest.mark.inn)]


@pytest.fixture(params=BOTH)
def server(request: pytest.FixtureRequest) -> NewsServer:
    """Nobody has to log in."""
    found: NewsServer = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture(params=BOTH)
def server_with_users(request: pytest.FixtureRequest) -> NewsServer:
    found: NewsServer = request.getfixturevalue(f"{request.param}_server_with_users")
    return found
