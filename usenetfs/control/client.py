"""Talking to the daemon from another process.

Owns the connection to the control socket and the translation of answers into values and errors.
Uses ``http.client`` over AF_UNIX rather than httpx: importing httpx takes 110 ms here, http.client
20 ms, and ``usenetfs status`` has 300 ms in all. Blocking; each call opens its own connection.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from usenetfs.control.message import Message
from usenetfs.control.model import (
    CacheReport,
    DropReport,
    ErrorReport,
    HistoryReport,
    LimitsReport,
    RemoveReport,
    StatusReport,
    SyncReport,
    UnmountReport,
    WarmReport,
)
from usenetfs.errors import ControlError, NotMountedError, UsenetfsError

QUICK: Final = 10.0
"""Seconds that an answer may take which needs no waiting for servers."""

_MAX_ANSWER: Final = 16 * 1024 * 1024


T = TypeVar("T", bound=Message)


class ControlClient:
    """The control API of one daemon. ``name`` is only for messages."""

    def __init__(self, control_socket: Path, *, name: str, timeout: float = QUICK) -> None:
        self._socket = control_socket
        self._name = name
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<ControlClient {self._name} at {self._socket}>"

    def status(self) -> StatusReport:
        return self._read(StatusReport, self._call("GET", "/v1/status"))

    def history(self) -> HistoryReport:
        """The last minutes."""
        return self._read(HistoryReport, self._call("GET", "/v1/history"))

    def cache(self) -> CacheReport:
        return self._read(CacheReport, self._call("GET", "/v1/cache"))

    def metrics(self) -> str:
        """Prometheus text."""
        return self._request("GET", "/v1/metrics", None, self._timeout).decode()

    def drop_cache(self, path: str | None = None) -> DropReport:
        body = None if path is None else {"path": path}
        return self._read(DropReport, self._call("POST", "/v1/cache/drop", body, timeout=600.0))

    def warm_cache(self, path: str) -> WarmReport:
        """Wait until what is missing of ``path`` is in the cache, as long as it takes."""
        body = {"path": path}
        return self._read(WarmReport, self._call("POST", "/v1/cache/warm", body, timeout=None))

    def change_setting(self, key: str, value: str) -> LimitsReport:
        """Change a setting for as long as the mount lasts; the limits that hold then."""
        answer = self._call("POST", "/v1/settings", {"key": key, "value": value})
        return self._read(LimitsReport, answer)

    def remove(self, paths: Sequence[str], *, recursive: bool) -> int:
        """Take names away; how many went."""
        body = {"paths": list(paths), "recursive": recursive}
        answer = self._call("POST", "/v1/remove", body, timeout=None)
        return self._read(RemoveReport, answer).removed

    def move(self, source: str, target: str) -> None:
        """Rename."""
        self._call("POST", "/v1/move", {"source": source, "target": target})

    def sync(self, *, timeout: float | None = None) -> SyncReport:
        """Wait until all that was written is safe. ``timeout`` None waits as long as it takes."""
        return self._read(SyncReport, self._call("POST", "/v1/sync", timeout=timeout))

    def unmount(self, *, lazy: bool, timeout: float | None = None) -> UnmountReport:
        """Drain (unless ``lazy``) and unmount; the daemon is still ending when this returns."""
        answer = self._call("POST", "/v1/unmount", {"lazy": lazy}, timeout=timeout)
        return self._read(UnmountReport, answer)

    def events(self, path: str, request: Message) -> Iterator[dict[str, Any]]:
        """What the daemon tells of a job, until it ends; leaving the iteration ends the job.

        The last event is ``end``; anything else is an error.
        """
        connection = _UnixConnection(self._socket, None)
        try:
            connection.request(
                "POST",
                path,
                body=json.dumps(request.to_json()),
                headers={"Content-Type": "application/json"},
            )
            with connection.getresponse() as response:
                if response.status >= 400:
                    raise _raised(response.status, response.read(_MAX_ANSWER))
                for line in response:
                    event = json.loads(line)
                    if event["event"] == "error":
                        raise RemoteError(ErrorReport.from_json(event))
                    yield event
                    if event["event"] == "end":
                        return
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        raise ControlError(
            f"the daemon of {self._name} ended in the middle of it",
            hint="run the command again: it goes on where it stopped",
        )

    # -- inside ------------------------------------------------------------------------------------

    def _read(self, kind: type[T], answer: Any) -> T:
        try:
            return kind.from_json(answer)
        except ValueError as error:
            raise ControlError(
                f"the answer of the daemon of {self._name} is not what was asked for: {error}",
                hint="it may be of another version: unmount and mount again",
            ) from None

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, **limits: float | None
    ) -> Any:
        timeout = limits.get("timeout", self._timeout)
        answer = self._request(method, path, body, timeout)
        try:
            return json.loads(answer)
        except ValueError:
            raise ControlError(
                f"the daemon of {self._name} answered something that is not JSON"
            ) from None

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None, timeout: float | None
    ) -> bytes:
        connection = _UnixConnection(self._socket, timeout)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        payload = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, body=payload, headers=headers)
            with connection.getresponse() as response:
                answer = response.read(_MAX_ANSWER)
        except TimeoutError:
            raise ControlError(
                f"the daemon of {self._name} did not answer within {timeout:.0f} s",
                hint="it may be overloaded; try again, or look into its logs",
            ) from None
        except (http.client.HTTPException, OSError) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        if response.status >= 400:
            raise _raised(response.status, answer)
        return answer

    def _unreachable(self, error: Exception) -> UsenetfsError:
        number = error.errno if isinstance(error, OSError) else None
        if number in {errno.ENOENT, errno.ECONNREFUSED}:
            return NotMountedError(
                f'filesystem "{self._name}" is not mounted',
                hint=f"mount it: usenetfs mount {self._name} MOUNTPOINT",
            )
        if number in {errno.EACCES, errno.EPERM}:
            return ControlError(
                f"the daemon of {self._name} belongs to another user",
                hint="run this as the user that mounted it",
            )
        return ControlError(f"the daemon of {self._name} broke off: {error}")


class RemoteError(ControlError):
    """An error of the daemon; keeps the daemon's own error code."""

    def __init__(self, report: ErrorReport) -> None:
        super().__init__(report.message, hint=report.hint)
        self.remote_code = report.code


def _raised(status: int, answer: bytes) -> UsenetfsError:
    try:
        report = ErrorReport.from_json(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return ControlError(f"the daemon answered with status {status}")
    return RemoteError(report)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP/1.1 to a Unix socket, of whatever path length."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost")
        self._path = path
        self._limit = timeout

    def connect(self) -> None:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(self._limit)
            with short_path(self._path) as address:
                connected.connect(address)
        except BaseException:
            connected.close()
            raise
        self.sock = connected


class short_path:  # noqa: N801  a context manager, used like a function
    """An address of at most 107 octets for the socket at ``path``.

    The kernel takes no longer ones, and data directories may lie deep. A descriptor of the parent
    directory stands in for its path.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._directory: int | None = None

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= 107:
            return str(self._path)
        self._directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._directory}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        if self._directory is not None:
            os.close(self._directory)
