"""Both roles joined in memory, octet by octet."""

from __future__ import annotations

import zlib

import pytest

from tests.nntp.examples import MESSAGE_ID, Joined, client_state, random_bytes, server_state, yenc
from usenetfs.errors import LocalProtocolError
from usenetfs.nntp.client import ClientState
from usenetfs.nntp.grammar import Verb, dot_stuff
from usenetfs.nntp.server import (
    ArticleReceived,
    BadCommand,
    CommandReceived,
    Event,
    ServerProtocol,
    ServerState,
)

STEPS = (1, 2, 3, 1000)


class NewsServer:
    """Keeps what is posted under one name, and answers every verb."""

    def __init__(self) -> None:
        self.article: bytes | None = None
        self.password: str | None = None

    def __call__(self, server: ServerProtocol, event: Event) -> bytes:
        match event:
            case CommandReceived(verb, arguments):
                return self._command(server, verb, arguments)
            case ArticleReceived(verb, _):
                self.article = event.content
                return server.reply(240 if verb is Verb.POST else 235, MESSAGE_ID)
            case BadCommand(code, reason):
                return server.reply(code, reason)
        raise AssertionError(event)

    def _command(self, server: ServerProtocol, verb: Verb, arguments: tuple[str, ...]) -> bytes:
        match verb:
            case Verb.CAPABILITIES:
                return server.reply_block(101, "list", b"VERSION 2\r\nREADER\r\n")
            case Verb.ARTICLE | Verb.HEAD | Verb.BODY | Verb.STAT:
                return self._retrieve(server, verb)
            case Verb.AUTHINFO_PASS:
                self.password = arguments[0]
                return server.reply(281, "welcome")
        code = {
            Verb.MODE_READER: 200,
            Verb.STARTTLS: 580,
            Verb.AUTHINFO_USER: 381,
            Verb.GROUP: 211,
            Verb.POST: 340,
            Verb.IHAVE: 335,
            Verb.DATE: 111,
            Verb.QUIT: 205,
        }[verb]
        return server.reply(code, "as you like")

    def _retrieve(self, server: ServerProtocol, verb: Verb) -> bytes:
        if self.article is None:
            return server.reply(430, "no such article")
        text = f"0 {MESSAGE_ID}"
        head, _, body = self.article.partition(b"\r\n\r\n")
        match verb:
            case Verb.STAT:
                return server.reply(223, text)
            case Verb.HEAD:
                return server.reply_block(221, text, head + b"\r\n")
            case Verb.BODY:
                return server.reply_block(222, text, body)
        return server.reply_block(220, text, dot_stuff(self.article), stuffed=True)


@pytest.mark.parametrize("step", STEPS)
def test_a_session_with_every_verb(step: int) -> None:
    news = NewsServer()
    wire = Joined(news, step=step)
    data = random_bytes(1500)
    article = b"Subject: x\r\nX-Dots: .\r\n.odd\r\n\r\n" + yenc(data)

    assert wire.request(Verb.CAPABILITIES)[0].lines == (b"VERSION 2", b"READER")
    assert wire.request(Verb.STARTTLS)[0].code == 580
    assert wire.request(Verb.MODE_READER)[0].code == 200
    assert wire.request(Verb.AUTHINFO_USER, "me")[0].code == 381
    assert wire.request(Verb.AUTHINFO_PASS, "correct horse é")[0].code == 281
    assert news.password == "correct horse é"
    assert wire.request(Verb.GROUP, "alt.test")[0].code == 211
    assert wire.request(Verb.STAT, MESSAGE_ID)[0].code == 430

    for verb, go_ahead, taken, arguments in (
        (Verb.POST, 340, 240, ()),
        (Verb.IHAVE, 335, 235, (MESSAGE_ID,)),
    ):
        news.article = None
        assert wire.request(verb, *arguments)[0].code == go_ahead
        wire.client.article_sent()
        assert wire.send(dot_stuff(article) + b".\r\n")[0].code == taken
        assert news.article == article

    assert wire.request(Verb.STAT, MESSAGE_ID)[0].code == 223
    assert wire.request(Verb.HEAD, MESSAGE_ID)[0].lines == (b"Subject: x", b"X-Dots: .", b".odd")
    (body,) = wire.request(Verb.BODY, MESSAGE_ID)
    assert body.data == data
    assert body.crc_ok
    assert body.crc == zlib.crc32(data)
    (whole,) = wire.request(Verb.ARTICLE, MESSAGE_ID)
    assert whole.data == data
    assert whole.lines == (b"Subject: x", b"X-Dots: .", b".odd", b"")
    assert wire.request(Verb.DATE)[0].code == 111
    assert wire.request(Verb.QUIT)[0].code == 205
    assert client_state(wire.client) is ClientState.CLOSING
    assert server_state(wire.server) is ServerState.CLOSING
    assert wire.client.feed(b"") == []
    assert wire.server.feed(b"") == []
    assert wire.client.outstanding == wire.server.owed == 0


@pytest.mark.parametrize("step", STEPS)
def test_a_pipeline_that_ends_in_a_post(step: int) -> None:
    news = NewsServer()
    news.article = b"A: b\r\n\r\n" + yenc(b"data")
    wire = Joined(news, step=step)
    verbs = [Verb.BODY, Verb.STAT, Verb.HEAD, Verb.DATE, Verb.BODY, Verb.POST]
    octets = b"".join(
        wire.client.request(verb, *([] if verb in {Verb.DATE, Verb.POST} else [MESSAGE_ID]))
        for verb in verbs
    )
    with pytest.raises(LocalProtocolError):
        wire.client.request(Verb.DATE)
    responses = wire.send(octets)
    assert [r.verb for r in responses] == verbs
    assert [r.code for r in responses] == [222, 223, 221, 111, 222, 340]
    wire.client.article_sent()
    assert [r.code for r in wire.send(b"A: c\r\n\r\nnew\r\n.\r\n")] == [240]
    assert news.article == b"A: c\r\n\r\nnew\r\n"


def test_an_article_of_the_usual_size() -> None:
    news = NewsServer()
    wire = Joined(news, step=65536)
    data = random_bytes(716_800)
    wire.request(Verb.POST)
    wire.client.article_sent()
    wire.send(dot_stuff(b"Subject: x\r\n\r\n" + yenc(data)) + b".\r\n")
    octets = b"".join(wire.client.request(Verb.BODY, MESSAGE_ID, tag=tag) for tag in range(4))
    responses = wire.send(octets)
    assert [r.tag for r in responses] == [0, 1, 2, 3]
    assert all(r.crc_ok and r.data == data for r in responses)
