"""The control API: HTTP requests in, calls of the daemon's facade out.

Owns the status codes and the JSON around values. What there is to ask is in ``endpoints.py``, where
it is served in ``serving.py``; what a request means is the facade's business.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import trio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from usenetfs.control.endpoints import ENDPOINTS, JSON_TYPE, METRICS_TYPE, PAGE_TYPE
from usenetfs.control.events import EventStream, Job
from usenetfs.control.message import Message
from usenetfs.control.model import (
    CacheReport,
    DropReport,
    ErrorReport,
    HistoryReport,
    LimitsReport,
    OperationReport,
    OperationsReport,
    RemoveReport,
    StatusReport,
    SyncReport,
    UnmountReport,
    WarmReport,
)
from usenetfs.control.page import page as the_page
from usenetfs.control.requests import (
    DownloadRequest,
    MoveRequest,
    PathRequest,
    RemoveRequest,
    SettingRequest,
    UnmountRequest,
    UploadRequest,
    VerifyRequest,
)
from usenetfs.control.stream import Watchers
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
    from starlette.types import ASGIApp

M = TypeVar("M", bound=Message)

Handler = Callable[[Request], Awaitable[Any]]

log = logging.getLogger("usenetfs.control")

_MAX_BODY: Final = 4 << 20
"""Octets: as many sources as a command line can name."""


class DaemonFacade(Protocol):
    """What the API needs of a daemon. Errors are UsenetfsErrors; anything else is a bug."""

    async def status(self) -> StatusReport:
        """Where everything stands; must answer in milliseconds whatever the servers do."""
        ...

    async def history(self) -> HistoryReport: ...

    async def operations(self) -> OperationsReport: ...

    async def operation(self, operation_id: str) -> OperationReport:
        """PathNotFoundError."""
        ...

    async def limits(self) -> LimitsReport: ...

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

    async def verify(self, request: VerifyRequest) -> Job:
        """What asks the servers for every article when it is run."""
        ...

    async def unmount_answered(self) -> None:
        """The answer of ``unmount`` was sent."""
        ...

    async def unmount(self, *, lazy: bool) -> UnmountReport:
        """Drain unless ``lazy``, unmount, and let the daemon end. MountError when in use."""
        ...


def build_app(facade: DaemonFacade) -> Starlette:
    """The ASGI application over ``facade``: a route for each endpoint, and no other."""
    handlers = _handlers(facade) | _work_handlers(facade)
    routes = [
        Route(each.path, _guarded(handlers.pop(each.name)), methods=[each.method])
        for each in ENDPOINTS
    ]
    assert not handlers, f"no endpoint is called {', '.join(handlers)}"
    return Starlette(routes=routes)


def _handlers(facade: DaemonFacade) -> dict[str, Handler]:
    """What tells something."""
    watchers = Watchers(facade)

    async def status(_: Request) -> Response:
        return _answer(await facade.status())

    async def history(_: Request) -> Response:
        return _answer(await facade.history())

    async def operations(_: Request) -> Response:
        return _answer(await facade.operations())

    async def operation(request: Request) -> Response:
        return _answer(await facade.operation(request.path_params["id"]))

    async def events(request: Request) -> ASGIApp:
        await trio.lowlevel.checkpoint()
        return watchers.watch(request.query_params.get("interval"))

    async def cache(_: Request) -> Response:
        return _answer(await facade.cache())

    async def limits(_: Request) -> Response:
        return _answer(await facade.limits())

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(await facade.metrics(), media_type=METRICS_TYPE)

    async def page(_: Request) -> Response:
        await trio.lowlevel.checkpoint()
        content, policy = the_page()
        headers = {"Content-Security-Policy": policy}
        return Response(content, media_type=PAGE_TYPE, headers=headers)

    async def openapi(_: Request) -> Response:
        from usenetfs.control.openapi import openapi

        await trio.lowlevel.checkpoint()
        return _json(openapi())

    return {
        "cache": cache,
        "events": events,
        "history": history,
        "limits": limits,
        "metrics": metrics,
        "openapi": openapi,
        "operation": operation,
        "operations": operations,
        "page": page,
        "prometheus": metrics,
        "status": status,
    }


def _work_handlers(facade: DaemonFacade) -> dict[str, Handler]:
    """What changes something, or lasts."""

    async def sync(_: Request) -> Response:
        return _answer(await facade.sync())

    async def drop_cache(request: Request) -> Response:
        return _answer(await facade.drop_cache((await _read(request, PathRequest)).path))

    async def warm_cache(request: Request) -> Response:
        return _answer(await facade.warm_cache((await _read(request, PathRequest)).path or "/"))

    async def unmount(request: Request) -> Response:
        answer = _answer(await facade.unmount(lazy=(await _read(request, UnmountRequest)).lazy))
        answer.background = BackgroundTask(facade.unmount_answered)
        return answer

    async def upload(request: Request) -> ASGIApp:
        return EventStream(await facade.upload(await _read(request, UploadRequest)))

    async def download(request: Request) -> ASGIApp:
        return EventStream(await facade.download(await _read(request, DownloadRequest)))

    async def verify(request: Request) -> ASGIApp:
        return EventStream(await facade.verify(await _read(request, VerifyRequest)))

    async def change_setting(request: Request) -> Response:
        asked = await _read(request, SettingRequest)
        return _answer(await facade.change_setting(asked.key, asked.value))

    async def remove(request: Request) -> Response:
        asked = await _read(request, RemoveRequest)
        return _answer(await facade.remove(asked.paths, recursive=asked.recursive))

    async def move(request: Request) -> Response:
        asked = await _read(request, MoveRequest)
        await facade.move(asked.source, asked.target)
        return _answer(Message())

    return {
        "change_setting": change_setting,
        "download": download,
        "drop_cache": drop_cache,
        "move": move,
        "remove": remove,
        "sync": sync,
        "unmount": unmount,
        "upload": upload,
        "verify": verify,
        "warm_cache": warm_cache,
    }


# --- requests and answers ------------------------------------------------------------------------


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
            return _json({"error": report.to_json()}, 500)

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


def _answer(message: Message) -> Response:
    return _json(message.to_json())


def _json(value: object, status: int = 200) -> Response:
    # In ASCII: names that are no UTF-8 are lone surrogates, which only an escape can carry.
    return Response(json.dumps(value), status_code=status, media_type=JSON_TYPE)


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
    return _json({"error": report.to_json()}, status)
