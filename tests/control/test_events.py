"""Answers that last: every event arrives, and whoever leaves ends the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.lowlevel

from usenetfs.control.app import DaemonFacade
from usenetfs.control.client import ControlClient, RemoteError
from usenetfs.control.events import Emit, EventQueue, Job
from usenetfs.control.requests import UploadRequest
from usenetfs.control.serving import serve_control
from usenetfs.errors import ControlError, DiskFullError, PosixError

REQUEST = UploadRequest(sources=("/a\udcff",), target="/b")


async def test_a_slow_client_gets_the_number_of_what_it_missed() -> None:
    queue = EventQueue(capacity=3)
    for number in range(10):
        queue.put({"event": "file", "path": str(number)})
    taken = await queue.take()
    assert [event.get("path") for event in taken] == ["0", "1", "2", None]
    assert taken[-1] == {"event": "omitted", "count": 7}
    queue.put({"event": "progress", "n": 1})
    queue.put({"event": "progress", "n": 2})
    queue.close()
    assert await queue.take() == [{"event": "progress", "n": 2}]
    assert await queue.take() == []


class Importer:
    """The one call of a daemon that matters here; ``job`` is what it does."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.requests: list[UploadRequest] = []
        self.error: Exception | None = None

    async def upload(self, request: UploadRequest) -> Job:
        await trio.lowlevel.checkpoint()
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        return self.job


async def _events(path: Path, importer: Importer, stop_after: int | None = None) -> list[Any]:
    """What a client gets that leaves after so many events."""

    def listen() -> list[Any]:
        client = ControlClient(path, name="photos")
        found = []
        stream = client.events("/v1/upload", REQUEST)
        for event in stream:
            found.append(event)
            if len(found) == stop_after:
                stream.close()  # type: ignore[attr-defined]
                break
        return found

    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, cast(DaemonFacade, importer), path)
        with trio.fail_after(10):
            events = await trio.to_thread.run_sync(listen)
        nursery.cancel_scope.cancel()
    return events


async def test_events_arrive_until_the_end(tmp_path: Path) -> None:
    async def job(emit: Emit) -> None:
        for number in range(100):
            emit({"event": "file", "path": str(number)})
            await trio.lowlevel.checkpoint()
        emit({"event": "end"})

    importer = Importer(job)
    events = await _events(tmp_path / "s", importer)
    assert [event.get("path") for event in events[:-1]] == [str(n) for n in range(100)]
    assert importer.requests == [REQUEST]


async def test_whoever_leaves_ends_the_work(tmp_path: Path) -> None:
    ended = trio.Event()

    async def job(emit: Emit) -> None:
        try:
            while True:
                emit({"event": "file", "path": "x"})
                await trio.sleep(0.01)
        finally:
            ended.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, cast(DaemonFacade, Importer(job)), tmp_path / "s")

        def listen() -> None:
            stream = ControlClient(tmp_path / "s", name="x").events("/v1/upload", REQUEST)
            next(stream)
            stream.close()  # type: ignore[attr-defined]

        with trio.fail_after(10):
            await trio.to_thread.run_sync(listen)
            await ended.wait()
        nursery.cancel_scope.cancel()


async def test_errors_before_and_after_the_beginning(tmp_path: Path) -> None:
    async def job(emit: Emit) -> None:
        emit({"event": "file", "path": "x"})
        raise DiskFullError("it is full")

    importer = Importer(job)
    with pytest.RaisesGroup(RemoteError, flatten_subgroups=True):
        await _events(tmp_path / "s", importer)
    importer.error = PosixError(20, "a file is no directory")
    with pytest.RaisesGroup(
        pytest.RaisesExc(RemoteError, match="no directory"), flatten_subgroups=True
    ):
        await _events(tmp_path / "s", importer)


async def test_a_stream_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    async def job(emit: Emit) -> None:
        emit({"event": "file", "path": "x"})
        await trio.lowlevel.checkpoint()

    with pytest.RaisesGroup(
        pytest.RaisesExc(ControlError, match="in the middle"), flatten_subgroups=True
    ):
        await _events(tmp_path / "s", Importer(job))
