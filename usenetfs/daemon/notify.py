"""Telling the service manager how it goes: systemd's notification protocol, over datagrams.

Owns the socket named by ``NOTIFY_SOCKET``, and that variable: it is taken out of the environment,
so that no child speaks in our name. Without the variable, which is without systemd, every call does
nothing. A datagram that cannot be sent is lost: a service manager in trouble must not stop a mount.
The protocol is in sd_notify(3); it takes less than a library would.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Final, Self

import trio

STATUS_INTERVAL: Final = 10.0
"""Seconds between two lines of status, unless the watchdog wants to hear from us sooner."""


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """Where to send, and how often it wants a sign of life."""

    address: str | None
    watchdog: float | None = None
    """Seconds; None where nobody watches."""

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Self:
        """What the variables say, which are gone from ``environment`` afterwards."""
        address = environment.pop("NOTIFY_SOCKET", None)
        microseconds = environment.pop("WATCHDOG_USEC", "")
        process = environment.pop("WATCHDOG_PID", str(os.getpid()))
        watched = microseconds.isdigit() and int(microseconds) > 0 and process == str(os.getpid())
        return cls(address or None, int(microseconds) / 1e6 if watched else None)

    @property
    def interval(self) -> float:
        """Seconds between two signs of life: two within what the watchdog allows."""
        return STATUS_INTERVAL if self.watchdog is None else min(STATUS_INTERVAL, self.watchdog / 2)

    def ready(self, status: str) -> None:
        """The mount is usable."""
        self._send(f"READY=1\nSTATUS={status}")

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    async def report(self, describe: Callable[[], str]) -> None:
        """A line of status and a sign of life, for as long as the event loop turns."""
        if self.address is None:
            await trio.sleep_forever()
        while True:
            await trio.sleep(self.interval)
            alive = "" if self.watchdog is None else "WATCHDOG=1\n"
            self._send(f"{alive}STATUS={describe()}")

    def _send(self, message: str) -> None:
        if self.address is None:
            return
        # "@" stands for the zero octet with which an abstract name begins.
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(0)
                sender.connect(name)
                sender.send(message.encode(errors="replace"))
        except OSError:
            return


def describe_staged(waiting: int) -> str:
    """The status line of a mount with ``waiting`` bytes that are only here."""
    from usenetfs.config.units import human_size

    return f"{human_size(waiting)} not on the servers yet" if waiting else "everything is safe"
