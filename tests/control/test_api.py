"""The control API over a real socket: the served application and the CLI's client."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from usenetfs.control.client import ControlClient, RemoteError
from usenetfs.control.model import (
    CacheReport,
    DropReport,
    HistoryReport,
    LimitsReport,
    OperationReport,
    OperationsReport,
    RecentError,
    Sample,
    StatusReport,
    SyncReport,
    UnmountReport,
    WarmReport,
)
from usenetfs.control.serving import serve_control
from usenetfs.errors import ControlError, MountError, NotMountedError, UsenetfsError

T = TypeVar("T")


class FakeDaemon:
    """Answers as a daemon would; ``error`` is raised instead where it is set."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls: list[str] = []
        self.problems: tuple[RecentError, ...] = ()
        self.syncing = trio.Event()
        self.synced = trio.Event()
        self.answered = trio.Event()

    async def _called(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        self.calls.append(name)
        if self.error is not None:
            raise self.error

    async def status(self) -> StatusReport:
        await self._called("status")
        return StatusReport(
            name="photos", state="mounted", pid=os.getpid(), files=3, recent_errors=self.problems
        )

    async def history(self) -> HistoryReport:
        await self._called("history")
        return HistoryReport(samples=(Sample(1.0, upload=5.0),))

    async def operations(self) -> OperationsReport:
        await self._called("operations")
        return OperationsReport(active=(OperationReport("ab-1", "sync", "sync"),))

    async def operation(self, operation_id: str) -> OperationReport:
        await self._called(f"operation {operation_id}")
        return OperationReport(operation_id, "sync", "sync")

    async def limits(self) -> LimitsReport:
        await self._called("limits")
        return LimitsReport(rate=5)

    async def cache(self) -> CacheReport:
        await self._called("cache")
        return CacheReport(bytes=7)

    async def metrics(self) -> str:
        await self._called("metrics")
        return "usenet_upload_mbps 0.0\n"

    async def sync(self) -> SyncReport:
        await self._called("sync")
        self.syncing.set()
        await self.synced.wait()
        return SyncReport(duration=2.5)

    async def drop_cache(self, path: str | None = None) -> DropReport:
        await self._called("drop_cache" if path is None else f"drop_cache {path}")
        return DropReport(articles=1, bytes=2)

    async def warm_cache(self, path: str) -> WarmReport:
        await self._called(f"warm_cache {path}")
        return WarmReport(articles=4, fetched=3)

    async def unmount_answered(self) -> None:
        await trio.lowlevel.checkpoint()
        self.answered.set()

    async def unmount(self, *, lazy: bool) -> UnmountReport:
        await self._called(f"unmount lazy={lazy}")
        return UnmountReport(pid=5, pending_bytes=9)


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[tuple[FakeDaemon, ControlClient]]:
    daemon = FakeDaemon()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, daemon, path)
        yield daemon, ControlClient(path, name="photos", timeout=5)
        nursery.cancel_scope.cancel()


async def call(function: Callable[[], T]) -> T:
    with trio.fail_after(10):
        return await trio.to_thread.run_sync(function)


async def test_every_call(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as (daemon, client):
        daemon.synced.set()
        assert (await call(client.status)).files == 3
        assert (await call(client.cache)).bytes == 7
        assert await call(client.metrics) == "usenet_upload_mbps 0.0\n"
        assert (await call(client.sync)).duration == 2.5
        assert (await call(client.drop_cache)).bytes == 2
        assert (await call(lambda: client.drop_cache("/a b"))).articles == 1
        assert (await call(lambda: client.warm_cache("/2026"))).fetched == 3
        assert (await call(lambda: client.unmount(lazy=True))).pending_bytes == 9
        assert (await call(lambda: client.unmount(lazy=False))).pid == 5
        await daemon.answered.wait()
        assert daemon.calls == [
            *("status", "cache", "metrics", "sync", "drop_cache"),
            *("drop_cache /a b", "warm_cache /2026"),
            *("unmount lazy=True", "unmount lazy=False"),
        ]


async def test_a_long_call_does_not_hold_up_a_short_one(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as (daemon, client), trio.open_nursery() as nursery:
        nursery.start_soon(call, client.sync)
        with trio.fail_after(10):
            await daemon.syncing.wait()
        assert (await call(client.status)).name == "photos"
        daemon.synced.set()


async def test_the_socket_is_private_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("left over")
    async with served(path):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.is_socket()
    assert not path.exists()


async def test_a_path_that_is_too_long_for_the_kernel(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    async with served(folder / "control.sock") as (_, client):
        assert (await call(client.status)).name == "photos"
    with pytest.raises(NotMountedError):
        await call(client.status)


async def test_the_daemons_errors_come_back(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as (daemon, client):
        daemon.error = MountError("it is in use", hint="close it")
        with pytest.raises(RemoteError, match="it is in use") as caught:
            await call(lambda: client.unmount(lazy=False))
        assert (caught.value.hint, caught.value.remote_code) == ("close it", "mount")


async def test_a_bug_in_the_daemon_tells_nothing(
    tmp_path: Path, expect_log: Callable[[str], None]
) -> None:
    expect_log("the control API failed at /v1/status")
    async with served(tmp_path / "s") as (daemon, client):
        daemon.error = RuntimeError("with a secret in it")
        with pytest.raises(RemoteError) as caught:
            await call(client.status)
        assert caught.value.remote_code == "internal"
        assert "secret" not in str(caught.value)


async def test_names_that_are_no_text_cross_in_both_directions(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as (daemon, client):
        await call(lambda: client.drop_cache("/\udcff"))
        assert daemon.calls == ["drop_cache /\udcff"]
        daemon.error = MountError("/mnt/\udcff is in use", hint="\udcff")
        with pytest.raises(RemoteError, match="in use") as caught:
            await call(client.status)
        assert caught.value.message == "/mnt/\udcff is in use"


async def raw(path: Path, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to literal octets."""
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(request)
        answer = b""
        with trio.fail_after(10):
            async for piece in stream:
                answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/unmount", b"not json", 400),
        ("POST", "/v1/unmount", b"[]", 400),
        ("POST", "/v1/unmount", b'{"lazy": "yes"}', 400),
        ("POST", "/v1/unmount", b" " * 70_000, 400),
        ("POST", "/v1/unmount", b"", 200),
        ("GET", "/v1/unmount", b"", 405),
        ("GET", "/v1/nothing", b"", 404),
    ],
)
async def test_requests_of_others(
    tmp_path: Path, method: str, path: str, body: bytes, status: int
) -> None:
    async with served(tmp_path / "s"):
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        code, answer = await raw(tmp_path / "s", request)
        assert code == status
        if status == 400:
            assert json.loads(answer)["error"]["code"] == "usage"


def test_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "s"
    client = ControlClient(path, name="photos")
    with pytest.raises(NotMountedError) as absent:
        client.status()
    assert absent.value.hint == "mount it: usenetfs mount photos MOUNTPOINT"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    with pytest.raises(NotMountedError):
        client.status()


def answering(path: Path, answer: bytes | None) -> socket.socket:
    """A daemon gone wrong: it says ``answer`` to whatever it is asked, or nothing at all."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            if answer is not None:
                connection.sendall(answer)
            else:
                connection.recv(65536)

    threading.Thread(target=run, daemon=True).start()
    return listener


HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "did not answer within"),
        (b"", "broke off"),
        (b"hello\r\n", "broke off"),
        (HEAD + b"<html>", "not JSON"),
        (HEAD + b"[]", "not what was asked for"),
        (HEAD + b'{"name": 5}', "not what was asked for"),
        (b"HTTP/1.1 500 X\r\nConnection: close\r\n\r\noops", "answered with status 500"),
    ],
)
def test_a_daemon_gone_wrong(tmp_path: Path, answer: bytes | None, message: str) -> None:
    with answering(tmp_path / "s", answer):
        with pytest.raises(UsenetfsError, match=message) as caught:
            ControlClient(tmp_path / "s", name="photos", timeout=0.3).status()
        assert isinstance(caught.value, ControlError)
