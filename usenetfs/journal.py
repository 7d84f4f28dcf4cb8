"""Log lines for systemd's journal, with their fields, where this process writes to it anyway.

Owns the native protocol of the journal (systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram of fields,
those with line feeds with their length. So ``journalctl USENETFS_OPERATION=…`` finds an upload, and
a level is a priority. A line that the journal does not take is lost: it is in the files as well.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from typing import Final

SOCKET: Final = "/run/systemd/journal/socket"

_PRIORITIES: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)


def is_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """Whether what is written to ``descriptor`` goes to the journal: systemd names that file."""
    try:
        state = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{state.st_dev}:{state.st_ino}"


class JournalHandler(logging.Handler):
    """Sends records. The formatter makes the message; time and level are the journal's own."""

    def __init__(self, filesystem: str, *, address: str | None = None) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._address = address or SOCKET
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def close(self) -> None:
        self._socket.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(next(p for level, p in _PRIORITIES if record.levelno >= level)),
            "SYSLOG_IDENTIFIER": "usenetfs",
            "LOGGER": record.name,
            "USENETFS_FILESYSTEM": self._filesystem,
            "USENETFS_OPERATION": getattr(record, "operation", ""),
        }
        try:
            self._socket.sendto(datagram(fields), self._address)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Drop the line: it is in the files."""


def datagram(fields: Mapping[str, str]) -> bytes:
    """Fields as the journal reads them; empty ones are left out."""
    parts = []
    for name, value in fields.items():
        content = value.encode(errors="backslashreplace")
        if b"\n" in content:
            parts.append(
                b"%s\n%s%s\n" % (name.encode(), len(content).to_bytes(8, "little"), content)
            )
        elif content:
            parts.append(b"%s=%s\n" % (name.encode(), content))
    return b"".join(parts)
