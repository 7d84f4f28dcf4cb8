"""What can be asked of a daemon, as one table: routes and the OpenAPI document are made from it.

A route that is not here does not exist, and what is here is served: ``app.py`` has a handler for
each name, and fails at once where one lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from usenetfs.control import model, requests
from usenetfs.control.message import Message

EVENTS_TYPE: Final = "text/event-stream"
LINES_TYPE: Final = "application/x-ndjson"
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PAGE_TYPE: Final = "text/html"
JSON_TYPE: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``answer``: a message, as JSON; or the media type of what is none."""

    name: str
    method: Literal["GET", "POST"]
    path: str
    summary: str
    answer: type[Message] | str
    body: type[Message] | None = None
    public: bool = False
    """Whether it needs no token: it tells nothing."""


ENDPOINTS: Final = (
    Endpoint("page", "GET", "/", "The web page", PAGE_TYPE, public=True),
    Endpoint("status", "GET", "/v1/status", "Where everything stands", model.StatusReport),
    Endpoint(
        "events",
        "GET",
        "/v1/events",
        "Server-sent events: `history` once, then `status` every second (or every `interval`"
        " seconds), `problem` for each new error",
        EVENTS_TYPE,
    ),
    Endpoint("history", "GET", "/v1/history", "The last five minutes", model.HistoryReport),
    Endpoint(
        "operations",
        "GET",
        "/v1/operations",
        "What is being done, what was done last, what failed last",
        model.OperationsReport,
    ),
    Endpoint(
        "operation",
        "GET",
        "/v1/operations/{id}",
        "One operation, by the id that log lines have",
        model.OperationReport,
    ),
    Endpoint("metrics", "GET", "/v1/metrics", "Metrics as Prometheus text", METRICS_TYPE),
    Endpoint("prometheus", "GET", "/metrics", "The same, where Prometheus looks", METRICS_TYPE),
    Endpoint("cache", "GET", "/v1/cache", "The cache of fetched articles", model.CacheReport),
    Endpoint("limits", "GET", "/v1/limits", "How fast uploads may go", model.LimitsReport),
    Endpoint(
        "change_setting",
        "POST",
        "/v1/settings",
        "Change a limit for as long as the mount lasts",
        model.LimitsReport,
        requests.SettingRequest,
    ),
    Endpoint(
        "sync",
        "POST",
        "/v1/sync",
        "Answered when everything written before is on the servers and in a checkpoint",
        model.SyncReport,
    ),
    Endpoint(
        "warm_cache",
        "POST",
        "/v1/cache/warm",
        "Fetch what is missing of a file or tree into the cache",
        model.WarmReport,
        requests.PathRequest,
    ),
    Endpoint(
        "drop_cache",
        "POST",
        "/v1/cache/drop",
        "Empty the cache, or what it has of a file or tree",
        model.DropReport,
        requests.PathRequest,
    ),
    Endpoint(
        "upload",
        "POST",
        "/v1/upload",
        "Copy local files in; a line of JSON for each event, the last one is `end` or `error`",
        LINES_TYPE,
        requests.UploadRequest,
    ),
    Endpoint(
        "download",
        "POST",
        "/v1/download",
        "Copy files out to the local disk; lines as for `upload`",
        LINES_TYPE,
        requests.DownloadRequest,
    ),
    Endpoint(
        "verify",
        "POST",
        "/v1/verify",
        "Ask the servers for every article; a line of JSON for each event, the last one is `end` or"
        " `error`",
        LINES_TYPE,
        requests.VerifyRequest,
    ),
    Endpoint(
        "remove",
        "POST",
        "/v1/remove",
        "Take names away",
        model.RemoveReport,
        requests.RemoveRequest,
    ),
    Endpoint("move", "POST", "/v1/move", "Rename", Message, requests.MoveRequest),
    Endpoint(
        "unmount",
        "POST",
        "/v1/unmount",
        "Wait until everything is safe (unless `lazy`), unmount, and end the daemon",
        model.UnmountReport,
        requests.UnmountRequest,
    ),
    Endpoint("openapi", "GET", "/v1/openapi.json", "This API as OpenAPI 3.1", JSON_TYPE),
)
