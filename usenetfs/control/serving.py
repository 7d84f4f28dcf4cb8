"""Serving the control API: on a Unix socket always, on a port of this machine by choice.

The socket can only be opened by its owner (0600 in a directory that is 0700). The port is behind a
:class:`~usenetfs.control.gate.Gate`, and only ever on a loopback address.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from usenetfs.control.app import DaemonFacade, build_app
from usenetfs.control.client import short_path
from usenetfs.control.gate import Gate
from usenetfs.errors import LocalStorageError

if TYPE_CHECKING:
    from hypercorn.config import Config
    from hypercorn.typing import ASGIFramework
    from starlette.types import ASGIApp

log = logging.getLogger("usenetfs.control")

MAX_CONNECTIONS: Final = 64
"""At a time, on the socket and on the port each; what comes beyond is closed at once."""

GRACE: Final = 1.0
"""Seconds that answers have to end when the daemon does."""


async def serve_control(
    facade: DaemonFacade,
    control_socket: Path,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; started when the socket accepts. Removes the socket at the end.

    The caller holds the filesystem's lock, so a socket file that is there belongs to nobody.
    """
    with _listening(control_socket) as listener:
        await _serve(build_app(facade), listener, task_status)


async def serve_port(
    facade: DaemonFacade,
    listener: socket.socket,
    *,
    token: str,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a listening socket of :func:`listen_on` until cancelled."""
    gate = Gate(build_app(facade), token=token, hosts=hosts_of(listener))
    await _serve(gate, listener, task_status)


def listen_on(host: str, port: int) -> socket.socket:
    """A listening socket on a loopback address; port 0 takes a free one. OSError, or ValueError
    for any other address."""
    if host not in {"127.0.0.1", "::1"}:
        raise ValueError(f"{host} is no loopback address")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(64)
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    return listener


def address_of(listener: socket.socket) -> str:
    """As in an address of the web: ``127.0.0.1:8119``, ``[::1]:8119``."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def hosts_of(listener: socket.socket) -> tuple[str, str]:
    """What a browser may call it."""
    return address_of(listener), f"localhost:{listener.getsockname()[1]}"


async def _serve(
    app: ASGIApp, listening: socket.socket, task_status: trio.TaskStatus[None]
) -> None:
    """Accept until cancelled. Afterwards what is being answered has :data:`GRACE` to end.

    Hypercorn's own loop is not used for two reasons: it takes any number of connections, each of
    which costs the daemon a descriptor; and it shields what it sends from cancellation, so that a
    client that has stopped reading would keep the daemon from ending.
    """
    from hypercorn.trio.tcp_server import TCPServer
    from hypercorn.trio.worker_context import WorkerContext
    from hypercorn.typing import ConnectionState, LifespanState
    from hypercorn.utils import wrap_app

    class Server(TCPServer):
        """Ends with its client: by itself it would keep the descriptor until it counts as idle."""

        async def _read_data(self) -> None:
            await super()._read_data()
            await self.idle_task.stop()

    config = _configuration()
    framework: ASGIFramework = app  # type: ignore[assignment]
    wrapped = wrap_app(framework, config.wsgi_max_body_size, "asgi")
    context = WorkerContext(None)
    served: set[trio.SocketStream] = set()

    async def serve(stream: trio.SocketStream) -> None:
        if len(served) >= MAX_CONNECTIONS:
            await stream.aclose()
            return
        served.add(stream)
        try:
            await Server(wrapped, config, context, ConnectionState(LifespanState({})), stream)  # type: ignore[arg-type]
        finally:
            served.discard(stream)

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    async with trio.open_nursery() as nursery:
        try:
            await trio.serve_listeners(
                serve, [listener], handler_nursery=nursery, task_status=_Started(task_status)
            )
        finally:
            with trio.move_on_after(GRACE, shield=True):
                while served:  # noqa: ASYNC110 - whoever is done says so to nobody
                    await trio.sleep(0.02)
            for stream in served:
                stream.socket.close()
            nursery.cancel_scope.cancel()


class _Started:
    """A task status that takes the listeners and tells nobody of them."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status = task_status

    def started(self, value: object = None) -> None:
        del value
        self._task_status.started()


def _configuration() -> Config:
    from hypercorn.config import Config

    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("usenetfs.control.http")
    config.errorlog.setLevel(logging.WARNING)  # where it listens is nobody's news
    config.include_server_header = False
    config.keep_alive_timeout = 5.0
    return config


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        with short_path(path) as address:
            # The mode must be right from the first moment; the umask is the process's, and no
            # other thread makes files yet when the daemon starts its API.
            before = os.umask(0o177)
            try:
                listener.bind(address)
            finally:
                os.umask(before)
        listener.listen(64)
        listener.settimeout(0)
    except OSError as error:
        listener.close()
        raise LocalStorageError(f"cannot listen at {path}: {error.strerror}") from error
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)
