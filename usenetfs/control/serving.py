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
from typing import TYPE_CHECKING

import trio

from usenetfs.control.app import DaemonFacade, build_app
from usenetfs.control.client import short_path
from usenetfs.control.gate import Gate
from usenetfs.errors import LocalStorageError

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework
    from starlette.types import ASGIApp

log = logging.getLogger("usenetfs.control")


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


async def _serve(app: ASGIApp, listener: socket.socket, task_status: trio.TaskStatus[None]) -> None:
    from hypercorn.config import Config, Sockets
    from hypercorn.trio.run import worker_serve
    from hypercorn.utils import wrap_app

    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("usenetfs.control.http")
    config.errorlog.setLevel(logging.WARNING)  # where it listens is nobody's news
    config.include_server_header = False
    config.graceful_timeout = 1.0
    config.keep_alive_timeout = 5.0
    framework: ASGIFramework = app  # type: ignore[assignment]
    wrapped = wrap_app(framework, config.wsgi_max_body_size, "asgi")
    sockets = Sockets([], [listener], [])
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda *, task_status: worker_serve(
                wrapped, config, sockets=sockets, task_status=task_status
            )
        )
        task_status.started()


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
