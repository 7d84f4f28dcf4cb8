"""The client role: framing, pipelines, posting."""

from __future__ import annotations

import zlib

import pytest

from tests.nntp.examples import (
    CHUNKS,
    ask,
    block,
    client_state,
    feed_all,
    random_bytes,
    ready_client,
    yenc,
    yenc_part,
)
from usenetfs.errors import ConnectionLostError, LocalProtocolError, RemoteProtocolError
from usenetfs.nntp.client import (
    MAX_OUTSTANDING,
    ClientProtocol,
    ClientState,
)
from usenetfs.nntp.grammar import EXCLUSIVE_VERBS, Verb

# --- the greeting -----------------------------------------------------------------------------


@pytest.mark.parametrize("code", [200, 201])
def test_a_greeting_makes_ready(code: int) -> None:
    client = ClientProtocol()
    assert client_state(client) is ClientState.GREETING
    with pytest.raises(LocalProtocolError):
        client.request(Verb.DATE)
    (response,) = client.feed(b"%d news ready\r\n" % code)
    assert (response.verb, response.code, response.text) == (None, code, "news ready")
    assert client_state(client) is ClientState.READY


@pytest.mark.parametrize("code", [400, 502, 481])
def test_a_refusing_greeting_closes(code: int) -> None:
    client = ClientProtocol()
    (response,) = client.feed(b"%d too many\r\n" % code)
    assert response.code == code
    assert client_state(client) is ClientState.CLOSING
    with pytest.raises(LocalProtocolError):
        client.request(Verb.DATE)
    assert client.feed(b"") == []
    assert client_state(client) is ClientState.CLOSED


@pytest.mark.parametrize("octets", [b"222 body\r\n", b"HTTP/1.1 400 Bad\r\n", b"205 bye\r\n"])
def test_other_greetings_are_violations(octets: bytes) -> None:
    client = ClientProtocol()
    with pytest.raises(RemoteProtocolError):
        client.feed(octets)
    assert client_state(client) is ClientState.ERROR


def test_no_greeting_at_all() -> None:
    client = ClientProtocol()
    with pytest.raises(ConnectionLostError):
        client.feed(b"")
    assert client_state(client) is ClientState.CLOSED


# --- replies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", CHUNKS)
def test_a_mixed_pipeline(step: int) -> None:
    client = ready_client()
    first, second = random_bytes(3000, 1), random_bytes(1, 2)
    for tag, verb in enumerate(
        (Verb.STAT, Verb.BODY, Verb.HEAD, Verb.DATE, Verb.BODY, Verb.BODY, Verb.CAPABILITIES)
    ):
        ask(client, verb, tag)
    assert client.outstanding == 7
    wire = (
        b"223 0 <a@b>\r\n"
        + block(b"222 0 <a@b>", yenc(first))
        + block(b"221 0 <a@b>", b"Subject: caf\xe9\r\nX: ..y\r\n..z\r\n")
        + b"111 20260101000000\r\n"
        + b"430 no such article\r\n"
        + block(b"222 0 <a@b>", yenc_part(second))
        + block(b"101 list", b"VERSION 2\r\nREADER\r\n")
    )
    responses = feed_all(client, wire, step)
    assert [r.tag for r in responses] == list(range(7))
    assert [r.code for r in responses] == [223, 222, 221, 111, 430, 222, 101]
    assert responses[1].data == first
    assert responses[1].crc_ok
    assert responses[1].crc == zlib.crc32(first)
    assert responses[1].lines is None
    assert responses[2].lines == (b"Subject: caf\xe9", b"X: ..y", b".z")
    assert responses[3].text == "20260101000000"
    assert responses[4].data is None
    assert responses[5].data == second
    assert responses[6].lines == (b"VERSION 2", b"READER")
    assert sum(r.wire_size for r in responses) == len(wire)
    assert client.outstanding == 0
    assert client_state(client) is ClientState.READY


@pytest.mark.parametrize("step", CHUNKS)
@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", ()),
        (b"\r\n", (b"",)),
        (b"plain\r\n\r\n..\r\n..dot\r\n", (b"plain", b"", b".", b".dot")),
        (b"THESE CAPITALS\r\n!AB\r\nM" + b"A" * 59 + b"\r\n", None),
        (b"begin 644 x\r\n#0V%T\r\n`\r\nend\r\n", None),
        (b"\xff\x00\xfe bare \n and \r in it\r\n", (b"\xff\x00\xfe bare \n and \r in it",)),
        (b"a =ybegin size=3\r\n", (b"a =ybegin size=3",)),
    ],
)
def test_bodies_that_are_not_yenc_arrive_octet_for_octet(
    step: int, content: bytes, lines: tuple[bytes, ...] | None
) -> None:
    client = ready_client()
    ask(client, Verb.BODY)
    ask(client, Verb.DATE)
    body, date = feed_all(client, block(b"222 b", content) + b"111 now\r\n", step)
    assert body.lines == (lines if lines is not None else tuple(content[:-2].split(b"\r\n")))
    assert (body.data, body.crc, body.crc_ok) == (None, None, False)
    assert date.code == 111


@pytest.mark.parametrize("step", CHUNKS)
def test_an_article_gives_header_and_data(step: int) -> None:
    client = ready_client()
    data = random_bytes(500)
    ask(client, Verb.ARTICLE)
    content = b"Subject: x\r\nFrom: y\r\n\r\n" + yenc(data)
    (article,) = feed_all(client, block(b"220 0 <a@b>", content), step)
    assert article.lines == (b"Subject: x", b"From: y", b"")
    assert article.data == data
    assert article.crc_ok


@pytest.mark.parametrize("step", CHUNKS)
def test_stuffed_dots_within_yenc_come_off(step: int) -> None:
    data = bytes([(ord(".") - 42) % 256]) * 300
    content = (
        b"=ybegin line=128 size=300 name=x\r\n"
        + (b"." + b"." * 100 + b"\r\n") * 3
        + b"=yend size=300 crc32=%08x\r\n" % zlib.crc32(data)
    )
    client = ready_client()
    ask(client, Verb.BODY)
    (body,) = feed_all(client, block(b"222 b", content), step)
    assert body.data == data
    assert body.crc_ok


@pytest.mark.parametrize("step", CHUNKS)
@pytest.mark.parametrize(
    ("content", "size"),
    [
        (yenc(b"")[:-2] + b"\r\n", 0),
        (yenc(b"abc", crc=1), 3),
        (yenc(b"abc", size=4), 3),
        (yenc(b"abc", size=2), 3),
        (yenc(b"abc", size=10**12), 3),
        (yenc(b"abc").replace(b"=yend size=3", b"=yend size=2"), 3),
        (yenc(b"abc").partition(b" crc32")[0] + b"\r\n", 3),
        (yenc(b"abc").partition(b"=yend")[0], 3),
        (b"=ybegin line=128 size=3 name=x\r\n", 0),
        (b"=ybegin part=1 line=128 size=3 name=x\r\n", 0),
        (b"=ybegin part=1 line=128 size=3 name=x\r\nxyz\r\n", 0),
        (b"=ybegin part=1 size=9 name=x\r\n=ypart begin=7 end=3\r\nabc\r\n", None),
        (b"=ybegin \r\n", 0),
        (yenc(b"abc") + yenc(b"def"), 6),
        (yenc(b"abc") + b"a signature\r\n-- \r\n", None),
    ],
)
def test_damaged_yenc_is_told_and_keeps_the_session(
    step: int, content: bytes, size: int | None
) -> None:
    client = ready_client()
    for verb in (Verb.BODY, Verb.BODY, Verb.DATE):
        ask(client, verb)
    good = random_bytes(700)
    wire = block(b"222 b", content) + block(b"222 b", yenc(good)) + b"111 now\r\n"
    damaged, after, date = feed_all(client, wire, step)
    assert damaged.data is not None
    if size is not None:
        assert len(damaged.data) == size
    empty_or_signed = (size == 0 and b"=yend" in content) or b"signature" in content
    assert damaged.crc_ok is empty_or_signed
    assert after.data == good
    assert after.crc_ok
    assert date.code == 111
    assert sum(r.wire_size for r in (damaged, after, date)) == len(wire)


def test_a_header_that_promises_too_much_costs_no_reply_after_it() -> None:
    """The decoder is then fed beyond the end, and what it swallowed must come back."""
    client = ready_client(buffer_size=1 << 20)
    good = random_bytes(40_000)
    wire = b""
    for _ in range(5):
        ask(client, Verb.BODY)
        ask(client, Verb.BODY)
        ask(client, Verb.STAT)
        wire += block(b"222 b", yenc(b"abc", size=600_000)) + block(b"222 b", yenc(good))
        wire += b"223 s\r\n"
    responses = client.feed(wire)
    assert [r.code for r in responses] == [222, 222, 223] * 5
    assert [bytes(r.data or b"") for r in responses] == [b"abc", good, b""] * 5
    assert [r.crc_ok for r in responses] == [False, True, False] * 5


@pytest.mark.parametrize("length", [30_000, 60_000, 90_000, 120_000, 180_000])
@pytest.mark.parametrize("before", [1, 9, 40, 5000])
@pytest.mark.parametrize("behind", [3, 20, 2000, 50_000])
def test_what_the_decoder_swallowed_comes_back_wherever_it_lies(
    length: int, before: int, behind: int
) -> None:
    """``before``, ``behind``: octets in one piece before and behind the end of the body. A line
    begun stays where it is, or is pushed to the front of the decoder's memory, over what has to be
    handed back: that depends on how full it is, and so on the ``length`` of the body."""
    good = random_bytes(40_000)
    first = block(b"222 b", yenc(random_bytes(length), size=600_000))
    for follows in (block(b"222 b", yenc(good)), block(b"222 b", b"x" * 3000 + b"\r\n")):
        client = ready_client()
        ask(client, Verb.BODY)
        ask(client, Verb.BODY)
        assert client.feed(first[:-before]) == []
        room = client.buffer()
        assert room.obj is not client._framer._buffer  # the decoder's own memory
        replies = client.feed(first[-before:] + follows[:behind])
        replies += client.feed(follows[behind:]) if follows[behind:] else []
        lying, after = replies
        assert (lying.code, lying.crc_ok) == (222, False)
        assert after.data == good if after.data is not None else after.lines == (b"x" * 3000,)
        assert lying.wire_size + after.wire_size == len(first) + len(follows)


def test_octets_that_were_never_given_room_are_refused() -> None:
    client = ready_client()
    ask(client, Verb.BODY)
    wire = block(b"222 b", yenc(random_bytes(300_000)))
    client.feed(wire[:20_000])
    room = client.buffer()
    with pytest.raises(LocalProtocolError, match="do not fit"):
        client.received(len(room) + 1)


def test_every_split_in_two() -> None:
    data = random_bytes(300)
    wire = block(b"222 b", yenc_part(data)) + b"430 no\r\n" + block(b"221 h", b"A: b\r\n..\r\n")
    for cut in range(1, len(wire)):
        client = ready_client()
        for verb in (Verb.BODY, Verb.BODY, Verb.HEAD):
            ask(client, verb)
        responses = client.feed(wire[:cut]) + client.feed(wire[cut:])
        assert [r.code for r in responses] == [222, 430, 221]
        assert responses[0].data == data
        assert responses[0].crc_ok
        assert responses[2].lines == (b"A: b", b".")


def test_large_articles_through_a_small_buffer() -> None:
    client = ready_client(buffer_size=4096)
    data = random_bytes(716_800)
    ask(client, Verb.BODY)
    ask(client, Verb.BODY)
    wire = block(b"222 b", yenc(data)) * 2
    first, second = client.feed(wire)
    assert first.data == second.data == data
    assert first.crc_ok
    assert second.crc_ok


# --- pipelining -------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", sorted(EXCLUSIVE_VERBS, key=str))
def test_nothing_follows_an_exclusive_command(verb: Verb) -> None:
    client = ready_client()
    ask(client, Verb.STAT)
    assert client.can_pipeline
    ask(client, verb)  # it may end a pipeline
    assert client_state(client) is ClientState.EXCLUSIVE
    assert not client.can_pipeline
    for other in Verb:
        with pytest.raises(LocalProtocolError):
            ask(client, other)
    assert client.outstanding == 2
    client.feed(b"223 s\r\n")
    assert client_state(client) is ClientState.EXCLUSIVE
    client.feed(b"500 what\r\n")
    assert client_state(client) is ClientState.READY
    assert client.can_pipeline


def test_nothing_follows_quit() -> None:
    client = ready_client()
    ask(client, Verb.STAT)
    ask(client, Verb.QUIT)
    assert client_state(client) is ClientState.CLOSING
    with pytest.raises(LocalProtocolError):
        ask(client, Verb.STAT)
    assert [r.code for r in client.feed(b"223 s\r\n205 bye\r\n")] == [223, 205]
    assert client.feed(b"") == []
    assert client_state(client) is ClientState.CLOSED
    assert client.feed(b"") == []
    with pytest.raises(LocalProtocolError):
        client.feed(b"200 again\r\n")


def test_the_queue_is_bounded() -> None:
    client = ready_client()
    for _ in range(MAX_OUTSTANDING):
        client.request(Verb.DATE)
    assert not client.can_pipeline
    with pytest.raises(LocalProtocolError):
        client.request(Verb.DATE)
    client.feed(b"111 x\r\n")
    client.request(Verb.DATE)


# --- posting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "go_ahead", "taken"), [(Verb.POST, 340, 240), (Verb.IHAVE, 335, 235)]
)
def test_posting(verb: Verb, go_ahead: int, taken: int) -> None:
    client = ready_client()
    for outcome in (taken, 441):
        ask(client, verb, "tag")
        (first,) = client.feed(b"%d go\r\n" % go_ahead)
        assert (first.verb, first.tag, first.code) == (verb, "tag", go_ahead)
        assert client_state(client) is ClientState.SENDING_ARTICLE
        assert client.outstanding == 1
        with pytest.raises(LocalProtocolError):
            client.request(Verb.DATE)
        client.article_sent()
        assert client_state(client) is ClientState.EXCLUSIVE
        with pytest.raises(LocalProtocolError):
            client.article_sent()
        (second,) = client.feed(b"%d done\r\n" % outcome)
        assert (second.verb, second.tag, second.code) == (verb, "tag", outcome)
        assert client_state(client) is ClientState.READY


def test_an_early_refusal_leaves_the_session_usable() -> None:
    client = ready_client()
    client.request(Verb.POST)
    client.feed(b"340 go\r\n")
    (refusal,) = client.feed(b"441 too large already\r\n")
    assert refusal.verb is Verb.POST
    assert client_state(client) is ClientState.SENDING_ARTICLE
    client.article_sent()
    assert client_state(client) is ClientState.READY
    client.request(Verb.DATE)
    assert client.feed(b"111 now\r\n")[0].code == 111


def test_posting_not_allowed() -> None:
    client = ready_client()
    client.request(Verb.POST)
    assert client.feed(b"440 no\r\n")[0].code == 440
    assert client_state(client) is ClientState.READY
    with pytest.raises(LocalProtocolError):
        client.article_sent()


@pytest.mark.parametrize("reply", [b"240 thanks\r\n", b"340 go\r\n"])
def test_an_article_cannot_be_taken_before_it_was_sent(reply: bytes) -> None:
    client = ready_client()
    client.request(Verb.POST)
    client.feed(b"340 go\r\n")
    with pytest.raises(RemoteProtocolError):
        client.feed(reply)


def test_the_session_may_end_while_an_article_is_written() -> None:
    client = ready_client()
    client.request(Verb.POST)
    client.feed(b"340 go\r\n")
    assert client.feed(b"400 going down\r\n")[0].verb is Verb.POST
    assert client_state(client) is ClientState.CLOSING
    client.article_sent()
    assert client.feed(b"") == []
    client.article_sent()
    assert client_state(client) is ClientState.CLOSED

    client = ready_client()
    client.request(Verb.POST)
    client.feed(b"340 go\r\n")
    with pytest.raises(ConnectionLostError):
        client.feed(b"")
    client.article_sent()
    assert client_state(client) is ClientState.CLOSED
