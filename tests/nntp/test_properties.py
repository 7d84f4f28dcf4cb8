"""What holds for any octets, any sequence of commands and any chunks."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import fuzz_nntp
from tests.nntp.examples import MESSAGE_ID, pieces, yenc, yenc_part
from usenetfs.nntp.client import ClientProtocol, ClientState, Response
from usenetfs.nntp.grammar import (
    BLOCK_CODES,
    EXCLUSIVE_VERBS,
    GO_AHEAD_CODES,
    REPLY_CODES,
    Verb,
    dot_stuff,
)
from usenetfs.nntp.server import ArticleReceived, CommandReceived, Event, ServerProtocol

# --- any octets -------------------------------------------------------------------------------

WORDS = st.lists(st.sampled_from(fuzz_nntp.GRAMMAR) | st.binary(max_size=20), max_size=30).map(
    b"".join
)


@pytest.mark.parametrize("check", fuzz_nntp.CHECKS, ids=lambda check: check.__name__)
@given(data=st.binary(max_size=300) | WORDS)
def test_any_octets_are_taken(check: Callable[[bytes], None], data: bytes) -> None:
    check(data)


def test_the_fuzzer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz_nntp.py", "--seconds", "0"])
    assert fuzz_nntp.main() == 0
    source = random.Random(5)
    for _ in range(20):
        fuzz_nntp.check_all(fuzz_nntp.random_input(source))


# --- any session ------------------------------------------------------------------------------

LINES = st.lists(
    st.sampled_from([b"", b".", b"..", b".x", b"=y", b"=yend size=1"]) | st.binary(max_size=60),
    max_size=8,
).map(lambda lines: b"".join(line.replace(b"\r\n", b"") + b"\r\n" for line in lines))
TEXTS = st.text(st.characters(categories=["L", "N", "P"]), max_size=40)


@dataclass(frozen=True)
class Exchange:
    """A request, the server's reply to it, and the article if it asks for one."""

    verb: Verb
    arguments: tuple[str, ...]
    code: int
    text: str
    block: bytes
    data: bytes | None
    final: int


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    verb = draw(st.sampled_from([verb for verb in Verb if verb is not Verb.QUIT]))
    refused = draw(st.integers(0, 4)) == 0
    codes = [430, 480, 503] if refused else sorted(REPLY_CODES[verb] - {382})
    code = draw(st.sampled_from(codes or [580]))
    data = None
    block = draw(LINES)
    if verb in {Verb.BODY, Verb.ARTICLE} and draw(st.booleans()):
        data = draw(st.binary(max_size=600))
        block = yenc_part(data) if data and draw(st.booleans()) else yenc(data)
        if verb is Verb.ARTICLE:
            block = b"A: b\r\n\r\n" + block
    arguments: tuple[str, ...] = ()
    if verb in {Verb.IHAVE, Verb.BODY, Verb.ARTICLE, Verb.STAT, Verb.HEAD}:
        arguments = (MESSAGE_ID,)
    elif verb in {Verb.GROUP, Verb.AUTHINFO_USER, Verb.AUTHINFO_PASS}:
        arguments = (draw(st.text("abcdefgh.é", min_size=1, max_size=20)),)
    final = draw(st.sampled_from([235 if verb is Verb.IHAVE else 240, 441]))
    return Exchange(verb, arguments, code, draw(TEXTS), block, data, final)


class Session:
    """Plays exchanges, both directions in random chunks, and checks each outcome."""

    def __init__(self, chunks: st.DataObject) -> None:
        self.chunks = chunks
        self.client = ClientProtocol(buffer_size=4096)
        self.server = ServerProtocol()
        self.to_client(self.server.reply(200))

    def cut(self, octets: bytes) -> list[bytes]:
        sizes = self.chunks.draw(st.lists(st.integers(1, 50), max_size=6))
        return list(pieces(octets, sizes))

    def to_client(self, octets: bytes) -> list[Response]:
        return [r for piece in self.cut(octets) for r in self.client.feed(piece)]

    def to_server(self, octets: bytes) -> list[Event]:
        return [event for piece in self.cut(octets) for event in self.server.feed(piece)]

    def play(self, pipeline: list[Exchange]) -> None:
        """Exchanges of which only the last may be exclusive."""
        octets = b"".join(
            self.client.request(exchange.verb, *exchange.arguments, tag=number)
            for number, exchange in enumerate(pipeline)
        )
        events = self.to_server(octets)
        assert events == [CommandReceived(e.verb, e.arguments) for e in pipeline]
        replies = b"".join(self.answer(exchange) for exchange in pipeline)
        responses = self.to_client(replies)
        assert [r.tag for r in responses] == list(range(len(pipeline)))
        assert sum(r.wire_size for r in responses) == len(replies)
        for exchange, response in zip(pipeline, responses, strict=True):
            self.check(exchange, response)
        last = pipeline[-1]
        if last.code == GO_AHEAD_CODES.get(last.verb):
            self.post(last)
        assert self.client.state is ClientState.READY
        assert self.client.outstanding == self.server.owed == 0

    def answer(self, exchange: Exchange) -> bytes:
        if BLOCK_CODES.get(exchange.verb) == exchange.code:
            return self.server.reply_block(exchange.code, exchange.text, exchange.block)
        return self.server.reply(exchange.code, exchange.text)

    def check(self, exchange: Exchange, response: Response) -> None:
        assert (response.verb, response.code) == (exchange.verb, exchange.code)
        assert response.text == exchange.text
        has_block = BLOCK_CODES.get(exchange.verb) == exchange.code
        if has_block and exchange.data is not None:
            assert response.data == exchange.data
            assert response.crc_ok
            if exchange.verb is Verb.ARTICLE:
                assert response.lines == (b"A: b", b"")
        elif has_block:
            lines = exchange.block.split(b"\r\n")[:-1]
            assert response.lines == tuple(lines)
        else:
            assert response.lines is response.data is None

    def post(self, exchange: Exchange) -> None:
        (event,) = self.to_server(dot_stuff(exchange.block) + b".\r\n")
        assert isinstance(event, ArticleReceived)
        assert event.verb is exchange.verb
        assert event.content == exchange.block
        self.client.article_sent()
        (response,) = self.to_client(self.server.reply(exchange.final, exchange.text))
        assert (response.verb, response.code) == (exchange.verb, exchange.final)


@given(st.lists(exchanges(), min_size=1, max_size=12), st.data())
def test_any_sequence_of_commands_in_any_chunks(asked: list[Exchange], data: st.DataObject) -> None:
    session = Session(data)
    pipeline: list[Exchange] = []
    for number, exchange in enumerate(asked):
        pipeline.append(exchange)
        last = number == len(asked) - 1
        if last or exchange.verb in EXCLUSIVE_VERBS or data.draw(st.integers(0, 3)) == 0:
            session.play(pipeline)
            pipeline = []
