"""The client role: framing, the state machine, and what a server may not do to us."""

from __future__ import annotations

import itertools
import tracemalloc
import zlib

import pytest

from tests.nntp.examples import (
    MESSAGE_ID,
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
    TRANSITIONS,
    ClientProtocol,
    ClientState,
    Step,
)
from usenetfs.nntp.framing import MAX_STATUS_LINE
from usenetfs.nntp.grammar import EXCLUSIVE_VERBS, Verb

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


def ask(client: ClientProtocol, verb: Verb, tag: object = None) -> bytes:
    argument = ARGUMENTS.get(verb)
    return client.request(verb, *([argument] if argument else []), tag=tag)


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


# --- what servers do --------------------------------------------------------------------------


@pytest.mark.parametrize("verb", list(Verb))
def test_codes_a_verb_does_not_have_are_violations(verb: Verb) -> None:
    wrong = {Verb.STAT: 222, Verb.BODY: 223, Verb.HEAD: 220}.get(verb, 231)
    client = ready_client()
    ask(client, verb)
    with pytest.raises(RemoteProtocolError):
        client.feed(b"%d x\r\n" % wrong)
    assert client_state(client) is ClientState.ERROR


@pytest.mark.parametrize("verb", list(Verb))
def test_any_verb_may_be_refused(verb: Verb) -> None:
    client = ready_client()
    ask(client, verb, "t")
    (response,) = client.feed(b"503 cannot\r\n")
    assert (response.verb, response.tag, response.code, response.lines) == (verb, "t", 503, None)
    assert client.outstanding == 0


@pytest.mark.parametrize("code", [400, 500, 502, 503])
def test_a_farewell_that_nobody_asked_for(code: int) -> None:
    client = ready_client()
    (response,) = client.feed(b"%d idle for too long\r\n" % code)
    assert (response.verb, response.code) == (None, code)
    assert client_state(client) is ClientState.CLOSING
    assert client.feed(b"") == []


def test_400_answers_the_oldest_and_ends_the_requests() -> None:
    client = ready_client()
    ask(client, Verb.BODY, 1)
    ask(client, Verb.BODY, 2)
    (response,) = client.feed(b"400 out of memory\r\n")
    assert (response.verb, response.tag) == (Verb.BODY, 1)
    assert client_state(client) is ClientState.CLOSING
    with pytest.raises(ConnectionLostError):
        client.feed(b"")


def test_mode_reader_502_closes() -> None:
    client = ready_client()
    client.request(Verb.MODE_READER)
    client.feed(b"502 no reading here\r\n")
    assert client_state(client) is ClientState.CLOSING


@pytest.mark.parametrize("reply", [b"223 x\r\n", b"222 x\r\n", b"430 x\r\n", b"200 x\r\n"])
def test_a_reply_nobody_asked_for(reply: bytes) -> None:
    client = ready_client()
    with pytest.raises(RemoteProtocolError):
        client.feed(reply)
    for call in (client.buffer, lambda: client.feed(b""), lambda: client.request(Verb.DATE)):
        with pytest.raises(RemoteProtocolError):
            call()
    assert client_state(client) is ClientState.ERROR


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b".",
        b"22",
        b"2223 x",
        b"222x",
        b"022 x",
        b"999 x",
        b"-22 x",
        b"hello world",
        b"\x00\x01",
        b"223 a\rb",
        b"223 a\nb",
        b"223 a\0b",
        b"223\tx",
        " ２２３ x".encode(),
    ],
)
@pytest.mark.parametrize("step", [1, 0])
def test_lines_that_are_no_status_line(line: bytes, step: int) -> None:
    client = ready_client()
    ask(client, Verb.STAT)
    with pytest.raises(RemoteProtocolError):
        feed_all(client, line + b"\r\n", step)
    assert client_state(client) is ClientState.ERROR


@pytest.mark.parametrize("line", [b"223", b"223 ", b"223 \xff\x1b[0m"])
def test_status_lines_that_will_do(line: bytes) -> None:
    client = ready_client()
    ask(client, Verb.STAT)
    (response,) = client.feed(line + b"\r\n")
    assert response.code == 223
    assert "\x1b" not in response.text


def test_what_was_complete_before_a_violation_is_delivered_first() -> None:
    client = ready_client()
    ask(client, Verb.STAT, 1)
    ask(client, Verb.STAT, 2)
    (response,) = client.feed(b"223 fine\r\ngarbage\r\n223 lost\r\n")
    assert response.tag == 1
    assert client_state(client) is ClientState.ERROR
    with pytest.raises(RemoteProtocolError, match="no status line"):
        client.buffer()


def test_the_end_of_the_stream() -> None:
    client = ready_client()
    assert client.feed(b"") == []
    assert client_state(client) is ClientState.CLOSED

    for wire in (b"", b"22", b"222 x\r\n", b"222 x\r\nabc", block(b"222 x", yenc(b"abc"))[:-1]):
        client = ready_client()
        ask(client, Verb.BODY)
        if wire:
            assert client.feed(wire) == []
        with pytest.raises(ConnectionLostError):
            client.feed(b"")
        assert client_state(client) is ClientState.CLOSED

    client = ready_client()
    client.feed(b"40")
    with pytest.raises(ConnectionLostError):
        client.feed(b"")


def test_octets_before_tls_are_an_injection() -> None:
    client = ready_client()
    client.request(Verb.STARTTLS)
    assert client.feed(b"382 go\r\n")[0].code == 382
    assert client_state(client) is ClientState.READY

    client = ready_client()
    client.request(Verb.STARTTLS)
    with pytest.raises(RemoteProtocolError):
        client.feed(b"382 go\r\n2")


# --- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 1000, 0])
def test_status_lines_end(step: int) -> None:
    client = ready_client()
    ask(client, Verb.STAT)
    with pytest.raises(RemoteProtocolError):
        feed_all(client, b"223 " + b"a" * MAX_STATUS_LINE, step)


@pytest.mark.parametrize("step", [1, 7, 1000, 0])
@pytest.mark.parametrize("content", [b"line\r\n" * 400, yenc(random_bytes(2000))])
def test_the_size_of_a_reply_is_bounded_exactly(step: int, content: bytes) -> None:
    wire = block(b"222 b", content)
    for limit, fits in ((len(wire), True), (len(wire) - 1, False)):
        client = ready_client(max_response=limit)
        ask(client, Verb.BODY)
        ask(client, Verb.STAT)
        if fits:
            assert [r.code for r in feed_all(client, wire + b"223 s\r\n", step)] == [222, 223]
        else:
            with pytest.raises(RemoteProtocolError):
                feed_all(client, wire + b"223 s\r\n", step)


def test_endless_blocks_and_lines_end() -> None:
    for start, more in (
        (b"222 b\r\n", b"x" * 5000),
        (b"222 b\r\n", b"line\r\n" * 800),
        (b"222 b\r\n=ybegin size=10 name=x\r\n", b"x" * 5000),
        (b"222 b\r\n=ybegin size=10 name=x\r\nabc\r\n=yend ", b"x" * 5000),
        (b"222 b\r\n=ybegin part=1 ", b"x" * 5000),
    ):
        client = ready_client(max_response=200_000)
        ask(client, Verb.BODY)
        client.feed(start)
        with pytest.raises(RemoteProtocolError):
            feed_all(client, more * 100, 5000)


@pytest.mark.parametrize(
    "start",
    [
        b"=ybegin line=128 size=9000000 name=x\r\n",
        b"=ybegin part=1 line=128 size=9 name=x\r\n=ypart begin=1 end=999999999\r\n",
        b"",
    ],
)
def test_memory_is_bounded_whatever_is_promised(start: bytes) -> None:
    """The decoder's own bound is 10 MiB."""
    client = ready_client(max_response=1 << 20)
    ask(client, Verb.BODY)
    client.feed(b"222 b\r\n" + start)
    piece = bytes(range(64, 192)) * 512
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            feed_all(client, piece * 20, len(piece))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_counts_that_do_not_fit_the_buffer() -> None:
    client = ready_client()
    for count in (-1, len(client.buffer()) + 1):
        with pytest.raises(LocalProtocolError):
            client.received(count)
    with pytest.raises(ValueError, match="status line"):
        ClientProtocol(buffer_size=100)


def test_the_buffer_is_never_empty() -> None:
    client = ready_client(buffer_size=4096)
    ask(client, Verb.BODY)
    for octet in block(b"222 b", yenc(random_bytes(9000))):
        buffer = client.buffer()
        assert len(buffer) >= 2048
        buffer[0] = octet
        client.received(1)
    assert client.outstanding == 0


# --- what is shown ----------------------------------------------------------------------------


def test_secrets_are_nowhere_to_be_seen() -> None:
    client = ready_client()
    client.request(Verb.AUTHINFO_USER, "hunter1")
    assert "hunter" not in repr(client)
    (response,) = client.feed(b"381 hunter1, your password?\r\n")
    assert "hunter" not in repr(response)
    client.request(Verb.AUTHINFO_PASS, "hunter2")
    with pytest.raises(LocalProtocolError) as ours:
        client.request(Verb.AUTHINFO_PASS, "hunter2")
    with pytest.raises(RemoteProtocolError) as theirs:
        client.feed(b"bad hunter2\r\n")
    assert "hunter" not in f"{ours.value!r} {theirs.value!r} {client!r}"


def test_a_secret_echoed_later_is_not_quoted() -> None:
    client = ready_client()
    client.request(Verb.AUTHINFO_USER, "hunter1")
    client.feed(b"281 ok\r\n")
    client.request(Verb.DATE)
    with pytest.raises(RemoteProtocolError) as caught:
        client.feed(b"you said hunter1\r\n")
    assert "hunter" not in str(caught.value)


def test_repr_shows_the_state_and_no_data() -> None:
    client = ready_client()
    ask(client, Verb.BODY)
    assert repr(client) == "<ClientProtocol READY, 1 outstanding: BODY>"
    (response,) = client.feed(block(b"222 b", yenc(b"secret data")))
    assert "secret" not in repr(response)
    assert "11 octets" in repr(response)


# --- the table --------------------------------------------------------------------------------


def test_the_table_is_whole() -> None:
    assert set(TRANSITIONS) == set(ClientState)
    assert {step for steps in TRANSITIONS.values() for step in steps} == set(Step)
    reached = {state for steps in TRANSITIONS.values() for state in steps.values()}
    assert reached | {ClientState.GREETING} == set(ClientState)
    for final in (ClientState.CLOSED, ClientState.ERROR):
        assert set(TRANSITIONS[final].values()) == {final}
    for state in set(ClientState) - {ClientState.CLOSED, ClientState.ERROR}:
        assert TRANSITIONS[state][Step.END] is ClientState.CLOSED
        assert TRANSITIONS[state][Step.VIOLATION] is ClientState.ERROR


def test_every_pair_of_pipelined_replies_at_every_chunk_size() -> None:
    replies = {
        Verb.STAT: b"223 s\r\n",
        Verb.DATE: b"111 d\r\n",
        Verb.HEAD: block(b"221 h", b"A: b\r\n"),
        Verb.BODY: block(b"222 b", yenc(b"abcdef" * 50)),
        Verb.ARTICLE: block(b"220 a", b"A: b\r\n\r\nplain\r\n"),
    }
    for pair in itertools.product(replies, repeat=2):
        wire = b"".join(replies[verb] for verb in pair)
        for step in (1, 3, 11, 0):
            client = ready_client()
            for verb in pair:
                ask(client, verb)
            assert [r.verb for r in feed_all(client, wire, step)] == list(pair)


def test_a_post_ahead_is_allowed_behind_a_sent_article_and_nowhere_else() -> None:
    client = ClientProtocol(post_ahead=True)
    client.feed(b"200 hello\r\n")
    assert not client.can_post_ahead
    client.request(Verb.POST, tag=1)
    with pytest.raises(LocalProtocolError):
        client.request(Verb.POST, tag=2)
    client.feed(b"340 go on\r\n")
    with pytest.raises(LocalProtocolError):
        client.request(Verb.POST, tag=2)
    client.article_sent()
    assert client.can_post_ahead
    with pytest.raises(LocalProtocolError):
        client.request(Verb.DATE)
    client.request(Verb.POST, tag=2)
    assert not client.can_post_ahead
    with pytest.raises(LocalProtocolError):
        client.request(Verb.POST, tag=3)
    responses = client.feed(b"240 taken\r\n340 go on\r\n")
    assert [(response.code, response.tag) for response in responses] == [(240, 1), (340, 2)]
    assert client.state is ClientState.SENDING_ARTICLE
    client.article_sent()
    assert client.can_post_ahead
    (last,) = client.feed(b"441 no\r\n")
    assert (last.code, last.tag) == (441, 2)
    assert client.state is ClientState.READY


def test_no_post_ahead_unless_asked_for() -> None:
    client = ClientProtocol()
    client.feed(b"200 hello\r\n")
    client.request(Verb.POST)
    client.feed(b"340 go on\r\n")
    client.article_sent()
    assert not client.can_post_ahead
    with pytest.raises(LocalProtocolError):
        client.request(Verb.POST)
