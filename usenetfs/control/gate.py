"""What stands before the control API where it listens on a port rather than a socket.

A Unix socket belongs to its owner; a port of this machine can be reached by every user, and by
every web page in a browser on it. So, for each request, in this order:

- the Host must be ours: a name that somebody else's DNS points to 127.0.0.1 is refused;
- an Origin, where the browser tells one, must be ours: other pages may not ask;
- a token must come with it, compared in constant time; except for what says nothing, the page
  itself, which gets the token from the link that the user opens.

Every answer has the headers that keep a page from being framed, sniffed, cached or extended.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from usenetfs.control.endpoints import ENDPOINTS
from usenetfs.control.model import ErrorReport

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PUBLIC: Final = frozenset(endpoint.path for endpoint in ENDPOINTS if endpoint.public)

HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
NO_CONTENT_POLICY: Final = b"default-src 'none'; frame-ancestors 'none'"
"""Of everything but the page, which says what it needs."""


class Gate:
    """ASGI middleware. ``hosts``: what a Host header may be, port included."""

    def __init__(self, app: ASGIApp, *, token: str, hosts: Iterable[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = frozenset(host.encode() for host in hosts)
        self._origins = frozenset(b"http://" + host for host in self._hosts)

    def __repr__(self) -> str:
        return f"<Gate for {sorted(self._hosts)}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._refusal(scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _guarded(message.get("headers", ()))
            await send(message)

        if refusal is None:
            await self._app(scope, receive, send_guarded)
        else:
            await _refuse(*refusal, send_guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        """Status, message and hint; None for a request that may pass."""
        headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        hosts = [value.lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return 421, "this is not the host that was asked for", "open it at its own address"
        origins = [value.lower() for name, value in headers if name == b"origin"]
        if any(origin not in self._origins for origin in origins):
            return 403, "other pages may not ask", "open the page at its own address"
        if scope["path"] in _PUBLIC and scope["method"] in {"GET", "HEAD"}:
            return None
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) == 1 and self._is_token(given[0]):
            return None
        return 401, "the token is missing or wrong", "usenetfs status --link prints the link"

    def _is_token(self, authorization: bytes) -> bool:
        scheme, _, token = authorization.partition(b" ")
        right = hmac.compare_digest(token.strip(), self._token)
        return right and scheme.lower() == b"bearer"


def _guarded(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    kept = list(headers)
    there = {name.lower() for name, _ in kept}
    kept += [(name, value) for name, value in HEADERS if name not in there]
    if b"content-security-policy" not in there:
        kept.append((b"content-security-policy", NO_CONTENT_POLICY))
    return kept


async def _refuse(status: int, message: str, hint: str, send: Send) -> None:
    code = "unauthorized" if status == 401 else "refused"
    body = json.dumps({"error": ErrorReport(code, message, hint).to_json()}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="usenetfs"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
