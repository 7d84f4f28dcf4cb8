"""The relay: delays without slowing, limits where asked, cuts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from usenetfs.nntpd.relay import Relay, RelaySettings

SERVE = partial(trio.serve_tcp, host="127.0.0.1")


@pytest.fixture
def patient_clock() -> MockClock:
    """Virtual time that waits for the kernel: octets between two sockets take a moment."""
    return MockClock(autojump_threshold=0.05)


async def _echo(stream: trio.SocketStream) -> None:
    async with stream:
        try:
            async for data in stream:
                await stream.send_all(data)
        except trio.BrokenResourceError:
            return  # cut


@asynccontextmanager
async def _relay(**settings: Any) -> AsyncIterator[Relay]:
    """A relay in front of an echo."""
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(SERVE, _echo, 0)
        port = listeners[0].socket.getsockname()[1]
        yield await nursery.start(Relay(RelaySettings("127.0.0.1", port, **settings)).run)
        nursery.cancel_scope.cancel()


async def _exchange(stream: trio.SocketStream, data: bytes) -> bytes:
    """Send and receive at once, until the other side is done."""
    received = bytearray()

    async def send() -> None:
        await stream.send_all(data)
        await stream.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        async for chunk in stream:
            received += chunk
    await stream.aclose()
    return bytes(received)


async def test_passes_everything_and_the_end(patient_clock: MockClock) -> None:
    async with _relay() as relay:
        stream = await trio.open_tcp_stream("127.0.0.1", relay.port)
        data = bytes(range(256)) * 20_000
        assert await _exchange(stream, data) == data
        assert "connections=" in repr(relay)


async def test_round_trip_delays_each_octet_once(patient_clock: MockClock) -> None:
    async with _relay(round_trip=10.0) as relay:
        stream = await trio.open_tcp_stream("127.0.0.1", relay.port)
        began = trio.current_time()
        for _ in range(3):
            await stream.send_all(b"there")
            assert await stream.receive_some() == b"there"
        assert trio.current_time() - began == pytest.approx(30, abs=1)
        began = trio.current_time()
        data = bytes(2_000_000)
        assert await _exchange(stream, data) == data
        assert trio.current_time() - began == pytest.approx(10, abs=2), "delay limits no throughput"


async def test_rate_is_shared_by_all_connections(patient_clock: MockClock) -> None:
    async with _relay(rate=100_000.0) as relay:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                stream = await trio.open_tcp_stream("127.0.0.1", relay.port)
                nursery.start_soon(_exchange, stream, bytes(1_000_000))
        # Each alone would be done in 10 s. Virtual time may run on while sockets are not ready.
        assert 19 <= trio.current_time() - began < 60


async def test_window_bounds_what_is_held(patient_clock: MockClock) -> None:
    async with _relay(round_trip=10.0, window=300_000) as relay:
        stream = await trio.open_tcp_stream("127.0.0.1", relay.port)
        data = bytes(5_000_000)
        began = trio.current_time()
        assert await _exchange(stream, data) == data
        assert trio.current_time() - began > 40, "a full window waits"


async def test_cut_ends_every_connection() -> None:
    async with _relay() as relay:
        streams = [await trio.open_tcp_stream("127.0.0.1", relay.port) for _ in range(3)]
        for stream in streams:
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
        assert relay.connections == 3
        assert relay.cut() == 3
        for stream in streams:
            with trio.fail_after(5):
                assert await stream.receive_some() == b""
            await stream.aclose()
        assert relay.connections == 0
        again = await trio.open_tcp_stream("127.0.0.1", relay.port)
        async with again:
            await again.send_all(b"x")
            assert await again.receive_some() == b"x"


async def test_target_that_is_away() -> None:
    async with trio.open_nursery() as nursery:
        relay: Relay = await nursery.start(Relay(RelaySettings("127.0.0.1", 1)).run)
        async with await trio.open_tcp_stream("127.0.0.1", relay.port) as stream:
            assert await stream.receive_some() == b""
        nursery.cancel_scope.cancel()
