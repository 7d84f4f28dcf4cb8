"""What the service manager hears."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from usenetfs.daemon.notify import ServiceManager, describe_staged


@pytest.fixture
def manager_socket(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def heard(listening: socket.socket) -> str:
    return listening.recv(4096).decode()


def test_without_a_service_manager_nothing_is_said() -> None:
    manager = ServiceManager.from_environment({})
    manager.ready("x")
    manager.stopping("x")
    assert manager.address is None


def test_ready_and_stopping(manager_socket: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": manager_socket.getsockname(), "HOME": "/"}
    manager = ServiceManager.from_environment(environment)
    assert environment == {"HOME": "/"}
    manager.ready("mounted")
    assert heard(manager_socket) == "READY=1\nSTATUS=mounted"
    manager.stopping("unmounting")
    assert heard(manager_socket) == "STOPPING=1\nSTATUS=unmounting"


def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0usenetfs-test-{os.getpid()}")
        listening.settimeout(5)
        ServiceManager(f"@usenetfs-test-{os.getpid()}").ready("x")
        assert heard(listening).startswith("READY=1")


async def test_signs_of_life(manager_socket: socket.socket, autojump_clock: trio.abc.Clock) -> None:
    """Twice within what the watchdog allows."""
    manager = ServiceManager(manager_socket.getsockname(), watchdog=4.0)
    with trio.move_on_after(7):
        await manager.report(lambda: "1 kB not on the servers yet")
    for _ in range(3):
        assert heard(manager_socket) == "WATCHDOG=1\nSTATUS=1 kB not on the servers yet"
    manager_socket.settimeout(0)
    with pytest.raises(BlockingIOError):
        heard(manager_socket)


@pytest.mark.parametrize(
    ("variables", "watchdog"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_who_is_watched(variables: dict[str, str], watchdog: float | None) -> None:
    assert ServiceManager.from_environment(dict(variables)).watchdog == watchdog


def test_a_manager_that_is_gone_or_full_stops_nobody(manager_socket: socket.socket) -> None:
    ServiceManager("/nowhere/at/all").ready("x")
    manager = ServiceManager(manager_socket.getsockname())
    for _ in range(2000):
        manager.ready("x" * 1000)
    assert heard(manager_socket).startswith("READY=1")


def test_the_status_line() -> None:
    assert describe_staged(0) == "everything is safe"
    assert describe_staged(1_500_000) == "1.50 MB not on the servers yet"
