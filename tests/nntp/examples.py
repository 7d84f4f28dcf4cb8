"""What the tests of the protocol share: articles, and two roles joined in memory."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Iterator

import sabctools

from usenetfs.nntp.client import ClientProtocol, ClientState, Response
from usenetfs.nntp.grammar import Verb
from usenetfs.nntp.server import CommandReceived, Event, ServerProtocol, ServerState

MESSAGE_ID = "<one.two@example.net>"
CHUNKS = (1, 2, 3, 5, 7, 64, 4096, 0)
ARGUMENTS = {
    Verb.AUTHINFO_USER: "me",
    Verb.AUTHINFO_PASS: "hunter2",
    Verb.GROUP: "alt.test",
    Verb.IHAVE: MESSAGE_ID,
    Verb.ARTICLE: MESSAGE_ID,
    Verb.HEAD: MESSAGE_ID,
    Verb.BODY: MESSAGE_ID,
    Verb.STAT: MESSAGE_ID,
}


def random_bytes(size: int, seed: int = 1) -> bytes:
    """The same octets for the same seed."""
    return random.Random(seed).randbytes(size)


def yenc(data: bytes, *, name: str = "x", size: int | None = None, crc: int | None = None) -> bytes:
    """A single-part yEnc body of ``data``; ``size`` and ``crc`` may lie."""
    encoded, _ = sabctools.yenc_encode(data)
    size = len(data) if size is None else size
    crc = zlib.crc32(data) if crc is None else crc
    return (
        b"=ybegin line=128 size=%d name=%s\r\n" % (size, name.encode())
        + (encoded + b"\r\n" if encoded else b"")
        + b"=yend size=%d crc32=%08x\r\n" % (len(data), crc)
    )


def yenc_part(data: bytes, *, begin: int = 1, total: int = 10_000_000) -> bytes:
    """One part of a multi-part yEnc file."""
    encoded, _ = sabctools.yenc_encode(data)
    return (
        b"=ybegin part=2 total=9 line=128 size=%d name=x y.bin\r\n" % total
        + b"=ypart begin=%d end=%d\r\n" % (begin, begin + len(data) - 1)
        + encoded
        + b"\r\n=yend size=%d part=2 pcrc32=%08x\r\n" % (len(data), zlib.crc32(data))
    )


def block(status: bytes, content: bytes) -> bytes:
    """A reply with a block, as a server sends it."""
    return status + b"\r\n" + content + b".\r\n"


def pieces(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """``data`` cut into pieces of these sizes; the last piece is the rest."""
    start = 0
    for size in sizes:
        if start >= len(data):
            return
        yield data[start : start + size]
        start += size
    if start < len(data):
        yield data[start:]


def feed_all(protocol: ClientProtocol, data: bytes, size: int = 0) -> list[Response]:
    """Feed in pieces of ``size`` octets (0: at once)."""
    responses: list[Response] = []
    step = size or max(1, len(data))
    for start in range(0, len(data), step):
        responses += protocol.feed(data[start : start + step])
    return responses


def ready_client(*, buffer_size: int = 1 << 16, max_response: int = 4 << 20) -> ClientProtocol:
    """A client that has been greeted."""
    client = ClientProtocol(buffer_size=buffer_size, max_response=max_response)
    assert client.feed(b"200 hello\r\n")[0].code == 200
    return client


def ready_server(*, max_article: int = 4 << 20) -> ServerProtocol:
    """A server that has greeted."""
    server = ServerProtocol(max_article=max_article)
    server.reply(200, "hello")
    return server


def commands(events: Iterable[Event]) -> list[tuple[Verb, tuple[str, ...]]]:
    """Verbs and arguments; anything else fails."""
    found = []
    for event in events:
        assert isinstance(event, CommandReceived), event
        found.append((event.verb, event.arguments))
    return found


def client_state(client: ClientProtocol) -> ClientState:
    """The state, in a way that does not make mypy believe it stays so."""
    return client.state


def server_state(server: ServerProtocol) -> ServerState:
    """The same for the server role."""
    return server.state


class Joined:
    """A client and a server with a wire between them that delivers ``step`` octets at a time.

    ``answer`` makes the reply to an event; replies go back by the same wire.
    """

    def __init__(self, answer: Callable[[ServerProtocol, Event], bytes], *, step: int = 1) -> None:
        self.client = ClientProtocol(buffer_size=4096)
        self.server = ServerProtocol()
        self.answer = answer
        self.step = step
        self.responses: list[Response] = []
        self.events: list[Event] = []
        self._to_client(self.server.reply(200, "hello"))

    def send(self, octets: bytes) -> list[Response]:
        """Deliver to the server, and its replies to the client; what the client made of them."""
        known = len(self.responses)
        for piece in pieces(octets, [self.step] * len(octets)):
            events = self.server.feed(piece)
            while events:
                for event in events:
                    self.events.append(event)
                    self._to_client(self.answer(self.server, event))
                events = self.server.events()
        return self.responses[known:]

    def request(self, verb: Verb, *arguments: str, tag: object = None) -> list[Response]:
        """One request and what came of it."""
        return self.send(self.client.request(verb, *arguments, tag=tag))

    def _to_client(self, octets: bytes) -> None:
        self.responses += feed_all(self.client, octets, self.step)


def ask(client: ClientProtocol, verb: Verb, tag: object = None) -> bytes:
    argument = ARGUMENTS.get(verb)
    return client.request(verb, *([argument] if argument else []), tag=tag)
