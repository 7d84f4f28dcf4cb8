"""The plainest loop: trio sockets, sabctools and AES-GCM, no pool, no retries, no lanes.

What the machine can do at all with these libraries; usenetfs is measured against it. Each
connection is one task: it takes the next article, and on an error everything ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator

import sabctools
import trio

from scripts.bench import transfer
from scripts.bench.articles import BLOCK, opened_into, post_of, sealed, sealed_size
from scripts.bench.transfer import Job, is_right

RECEIVE = 64 * 1024
"""More is slower: it does not stay in the processor's cache between receiving and decoding."""
AT_ONCE = 512 * 1024
"""Received before the next connection has its turn."""


async def upload(job: Job) -> None:
    """Post every piece, each connection the next one."""
    numbers = iter(range(len(job.payload)))
    async with trio.open_nursery() as nursery:
        for _ in range(job.connections):
            nursery.start_soon(_post, job, numbers)


async def _post(job: Job, numbers: Iterator[int]) -> None:
    total, size = len(job.payload), sealed_size(job.payload.size)
    stream = await trio.open_tcp_stream(job.host, job.port)
    async with stream:
        await _line(stream, b"200")
        for number in numbers:
            await stream.send_all(b"POST\r\n")
            body = sealed(number, job.payload.piece(number))
            wire = post_of(number, total, size, body, job.ids[number])
            await _line(stream, b"340")
            await stream.send_all(wire)
            await _line(stream, b"240")


async def _line(stream: trio.SocketStream, code: bytes) -> None:
    """One reply, which has to begin with ``code``."""
    line = b""
    while not line.endswith(b"\r\n"):
        received = await stream.receive_some(4096)
        if not received:
            raise EOFError("the server ended the session")
        line += received
    if not line.startswith(code):
        raise ValueError(f"the server said {line!r}")


async def download(job: Job) -> None:
    """Fetch every piece, each connection the next one, ``depth`` of them ahead."""
    numbers = iter(range(len(job.payload)))
    async with trio.open_nursery() as nursery:
        for _ in range(job.connections):
            nursery.start_soon(_fetch, job, numbers)


async def _fetch(job: Job, numbers: Iterator[int]) -> None:
    stream = await trio.open_tcp_stream(job.host, job.port)
    async with stream, contextlib.AsyncExitStack() as stack:
        await _line(stream, b"200")
        # trio's own receive waits each time, which costs a turn of the loop for 64 KiB.
        sock = stack.enter_context(socket.socket(fileno=os.dup(stream.socket.fileno())))
        sock.settimeout(0)
        decoder = sabctools.Decoder(RECEIVE)
        asked: list[int] = []
        plaintext = memoryview(bytearray(BLOCK))

        async def ask(how_many: int) -> None:
            more = [number for _, number in zip(range(how_many), numbers, strict=False)]
            asked.extend(more)
            if more:
                await stream.send_all(b"".join(b"BODY %s\r\n" % job.ids[n].encode() for n in more))

        await ask(job.depth)
        while asked:
            await trio.lowlevel.wait_readable(sock)
            taken = 0
            while taken < AT_ONCE and (received := _receive(sock, decoder)):
                decoder.process(received)
                taken += received
                for response in decoder:
                    _check(job, asked.pop(0), response, plaintext)
                    await ask(1)


def _receive(sock: socket.socket, decoder: sabctools.Decoder) -> int:
    """What is there already, into the decoder's memory; 0: nothing."""
    with memoryview(decoder) as room:
        try:
            received = sock.recv_into(room)
        except BlockingIOError:
            return 0
    if not received:
        raise EOFError("the server ended the session")
    return received


def _check(job: Job, number: int, response: sabctools.NNTPResponse, plaintext: memoryview) -> None:
    data = response.data
    if response.status_code != 222 or data is None or response.crc is None:
        raise ValueError(f"article {number}: {response.status_code} {response.message}")
    if not is_right(
        job, number, data if job.check == "plain" else opened_into(number, data, plaintext)
    ):
        raise ValueError(f"article {number} is not what was posted")


if __name__ == "__main__":
    sys.exit(transfer.main(upload, download))
