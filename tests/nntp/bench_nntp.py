"""How fast both roles are, without any network.

::

    python tests/nntp/bench_nntp.py [--articles N]

Prints GB/s of wire octets for 700 KiB articles in chunks as a socket gives them, next to the bare
decoder, which is what the client role cannot beat.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import sabctools

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.nntp.examples import MESSAGE_ID, block, random_bytes, ready_client, ready_server, yenc
from usenetfs.nntp.grammar import Verb

BODY = yenc(random_bytes(716_800))
REPLY = block(b"222 0 <a@b>", BODY)
DEPTH = 4
CHUNKS = (16 << 10, 64 << 10, 256 << 10)


def bodies(articles: int, chunk: int) -> int:
    """The client role receives, ``DEPTH`` bodies in flight."""
    client = ready_client(buffer_size=1 << 20)
    wire = memoryview(REPLY * DEPTH)
    good = 0
    for _ in range(articles // DEPTH):
        for _ in range(DEPTH):
            client.request(Verb.BODY, MESSAGE_ID)
        start = 0
        while start < len(wire):
            room = client.buffer()
            count = min(len(room), chunk, len(wire) - start)
            room[:count] = wire[start : start + count]
            good += sum(response.crc_ok for response in client.received(count))
            start += count
    assert good == articles // DEPTH * DEPTH
    return good * len(REPLY)


def bare_decoder(articles: int, chunk: int) -> int:
    """The same octets into sabctools' Decoder and nothing else."""
    decoder = sabctools.Decoder(1 << 20)
    wire = memoryview(REPLY * DEPTH)
    for _ in range(articles // DEPTH):
        start = 0
        while start < len(wire):
            with memoryview(decoder) as room:
                count = min(len(room), chunk, len(wire) - start)
                room[:count] = wire[start : start + count]
            decoder.process(count)
            for _ in decoder:
                pass
            start += count
    return articles // DEPTH * len(wire)


def posts(articles: int, chunk: int) -> int:
    """The server role receives articles."""
    server = ready_server()
    wire = memoryview(BODY + b".\r\n")
    received = 0
    for _ in range(articles):
        server.feed(b"POST\r\n")
        server.reply(340)
        start = 0
        while start < len(wire):
            room = server.buffer()
            count = min(len(room), chunk, len(wire) - start)
            room[:count] = wire[start : start + count]
            received += len(server.received(count))
            start += count
        server.reply(240)
    assert received == articles
    return articles * len(wire)


def replies(articles: int, _: int) -> int:
    """The server role makes replies, looking for dots to stuff."""
    server = ready_server()
    size = 0
    for _ in range(articles):
        server.feed(b"BODY <a@b>\r\n")
        size += len(server.reply_block(222, "0 <a@b>", BODY))
    return size


def speed(work: Callable[[int, int], int], articles: int, chunk: int) -> float:
    """GB/s, the best of three."""
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        size = work(articles, chunk)
        best = max(best, size / (time.perf_counter() - start) / 1e9)
    return best


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Measure the NNTP protocol.")
    parser.add_argument("--articles", type=int, default=200)
    articles: int = parser.parse_args().articles
    for work in (bodies, bare_decoder, posts, replies):
        figures = ", ".join(
            f"{speed(work, articles, chunk):.2f} GB/s in {chunk >> 10} KiB" for chunk in CHUNKS
        )
        print(f"{work.__name__:13} {figures}")


if __name__ == "__main__":
    main()
