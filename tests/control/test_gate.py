"""The control API on a port: who gets in, what every answer says, and events as they come."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from tests.control.test_api import FakeDaemon
from usenetfs.control.endpoints import ENDPOINTS
from usenetfs.control.model import RecentError, StatusReport
from usenetfs.control.page import page
from usenetfs.control.serving import (
    MAX_CONNECTIONS,
    address_of,
    hosts_of,
    listen_on,
    serve_port,
)
from usenetfs.control.stream import MAX_WATCHERS, Watchers
from usenetfs.errors import FilesystemBusyError

TOKEN = "0123456789abcdef" * 4


@asynccontextmanager
async def served() -> AsyncIterator[tuple[FakeDaemon, int]]:
    daemon = FakeDaemon()
    with listen_on("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        async with trio.open_nursery() as nursery:

            async def serve(*, task_status: trio.TaskStatus[None]) -> None:
                await serve_port(daemon, listener, token=TOKEN, task_status=task_status)  # type: ignore[arg-type]

            await nursery.start(serve)
            yield daemon, port
            nursery.cancel_scope.cancel()


async def ask(
    port: int, path: str, headers: dict[str, str], method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    lines = [f"{method} {path} HTTP/1.1", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        with trio.fail_after(10):
            async for piece in stream:
                answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in rest), body


def bearer(token: str = TOKEN) -> str:
    return f"Bearer {token}"


async def test_who_gets_in() -> None:
    async with served() as (daemon, port):
        host = f"127.0.0.1:{port}"
        cases: list[tuple[int, str, dict[str, str]]] = [
            (200, "/v1/status", {"Host": host, "Authorization": bearer()}),
            (200, "/v1/status", {"Host": f"localhost:{port}", "Authorization": bearer()}),
            (200, "/v1/status", {"Host": host, "Authorization": f"bearer  {TOKEN} "}),
            (200, "/metrics", {"Host": host, "Authorization": bearer()}),
            (401, "/v1/status", {"Host": host}),
            (401, "/v1/status", {"Host": host, "Authorization": bearer(TOKEN[:-1])}),
            (401, "/v1/status", {"Host": host, "Authorization": bearer("")}),
            (401, "/v1/status", {"Host": host, "Authorization": f"Basic {TOKEN}"}),
            (401, f"/v1/status?token={TOKEN}", {"Host": host}),
            (401, "/v1/../v1/status", {"Host": host}),
            (401, "/v1/nothing", {"Host": host}),
            (421, "/v1/status", {"Host": "evil.example", "Authorization": bearer()}),
            (421, "/", {"Host": f"evil.example:{port}"}),
            (421, "/", {"Host": "127.0.0.1"}),
            (403, "/", {"Host": host, "Origin": "http://evil.example"}),
            (403, "/", {"Host": host, "Origin": "null"}),
            (200, "/", {"Host": host, "Origin": f"http://{host}"}),
            (200, "/", {"Host": host}),
        ]
        for status, path, headers in cases:
            code, said, body = await ask(port, path, headers)
            assert code == status, (path, headers)
            assert said["x-frame-options"] == "deny"
            assert said["cache-control"] == "no-store"
            assert "default-src 'none'" in said["content-security-policy"]
            assert TOKEN.encode() not in body
            if status >= 400:
                assert json.loads(body)["error"]["message"]
        assert daemon.calls == ["status", "status", "status", "metrics"]


async def test_nothing_but_the_page_is_told_to_strangers() -> None:
    async with served() as (daemon, port):
        for endpoint in ENDPOINTS:
            code, said, _ = await ask(
                port, endpoint.path, {"Host": f"127.0.0.1:{port}"}, endpoint.method
            )
            assert code == (200 if endpoint.name == "page" else 401)
            assert code == 200 or said["www-authenticate"].startswith("bearer")
        code, _, _ = await ask(port, "/", {"Host": f"127.0.0.1:{port}"}, "POST")
        assert code == 401
        assert daemon.calls == []


async def test_the_page_may_load_nothing_but_itself() -> None:
    content, policy = page()
    async with served() as (_, port):
        code, said, body = await ask(port, "/", {"Host": f"localhost:{port}"})
    assert (code, body) == (200, content)
    assert said["content-security-policy"] == policy.lower()
    assert "unsafe" not in policy
    for outside in (b"http://", b"https://", b"src=", b"@import", b"innerHTML", b"eval("):
        assert outside not in content.replace(b"http://www.w3.org/2000/svg", b""), outside


async def test_events_come_as_they_are() -> None:
    async with served() as (daemon, port), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(
            f"GET /v1/events?interval=0.2 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Authorization: {bearer()}\r\n\r\n".encode()
        )
        received = b""

        async def until(wanted: bytes) -> None:
            nonlocal received
            with trio.fail_after(10):
                while wanted not in received:
                    received += await stream.receive_some()

        await until(b"event: history")
        await until(b"event: status")
        assert b"content-type: text/event-stream" in received.lower()
        daemon.problems = (RecentError(5.0, "network", "it broke", "mend it"),)
        await until(b"event: problem")
        assert b'"message":"it broke"' in received
        for line in received.split(b"\n"):
            if line.startswith(b"data: "):
                assert isinstance(json.loads(line[6:]), dict)


async def test_whoever_leaves_is_not_watched_for_and_too_many_are_refused() -> None:
    async with served() as (daemon, port):
        streams = []
        head = f"HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: {bearer()}\r\n\r\n"
        for _ in range(MAX_WATCHERS):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(f"GET /v1/events {head}".encode())
            await stream.receive_some()
            streams.append(stream)
        headers = {"Host": f"127.0.0.1:{port}", "Authorization": bearer()}
        code, _, body = await ask(port, "/v1/events", headers)
        assert (code, json.loads(body)["error"]["code"]) == (409, "filesystem_busy")
        for stream in streams:
            await stream.aclose()
        with trio.fail_after(10):
            while code == 409:
                code, body = await _first(port, "/v1/events", headers)
        assert code == 200
        assert b"event: history" in body
        assert daemon.calls


async def _first(port: int, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """The beginning of an answer that lasts."""
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while b"\r\n\r\n" not in answer or answer.endswith(b"\r\n\r\n"):
            answer += await stream.receive_some()
    return int(answer.split()[1]), answer


@pytest.mark.parametrize("interval", ["0", "x", "-1", "nan", "inf", "1e9"])
async def test_an_interval_that_is_none(interval: str) -> None:
    async with served() as (_, port):
        headers = {"Host": f"127.0.0.1:{port}", "Authorization": bearer()}
        code, _, body = await ask(port, f"/v1/events?interval={interval}", headers)
        assert (code, json.loads(body)["error"]["code"]) == (400, "usage")


async def test_a_fault_in_the_middle_of_events_ends_them_alone(expect_log: Any) -> None:
    expect_log("in the middle of its events")
    async with served() as (daemon, port):
        daemon.error = ValueError("a bug")
        headers = {"Host": f"127.0.0.1:{port}", "Authorization": bearer()}
        code, _, _ = await ask(port, "/v1/events", headers)
        assert code == 200
        daemon.error = None
        code, _, _ = await ask(port, "/v1/status", headers)
        assert code == 200


def test_only_this_machine_is_listened_to() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "localhost", ""):
        with pytest.raises(ValueError, match="loopback"):
            listen_on(host, 0)
    with listen_on("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert hosts_of(listener) == (f"127.0.0.1:{port}", f"localhost:{port}")
        with pytest.raises(OSError, match="in use"):
            listen_on("127.0.0.1", port)
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", 0))
        assert address_of(other) == f"[::1]:{other.getsockname()[1]}"


def test_watchers_are_counted() -> None:
    watchers = Watchers(FakeDaemon())
    watchers.count = MAX_WATCHERS
    with pytest.raises(FilesystemBusyError):
        watchers.watch(None)
    assert StatusReport("x").web is None


async def test_a_client_that_does_not_read_keeps_nobody_from_ending() -> None:
    """What is sent is shielded by hypercorn; the daemon must end all the same."""
    async with served() as (daemon, port):
        daemon.problems = (RecentError(1.0, "network", "x" * 20_000_000),)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(
            f"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Authorization: {bearer()}\r\n\r\n".encode()
        )
        await stream.receive_some(1)
        with trio.fail_after(10):
            while "status" not in daemon.calls:  # noqa: ASYNC110 - there is no event for it
                await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked(0.2)
        before = trio.current_time()
    assert trio.current_time() - before < 5
    await stream.aclose()


async def test_there_are_only_so_many_connections() -> None:
    async with served() as (_, port):
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
        await trio.testing.wait_all_tasks_blocked(0.1)
        one_more = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.fail_after(10):
            assert await one_more.receive_some() == b""  # closed at once
        await one_more.aclose()
        for stream in streams:
            await stream.aclose()
        headers = {"Host": f"127.0.0.1:{port}", "Authorization": bearer()}
        await trio.testing.wait_all_tasks_blocked(0.1)
        code, _, _ = await ask(port, "/v1/status", headers)
        assert code == 200
