"""The client role: what a server may not do to us, and the whole of the state machine."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest

from tests.nntp.examples import (
    ask,
    block,
    client_state,
    feed_all,
    random_bytes,
    ready_client,
    yenc,
)
from usenetfs.errors import ConnectionLostError, LocalProtocolError, RemoteProtocolError
from usenetfs.nntp.client import (
    TRANSITIONS,
    ClientProtocol,
    ClientState,
    Step,
)
from usenetfs.nntp.framing import MAX_STATUS_LINE
from usenetfs.nntp.grammar import Verb

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
