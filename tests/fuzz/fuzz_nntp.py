"""Fuzz both roles of the NNTP protocol.

::

    python tests/fuzz/fuzz_nntp.py --seconds 60 [--seed N]

With atheris installed it is guided by coverage, otherwise it mutates well-formed sessions at
random. Either way the properties of :func:`check_client` and :func:`check_server` are asserted:
nothing but typed errors comes out, memory stays bounded, and the same octets mean the same
whatever the chunks they come in. A failing input is written to the current directory and printed,
and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import random
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from usenetfs.errors import (
    ConnectionLostError,
    LocalProtocolError,
    RemoteProtocolError,
)
from usenetfs.nntp.client import ClientProtocol, ClientState, Response
from usenetfs.nntp.grammar import SECRET_VERBS, Verb
from usenetfs.nntp.server import (
    ArticleReceived,
    ArticleTooLarge,
    BadCommand,
    CommandReceived,
    Event,
    ServerProtocol,
    ServerState,
)

MAX_RESPONSE: Final = 20_000
MAX_ARTICLE: Final = 5_000
BUFFER: Final = 4096

ID: Final = "<a@b>"
SECRET: Final = "hunter2"
STARTTLS_SCRIPT: Final[tuple[tuple[Verb, tuple[str, ...]], ...]] = ((Verb.STARTTLS, ()),)
SCRIPTS: Final[tuple[tuple[tuple[Verb, tuple[str, ...]], ...], ...]] = (
    ((Verb.BODY, (ID,)), (Verb.STAT, (ID,)), (Verb.HEAD, (ID,)), (Verb.BODY, (ID,))),
    ((Verb.ARTICLE, (ID,)), (Verb.DATE, ()), (Verb.CAPABILITIES, ()), (Verb.QUIT, ())),
    ((Verb.STAT, (ID,)), (Verb.POST, ())),
    ((Verb.BODY, (ID,)),) * 8,
    ((Verb.AUTHINFO_USER, (SECRET,)),),
    STARTTLS_SCRIPT,
    (),
)
"""What the client has asked when the octets come; the first octet of the input chooses."""


def check_client(data: bytes) -> None:
    """The client role takes any octets: same outcome whatever the chunks, errors typed."""
    if not data:
        return
    script, wire = SCRIPTS[data[0] % len(SCRIPTS)], data[1:]
    whole = _run_client(script, wire, [len(wire) or 1])
    split = _run_client(script, wire, _chunk_sizes(data))
    # What came with a 382 is an injection; what comes later is for TLS to judge.
    if script != STARTTLS_SCRIPT:
        assert whole == split, (whole, split)


def _run_client(
    script: tuple[tuple[Verb, tuple[str, ...]], ...], wire: bytes, sizes: list[int]
) -> list[object]:
    client = ClientProtocol(buffer_size=BUFFER, max_response=MAX_RESPONSE)
    client.feed(b"200 hello\r\n")
    for verb, arguments in script:
        client.request(verb, *arguments, tag=verb)
    outcome: list[object] = []
    end = "end"
    try:
        for piece in _pieces(wire, sizes):
            outcome += [_summary(response) for response in client.feed(piece)]
        client.buffer()
        if client.state is ClientState.SENDING_ARTICLE:
            client.article_sent()
        client.feed(b"")
    except (RemoteProtocolError, ConnectionLostError) as error:
        end = f"{type(error).__name__} {error}"
    outcome += [end, client.state]
    assert client.state in {ClientState.CLOSED, ClientState.ERROR}
    if SECRET in str(script):
        assert SECRET not in f"{end} {client!r}"
    return outcome


def _pieces(wire: bytes, sizes: list[int]) -> Iterator[bytes]:
    start = turn = 0
    while start < len(wire):
        size = sizes[turn % len(sizes)]
        yield wire[start : start + size]
        start += size
        turn += 1


def _summary(response: Response) -> object:
    assert response.wire_size <= MAX_RESPONSE
    if response.verb in SECRET_VERBS:
        assert SECRET not in repr(response)
    if response.crc_ok:
        assert response.data is not None
        assert response.crc == zlib.crc32(response.data)
    data = None if response.data is None else bytes(response.data)
    return (
        response.tag,
        response.code,
        response.text,
        response.lines,
        data,
        response.crc,
        response.crc_ok,
        response.wire_size,
    )


def check_server(data: bytes) -> None:
    """The server role takes any octets: same events whatever the chunks, memory bounded."""
    if not data:
        return
    whole = _run_server(data, [len(data)])
    split = _run_server(data, _chunk_sizes(data))
    assert whole == split, (whole, split)


def _run_server(wire: bytes, sizes: list[int]) -> list[object]:
    server = ServerProtocol(max_article=MAX_ARTICLE)
    server.reply(200)
    outcome: list[object] = []
    for piece in _pieces(wire, sizes):
        events = server.feed(piece)
        while events:
            for event in events:
                outcome.append(event)
                _answer(server, event)
            events = server.events()
        assert len(server.buffer()) <= MAX_ARTICLE + (1 << 18)
    outcome.append(server.state)
    try:
        server.feed(b"")
    except ConnectionLostError as error:
        outcome.append(str(error))
    assert server.state is ServerState.CLOSED
    return outcome


def _answer(server: ServerProtocol, event: Event) -> None:
    match event:
        case CommandReceived(Verb.POST):
            server.reply(340)
        case CommandReceived(Verb.IHAVE):
            server.reply(335 if len(event.arguments[0]) % 2 else 435)
        case CommandReceived(Verb.STARTTLS):
            server.reply(580)
        case CommandReceived(Verb.QUIT):
            server.reply(205)
        case CommandReceived() | ArticleTooLarge():
            server.reply(430)
        case ArticleReceived():
            assert len(event.wire) <= MAX_ARTICLE
            assert b"\r\n.\r\n" not in event.wire
            assert len(event.content) <= len(event.wire)
            server.reply(240)
        case BadCommand(code, reason):
            server.reply(code, reason)


def check_request(data: bytes) -> None:
    """No argument puts a second line on the wire."""
    if not data:
        return
    client = ClientProtocol(buffer_size=BUFFER)
    client.feed(b"200 hello\r\n")
    verb = list(Verb)[data[0] % len(Verb)]
    text = data[1:].decode("utf-8", "surrogateescape")
    try:
        line = client.request(verb, *(text.split("\0") if text else []))
    except LocalProtocolError:
        assert client.outstanding == 0
    else:
        assert len(line) <= 512
        assert line.find(b"\r\n") == len(line) - 2
        assert not set(line[:-2]) & set(b"\r\n\0")


def _chunk_sizes(data: bytes) -> list[int]:
    """Chunk sizes that the input itself determines; one octet at a time for a quarter of them."""
    if data[-1] % 4 == 0:
        return [1]
    return [1 + octet % 97 for octet in data[-5:]]


CHECKS: Final[tuple[Callable[[bytes], None], ...]] = (check_client, check_server, check_request)


def check_all(data: bytes) -> None:
    """Every property, on one input."""
    for check in CHECKS:
        check(data)


# --- inputs without atheris -------------------------------------------------------------------

GRAMMAR: Final = (
    b"\r\n",
    b".\r\n",
    b"\r\n.\r\n",
    b"..",
    b".",
    b"\r",
    b"\n",
    b"\0",
    b"200 x\r\n",
    b"205 x\r\n",
    b"220 0 <a@b>\r\n",
    b"221 0 <a@b>\r\n",
    b"222 0 <a@b>\r\n",
    b"223 0 <a@b>\r\n",
    b"101 x\r\n",
    b"111 x\r\n",
    b"240 x\r\n",
    b"340 x\r\n",
    b"381 hunter2\r\n",
    b"382 x\r\n",
    b"400 x\r\n",
    b"430 x\r\n",
    b"500 x\r\n",
    b"Subject: x\r\n",
    b"=ybegin line=128 size=3 name=x\r\n",
    b"=ybegin line=128 size=9000 name=x\r\n",
    b"=ybegin part=1 line=128 size=99 name=x\r\n",
    b"=ypart begin=1 end=3\r\n",
    b"=ypart begin=1 end=9000\r\n",
    b"=yend size=3 crc32=352441c2\r\n",
    b"=yend size=3 pcrc32=352441c2\r\n",
    b"=y",
    b"=",
    b"\x8b\x8c\x8d\r\n",
    b"POST\r\n",
    b"IHAVE <a@b>\r\n",
    b"IHAVE <aa@b>\r\n",
    b"BODY <a@b>\r\n",
    b"DATE\r\n",
    b"MODE READER\r\n",
    b"AUTHINFO PASS hunter2\r\n",
    b"STARTTLS\r\n",
    b"QUIT\r\n",
    b"x" * 600,
    b"line\r\n" * 1000,
    b"\x2a" * 3000,
)


def random_input(source: random.Random) -> bytes:
    """Words of the protocol in any order, some of them damaged."""
    words = [bytes([source.randrange(256)])]
    for _ in range(source.randrange(1, 40)):
        word = bytearray(source.choice(GRAMMAR))
        damage = source.random()
        if damage < 0.05:
            word[source.randrange(len(word))] = source.randrange(256)
        elif damage < 0.1:
            word = word[: source.randrange(len(word))]
        elif damage < 0.13:
            word += source.randbytes(source.randrange(20))
        words.append(bytes(word))
    words.append(bytes([source.randrange(256)]))
    return b"".join(words)


def run_random(seconds: float, seed: int) -> int:
    """Until the time is over; how many inputs that were."""
    source = random.Random(seed)
    deadline = time.monotonic() + seconds
    count = 0
    while time.monotonic() < deadline:
        data = random_input(source)
        try:
            check_all(data)
        except BaseException:
            path = Path(f"crash-nntp-{zlib.crc32(data):08x}")
            path.write_bytes(data)
            print(f"failing input ({len(data)} octets) in {path}: {data!r}", file=sys.stderr)
            raise
        count += 1
    return count


def run_atheris(seconds: float, seed: int) -> None:
    """Guided by coverage; ends the process."""
    atheris = importlib.import_module("atheris")
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-max_total_time={int(seconds)}", f"-seed={seed}"], check_all)
    atheris.Fuzz()


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Fuzz the NNTP protocol.")
    parser.add_argument("--seconds", type=float, default=60, help="how long (default 60)")
    parser.add_argument("--seed", type=int, default=1, help="of the random inputs (default 1)")
    arguments = parser.parse_args()
    found = importlib.util.find_spec("atheris")
    if found is not None and found.origin is not None:  # a folder of that name has none
        run_atheris(arguments.seconds, arguments.seed)
        return 0
    count = run_random(arguments.seconds, arguments.seed)
    print(f"fuzz_nntp: {count} inputs in {arguments.seconds:g} s, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
