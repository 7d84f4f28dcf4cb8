"""Turns at reading the kernel's requests, with a socket in the kernel's place."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pyfuse3
import pytest
import trio
import trio.testing

from usenetfs.fs import turns as module
from usenetfs.fs.guard import noticing
from usenetfs.fs.turns import Turns, session_descriptor, take_over


class Session:
    """Workers as pyfuse3 has them; a request is one octet, and ``answer`` is its handler."""

    def __init__(self, answer: Callable[[bytes], Awaitable[None]]) -> None:
        self.ours, self.kernel = socket.socketpair()
        self.ours.setblocking(False)
        self.turns = Turns(self.ours.fileno())
        self.answer = answer
        self.served: Counter[str] = Counter()
        self.log: list[bytes] = []

    async def work(self) -> None:
        name = trio.lowlevel.current_task().name
        while await self.turns.wait():
            request = self.ours.recv(1)
            if not request:
                return
            self.served[name] += 1
            await noticing(self._handle(request), self.turns.hand_over)

    async def _handle(self, request: bytes) -> None:
        await self.answer(request)
        self.log.append(request)

    def close(self) -> None:
        self.ours.close()
        self.kernel.close()


@pytest.fixture
def opened() -> Iterator[list[Session]]:
    sessions: list[Session] = []
    yield sessions
    for session in sessions:
        session.close()


async def at_once(request: bytes) -> None:
    """A handler that waits for nothing."""


async def settled() -> None:
    """Sockets are ready at the next look of the loop's at its descriptors."""
    for _ in range(5):
        await trio.testing.wait_all_tasks_blocked()


async def test_a_worker_keeps_its_turn_while_nothing_waits(opened: list[Session]) -> None:
    session = Session(at_once)
    opened.append(session)
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(session.work, name=f"worker {number}")
        for _ in range(10):
            session.kernel.send(b"abc")
            await settled()
        assert len(session.log) == 30
        assert list(session.served.values()) == [30]
        assert repr(session.turns) == "<Turns taken, 3 wait>"
        nursery.cancel_scope.cancel()


async def test_a_handler_that_waits_hands_its_turn_on(opened: list[Session]) -> None:
    release = trio.Event()

    async def answer(request: bytes) -> None:
        if request == b"s":
            await release.wait()

    session = Session(answer)
    opened.append(session)
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(session.work, name=f"worker {number}")
        session.kernel.send(b"sabsc")
        await settled()
        assert session.log == [b"a", b"b", b"c"]
        assert len(session.served) == 3
        release.set()
        await settled()
        assert sorted(session.log) == [b"a", b"b", b"c", b"s", b"s"]
        session.kernel.send(b"d")
        await settled()
        assert session.log[-1] == b"d"
        nursery.cancel_scope.cancel()


async def test_when_all_workers_wait_the_first_that_is_free_reads(opened: list[Session]) -> None:
    gates = {b"1": trio.Event(), b"2": trio.Event()}

    async def answer(request: bytes) -> None:
        if request in gates:
            await gates[request].wait()

    session = Session(answer)
    opened.append(session)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(session.work)
        session.kernel.send(b"12x")
        await settled()
        assert session.log == []
        gates[b"2"].set()
        await settled()
        assert session.log == [b"2", b"x"]
        gates[b"1"].set()
        await settled()
        session.kernel.send(b"y")
        await settled()
        assert session.log == [b"2", b"x", b"1", b"y"]
        nursery.cancel_scope.cancel()


async def test_other_tasks_get_their_chance_under_a_flood(
    opened: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next request is always there already."""

    async def answer(request: bytes) -> None:
        session.kernel.send(b"a")

    monkeypatch.setattr(module, "UNINTERRUPTED", 0.0)
    session = Session(answer)
    opened.append(session)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.work)
        session.kernel.send(b"a")
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert session.log
        nursery.cancel_scope.cancel()


async def test_a_request_that_comes_soon_finds_the_worker_awake(
    opened: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[int] = []
    sleep = trio.lowlevel.wait_readable

    async def noted(descriptor: int) -> None:
        slept.append(len(session.log))
        await sleep(descriptor)

    async def answer(request: bytes) -> None:
        if request < b"5":
            later = threading.Timer(0.002, session.kernel.send, [bytes([request[0] + 1])])
            later.start()
        else:
            monkeypatch.setattr(module, "LINGER", 0.0)

    monkeypatch.setattr(trio.lowlevel, "wait_readable", noted)
    monkeypatch.setattr(module, "LINGER", 20.0)
    monkeypatch.setattr(module, "UNINTERRUPTED", 20.0)
    session = Session(answer)
    opened.append(session)
    session.kernel.send(b"0")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.work)
        await settled()
        assert session.log == [b"0", b"1", b"2", b"3", b"4", b"5"]
        assert slept == [6]
        nursery.cancel_scope.cancel()


async def test_all_workers_end_when_the_kernel_lets_go(opened: list[Session]) -> None:
    session = Session(at_once)
    opened.append(session)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(session.work)
        session.kernel.send(b"a")
        await settled()
        session.kernel.close()
        with trio.fail_after(5):
            await settled()
            assert not nursery.child_tasks


async def test_parked_workers_end_when_the_reader_found_the_end_by_itself(
    opened: list[Session], autojump_clock: trio.testing.MockClock
) -> None:
    """Between the look and the read: the worker that reads ends and asks for no further turn."""

    async def answer(request: bytes) -> None:
        session.kernel.close()
        raise EOFError

    session = Session(answer)
    opened.append(session)

    async def work() -> None:
        try:
            await session.work()
        except EOFError:
            return

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(work)
            nursery.start_soon(session.turns.watch)
            session.kernel.send(b"a")
    assert repr(session.turns) == "<Turns over, 0 wait>"


async def test_a_descriptor_that_is_about_to_close_ends_the_turns(opened: list[Session]) -> None:
    session = Session(at_once)
    opened.append(session)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(session.work)
        await settled()
        trio.lowlevel.notify_closing(session.ours.fileno())
        with trio.fail_after(5):
            await settled()
            assert not nursery.child_tasks


async def test_cancelled_workers_leave_nothing(opened: list[Session]) -> None:
    session = Session(at_once)
    opened.append(session)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(session.work)
        await settled()
        nursery.cancel_scope.cancel()
    assert repr(session.turns).endswith("0 wait>")


async def test_what_is_thrown_into_a_waiting_handler_reaches_it() -> None:
    caught = []
    waited = []

    async def work() -> str:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            caught.append(True)
            raise
        return "never"

    with trio.move_on_after(0):
        await noticing(work(), lambda: waited.append(True))
    assert caught == [True]
    assert waited == [True]


async def test_a_handler_that_waits_for_nothing_is_not_noticed() -> None:
    waited = []

    async def work() -> int:
        return 7

    assert await noticing(work(), lambda: waited.append(True)) == 7
    assert waited == []


def test_without_a_session_pyfuse3_is_left_alone() -> None:
    assert session_descriptor() is None
    before = getattr(pyfuse3, module.REPLACED)
    assert take_over() is None
    assert getattr(pyfuse3, module.REPLACED) is before


def test_this_pyfuse3_has_what_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer one may not: then mounting works as well, and costs more."""
    before = getattr(pyfuse3, module.REPLACED)
    monkeypatch.setattr(pyfuse3, module.REPLACED, before)  # put back at the end
    descriptor = os.open("/dev/null", os.O_RDONLY)
    try:
        monkeypatch.setattr(module, "session_descriptor", lambda: descriptor)
        turns = take_over()
        assert turns is not None
        assert getattr(pyfuse3, module.REPLACED) == turns.wait
    finally:
        os.close(descriptor)
