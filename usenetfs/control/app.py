"""The control API: HTTP requests in, calls of the daemon's facade out.

Owns the routes, the status codes and the JSON around values; serves them with hypercorn on a Unix
socket that only its owner can open (0600 in a directory that is 0700). What a request means is the
facade's business.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import trio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from usenetfs.control.client import short_path
from usenetfs.control.events import EventStream, Job
from usenetfs.control.model import (
    CacheReport,
    DownloadRequest,
    DropReport,
    ErrorReport,
    LimitsReport,
    Message,
    RemoveReport,
    StatusReport,
    SyncReport,
    UnmountReport,
    UploadRequest,
    WarmReport,
)
from usenetfs.errors import (
    ConfigurationError,
    FilesystemBusyError,
    LocalStorageError,
    MountError,
    NetworkError,
    PathNotFoundError,
    UsageError,
    UsenetfsError,
)

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework
    from starlette.types import ASGIApp

M = TypeVar("M", bound=Message)

log = logging.getLogger("usenetfs.control")

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_MAX_BODY: Final = 4 << 20
"""Octets: as many sources as a command line can name."""


class DaemonFacade(Protocol):
    """What the API needs of a daemon. Errors are UsenetfsErrors; anything else is a bug."""

    async def status(self) -> StatusReport:
        """Where everything stands; must answer in milliseconds whatever the servers do."""
        ...

    async def cache(self) -> CacheReport: ...

    async def metrics(self) -> str:
        """Prometheus text."""
        ...

    async def sync(self) -> SyncReport:
        """Return when everything written before the call is safe."""
        ...

    async def drop_cache(self, path: str | None = None) -> DropReport: ...

    async def warm_cache(self, path: str) -> WarmReport: ...

    async def change_setting(self, key: str, value: str) -> LimitsReport:
        """Change a setting for as long as the mount lasts. ConfigurationError."""
        ...

    async def remove(self, paths: Sequence[str], *, recursive: bool) -> RemoveReport: ...

    async def move(self, source: str, target: str) -> None: ...

    async def upload(self, request: UploadRequest) -> Job:
        """What imports files when it is run; errors that can be known before are raised here."""
        ...

    async def download(self, request: DownloadRequest) -> Job:
        """What exports files when it is run."""
        ...

    async def unmount_answered(self) -> None:
        """The answer of ``unmount`` was sent."""
        ...

    async def unmount(self, *, lazy: bool) -> UnmountReport:
        """Drain unless ``lazy``, unmount, and let the daemon end. MountError when in use."""
        ...


def build_app(facade: DaemonFacade) -> Starlette:
    """The ASGI application over ``facade``."""

    async def status(_: Request) -> Response:
        return _answer(await facade.status())

    async def cache(_: Request) -> Response:
        return _answer(await facade.cache())

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(await facade.metrics(), media_type=METRICS_TYPE)

    async def sync(_: Request) -> Response:
        return _answer(await facade.sync())

    async def drop_cache(request: Request) -> Response:
        path = (await _body(request)).get("path")
        return _answer(await facade.drop_cache(None if path is None else _text(path, "path")))

    async def warm_cache(request: Request) -> Response:
        path = (await _body(request)).get("path", "/")
        return _answer(await facade.warm_cache(_text(path, "path")))

    async def unmount(request: Request) -> Response:
        lazy = (await _body(request)).get("lazy", False)
        if not isinstance(lazy, bool):
            raise UsageError("lazy must be true or false")
        answer = _answer(await facade.unmount(lazy=lazy))
        answer.background = BackgroundTask(facade.unmount_answered)
        return answer

    return Starlette(
        routes=[
            Route("/v1/status", _guarded(status), methods=["GET"]),
            Route("/v1/cache", _guarded(cache), methods=["GET"]),
            Route("/v1/metrics", _guarded(metrics), methods=["GET"]),
            Route("/v1/sync", _guarded(sync), methods=["POST"]),
            Route("/v1/cache/warm", _guarded(warm_cache), methods=["POST"]),
            Route("/v1/cache/drop", _guarded(drop_cache), methods=["POST"]),
            Route("/v1/unmount", _guarded(unmount), methods=["POST"]),
            *_work_routes(facade),
        ],
    )


def _work_routes(facade: DaemonFacade) -> list[Route]:
    """What the daemon does for others, and how."""

    async def upload(request: Request) -> ASGIApp:
        return EventStream(await facade.upload(await _read(request, UploadRequest)))

    async def download(request: Request) -> ASGIApp:
        return EventStream(await facade.download(await _read(request, DownloadRequest)))

    async def change_setting(request: Request) -> Response:
        body = await _body(request)
        key, value = body.get("key"), body.get("value")
        if not isinstance(key, str) or not isinstance(value, str):
            raise UsageError("key and value must be text")
        return _answer(await facade.change_setting(key, value))

    async def remove(request: Request) -> Response:
        body = await _body(request)
        paths, recursive = body.get("paths"), body.get("recursive", False)
        if not isinstance(paths, list) or not isinstance(recursive, bool):
            raise UsageError("paths must be a list, recursive true or false")
        return _answer(await facade.remove([str(path) for path in paths], recursive=recursive))

    async def move(request: Request) -> Response:
        body = await _body(request)
        await facade.move(str(body.get("source", "")), str(body.get("target", "")))
        return _answer(Message())

    return [
        Route("/v1/remove", _guarded(remove), methods=["POST"]),
        Route("/v1/move", _guarded(move), methods=["POST"]),
        Route("/v1/upload", _guarded(upload), methods=["POST"]),
        Route("/v1/download", _guarded(download), methods=["POST"]),
        Route("/v1/settings", _guarded(change_setting), methods=["POST"]),
    ]


async def serve_control(
    facade: DaemonFacade,
    control_socket: Path,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; started when the socket accepts. Removes the socket at the end.

    The caller holds the filesystem's lock, so a socket file that is there belongs to nobody.
    """
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
    app: ASGIFramework = build_app(facade)  # type: ignore[assignment]
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")
    with _listening(control_socket) as listener:
        sockets = Sockets([], [listener], [])
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda *, task_status: worker_serve(
                    wrapped, config, sockets=sockets, task_status=task_status
                )
            )
            task_status.started()
            log.debug("control API at %s", control_socket)


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


# --- requests and answers ------------------------------------------------------------------------

Handler = Callable[[Request], Awaitable[Any]]


def _guarded(handler: Handler) -> Handler:
    """``handler`` with every error turned into an answer."""

    async def run(request: Request) -> Any:
        try:
            return await handler(request)
        except UsenetfsError as error:
            return _error(error)
        except Exception:
            log.exception("the control API failed at %s", request.url.path)
            report = ErrorReport("internal", "the daemon failed at this; its log says more")
            return JSONResponse({"error": report.to_json()}, status_code=500)

    return run


async def _body(request: Request) -> dict[str, object]:
    content = bytearray()
    async with contextlib.aclosing(request.stream()) as pieces:
        async for piece in pieces:
            content += piece
            if len(content) > _MAX_BODY:
                raise UsageError("the request is too long")
    try:
        body = json.loads(content) if content else {}
    except ValueError:
        raise UsageError("the request is not JSON") from None
    if not isinstance(body, dict):
        raise UsageError("the request is not a JSON object")
    return body


async def _read(request: Request, kind: type[M]) -> M:
    try:
        return kind.from_json(await _body(request))
    except ValueError as error:
        raise UsageError(f"the request is malformed: {error}") from None


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{name} must be text")
    return value


def _answer(message: Message) -> Response:
    return JSONResponse(message.to_json())


_STATUS: Final[tuple[tuple[type[UsenetfsError], int], ...]] = (
    (UsageError, 400),
    (PathNotFoundError, 404),
    (ConfigurationError, 400),
    (MountError, 409),
    (FilesystemBusyError, 409),
    (NetworkError, 503),
    (LocalStorageError, 507),
)
"""HTTP status by class of error, first match; 500 otherwise."""


def _error(error: UsenetfsError) -> Response:
    status = next((code for cls, code in _STATUS if isinstance(error, cls)), 500)
    report = ErrorReport(
        code=error.error_code,
        message=error.message,
        hint=error.hint,
        recoverable=error.recoverable,
    )
    return JSONResponse({"error": report.to_json()}, status_code=status)
